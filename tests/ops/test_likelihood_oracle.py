"""The likelihood oracle against what is known without it: probabilities sum to one, decimal arithmetic, differences, counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracle import likelihood as oracle

GRID = 2 * np.arange(256) / 255 - 1


def draw(rng, n, channels, k, h=1, w=1, spread=1.0):
    """Params and an x whose values include both ends."""
    params = spread * rng.normal(size=(n, k * (10 if channels == 3 else 3), h, w))
    x = GRID[rng.integers(0, 256, (n, channels, h, w))]
    x[rng.random(x.shape) < 0.2] = -1
    x[rng.random(x.shape) < 0.2] = 1
    return params, x


def one_component(mean, log_scale):
    return np.array([0.0, mean, log_scale]).reshape(1, 3, 1, 1)


def test_channels_are_the_official_codes():
    params = np.arange(20.0).reshape(1, 20, 1, 1)
    mixture = oracle.unpack(params, 3)
    assert mixture.logits.ravel().tolist() == [0, 1]
    assert mixture.means[0, :, :, 0, 0].tolist() == [[2, 3], [8, 9], [14, 15]]
    assert mixture.log_scales[0, :, :, 0, 0].tolist() == [[4, 5], [10, 11], [16, 17]]
    assert mixture.coefficients[0, :, :, 0, 0].tolist() == [[6, 7], [12, 13], [18, 19]]
    grey = oracle.unpack(params[:, :6], 1)
    assert grey.means.ravel().tolist() == [2, 3] and grey.log_scales.ravel().tolist() == [4, 5]


def test_coefficients_move_green_by_red_and_blue_by_both():
    params = np.zeros((1, 10, 1, 1))
    params[0, [3, 6, 9], 0, 0] = np.arctanh([0.25, -0.5, 0.125])
    means = oracle._conditional_means(oracle.unpack(params, 3), np.array([0.5, -1.0, 1.0]).reshape(1, 3, 1, 1, 1))
    np.testing.assert_allclose(means.ravel(), [0, 0.125, -0.375], atol=1e-15)


def test_one_logistic_at_its_mean():
    """sigmoid(t) - sigmoid(-t) = tanh(t / 2)."""
    nll = oracle.discretized_logistic_mixture_nll(one_component(0.25, -2.0), np.full((1, 1, 1, 1), 0.25))
    np.testing.assert_allclose(nll, -np.log(np.tanh(np.exp(2.0) / 510)), rtol=1e-12)


@pytest.mark.parametrize("log_scale", [-12.0, -7.0, -3.0, 0.0, 4.0])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.111, 2.0])
def test_grey_probabilities_sum_to_one(mean, log_scale):
    params = np.repeat(one_component(mean, log_scale), 256, axis=0)
    nll = oracle.discretized_logistic_mixture_nll(params, GRID.reshape(256, 1, 1, 1))
    np.testing.assert_allclose(np.exp(-nll).sum(), 1, rtol=1e-11)


def test_colour_probabilities_sum_to_reds():
    """Over all of green and blue, under a mixture: what is left is the grey mixture of red's own block."""
    params, _ = draw(np.random.default_rng(0), 1, 3, 2)
    red, green, blue = np.broadcast_arrays(GRID[100], GRID[:, None], GRID)
    x = np.stack([red, green, blue], axis=-1).reshape(-1, 3, 1, 1)
    joint = np.exp(-oracle.discretized_logistic_mixture_nll(np.repeat(params, len(x), axis=0), x)).sum()
    marginal = oracle.discretized_logistic_mixture_nll(params[:, :6], np.full((1, 1, 1, 1), GRID[100]))
    np.testing.assert_allclose(joint, np.exp(-marginal[0]), rtol=1e-10)


def test_nats_add_over_pixels_and_rows_are_apart():
    params, x = draw(np.random.default_rng(1), 2, 3, 3, 2, 4)
    whole = oracle.discretized_logistic_mixture_nll(params, x)
    pixels = [
        oracle.discretized_logistic_mixture_nll(params[:, :, i : i + 1, j : j + 1], x[:, :, i : i + 1, j : j + 1])
        for i in range(2)
        for j in range(4)
    ]
    np.testing.assert_allclose(whole, sum(pixels), rtol=1e-13)
    np.testing.assert_allclose(whole[:1], oracle.discretized_logistic_mixture_nll(params[:1], x[:1]), rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spread", [1.0, 8.0])
def test_exact_mode_is_the_difference_of_cdfs(channels, spread):
    """Log-scales down to the floor and up to e^16, tails to thousands of nats."""
    params, x = draw(np.random.default_rng(2), 6, channels, 3, 1, 2, spread)
    exact = [float(nll) for nll in oracle.exact_nll_by_definition(params, x)]
    got = oracle.discretized_logistic_mixture_nll(params, x)
    np.testing.assert_allclose(got, exact, atol=1e-15 * oracle.nll_magnitude(params, x).max(), rtol=1e-13)


@pytest.mark.parametrize("log_scale", [60.0, 500.0, 1e4])
def test_the_widest_scales_are_finite(log_scale):
    """A bin inside has density 1 / (4 s) and width 2 / 255; an end has half of everything."""
    params = one_component(0.5, log_scale)
    inside = oracle.discretized_logistic_mixture_nll(params, np.full((1, 1, 1, 1), GRID[17]))
    np.testing.assert_allclose(inside, log_scale + np.log(4 * 255 / 2), rtol=1e-13)
    ends = oracle.discretized_logistic_mixture_nll(
        np.repeat(params, 2, axis=0), np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)
    )
    np.testing.assert_allclose(ends, np.log(2), rtol=1e-13)
    for mode in oracle.MODES:
        gradient = oracle.discretized_logistic_mixture_nll_gradient(
            np.ones(1), params, np.full((1, 1, 1, 1), GRID[17]), mode
        )
        np.testing.assert_allclose(gradient.ravel(), [0, 0, 1], atol=1e-12)


def test_modes_agree_where_probabilities_are_ordinary_and_part_in_the_tails():
    mean = np.repeat(np.linspace(-1.5, 1.5, 61), 4)
    log_scale = np.tile([-7.0, -5.0, -3.0, 0.0], 61)
    params = np.stack([np.zeros(244), mean, log_scale], axis=1).reshape(244, 3, 1, 1)
    x = np.full((244, 1, 1, 1), GRID[140])
    exact, official = (oracle.discretized_logistic_mixture_nll(params, x, mode) for mode in oracle.MODES)
    ordinary = np.exp(-exact) > 2e-5
    np.testing.assert_allclose(official[ordinary], exact[ordinary], rtol=0, atol=2e-9)
    apart = abs(official - exact)[~ordinary].max()
    assert 2.0 < apart < 2.2, apart


@pytest.mark.parametrize("mode", oracle.MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_the_limits_of_differences(channels, mode):
    rng = np.random.default_rng(3)
    params, x = draw(rng, 4, channels, 2, 2, 1)
    params[0, :, 0] *= 4  # scales below the floor, tails
    grad, step = rng.normal(size=4), 1e-5
    gradient = oracle.discretized_logistic_mixture_nll_gradient(grad, params, x, mode)
    assert gradient.shape == params.shape
    for index in np.ndindex(params.shape):
        shift = np.zeros(params.shape)
        shift[index] = step
        up, down = (oracle.discretized_logistic_mixture_nll(params + s, x, mode) for s in (shift, -shift))
        expected = (grad * (up - down)).sum() / (2 * step)
        assert abs(gradient[index] - expected) <= 1e-6 * (1 + abs(expected)), (index, gradient[index], expected)


def test_a_log_scale_under_the_floor_is_the_floor_and_gets_no_gradient():
    x = np.full((1, 1, 1, 1), GRID[128])
    at, under = one_component(0.01, -7.0), one_component(0.01, -9.0)
    assert oracle.discretized_logistic_mixture_nll(at, x) == oracle.discretized_logistic_mixture_nll(under, x)
    gradients = [oracle.discretized_logistic_mixture_nll_gradient(np.ones(1), p, x).ravel() for p in (at, under)]
    assert gradients[0][2] != 0 and gradients[1][2] == 0 and gradients[0][1] == gradients[1][1]


def counts_fit(sample, values, probabilities):
    """Dvoretzky-Kiefer-Wolfowitz: P(sup |F_n - F| > e) <= 2 exp(-2 n e^2), here 1e-6."""
    frequencies = (abs(sample.ravel()[:, None] - values) < 1e-9).mean(axis=0)
    distance = abs(np.cumsum(frequencies) - np.cumsum(probabilities)).max()
    assert distance < np.sqrt(np.log(2e6) / (2 * sample.size)), distance


def test_grey_samples_have_their_probabilities():
    rng, n = np.random.default_rng(4), 40_000
    params, _ = draw(rng, 1, 1, 3)
    params[0, 3:, 0, 0] = [-0.9, 0.1, 0.8, -2.0, -4.0, -1.0]
    uniforms = rng.random((n, 3, 1, 1)), rng.random((n, 1, 1, 1))
    sample = oracle.sample_discretized_logistic_mixture(np.repeat(params, n, axis=0), uniforms)
    nll = oracle.discretized_logistic_mixture_nll(np.repeat(params, 256, axis=0), GRID.reshape(256, 1, 1, 1))
    counts_fit(sample, GRID, np.exp(-nll))


def test_colour_samples_have_their_probabilities():
    """Narrow components and strong coefficients: the mass is on 31^3 colours, and blue's marginal tells how the others move it."""
    rng, n = np.random.default_rng(5), 20_000
    params = np.zeros((1, 10, 1, 1))
    params[0, :, 0, 0] = [0, 0.2, -5.5, 1.5, 0.1, -5.3, -2.0, -0.1, -5.4, 1.0]
    red, green, blue = (int(np.rint(127.5 * (m + 1))) + np.arange(-15, 16) for m in (0.2, 0.281, -0.078))
    cube = np.stack(np.meshgrid(GRID[red], GRID[green], GRID[blue], indexing="ij"), axis=-1)
    nll = oracle.discretized_logistic_mixture_nll(
        np.repeat(params, cube[..., 0].size, axis=0), cube.reshape(-1, 3, 1, 1)
    )
    probabilities = np.exp(-nll).reshape(31, 31, 31)
    assert 1 - 1e-3 < probabilities.sum() < 1 + 1e-9
    uniforms = rng.random((n, 1, 1, 1)), rng.random((n, 3, 1, 1))
    sample = oracle.sample_discretized_logistic_mixture(np.repeat(params, n, axis=0), uniforms)
    for channel, values in enumerate((red, green, blue)):
        axes = tuple(axis for axis in range(3) if axis != channel)
        counts_fit(sample[:, channel], GRID[values], probabilities.sum(axis=axes))
    moved = sample[:, 1] - np.tanh(1.5) * sample[:, 0]
    assert (
        abs(np.corrcoef(moved.ravel(), sample[:, 0].ravel())[0, 1])
        < 0.05
        < np.corrcoef(sample[:, 1].ravel(), sample[:, 0].ravel())[0, 1]
    )


def test_snapped_samples_are_on_the_grid_and_unsnapped_within_half_a_step():
    rng = np.random.default_rng(6)
    params, _ = draw(rng, 50, 3, 4, 2, 2)
    uniforms = rng.random((50, 4, 2, 2)), rng.random((50, 3, 2, 2))
    snapped, free = (oracle.sample_discretized_logistic_mixture(params, uniforms, snap) for snap in (True, False))
    assert (abs(snapped[..., None] - GRID).min(axis=-1) < 1e-15).all() and (abs(free) <= 1).all()
    assert abs(snapped - free)[:, 0].max() <= 1 / 255 + 1e-12 and abs(snapped - free).max() <= 3.01 / 255


def test_bits_per_dim_of_a_coin_a_value():
    assert oracle.bits_per_dim(np.array([12 * np.log(2)]), (1, 3, 2, 2)).tolist() == [1.0]
