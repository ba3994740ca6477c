"""Mixtures of discretised logistics against the float64 oracle: values, gradients, extremes, draws, and the product's manners."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lapcore
from tests.conftest import require_backend
from tests.layouts import LAYOUTS
from tests.oracle import likelihood as oracle
from tests.oracle import random as random_oracle
from tests.tolerance import assert_close, assert_same_bits, to_numpy

PROBE = ("discretized_logistic_mixture_nll", (1, 10, 1, 1))
MODES = ("exact", "official")
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# N, K, C, H, W
SHAPES = [(2, 3, 3, 3, 5), (1, 1, 1, 1, 1), (3, 5, 1, 2, 9), (1, 10, 3, 1, 67)]

Tensor = torch.Tensor
Shape = tuple[int, int, int, int, int]
modes = pytest.mark.parametrize("mode", MODES)


def size_of(components: int, channels: int) -> int:
    return components * (10 if channels == 3 else 3)


def draw_params(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Log-scales between -8 and 1, so that some are below the floor; means inside the image and beyond."""
    n, k, c, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    params = torch.randn(n, size_of(k, c), h, w, generator=generator, dtype=torch.float64)
    groups = params[:, k:].view(n, c, 3 if c == 3 else 2, k, h, w)
    groups[:, :, 1] = groups[:, :, 1] * 1.5 - 3
    return params.to(dtype)


def draw_image(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """On the grid; every seventh value at one of its ends."""
    n, _, c, h, w = shape
    levels = torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(seed + 1))
    levels.view(-1)[::7] = 0
    levels.view(-1)[3::7] = 255
    return (levels.double() / 127.5 - 1).to(dtype)


def nll(params: Tensor, x: Tensor, mode: str = "exact") -> Tensor:
    return lapcore.discretized_logistic_mixture_nll(params, x, mode=mode)


def sample(params: Tensor, seeds: int | Tensor, **options: Any) -> Tensor:
    return lapcore.sample_discretized_logistic_mixture(params, seeds, **options)


def each_pixel(params: Tensor, x: Tensor, mode: str = "exact") -> Tensor:
    """Of images of one row, as images of one pixel."""
    return nll(*(t.permute(0, 3, 1, 2).flatten(0, 1)[..., None] for t in (params, x)), mode).double()


def gradients(params: Tensor, x: Tensor, grad: Tensor, mode: str = "exact") -> tuple[Tensor, Tensor]:
    params, x = params.detach().requires_grad_(), x.detach().requires_grad_()
    return torch.autograd.grad(nll(params, x, mode), (params, x), grad)


def near_threshold(params: np.ndarray, x: np.ndarray) -> bool:
    """Whether float32 may take the other side of the official code's threshold, where its value jumps."""
    mixture = oracle.unpack(params, x.shape[1])
    centred = oracle._centred(mixture, x)
    a, b, _ = oracle._ends(centred)
    inside = abs(centred.x) < 0.999
    return bool((inside & (abs(np.log(np.maximum(oracle.sigmoid(a) - oracle.sigmoid(b), 1e-30) / 1e-5)) < 1e-2)).any())


def steepness(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 1, H, W): how much a rounding error of a mean, in units of the scale, may move the derivatives of a pixel."""
    mixture = oracle.unpack(params, x.shape[1])
    centred = oracle._centred(mixture, x)
    ends = (
        centred.inv * (abs(mixture.means) + 4) * (1 + abs(centred.log_scale))
        + abs(mixture.logits).max(1)[:, None, None]
    )
    return ((1 + ends.max((1, 2))) * (1 + centred.inv.max((1, 2))))[:, None]


# The oracle itself ---------------------------------------------------------------------------------------------------------------


def test_the_oracle_is_the_definition() -> None:
    shape = (2, 2, 3, 1, 2)
    params, x = draw_params(shape).numpy(), draw_image(shape).numpy()
    want = [float(v) for v in oracle.exact_nll_by_definition(params, x)]
    assert np.allclose(oracle.discretized_logistic_mixture_nll(params, x), want, rtol=1e-12)


def test_the_layout_is_the_official_code_s() -> None:
    """Pixels last, as openai/pixel-cnn has them: logits, then (C, 3 K), a third each of means, log-scales and coefficients."""
    k, h, w = 4, 2, 3
    shape = (1, k, 3, h, w)
    params, x = draw_params(shape), draw_image(shape)
    params[:, k:].view(1, 3, 3, k, h, w)[:, :, 1] += 3
    last = params[0].permute(1, 2, 0)
    groups = last[..., k:].reshape(h, w, 3, 3 * k)
    means, log_scales, c = groups[..., :k], groups[..., k : 2 * k].clamp_min(-7), groups[..., 2 * k :].tanh()
    pixel = x[0].permute(1, 2, 0)[..., None]
    moved = torch.stack(
        [
            means[:, :, 0],
            means[:, :, 1] + c[:, :, 0] * pixel[:, :, 0],
            means[:, :, 2] + c[:, :, 1] * pixel[:, :, 0] + c[:, :, 2] * pixel[:, :, 1],
        ],
        2,
    )
    upper = ((pixel - moved + 1 / 255) / log_scales.exp()).sigmoid().masked_fill(pixel > 0.999, 1)
    lower = ((pixel - moved - 1 / 255) / log_scales.exp()).sigmoid().masked_fill(pixel < -0.999, 0)
    want = -(last[..., :k].softmax(-1) * (upper - lower).prod(2)).sum(-1).log().sum()
    assert_close(nll(params, x), want.numpy()[None], 1e-8)


# Values and gradients ------------------------------------------------------------------------------------------------------------


@modes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float64(backend: str, device: str, shape: Shape, mode: str) -> None:
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    got = nll(params, x, mode)
    assert got.dtype == torch.float64
    want = oracle.discretized_logistic_mixture_nll(to_numpy(params), to_numpy(x), mode)
    assert_close(got, want, 1e-9 * (1 + np.abs(want)))


@modes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float64_gradients(backend: str, device: str, shape: Shape, mode: str) -> None:
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    grad = torch.linspace(-1, 2, shape[0], dtype=torch.float64, device=device)
    got, _ = gradients(params, x, grad, mode)
    want = oracle.discretized_logistic_mixture_nll_gradient(to_numpy(grad), to_numpy(params), to_numpy(x), mode)
    assert_close(got, want, 1e-9 * (1 + np.abs(want)))


def test_no_images(backend: str, device: str) -> None:
    params, x = torch.zeros(0, 20, 2, 3, device=device), torch.zeros(0, 3, 2, 3, device=device)
    assert nll(params, x).shape == (0,)
    d_params, d_x = gradients(params, x, torch.zeros(0, device=device))
    assert d_params.shape == params.shape and d_x.shape == x.shape
    assert sample(params, torch.zeros(0, dtype=torch.int64, device=device)).shape == x.shape


@modes
@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_lower_precision(backend: str, device: str, dtype: torch.dtype, mode: str) -> None:
    """The rounding errors of a pixel are some epsilons of what it is made of; sums are float64."""
    shape = (2, 4, 3, 3, 4)
    seed = next(
        s for s in range(99) if not near_threshold(to_numpy(draw_params(shape, s, dtype)), to_numpy(draw_image(shape)))
    )
    params, x = draw_params(shape, seed, dtype).to(device), draw_image(shape, dtype=torch.float32).to(device)
    grad = torch.tensor([1.0, -0.5], device=device)
    eps = torch.finfo(torch.float32).eps
    p, pixels = to_numpy(params), to_numpy(x)
    got = nll(params, x, mode)
    assert got.dtype == torch.float32
    want = oracle.discretized_logistic_mixture_nll(p, pixels, mode)
    assert_close(got, want, 8 * eps * oracle.nll_magnitude(p, pixels))
    d_params, d_x = gradients(params, x, grad, mode)
    assert d_params.dtype == dtype and d_x.dtype == torch.float32
    want = oracle.discretized_logistic_mixture_nll_gradient(to_numpy(grad), p, pixels, mode)
    rounding = torch.finfo(dtype).eps * np.abs(want) + torch.finfo(dtype).tiny
    assert_close(d_params, want, 16 * eps * steepness(p, pixels) + rounding)
    _, exact_x = gradients(params.double(), x.double(), grad.double(), mode)
    assert_close(d_x, to_numpy(exact_x), 16 * eps * steepness(p, pixels))


@pytest.mark.heavy
@modes
@pytest.mark.parametrize("channels", [1, 3])
def test_gradcheck(backend: str, device: str, channels: int, mode: str) -> None:
    """At params and at x."""
    shape = (1, 2, channels, 1, 3)
    params, x = draw_params(shape, 3).to(device), draw_image(shape).to(device)
    leaves = params.requires_grad_(), x.requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: nll(*given, mode), leaves)
    assert torch.autograd.gradgradcheck(lambda *given: nll(*given, mode), leaves, fast_mode=True)


@pytest.mark.heavy
def test_only_the_wanted_gradient_is_computed(backend: str, device: str) -> None:
    shape = (2, 2, 3, 2, 2)
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    both = gradients(params, x, torch.ones(2, dtype=torch.float64, device=device))
    for i in range(2):
        given = [t.detach().requires_grad_(j == i) for j, t in enumerate((params, x))]
        nll(*given).sum().backward()
        assert given[1 - i].grad is None and given[i].grad is not None
        assert_same_bits(given[i].grad, both[i])
    assert not nll(params, x).requires_grad


@pytest.mark.heavy
def test_the_two_modes_agree_where_it_is_likely(backend: str, device: str) -> None:
    shape = (60, 1, 1, 1, 1)
    params, x = draw_params(shape).to(device), draw_image(shape).to(device)
    exact, official = nll(params, x), nll(params, x, "official")
    likely = (-exact).exp() > 2e-5
    assert 10 < likely.sum() < 60
    assert (exact - official)[likely].abs().max() < 2e-9
    assert (exact - official)[~likely].abs().max() > 1e-4


@pytest.mark.heavy
def test_exact_is_exact_in_the_tails(backend: str, device: str) -> None:
    """To 400 nats per pixel, against decimal arithmetic that knows no formula but the definition."""
    log_scales = torch.tensor([-7.0, -6.0, -5.0, -3.0, 0.0, 5.0, 60.0])
    means = torch.tensor([-1.2, -0.3, 0.0, 0.35, 3.0])
    grid = torch.cartesian_prod(log_scales, means).double()
    params = torch.cat([torch.zeros(len(grid), 1), grid[:, 1:], grid[:, :1]], 1)[..., None, None].to(device)
    x = (torch.arange(len(grid)) * 7 % 256).double()[:, None, None, None].to(device) / 127.5 - 1
    want = oracle.exact_nll_by_definition(to_numpy(params), to_numpy(x), digits=2000)
    assert max(want) > 1000
    got = to_numpy(nll(params, x))
    assert max(abs(Decimal(float(g)) - v) / (1 + v) for g, v in zip(got, want, strict=True)) < Decimal("1e-12")


# A distribution ------------------------------------------------------------------------------------------------------------------

ALL = torch.arange(256).double() / 127.5 - 1


@pytest.mark.heavy
@given(
    values=st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    stretch=st.sampled_from([0.01, 1.0, 4.0, 30.0]),
)
def test_the_bins_of_a_pixel_sum_to_one(values: list[float], stretch: float) -> None:
    params = torch.tensor(values, dtype=torch.float64).view(1, 9, 1, 1).expand(256, 9, 1, 1).clone()
    params[:, 6:] *= stretch
    total = (-nll(params, ALL.view(256, 1, 1, 1))).exp().sum()
    assert abs(total - 1) < 1e-12
    single = (-nll(params.float(), ALL.view(256, 1, 1, 1).float())).double().exp().sum()
    assert abs(single - 1) < 1e-4


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(3))
def test_the_bins_of_a_colour_sum_to_its_condition(backend: str, device: str, seed: int) -> None:
    """sum over blue of p(r, g, b) = p(r) p(g | r), which two grey pixels give."""
    params = draw_params((1, 1, 3, 1, 1), seed).to(device)
    red, green = 0.6, -0.2
    x = torch.tensor([red, green, 0.0], dtype=torch.float64, device=device).view(1, 3, 1, 1).repeat(256, 1, 1, 1)
    x[:, 2, 0, 0] = ALL.to(device)
    got = (-nll(params.expand(256, -1, -1, -1), x)).exp().sum()
    _, m_r, s_r, c, m_g, s_g, *_ = params.flatten().tolist()
    grey = torch.tensor([[0, m_r, s_r], [0, m_g + math.tanh(c) * red, s_g]], dtype=torch.float64, device=device)
    want = (
        (-nll(grey[..., None, None], torch.tensor([red, green], dtype=torch.float64, device=device).view(2, 1, 1, 1)))
        .sum()
        .exp()
    )
    assert abs(got / want - 1) < 1e-9


# Extremes ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", FLOATS)
@modes
def test_no_finite_parameters_give_nan(backend: str, device: str, mode: str, dtype: torch.dtype, channels: int) -> None:
    largest = torch.finfo(dtype).max
    values = torch.tensor([0, 1e-8, 0.7, -7, -7.5, 30, 90, 104, 1e4, 6e4, largest / 3, largest], dtype=torch.float64)
    values = torch.cat([values, -values]).clamp(-largest, largest).to(dtype)
    shape = (3, 2, channels, 1, 150)
    generator = torch.Generator().manual_seed(5)
    params = values[torch.randint(0, len(values), (3, size_of(2, channels), 1, 150), generator=generator)].to(device)
    x = draw_image(shape, dtype=torch.promote_types(dtype, torch.float32)).to(device)
    value = nll(params, x, mode)
    assert not value.isnan().any() and (value > -1e-3).all()
    single = each_pixel(params, x, mode)
    assert not single.isnan().any() and single.isfinite().any()
    for grad in gradients(params, x, torch.ones_like(value), mode):
        assert not grad.isnan().any()
    drawn = sample(params, 3, channels=channels)
    assert drawn.abs().max() <= 1


def test_a_flat_and_a_sharp_component(backend: str, device: str) -> None:
    """p -> 2/255 exp(-s) as the scale grows, to the largest numbers; a mean that is a world away."""
    for dtype in (torch.float32, torch.float64):
        s = torch.tensor([20.0, 90.0, 1e4, 1e30], dtype=dtype, device=device)
        params = torch.zeros(4, 3, 1, 1, dtype=dtype, device=device)
        params[:, 2, 0, 0] = s
        x = torch.full((4, 1, 1, 1), 0.2, dtype=dtype, device=device)
        params.requires_grad_()
        value = nll(params, x)
        want = to_numpy(s) - math.log(2 / 255)
        # The logistic's density at 0 is a quarter.
        assert_close(value, want + math.log(4), 4 * torch.finfo(dtype).eps * want)
        (grad,) = torch.autograd.grad(value.sum(), params)
        assert_close(grad[:, 2, 0, 0], np.ones(4), 1e-6)
    far = torch.tensor([0, 1e30, 0], dtype=torch.float32, device=device).view(1, 3, 1, 1)
    assert_close(nll(far, torch.zeros(1, 1, 1, 1, device=device)), np.array([1e30]), 1e24)


def test_the_floor_of_log_scales(backend: str, device: str) -> None:
    params = torch.tensor([[0, 0.1, s] for s in (-9, -7, -6.9)], dtype=torch.float64, device=device)[..., None, None]
    x = torch.full((3, 1, 1, 1), 25 / 127.5, dtype=torch.float64, device=device)
    value = nll(params, x)
    assert value[0] == value[1] != value[2]
    d_params, _ = gradients(params, x, torch.ones(3, dtype=torch.float64, device=device))
    assert d_params[0, 2] == 0 and d_params[1, 2] != 0
    assert d_params[0, 1] == d_params[1, 1] != 0


# Determinism ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_an_image_does_not_depend_on_the_batch(backend: str, device: str) -> None:
    if backend == "reference":
        pytest.skip("torch's own exp and log round by the place in memory")
    shape = (3, 3, 3, 5, 7)
    params, x = draw_params(shape, 1, torch.float32).to(device), draw_image(shape, dtype=torch.float32).to(device)
    seeds = torch.tensor([5, -1, 2**60], device=device)
    grad = torch.ones(3, device=device)
    value, (d_params, d_x), drawn = nll(params, x), gradients(params, x, grad), sample(params, seeds, snap=False)
    for i in range(3):
        one = slice(i, i + 1)
        assert_same_bits(nll(params[one], x[one]), value[one])
        alone = gradients(params[one], x[one], grad[one])
        assert_same_bits(alone[0], d_params[one])
        assert_same_bits(alone[1], d_x[one])
        assert_same_bits(sample(params[one], seeds[one], snap=False), drawn[one])


@pytest.mark.heavy
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(backend: str, device: str, layout: Callable[[Tensor], Tensor]) -> None:
    """Strided inputs and incoming gradients give the bits of contiguous ones."""
    shape = (2, 2, 3, 2, 5)
    params = layout(draw_params(shape, 1, torch.float32).to(device))
    x = layout(draw_image(shape, dtype=torch.float32).to(device))
    grad = torch.ones(1, device=device).expand(2)
    plain = params.contiguous(), x.contiguous()
    assert_same_bits(nll(params, x), nll(*plain))
    for a, b in zip(gradients(params, x, grad), gradients(*plain, grad.contiguous()), strict=True):
        assert_same_bits(a, b)
    seeds = torch.tensor([3, 4, 5, 6], device=device)[::2]
    assert_same_bits(sample(params, seeds), sample(plain[0], seeds.contiguous()))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_matter(threads: int) -> None:
    require_backend("cpu", PROBE[0], torch.zeros(PROBE[1]))
    shape = (3, 4, 3, 17, 33)
    params, x = draw_params(shape, 1, torch.float32), draw_image(shape, dtype=torch.float32)

    def everything() -> list[Tensor]:
        return [nll(params, x), *gradients(params, x, torch.ones(3)), sample(params, 7)]

    before, want = torch.get_num_threads(), everything()
    torch.set_num_threads(threads)
    try:
        for a, b in zip(everything(), want, strict=True):
            assert_same_bits(a, b)
    finally:
        torch.set_num_threads(before)


def test_every_instruction_set_gives_the_same_bits() -> None:
    require_backend("cpu", PROBE[0], torch.zeros(PROBE[1]))
    from lapcore import _C

    shape = (2, 3, 3, 5, 27)
    params, x = draw_params(shape, 1, torch.float32), draw_image(shape, dtype=torch.float32)
    best, results = _C.isa(), []
    try:
        for isa in _C.isas():
            _C.use_isa(isa)
            results.append([nll(params, x), *gradients(params, x, torch.ones(2)), sample(params, 7, snap=False)])
    finally:
        _C.use_isa(best)
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_same_bits(a, b)


@pytest.mark.heavy
@modes
def test_a_nan_stays_in_its_image(backend: str, device: str, mode: str) -> None:
    shape = (3, 2, 3, 2, 2)
    params, x = draw_params(shape, 1, torch.float32).to(device), draw_image(shape, dtype=torch.float32).to(device)
    x[1, 1, 0, 1] = 0.2
    for row in (0, 3, 5, 6, 9, 11, 13, 17, 19):  # a logit, means, log-scales, coefficients; of both components
        bad = params.clone()
        bad[1, row, 0, 1] = math.nan
        assert nll(bad, x, mode).isnan().tolist() == [False, True, False], row


# Draws ---------------------------------------------------------------------------------------------------------------------------


def uniforms(shape: Shape, seeds: int | list[int], stream: int = 0) -> tuple[np.ndarray, np.ndarray]:
    n, k, c, h, w = shape
    u = random_oracle.uniform((n, k + c, h, w), seeds, stream)
    return u[:, :k], u[:, k:]


@pytest.mark.parametrize("snap", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES[:3], (2, 3, 3, 5, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_equal_the_oracle(backend: str, device: str, dtype: torch.dtype, shape: Shape, snap: bool) -> None:
    """Values to rounding; on the grid, a value in the middle between two of its points may go to either."""
    params = draw_params(shape, 2, dtype).to(device)
    seeds = [11 * i - 2**40 for i in range(shape[0])]
    got = sample(
        params, torch.tensor(seeds, dtype=torch.int64, device=device), channels=shape[2], snap=snap, stream=2**33
    )
    assert got.dtype == dtype and got.shape == (shape[0], *shape[2:])
    want = oracle.sample_discretized_logistic_mixture(to_numpy(params), uniforms(shape, seeds, 2**33), snap)
    assert_close(got, want, (1e-12 if dtype == torch.float64 else 2e-5) * (1 if snap else 1 + np.abs(want)))


@pytest.mark.heavy
def test_one_seed_is_one_stream_over_the_batch(backend: str, device: str) -> None:
    shape = (2, 2, 3, 3, 4)
    params = draw_params(shape).to(device)
    want = oracle.sample_discretized_logistic_mixture(to_numpy(params), uniforms(shape, 2**64 - 3), False)
    assert_close(sample(params, 2**64 - 3, snap=False), want, 1e-12)


@pytest.mark.heavy
def test_a_pixel_can_be_drawn_alone(backend: str, device: str) -> None:
    """From the elements (j H + y) W + x of its image's stream."""
    n, k, c, h, w = shape = (2, 3, 3, 4, 5)
    params = draw_params(shape, 4).to(device)
    seeds = torch.tensor([9, 10], device=device)
    whole = sample(params, seeds)
    u = to_numpy(lapcore.random.uniform((n, k + c, h, w), seeds))
    for y, x in ((0, 0), (3, 4), (2, 1)):
        pixel = u[:, :, y : y + 1, x : x + 1]
        alone = oracle.sample_discretized_logistic_mixture(
            to_numpy(params)[:, :, y : y + 1, x : x + 1], (pixel[:, :k], pixel[:, k:])
        )
        assert_close(whole[:, :, y : y + 1, x : x + 1], alone, 1e-12)


@pytest.mark.heavy
def test_draws_lie_on_the_grid(backend: str, device: str) -> None:
    """To the bit where images that come from 8 bits lie."""
    shape = (1, 2, 3, 8, 9)
    for dtype in FLOATS:
        drawn = sample(draw_params(shape, 5, dtype).to(device), 1).cpu()
        assert drawn.dtype == torch.promote_types(dtype, torch.float32)
        levels = ((drawn + 1) * 127.5).round()
        assert_same_bits(drawn, levels / 127.5 - 1)
        assert levels.unique().numel() > 20


@pytest.mark.heavy
@pytest.mark.parametrize("channels", [1, 3])
def test_draws_follow_the_distribution(channels: int) -> None:
    """The mean of -log p over draws is the same for two samples of them; in grey, chi-square over bins of 16 levels."""
    count = 40_000
    params = draw_params((1, 3, channels, 1, 1), 8, torch.float32)
    many = params.expand(1, -1, 1, count)
    drawn = sample(many, 12, channels=channels)
    value = each_pixel(many, drawn)
    again = each_pixel(many, sample(many, 13, channels=channels))
    spread = math.sqrt((value.var() + again.var()).item() / count)
    assert abs(value.mean() - again.mean()) < 5 * spread
    if channels == 1:
        p = (-nll(params.double().expand(256, -1, -1, -1), ALL.view(256, 1, 1, 1))).exp()
        seen = torch.bincount(((drawn.flatten() + 1) * 127.5).round().long(), minlength=256)
        bins = torch.stack([p.view(16, 16).sum(1) * count, seen.view(16, 16).sum(1).double()])
        expected, observed = bins[:, bins[0] > 5]
        chi = ((observed - expected).square() / expected).sum()
        assert chi < len(expected) + 5 * math.sqrt(2 * len(expected))


@pytest.mark.heavy
def test_seeds_and_streams_are_independent(backend: str, device: str) -> None:
    params = draw_params((1, 2, 1, 4, 8), 1).expand(3, -1, -1, -1).to(device)
    drawn = sample(params, torch.tensor([1, 2, 1], device=device), channels=1, snap=False)
    assert_same_bits(drawn[0], drawn[2])
    assert (drawn[0] != drawn[1]).float().mean() > 0.5
    other = sample(params, torch.tensor([1, 2, 1], device=device), channels=1, snap=False, stream=1)
    assert (drawn != other).float().mean() > 0.5


def test_draws_are_constants() -> None:
    params = draw_params((1, 2, 3, 2, 2)).requires_grad_()
    assert not sample(params, 1).requires_grad


def test_the_lowest_of_equal_components_is_drawn(backend: str, device: str) -> None:
    """Equal logits of 1e30 swallow the noise."""
    params = torch.zeros(1, 9, 2, 2, dtype=torch.float64, device=device)
    params[:, :3] = 1e30
    params[:, 3:6] = torch.tensor([0.5, -0.5, 0.2], device=device).view(3, 1, 1)
    params[:, 6:] = -7
    assert (sample(params, 1, channels=1, snap=False) - 0.5).abs().max() < 0.03


# What is refused -----------------------------------------------------------------------------------------------------------------

PARAMS, IMAGE = torch.zeros(2, 20, 3, 4), torch.zeros(2, 3, 3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nll(1, IMAGE), TypeError, "params: expected a torch.Tensor, got int"),
        (lambda: nll(PARAMS, None), TypeError, "x: expected a torch.Tensor"),
        (lambda: nll(PARAMS.int(), IMAGE), TypeError, "params: expected dtype float16"),
        (lambda: nll(PARAMS, IMAGE.double()), TypeError, "x: expected dtype float32 beside params, got float64"),
        (lambda: nll(PARAMS.half(), IMAGE.bfloat16()), TypeError, "x: expected dtype float16 or float32 beside params"),
        (lambda: nll(PARAMS[0], IMAGE), ValueError, r"params: expected shape \(N, P, H, W\), got \(20, 3, 4\)"),
        (lambda: nll(PARAMS, IMAGE[:, :2]), ValueError, r"x: expected shape \(N, 3, H, W\) or \(N, 1, H, W\)"),
        (lambda: nll(PARAMS, IMAGE[:1]), ValueError, r"x: expected shape \(2, 3 or 1, 3, 4\) like params"),
        (lambda: nll(PARAMS, IMAGE[..., :3]), ValueError, r"x: expected shape \(2, 3 or 1, 3, 4\) like params"),
        (lambda: nll(PARAMS[:, :19], IMAGE), ValueError, "params: expected P = 10 K channels"),
        (lambda: nll(PARAMS, IMAGE[:, :1]), ValueError, "params: expected P = 3 K channels"),
        (lambda: nll(PARAMS[:, :0], IMAGE), ValueError, "params: expected P = 10 K channels, K >= 1"),
        (lambda: nll(PARAMS, IMAGE, "fast"), ValueError, "mode: expected one of 'exact', 'official', got 'fast'"),
        (lambda: nll(PARAMS, IMAGE.to("meta")), ValueError, "x: expected the device cpu of params"),
        (lambda: sample(PARAMS, 1.5), TypeError, "seeds: expected an int"),
        (lambda: sample(PARAMS, torch.tensor([1])), ValueError, "seeds: expected"),
        (lambda: sample(PARAMS, 1, channels=2), ValueError, "channels: expected 3 or 1, got 2"),
        (lambda: sample(PARAMS, 1, channels=1), ValueError, "params: expected P = 3 K channels"),
        (lambda: sample(PARAMS, 1, snap=1), TypeError, "snap: expected a bool"),
        (lambda: sample(PARAMS, 1, stream=2**64), ValueError, "stream: expected an int"),
        (lambda: sample(PARAMS.int(), 1), TypeError, "params: expected dtype"),
    ],
)
def test_refusals(call: Callable[[], Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
