"""LapCVAE: who depends on whom, sampling by seed, and the operations on images."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.nn.autoregressive_prior import MIXTURES
from lapcore.nn.level_noise import CHOICE, PRIOR, noise_stream
from tests.models.lapcvae_models import CLOSE, small, smooth_images, warmed

# The hierarchy


def test_a_level_depends_on_its_own_code_and_the_coarser_ones_alone() -> None:
    model = warmed(variance="pixel")
    codes = [mean.requires_grad_() for mean, _ in model.encode(smooth_images(1))]
    codes = [code.detach().requires_grad_() for code in codes]
    image = None
    for k in reversed(range(3)):
        mean, logvar, image = model._likelihood(k, codes[k:], image, None)
        for out, j in itertools.product((mean, logvar), range(3)):
            (gradient,) = torch.autograd.grad(out.square().sum(), codes[j], retain_graph=True, allow_unused=True)
            reached = gradient is not None and bool(gradient.abs().max() > 0)
            assert reached == (j >= k), (k, j)


@pytest.mark.parametrize("changed", [0, 1])
def test_a_finer_code_does_not_move_what_is_coarser(changed: int) -> None:
    model = warmed()
    codes = [mean for mean, _ in model.encode(smooth_images(2))]
    other = [code + (k == changed) for k, code in enumerate(codes)]
    with torch.no_grad():
        for k in range(3):
            same = torch.equal(model.decode(codes[k:]), model.decode(other[k:]))
            assert same == (k > changed), k


@pytest.mark.parametrize("k", [0, 1])
def test_prior_mean_sees_the_mean_alone_and_its_variance_the_variance_alone(k: int) -> None:
    model = warmed()
    moments = tuple(m.detach()[:1] for m in model.encode(smooth_images(2))[k + 1])
    jacobian = torch.autograd.functional.jacobian(model.bands[k].prior, moments)
    for i, j in itertools.product(range(2), range(2)):
        assert bool((jacobian[i][j] != 0).any()) == (i == j)


def test_encoders_see_their_band_and_the_coarser_image_alone() -> None:
    """q_1 of an image is that of x_1: the finest band cannot reach it."""
    model = warmed()
    images = smooth_images(2)
    mean = model.encode(images)[1][0]
    again = model._posteriors(model.decompose(images).images[1], 1, None)[0][0]
    torch.testing.assert_close(mean, again, rtol=0, atol=0)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_linear_paths_are_those_of_the_levels_asked_for(k: int) -> None:
    model = small(linear=[level == k for level in range(3)])
    has = [band.code_of_band is not None and band.band_of_code is not None for band in model.bands]
    assert [*has, model.coarsest.encoder.linear is not None] == [level == k for level in range(3)]


@pytest.mark.parametrize("linear", ["yes", [1, 0, 1], None, [True, False]])
def test_linear_is_true_or_false(linear: object) -> None:
    with pytest.raises(ValueError, match="linear: expected"):
        small(linear=linear)


def test_linear_paths_of_bands_add_to_the_networks() -> None:
    """The mean of z_0 by the band, that of h_0 by z_0, and that of z_0's prior by the coarser mean."""
    model, images = warmed().double(), smooth_images(2).double()
    band, up = model.decompose(images).bands[0], lapcore.pyr_up(model.decompose(images).images[1], (16, 16))
    level, codes = model.bands[0], [mean.detach() for mean, _ in model.encode(images)]
    logvar = model.encode(images)[1][1].detach()

    def means() -> list[Tensor]:
        with torch.no_grad():
            return [level.encode(band, up, None)[0], level.decode(codes, up, None)[0], level.prior(codes[1], logvar)[0]]

    prior = level.prior_mean.linear.weight.detach()
    before = means()
    with torch.no_grad():
        weights = [torch.randn(*shape).double() for shape in ((4, 768), (768, 4), (4, 4))]
        level.code_of_band.weight.copy_(weights[0])
        level.band_of_code.weight.copy_(weights[1])
        level.prior_mean.linear.weight.copy_(prior + weights[2])
    wanted = [band.flatten(1), codes[0], codes[1]]
    for old, new, weight, x in zip(before, means(), weights, wanted, strict=True):
        # The sums of both sides round once a term, and the difference cancels values of the size of `new`.
        largest = (x.abs() @ weight.abs().T).max() + new.abs().max()
        error = 2 * weight.shape[1] * 2**-53 * float(largest)
        torch.testing.assert_close(new - old, (x @ weight.T).view_as(old), rtol=0, atol=error)


# Sampling


@pytest.mark.parametrize("prior", ["reencode", "chain"])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_a_sample_depends_on_its_seed_and_label_alone(prior: str, num_classes: int | None) -> None:
    model = warmed(num_classes=num_classes)
    seeds = torch.tensor([5, 0, 2**62, -3, 5])
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 1, 0])
    whole = model.sample(seeds, labels, prior=prior)
    assert torch.equal(whole, model.sample(seeds, labels, prior=prior))
    order = torch.tensor([3, 1, 4, 0, 2])
    shuffled = model.sample(seeds[order], None if labels is None else labels[order], prior=prior)
    torch.testing.assert_close(shuffled, whole[order], **CLOSE)
    single = [
        model.sample(seeds[i : i + 1], None if labels is None else labels[i : i + 1], prior=prior) for i in range(5)
    ]
    torch.testing.assert_close(torch.cat(single), whole, **CLOSE)
    torch.testing.assert_close(whole[0], whole[4], **CLOSE)
    assert (whole[0] - whole[1]).abs().max() > 0.01
    if labels is not None:
        assert (model.sample(seeds, (labels + 1) % 3, prior=prior) - whole).abs().max() > 1e-3


def test_every_level_and_kind_has_its_own_noise() -> None:
    streams = [noise_stream(k, kind) for k in range(10) for kind in range(4)]
    assert len(set(streams)) == len(streams)


def test_sampling_is_the_documented_chain_of_priors() -> None:
    """prior="reencode" again, step by step, with the encoders' public moments."""
    model = warmed()
    seeds = torch.arange(3)
    with torch.no_grad():
        noise = lapcore.random.normal((3, 12), seeds, stream=noise_stream(2, PRIOR))
        uniforms = lapcore.random.uniform((3, 12, MIXTURES), seeds, stream=noise_stream(2, CHOICE))
        z = model.coarsest.prior.draw(noise, uniforms, None)
        codes, image = [z], model.decode([z])
        for k in (1, 0):
            mean, logvar = model.bands[k].prior(*model._posteriors(image, k + 1, None)[0])
            codes.insert(0, lapcore.reparameterize(mean, logvar, seeds, stream=noise_stream(k, PRIOR)))
            image = model.decode(codes)
    torch.testing.assert_close(model.sample(seeds), image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("prior", ["reencode", "chain"])
def test_partial_samples_keep_the_coarse_part(level: int, prior: str) -> None:
    model = warmed()
    coarse = model.decompose(smooth_images(1)).images[level]
    draws = model.sample(torch.arange(4), coarse=coarse, from_level=level, prior=prior)
    assert (draws[0] - draws[1]).abs().max() > 1e-3
    with torch.no_grad():  # with all bands zero what is left is the coarse part
        for band in model.bands:
            band.head.weight.zero_()
            band.head.bias.zero_()
    plain = coarse
    for size in reversed(model.sizes[:level]):
        plain = lapcore.pyr_up(plain, size)
    kept = model.sample(torch.arange(4), coarse=coarse, from_level=level, prior=prior)
    assert torch.equal(kept, plain.expand(4, -1, -1, -1))


def test_temperature_zero_draws_no_noise() -> None:
    model = warmed()
    draws = model.sample(torch.arange(3), temperature=0.0)
    torch.testing.assert_close(draws[0], draws[2], **CLOSE)
    some = model.sample(torch.arange(3), temperature=[0.0, 0.0, 1.0])
    assert (some[0] - some[2]).abs().max() > 0.01
    coarse = model.decompose(smooth_images(1)).images[2]
    fixed = model.sample(torch.arange(3), temperature=[0.0, 0.0, 1.0], coarse=coarse, from_level=2)
    torch.testing.assert_close(fixed[0], fixed[2], **CLOSE)


def test_chain_uses_the_variance_seen_in_training() -> None:
    model = warmed()
    first = model.sample(torch.arange(2), prior="chain")
    model.coarsest.typical_logvar += 3
    assert (model.sample(torch.arange(2), prior="chain") - first).abs().max() > 1e-4


# Images


@pytest.mark.parametrize("size", [8, 13, 16, 31])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_channels(size: int, channels: int) -> None:
    model = warmed(image_size=size, levels=3, channels=channels)
    images = smooth_images(2, size, channels)
    parts = model.decompose(images)
    assert [part.shape[-1] for part in parts.images] == [side for side, _ in model.sizes]
    torch.testing.assert_close(lapcore.collapse([*parts.bands, parts.images[-1]]), images, rtol=0, atol=1e-6)
    for result in (
        model.reconstruct(images),
        model.sample(torch.arange(2)),
        model.reconstruct(images, torch.arange(2)),
    ):
        assert result.shape == images.shape and result.isfinite().all()


def test_reconstruction_decodes_the_codes() -> None:
    model = warmed()
    images, seeds = smooth_images(3), torch.tensor([7, 8, 9])
    moments = model.encode(images)
    with torch.no_grad():
        torch.testing.assert_close(
            model.reconstruct(images), model.decode([mean for mean, _ in moments]), rtol=0, atol=0
        )
    drawn = model.reconstruct(images, seeds)
    assert torch.equal(drawn, model.reconstruct(images, seeds))
    torch.testing.assert_close(drawn[1:2], model.reconstruct(images[1:2], seeds[1:2]), **CLOSE)
    assert (drawn - model.reconstruct(images)).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [2, 5])
def test_interpolation_starts_and_ends_at_the_reconstructions(steps: int) -> None:
    model = warmed()
    a, b = smooth_images(2), smooth_images(2)
    line = model.interpolate(a, b, steps)
    assert line.shape == (steps, *a.shape)
    torch.testing.assert_close(line[0], model.reconstruct(a), **CLOSE)
    torch.testing.assert_close(line[-1], model.reconstruct(b), **CLOSE)


def edited(mask: Tensor | None, level: int = 1, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """A 64x64 picture's edits with the left top painted, its reconstruction and the mask's reach."""
    model = warmed(image_size=64)
    images = smooth_images(1, 64)
    painted = model.decompose(images).images[level].clone()
    painted[..., : 16 >> level, : 16 >> level] = 0.9
    return model.edit(images, painted, mask, level, torch.arange(count)), model.reconstruct(images), images


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("kind", ["float", "bool", "none"])
def test_an_edit_shows_inside_the_mask_and_nowhere_else(level: int, kind: str) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :16, :16] = 1
    given = {"float": mask, "bool": mask.bool(), "none": None}[kind]
    result, plain, _ = edited(given, level)
    assert result.shape == (3, 3, 64, 64)
    # Reach of the blend with K = 2: the blurred mask, 2 + 4 pixels, and pyr_up's own, 2 + 4 + places of half a level.
    reach = 16 + 16
    torch.testing.assert_close(result[..., reach:, :], plain.expand(3, -1, -1, -1)[..., reach:, :], rtol=0, atol=1e-6)
    torch.testing.assert_close(result[..., :, reach:], plain.expand(3, -1, -1, -1)[..., :, reach:], rtol=0, atol=1e-6)
    inside = result[..., 4:12, 4:12]
    assert (inside - plain[..., 4:12, 4:12]).abs().max() > 0.05
    assert (inside[0] - inside[1]).abs().max() > 1e-3


def test_a_full_mask_shows_the_drawn_picture_and_an_empty_one_the_reconstruction() -> None:
    model = warmed()
    images, seeds = smooth_images(2), torch.tensor([4, 5])
    painted = model.decompose(images).images[1] * 0.5
    drawn = model.sample(seeds, coarse=painted, from_level=1)
    ones = torch.ones(1, 1, 16, 16)
    torch.testing.assert_close(
        model.edit(images, painted, ones, 1, seeds), drawn, rtol=0, atol=16 * torch.finfo(torch.float32).eps
    )
    plain = model.edit(images, painted, torch.zeros_like(ones), 1, seeds)
    torch.testing.assert_close(plain, model.reconstruct(images), rtol=0, atol=16 * torch.finfo(torch.float32).eps)


def test_an_attribute_is_the_difference_of_mean_codes() -> None:
    model, images = warmed(), smooth_images(6)
    has = torch.tensor([True, False, True, False, False, True])
    codes = torch.cat([mean for mean, _ in model.encode(images)], 1)
    vector = model.attribute_vector(images, has)
    torch.testing.assert_close(vector, (codes[has].mean(0) - codes[~has].mean(0)).detach())
    with torch.no_grad():
        want = model.decode([*torch.split(codes + 2 * vector, [4, 4, 12], 1)])
    torch.testing.assert_close(model.shift(images, 2 * vector), want, **CLOSE)
    torch.testing.assert_close(model.shift(images, 0 * vector), model.reconstruct(images), **CLOSE)
    with pytest.raises(ValueError, match=r"vector: expected shape \(20,\), got \(4,\)"):
        model.shift(images, vector[:4])


def test_regions_are_composed_in_their_order() -> None:
    model = warmed(image_size=64)
    base, others = smooth_images(1, 64), smooth_images(2, 64)
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, :, :32], masks[1, :, :, 48:] = 1, 1
    whole = model.compose(base, others, masks)
    reach = 12  # Two blurs and their doubling spread a mask's edge so far.
    rounding = {"rtol": 0.0, "atol": 16 * torch.finfo(torch.float32).eps}  # of the sums and stores of two blends
    torch.testing.assert_close(whole[0, ..., : 32 - reach], others[0, ..., : 32 - reach], **rounding)
    torch.testing.assert_close(whole[0, ..., 48 + reach :], others[1, ..., 48 + reach :], **rounding)
    again = lapcore.blend(others[1:], lapcore.blend(others[:1], base, masks[:1], 2), masks[1:], 2)
    assert torch.equal(whole, again)
    with pytest.raises(ValueError, match="masks: expected 2, one for each of others, got 1"):
        model.compose(base, others, masks[:1])


def test_trained_partial_samples_look_like_their_coarse_part() -> None:
    """After a little training what a sample's coarse version is stays near what was fixed."""
    model = small(band_width=16)
    images = smooth_images(16)
    for stage in model.training_stages():
        optimizer = torch.optim.Adam(model.set_stage(stage), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            model.loss(images, stage=stage)["loss"].backward()
            optimizer.step()
    coarse = model.decompose(images).images[1]
    draws = model.sample(torch.arange(16), coarse=coarse, from_level=1)
    error = (lapcore.pyr_down(draws) - coarse).square().mean()
    assert error < 0.2 * (coarse - coarse.mean(0)).square().mean()
