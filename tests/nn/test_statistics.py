"""Layers that keep statistics of their batches, shared by processes: what they keep is that of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lapcore.nn.processes import gathered, processes, summed
from lapcore.nn.running_gaussians import CodeGaussian, ErrorVariance
from lapcore.nn.subspace import PrincipalSubspace
from tests.processes import in_two

LAYERS: dict[str, tuple[int, ...]] = {"gaussian": (5,), "errors": (5, 2, 2), "subspace": (5,)}


def made(kind: str) -> nn.Module:
    layers = {"gaussian": CodeGaussian(5), "errors": ErrorVariance(5), "subspace": PrincipalSubspace(5, 5)}
    return layers[kind].double()


def batches(kind: str) -> Tensor:
    return 3 + torch.randn(3, 8, *LAYERS[kind], dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def followed(kind: str, share: slice) -> dict[str, Tensor]:
    layer = made(kind)
    for batch in batches(kind):
        layer.follow(batch[share])  # type: ignore[operator]
    return layer.state_dict()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    share = slice(0, 4) if rank == 0 else slice(4, 8)
    x = torch.arange(3.0) + rank
    common = {"sum": summed(x), "rows": gathered(x), "own": x, "count": torch.tensor(processes())}
    torch.save({kind: followed(kind, share) for kind in LAYERS} | {"common": common}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_keep_the_statistics_of_one(tmp_path: Path) -> None:
    in_two(work, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for kind in LAYERS:
        for name, expected in followed(kind, slice(None)).items():
            assert torch.equal(first[kind][name], second[kind][name]), (kind, name)
            torch.testing.assert_close(first[kind][name], expected, rtol=1e-9, atol=1e-9, msg=f"{kind} {name}")
    assert first["common"]["sum"].tolist() == [1, 3, 5] and first["common"]["own"].tolist() == [0, 1, 2]
    assert second["common"]["rows"].tolist() == [0, 1, 2, 1, 2, 3] and first["common"]["count"] == 2


@pytest.mark.parametrize("kind", LAYERS)
def test_following_leaves_the_batch_alone(kind: str) -> None:
    batch = batches(kind)[0]
    copy = batch.clone()
    made(kind).follow(batch)  # type: ignore[operator]
    assert torch.equal(batch, copy)


def test_alone_nothing_is_exchanged() -> None:
    x = torch.arange(3.0)
    assert processes() == 1 and summed(x) is x and gathered(x) is x
