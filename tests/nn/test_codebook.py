"""The codebook layer: losses and averages by their formulas, restarts, state, and several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

import lapcore
from lapcore.nn import VectorQuantizer, codebook
from tests.oracle import vector_quantize as oracle
from tests.processes import in_two
from tests.tolerance import assert_close, assert_same_bits, to_numpy


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same_state(a: VectorQuantizer, b: VectorQuantizer) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert_same_bits(value, b.state_dict()[name], name)


@pytest.mark.parametrize("axis", [1, -1, 0])
def test_vectors_lie_along_the_axis(axis: int) -> None:
    layer = VectorQuantizer(7, 5, axis=axis, decay=None).eval()
    z = draw(2, 3, 4, 5).movedim(-1, axis)
    found = layer(z)
    want, indices = oracle.vector_quantize(to_numpy(z.movedim(axis, -1)).reshape(-1, 5), to_numpy(layer.codebook))
    assert found.indices.shape == (2, 3, 4) and found.indices.flatten().tolist() == indices.tolist()
    assert found.quantized.shape == z.shape
    assert_close(found.quantized.movedim(axis, -1).reshape(-1, 5), want, 0.0)
    assert_same_bits(layer.lookup(found.indices), found.quantized.detach())


def test_the_loss_and_its_gradients() -> None:
    layer = VectorQuantizer(6, 3, decay=None, beta=0.4)
    z = draw(4, 3, 2, 2, scale=0.3).requires_grad_()
    found = layer(z)
    nearest = to_numpy(layer.codebook)[found.indices]
    difference = to_numpy(z.movedim(1, -1)) - nearest
    square = np.square(difference).mean()
    assert_close(found.codebook_loss, square, 1e-6 * square)
    assert_close(found.commitment_loss, square, 1e-6 * square)
    assert_close(found.loss, 1.4 * square, 3e-6 * square)
    incoming = draw(4, 3, 2, 2, seed=5)
    at_z, at_codes = torch.autograd.grad(
        [found.loss, found.quantized], [z, layer.codebook], [torch.tensor(1.0), incoming]
    )
    want = to_numpy(incoming) + np.moveaxis(0.4 * 2 * difference / difference.size, -1, 1)
    assert_close(at_z, want, 1e-6)
    codes = np.zeros((6, 3))
    np.add.at(codes, to_numpy(found.indices).ravel(), -2 * difference.reshape(-1, 3) / difference.size)
    assert_close(at_codes, codes, 1e-6)


def test_the_averages_are_those_of_the_paper() -> None:
    layer = VectorQuantizer(5, 3, axis=-1, decay=0.8, epsilon=1e-3)
    counts, sums, codes = np.ones(5), to_numpy(layer.codebook), to_numpy(layer.codebook)
    for step in range(6):
        z = draw(11, 3, seed=step)
        found = layer(z)
        assert found.codebook_loss == 0 and not layer.codebook.requires_grad
        want, indices = oracle.vector_quantize(to_numpy(z), codes)
        assert found.indices.tolist() == indices.tolist()
        assert_close(found.quantized, want, 1e-5)  # with the codes from before this batch
        one_hot = np.eye(5)[indices]
        counts = 0.8 * counts + 0.2 * one_hot.sum(0)
        sums = 0.8 * sums + 0.2 * one_hot.T @ to_numpy(z)
        smoothed = (counts + 1e-3) / (counts.sum() + 5e-3) * counts.sum()
        codes = sums / smoothed[:, None]
        assert_close(layer.codebook, codes, 1e-5)
    before = layer.codebook.clone()
    layer.eval()(draw(11, 3))
    assert_same_bits(layer.codebook, before)


def test_sums_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, indices = draw(50, 4), torch.randint(0, 9, (50,))
    monkeypatch.setattr(codebook, "TILE", 9 * 7)
    one_hot = np.eye(9)[indices.numpy()]
    assert_close(codebook._sums(rows, indices, 9), one_hot.T @ to_numpy(rows), 1e-5)
    assert codebook._counts(indices, 9).tolist() == one_hot.sum(0).tolist()


def test_the_codebook_learns_the_clusters() -> None:
    """Of four far clusters the nearest to where the codes start would keep them all; with restarts every cluster gets one."""
    centres = torch.tensor([[20.0, 0.0], [0.0, 20.0], [-20.0, 0.0], [0.0, -30.0]])
    layer = VectorQuantizer(16, 2, axis=-1, decay=0.9, restart_after=3)
    for step in range(60):
        layer(centres.repeat(10, 1) + draw(40, 2, seed=step, scale=0.1))
    assert torch.cdist(centres, layer.codebook).min(1).values.max() < 0.5


@pytest.mark.parametrize("decay", [None, 0.99])
def test_restart(decay: float | None) -> None:
    """A code is dead after its third batch on end without a vector, and not before."""
    layer = VectorQuantizer(3, 2, axis=-1, decay=decay, restart_after=3, seed=4)
    with torch.no_grad():
        start = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
        layer.load_state_dict({name: start for name in ("codebook", "sums") if hasattr(layer, name)}, strict=False)
    z = draw(8, 2, seed=1)
    for batch in range(3):
        assert layer.batches == batch
        assert_close(layer.codebook[1:], to_numpy(start[1:]), 0.02)
        layer(z)
    for code in layer.codebook[1:]:
        assert (code == z).all(1).any()
    assert layer.idle.tolist() == [0, 0, 0]
    if decay is not None:
        assert layer.counts[1:].tolist() == [1, 1] and layer.sums[1:].equal(layer.codebook[1:])


def test_restarts_draw_every_vector_alike() -> None:
    layer = VectorQuantizer(4096, 1, axis=-1, restart_after=1)
    picks = layer._drawn(torch.arange(16.0)[:, None])[:, 0].long()
    counts = torch.bincount(picks, minlength=16).double()
    assert float(((counts - 256) ** 2 / 256).sum()) < 38  # chi squared, 15 degrees of freedom: 0.1 %
    layer.batches += 1
    assert not picks.equal(layer._drawn(torch.arange(16.0)[:, None])[:, 0].long())


def test_a_run_is_a_function_of_its_seed() -> None:
    def train(seed: int, state: int) -> VectorQuantizer:
        torch.manual_seed(state)
        generator = torch.random.get_rng_state()
        layer = VectorQuantizer(9, 4, restart_after=2, seed=seed)
        for step in range(6):
            layer(draw(2, 4, 3, 3, seed=step))
        assert torch.random.get_rng_state().equal(generator)
        return layer

    same_state(train(1, 5), train(1, 6))
    assert not train(1, 5).codebook.equal(train(2, 5).codebook)


def test_state_goes_on_where_it_was_saved() -> None:
    one = VectorQuantizer(9, 4, restart_after=2)
    for step in range(5):
        one(draw(2, 4, 3, 3, seed=step))
    two = VectorQuantizer(9, 4, restart_after=2, seed=0)
    two.load_state_dict(one.state_dict())
    for step in range(5, 9):
        one(draw(2, 4, 3, 3, seed=step)), two(draw(2, 4, 3, 3, seed=step))
    same_state(one, two)


def test_perplexity() -> None:
    layer = VectorQuantizer(4, 2, axis=-1).eval()
    layer.codebook.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
    assert_close(layer(layer.codebook.repeat(5, 1)).perplexity, np.float64(4), 1e-5)
    assert_close(layer(layer.codebook[:1].repeat(5, 1)).perplexity, np.float64(1), 1e-6)


def test_half_precision_inputs_are_quantized_in_single() -> None:
    layer = VectorQuantizer(5, 3)
    z = draw(2, 3, 4, 4).to(torch.bfloat16).requires_grad_()
    found = layer(z)
    assert found.quantized.dtype == found.loss.dtype == torch.float32
    (grad,) = torch.autograd.grad(found.quantized.sum() + found.loss, z)
    assert grad.dtype == torch.bfloat16 and grad.isfinite().all()


@pytest.mark.parametrize("decay", [None, 0.99])
def test_compiles_whole(decay: float | None) -> None:
    plain, compiled = (VectorQuantizer(6, 4, decay=decay, restart_after=2) for _ in range(2))
    torch.compiler.reset()
    call = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for step in range(3):
        z = draw(3, 4, 2, 2, seed=step)
        for a, b in zip(plain(z), call(z), strict=True):
            assert_close(a, to_numpy(b), 1e-6)
    for name, value in plain.state_dict().items():
        assert_close(value, to_numpy(compiled.state_dict()[name]), 1e-6)


BAD = [
    ("codes", lambda: VectorQuantizer(0, 3)),
    ("dim", lambda: VectorQuantizer(3, 0)),
    ("restart_after", lambda: VectorQuantizer(3, 3, restart_after=0)),
    ("decay", lambda: VectorQuantizer(3, 3, decay=1.0)),
    ("beta", lambda: VectorQuantizer(3, 3, beta=-1.0)),
    ("z", lambda: VectorQuantizer(3, 3)(torch.zeros(2, 4, 5))),
    ("z", lambda: VectorQuantizer(3, 3)(torch.zeros(3))),
    ("z", lambda: VectorQuantizer(3, 3)(torch.zeros(0, 3, 2))),
]


@pytest.mark.parametrize(("name", "call"), BAD)
def test_refusals(name: str, call) -> None:
    with pytest.raises(ValueError, match=f"^{name}.*: expected"):
        call()


BATCHES = [(5, 4), (3, 6), (7, 7), (1, 2)]  # vectors of each of two processes


def _share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for decay in (None, 0.99):
        layer = VectorQuantizer(9, 3, axis=-1, decay=decay, restart_after=2, seed=3)
        for step, counts in enumerate(BATCHES):
            layer(draw(sum(counts), 3, seed=step).split(counts)[rank])
        torch.save(layer.state_dict(), f"{folder}/{rank}-{decay}.pt")
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    in_two(_share, tmp_path)
    for decay in (None, 0.99):
        one = VectorQuantizer(9, 3, axis=-1, decay=decay, restart_after=2, seed=3)
        for step, counts in enumerate(BATCHES):
            one(draw(sum(counts), 3, seed=step))
        first, second = (torch.load(tmp_path / f"{rank}-{decay}.pt") for rank in (0, 1))
        for name, value in one.state_dict().items():
            assert_same_bits(first[name], second[name], name)
            assert_close(first[name], to_numpy(value), 1e-6, name)


def test_the_layer_is_the_op_with_losses_around_it() -> None:
    layer = VectorQuantizer(8, 4, axis=-1)
    z = draw(10, 4)
    want, indices = lapcore.vector_quantize(z, layer.codebook.clone())
    found = layer(z)
    assert_same_bits(found.quantized, want)
    assert_same_bits(found.indices, indices)
    assert_close(found.commitment_loss, to_numpy(F.mse_loss(z, want)), 1e-7)
