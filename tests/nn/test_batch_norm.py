"""Batch norm shared by processes: values, gradients and running averages are those of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lapcore.nn.batch_norm import BatchNorm1d, BatchNorm2d
from tests.processes import in_two

CASES: list[tuple[type[nn.Module], tuple[int, ...], dict[str, Any]]] = [
    (BatchNorm2d, (6, 3, 4, 5), {}),
    (BatchNorm1d, (6, 5), {"momentum": None}),
    (BatchNorm2d, (4, 2, 3, 3), {"affine": False, "track_running_stats": False}),
]


def case(index: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer of other weights than 1 and 0, a batch far from 0, and weights of the loss."""
    generator = torch.Generator().manual_seed(index)
    kind, shape, options = CASES[index]
    norm = kind(shape[1], **options).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(shape[1], generator=generator, dtype=torch.float64))
    batch = 40 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return norm, batch, torch.randn(shape, generator=generator, dtype=torch.float64)


def results(norm: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Two steps: output, second derivatives at the batch, gradients, running averages."""
    x.requires_grad_(True)
    norm(x.detach() + 1)
    out = norm(x)
    (slope,) = torch.autograd.grad((out.square() * weights).sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.square().sum(), x, retain_graph=True)
    (out.square() * weights).sum().backward()
    gradients = {f"d{name}": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "dx": slope.detach(), "ddx": curve, **gradients, **dict(norm.named_buffers())}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    for index in range(len(CASES)):
        norm, batch, weights = case(index)
        cut = 1 + len(batch) // 2  # shares of two sizes
        mine = slice(0, cut) if rank == 0 else slice(cut, None)
        torch.save(results(norm, batch[mine].clone(), weights[mine]), f"{folder}/{index}-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_share_the_statistics_of_one(tmp_path: Path) -> None:
    in_two(work, tmp_path)
    for index in range(len(CASES)):
        whole = results(*case(index))
        first, second = (torch.load(tmp_path / f"{index}-{rank}.pt") for rank in (0, 1))
        for name, expected in whole.items():
            if name in ("out", "dx", "ddx"):
                found = torch.cat([first[name], second[name]])
            elif name.startswith("d"):
                found = first[name] + second[name]
            else:
                found = first[name]
                assert torch.equal(found, second[name]), name
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("kind", [BatchNorm1d, BatchNorm2d])
def test_alone_it_is_torchs(kind: type[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
    plain = getattr(nn, kind.__name__)(3)
    ours = kind(3)
    assert list(ours.state_dict()) == list(plain.state_dict())
    x = torch.randn(4, 3) if kind is BatchNorm1d else torch.randn(4, 3, 2, 2)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(x), plain.train(mode)(x))
    assert torch.equal(ours.running_var, plain.running_var)
