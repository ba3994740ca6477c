"""Random calls of the native kernels of noise, Gaussians, mixtures, codebooks and Parzen windows: see tests/native/fuzz.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import lapcore
from tests.native.fuzz import FLOATS, Draw, Kind, main
from tests.ops.likelihood_checks import size_of, steepness
from tests.oracle import gaussian as gaussian_oracle
from tests.oracle import likelihood as likelihood_oracle
from tests.oracle import parzen as parzen_oracle
from tests.oracle import random as random_oracle
from tests.oracle import vector_quantize as codes_oracle
from tests.tolerance import ACCUMULATOR, NORMAL, assert_close, assert_same_bits, to_numpy

Tensor = torch.Tensor
Array = np.ndarray
Shape = tuple[int, ...]


def eps_of(dtype: torch.dtype) -> float:
    """Of what a call in `dtype` is computed in."""
    return torch.finfo(ACCUMULATOR[dtype]).eps


def stored(dtype: torch.dtype, want: Array) -> Array:
    """One rounding to the type of a result."""
    return torch.finfo(dtype).eps / 2 * (1 + 1e-3) * np.abs(want) + torch.finfo(dtype).tiny


def pick_shape(draw: Draw) -> Shape:
    """Rows shorter and longer than a tile of 1152 and a chunk of 16 of them, or of several dimensions."""
    rows = draw.choice([0, 1, 1, 2, 3, 5, 17])
    if draw.random() < 0.3:
        return rows, *(draw.choice([1, 2, 3, 7, 8]) for _ in range(draw.randint(0, 3)))
    return rows, draw.choice([draw.randint(0, 9), draw.randint(1, 70), draw.randint(1, 1300), draw.randint(1100, 2500)])


def pick_seeds(draw: Draw, rows: int) -> tuple[int | Tensor, int | list[int]]:
    """As lapcore takes them, and as the oracle does."""
    if draw.random() < 0.5:
        seed = draw.randint(-(2**63), 2**63 - 1)
        return seed, seed
    seeds = [draw.randint(-(2**63), 2**63 - 1) for _ in range(rows)]
    step = draw.choice([1, 2, 3])
    apart = torch.empty(max(0, (rows - 1) * step + 1) if rows else 0, dtype=torch.int64)[::step]
    return apart.copy_(torch.tensor(seeds, dtype=torch.int64)), seeds


def pick_grad(draw: Draw, rows: int, dtype: torch.dtype) -> Tensor:
    """Of sums over rows: some of them 0, at any stride."""
    grad = draw.memory((rows,), dtype, written=True)
    grad[draw.random() < 0.3 :: 3] = 0
    return grad


def leaves(draw: Draw, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those of which gradients are wanted, at least one."""
    chosen = [draw.random() < 0.7 for _ in tensors]
    chosen[draw.randrange(len(chosen))] = True
    return [x.detach().requires_grad_(it) for x, it in zip(tensors, chosen, strict=True)]


def check_gradients(found: Sequence[Tensor], want: Sequence[Array], dtype: torch.dtype, slack: Array | float) -> None:
    for got, expected in zip(found, want, strict=True):
        assert got.dtype == dtype
        allowed = 64 * eps_of(dtype) * (1 + np.abs(expected) + slack) + stored(dtype, expected)
        assert_close(got, expected, allowed, f"gradient {expected.shape} {dtype}")


def noise(draw: Draw, checked: bool) -> None:
    shape, stream = pick_shape(draw), draw.randint(0, 2**63 - 1)
    seeds, known = pick_seeds(draw, shape[0])
    name, dtype = draw.choice(["bits", "uniform", "normal"]), draw.choice(FLOATS)
    if name == "bits":
        got = lapcore.random.bits(shape, seeds, stream=stream)
        if checked:
            assert (got.numpy().view(np.uint32) == random_oracle.bits(shape, known, stream)).all()
        return
    got = getattr(lapcore.random, name)(shape, seeds, stream=stream, dtype=dtype)
    if not checked:
        return
    if name == "uniform":
        want = np.asarray(random_oracle.uniform(shape, known, stream), dtype=np.float64)
        assert_close(got, want, 0.0 if dtype.itemsize > 2 else torch.finfo(dtype).eps / 2)
    else:
        want = random_oracle.normal(shape, known, stream)
        assert_close(got, want, NORMAL + stored(dtype, want))


def gaussian(draw: Draw, checked: bool) -> None:
    """A draw, a divergence or both, with their gradients."""
    shape, dtype, stream = pick_shape(draw), draw.choice(FLOATS), draw.randint(0, 2**63 - 1)
    seeds, known = pick_seeds(draw, shape[0])
    kind = draw.choice(["z", "kl", "both"])
    prior = [kind != "z" and draw.random() < 0.5 for _ in range(2)]
    given = leaves(draw, [draw.rows(shape, dtype) for _ in range(2 + sum(prior))])
    rest = iter(given[2:])
    moments = [*given[:2], *(next(rest) if there else None for there in prior)]
    if kind == "z":
        results = {"z": lapcore.reparameterize(*moments[:2], seeds, stream=stream)}
    elif kind == "kl":
        results = {"kl": lapcore.gaussian_kl(*moments)}
    else:
        both = lapcore.reparameterize_kl(*moments, seeds=seeds, stream=stream)
        results = dict(zip(("z", "kl"), both, strict=True))
    grads = {
        name: draw.rows(shape, dtype) if name == "z" else pick_grad(draw, shape[0], y.dtype)
        for name, y in results.items()
    }
    wanted = [x for x in given if x.requires_grad]
    found = torch.autograd.grad(list(results.values()), wanted, list(grads.values()))
    if checked:
        drawn = random_oracle.normal(shape, known, stream)
        check_gaussian(moments, drawn, results)
        check_gaussian_gradients(moments, drawn, grads, found)


def check_gaussian(moments: Sequence[Tensor | None], drawn: Array, results: dict[str, Tensor]) -> None:
    mean, logvar, *prior = (None if x is None else to_numpy(x) for x in moments)
    dtype = moments[0].dtype
    if "z" in results:
        want, deviation = gaussian_oracle.reparameterize(mean, logvar, drawn), np.exp(logvar / 2)
        single = NORMAL * deviation + 4 * eps_of(dtype) * (np.abs(mean) + 7 * deviation)
        assert_close(results["z"], want, single + stored(dtype, want), f"z {mean.shape} {dtype}")
    if "kl" in results:
        want, magnitude = (f(mean, logvar, *prior) for f in (gaussian_oracle.gaussian_kl, gaussian_oracle.kl_magnitude))
        assert_close(results["kl"], want, 16 * eps_of(dtype) * magnitude + 1e-30, f"kl {mean.shape} {dtype}")


def check_gaussian_gradients(
    moments: Sequence[Tensor | None], drawn: Array, grads: dict[str, Tensor], found: Sequence[Tensor]
) -> None:
    arrays = [None if x is None else to_numpy(x) for x in moments]
    want, slack = [np.zeros(drawn.shape) for _ in range(4)], np.zeros(drawn.shape)
    if "z" in grads:
        grad = to_numpy(grads["z"])
        want[:2] = gaussian_oracle.reparameterize_gradients(grad, arrays[1], drawn)
        slack = np.abs(grad) * (1 + 8 * np.exp(arrays[1] / 2)) * (1 + NORMAL / eps_of(moments[0].dtype))
    if "kl" in grads:
        want = [a + b for a, b in zip(want, gaussian_oracle.kl_gradients(to_numpy(grads["kl"]), *arrays), strict=True)]
    wanted = [w for w, x in zip(want, moments, strict=True) if x is not None and x.requires_grad]
    check_gradients(found, wanted, moments[0].dtype, slack)


def gaussian_nll(draw: Draw, checked: bool) -> None:
    shape, dtype = pick_shape(draw), draw.choice(FLOATS)
    given = leaves(draw, [draw.rows(shape, dtype) for _ in range(3)])
    nll = lapcore.gaussian_nll(*given)
    grad = pick_grad(draw, shape[0], nll.dtype)
    found = torch.autograd.grad(nll, [x for x in given if x.requires_grad], grad)
    if checked:
        arrays = [to_numpy(x) for x in given]
        want, magnitude = gaussian_oracle.gaussian_nll(*arrays), gaussian_oracle.nll_magnitude(*arrays)
        assert_close(nll, want, 16 * eps_of(dtype) * magnitude + 1e-30, f"nll {shape} {dtype}")
        all_three = gaussian_oracle.nll_gradients(to_numpy(grad), *arrays)
        check_gradients(found, [w for w, x in zip(all_three, given, strict=True) if x.requires_grad], dtype, 0.0)


def pick_params(draw: Draw, dtype: torch.dtype) -> tuple[Tensor, int, int]:
    """Params, how many components they have, and the channels of their images."""
    n, components, channels = draw.choice([0, 1, 2, 3]), draw.randint(1, 12), draw.choice([1, 3])
    size = draw.choice([(1, 1), (draw.randint(1, 9), draw.randint(1, 9)), (draw.randint(1, 3), draw.randint(1, 90))])
    return draw.memory((n, size_of(components, channels), *size), dtype), components, channels


def mixture(draw: Draw, checked: bool) -> None:
    """A likelihood and its gradients; the official code's values jump, and are left to other tests."""
    dtype, mode = draw.choice(FLOATS), draw.choice(likelihood_oracle.MODES)
    params, _, channels = pick_params(draw, dtype)
    shape = (len(params), channels, *params.shape[2:])
    levels = torch.randint(0, 256, shape, generator=draw.generator)
    x = draw.memory(shape, ACCUMULATOR[dtype], written=True).copy_(levels.double() / 127.5 - 1)
    given = leaves(draw, [params, x])
    nll = lapcore.discretized_logistic_mixture_nll(*given, mode=mode)
    grad = pick_grad(draw, len(params), nll.dtype)
    found = torch.autograd.grad(nll, [t for t in given if t.requires_grad], grad)
    if not checked or mode != "exact" or not len(params):
        return
    p, pixels, g = to_numpy(params), to_numpy(x), to_numpy(grad)
    want = likelihood_oracle.discretized_logistic_mixture_nll(p, pixels)
    assert_close(
        nll, want, 8 * eps_of(dtype) * likelihood_oracle.nll_magnitude(p, pixels), f"mixture {p.shape} {dtype}"
    )
    if given[0].requires_grad:
        want = likelihood_oracle.discretized_logistic_mixture_nll_gradient(g, p, pixels)
        allowed = 16 * eps_of(dtype) * np.abs(g)[:, None, None, None] * steepness(p, pixels) + stored(dtype, want)
        assert_close(found[0], want, allowed, f"its gradient {p.shape} {dtype}")


def mixture_draw(draw: Draw, checked: bool) -> None:
    dtype, snap = draw.choice(FLOATS), draw.random() < 0.5
    params, components, channels = pick_params(draw, dtype)
    seeds, known = pick_seeds(draw, len(params))
    got = lapcore.sample_discretized_logistic_mixture(params, seeds, channels=channels, snap=snap)
    if not checked or not len(params):
        return
    u = random_oracle.uniform((len(params), components + channels, *params.shape[2:]), known)
    noise = u[:, :components], u[:, components:]
    want = likelihood_oracle.sample_discretized_logistic_mixture(to_numpy(params), noise, snap)
    off = np.abs(to_numpy(got) - want) > 2e-4
    # A value in the middle between two of the grid's may go to either, and takes the other channels with it.
    assert off.sum() <= (channels + off.size // 50 if snap else 0), f"draw {params.shape} {dtype}"


def vector_quantize(draw: Draw, checked: bool) -> None:
    dtype, depth = draw.choice(FLOATS), draw.choice([draw.randint(1, 9), draw.randint(1, 140)])
    codes = draw.choice([draw.randint(1, 9), draw.randint(1, 300)])
    rows = draw.choice([(draw.randint(0, 40),), (draw.randint(200, 600),), (2, draw.randint(0, 9), 3), ()])
    z, codebook = draw.rows((*rows, depth), dtype), draw.rows((codes, depth), dtype)
    quantized, indices = lapcore.vector_quantize(z, codebook)
    if not checked:
        return
    assert_same_bits(quantized, codebook[indices])
    values, table = to_numpy(z).reshape(-1, depth), to_numpy(codebook)
    excess = codes_oracle.excess(values, table, to_numpy(indices).ravel())
    allowed = 2 * (depth + 2) * eps_of(dtype) * codes_oracle.magnitude(values, table)
    assert (excess <= allowed).all(), f"codes {z.shape} {z.stride()} {codebook.shape} {codebook.stride()} {dtype}"


def parzen(draw: Draw, checked: bool) -> None:
    dtype, depth = draw.choice(FLOATS), draw.choice([draw.randint(1, 9), draw.randint(1, 140)])
    rows, samples = draw.randint(0, 70), draw.choice([draw.randint(1, 9), draw.randint(1, 200), draw.randint(90, 400)])
    x, centres = draw.rows((rows, depth), dtype), draw.rows((samples, depth), dtype)
    sigmas = [0.3 + 3 * draw.random() for _ in range(draw.randint(1, 3))]
    got = lapcore.parzen_log_likelihood(x, centres, sigmas)
    if not checked:
        return
    values, points = to_numpy(x), to_numpy(centres)
    for each, sigma in zip(got, sigmas, strict=True):
        around = [(values - c, points - c) for c in (points.mean(0), points[0])]
        magnitude = np.max([parzen_oracle.parzen_magnitude(*pair, sigma) for pair in around], axis=0)
        want = parzen_oracle.parzen_log_likelihood(values, points, sigma)
        allowed = (depth + 10 + samples / 100) * eps_of(dtype) / 2 * magnitude
        assert_close(each, want, allowed, f"parzen {x.shape} {x.stride()} {centres.shape} {centres.stride()} {dtype}")


def kinds() -> list[Kind]:
    return [noise, gaussian, gaussian, gaussian_nll, mixture, mixture, mixture_draw, vector_quantize, parzen]


if __name__ == "__main__":
    with lapcore.backend("cpu"):
        main(kinds)
