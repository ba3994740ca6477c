"""LapCVAE: what each stage trains, who depends on whom, sampling by seed, and the operations on images."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models import LapCVAE
from lapcore.models.lapcvae import POSTERIOR, noise_stream

CLOSE = {"rtol": 0.0, "atol": 2e-5}
"""Pixels of two batch shapes: a few hundred float32 roundings of values near 1."""


def small(**options: Any) -> LapCVAE:
    settings = dict(
        image_size=16, levels=2, latent=12, band_latent=4, widths=(8,), band_width=8, hidden=16, num_classes=None
    )
    return LapCVAE(**(settings | options))


def smooth_images(count: int, size: int = 16, channels: int = 3, noise: float = 0.4) -> Tensor:
    """Images with energy at every level, within [-1, 1]."""
    coarse = torch.rand(count, channels, 4, 4)
    image = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") + noise * torch.rand(
        count, channels, size, size
    )
    return image / (1 + noise) * 2 - 1


def warmed(**options: Any) -> LapCVAE:
    """A model with batch-norm statistics of real batches, in evaluation mode."""
    model = small(**options)
    size, channels = model.image_size, model.channels
    model.set_stage("joint")
    labels = None if model.num_classes is None else torch.arange(8) % model.num_classes
    with torch.no_grad():
        for _ in range(20):
            model.loss(smooth_images(8, size, channels), labels)
    return model.eval()


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def level_of(model: LapCVAE, k: int) -> torch.nn.Module:
    return model.coarsest if k == model.top else model.bands[k]


# Training


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("greedy", ("level2", "level1", "level0")),
        ("joint", ("joint",)),
        ("greedy+joint", ("level2", "level1", "level0", "joint")),
    ],
)
def test_stages_run_from_coarse_to_fine(training: str, expected: tuple[str, ...]) -> None:
    assert small(training=training).training_stages() == expected


@pytest.mark.parametrize("variance", ["pixel", "channel", 0.01])
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("stage", ["level2", "level1", "level0", "joint"])
def test_gradients_reach_exactly_the_parameters_of_the_stage(
    stage: str, num_classes: int | None, variance: Any
) -> None:
    model = small(num_classes=num_classes, variance=variance)
    chosen = model.set_stage(stage)
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 0])
    model.loss(smooth_images(4), labels, stage=stage)["loss"].backward()
    modules = [model.bands, model.coarsest] if stage == "joint" else [level_of(model, int(stage[-1]))]
    expected = {parameter for module in modules for parameter in module.parameters()}
    assert set(chosen) == expected
    for name, parameter in model.named_parameters():
        if parameter in expected:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None and not parameter.requires_grad, name


@pytest.mark.parametrize("k", [2, 1, 0])
def test_frozen_levels_stay_the_same_to_the_bit(k: int) -> None:
    model = small()
    parameters = model.set_stage(f"level{k}")
    before = {j: state_of(level_of(model, j)) for j in range(3)}
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    model.train()  # as training loops do: it must not wake the frozen levels
    for _ in range(3):
        model.loss(smooth_images(4), stage=f"level{k}")["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    for j in range(3):
        after = level_of(model, j).state_dict()
        same = [torch.equal(before[j][name], after[name]) for name in after]
        assert all(same) if j != k else not any(same), j


def test_evaluation_between_steps_leaves_the_stage_as_it_was() -> None:
    model = small()
    model.set_stage("level1")
    modes = [module.training for module in model.modules()]
    state = state_of(model)
    model.sample(torch.arange(2))
    model.reconstruct(smooth_images(2))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("training", "variance"), [("greedy", "pixel"), ("greedy", "channel"), ("joint", "pixel")])
def test_overfits_a_few_images(training: str, variance: str) -> None:
    model = small(training=training, variance=variance, band_latent=8)
    images = smooth_images(8, noise=0.1)
    before = (model.reconstruct(images) - images).square().mean()
    for stage in model.training_stages():
        optimizer = torch.optim.Adam(model.set_stage(stage), lr=3e-3)
        losses = []
        for _ in range(100):
            loss = model.loss(images, stage=stage)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-5:]) / 5 < losses[0] - 0.1, stage
    assert (model.reconstruct(images) - images).square().mean() < 0.3 * before


def test_joint_training_goes_on_where_greedy_ended() -> None:
    model = small(training="greedy+joint")
    images = smooth_images(8)
    for stage in model.training_stages():
        before = state_of(model)
        optimizer = torch.optim.Adam(model.set_stage(stage), lr=1e-3)
        model.loss(images, stage=stage)["loss"].backward()
        optimizer.step()
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_greedy_losses_add_up_to_the_joint_loss() -> None:
    model = warmed(kl_weight=(3.0, 2.0, 1.0))
    images, seeds = smooth_images(4), torch.arange(4)
    values = {0: 3 * 16 * 16, 1: 3 * 8 * 8, 2: 3 * 4 * 4}
    with torch.no_grad():
        joint = model.loss(images, stage="joint", seeds=seeds)
        parts = {k: model.loss(images, stage=f"level{k}", seeds=seeds) for k in values}
    torch.testing.assert_close(joint["loss"], sum(part["loss"] for part in parts.values()))
    for k, part in parts.items():
        torch.testing.assert_close(part["loss"] * values[k], part[f"nll{k}"] + (3.0, 2.0, 1.0)[k] * part[f"kl{k}"])


def test_loss_is_the_formula() -> None:
    """L_1 again, from the public pieces and torch.distributions in float64."""
    model = warmed().double()
    images, seeds = smooth_images(4).double(), torch.tensor([3, 1, 4, 1])
    moments = model.encode(images)
    noise = [
        lapcore.random.normal(m.shape, seeds, stream=noise_stream(k, POSTERIOR), dtype=torch.float64)
        for k, (m, _) in enumerate(moments)
    ]
    codes = [mean + (logvar / 2).exp() * eps for (mean, logvar), eps in zip(moments, noise, strict=True)]
    normal = torch.distributions.Normal
    with torch.no_grad():
        up = lapcore.pyr_up(model.decode(codes[2:]), (8, 8))
        mean, logvar = model.bands[1].decode(codes[1:], up, None)
        prior = model.bands[1].prior(*moments[2])
        q, p = (normal(m, (v / 2).exp()) for m, v in (moments[1], prior))
        nll = -normal(mean, (logvar / 2).exp()).log_prob(model.decompose(images).bands[1]).flatten(1).sum(1)
        kl = torch.distributions.kl_divergence(q, p).flatten(1).sum(1)
        losses = model.loss(images, stage="level1", seeds=seeds)
    torch.testing.assert_close(losses["nll1"], nll.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(losses["kl1"], kl.mean(), rtol=1e-6, atol=0)


def test_elbo_is_minus_the_unweighted_terms() -> None:
    model = warmed(kl_weight=5.0)
    images, seeds = smooth_images(4), torch.arange(4)
    with torch.no_grad():
        parts = model.loss(images, stage="joint", seeds=seeds)
        bound = model.elbo(images, seeds=seeds)
    assert bound.shape == (4,)
    torch.testing.assert_close(bound.mean(), -sum(parts[f"nll{k}"] + parts[f"kl{k}"] for k in range(3)))


def test_without_seeds_the_noise_is_torchs() -> None:
    model, images = warmed(), smooth_images(4)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            values.append(model.loss(images)["loss"].item())
    assert values[0] == values[1] != values[2]


# The hierarchy


def test_a_level_depends_on_its_own_code_and_the_coarser_ones_alone() -> None:
    model = warmed()
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
    streams = [noise_stream(k, kind) for k in range(10) for kind in (0, 1)]
    assert len(set(streams)) == len(streams)


def test_sampling_is_the_documented_chain_of_priors() -> None:
    """prior="reencode" again, step by step, with the encoders' public moments."""
    model = warmed()
    seeds = torch.arange(3)
    z = lapcore.random.normal((3, 12), seeds, stream=noise_stream(2, 0))
    codes, image = [z], model.decode([z])
    with torch.no_grad():
        for k in (1, 0):
            mean, logvar = model.bands[k].prior(*model._posteriors(image, k + 1, None)[0])
            codes.insert(0, lapcore.reparameterize(mean, logvar, seeds, stream=noise_stream(k, 0)))
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
            band.decoder_linear.weight.zero_()
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


# Arguments


def bad_calls() -> dict[str, tuple[type[Exception], str, Any]]:
    x, s = smooth_images(2), torch.arange(2)
    c = torch.zeros(2, 3, 8, 8)
    mask = torch.ones(1, 1, 16, 16)
    nan = x.clone()
    nan[0, 0, 0, 0] = float("nan")
    return {
        "NaN": (ValueError, "images: .*NaN", lambda m: m.loss(nan)),
        "infinity": (ValueError, "images: .*finite", lambda m: m.reconstruct(x / 0)),
        "range": (ValueError, r"images: .*\[-1, 1\]", lambda m: m.loss(x * 127.5)),
        "uint8": (TypeError, "images: .*float32.*uint8", lambda m: m.loss(x.byte())),
        "float64": (TypeError, "images: .*float32.*float64", lambda m: m.reconstruct(x.double())),
        "no tensor": (TypeError, "images: .*list", lambda m: m.reconstruct([1.0])),
        "size": (ValueError, r"images: .*\(N, 3, 16, 16\).*15", lambda m: m.loss(x[..., :15])),
        "channels": (ValueError, r"images: .*\(N, 3, 16, 16\)", lambda m: m.loss(x[:, :1])),
        "no batch": (ValueError, r"images: .*\(N, 3, 16, 16\)", lambda m: m.loss(x[0])),
        "empty": (ValueError, "images: ", lambda m: m.loss(x[:0])),
        "stage": (ValueError, "stage: .*level0.*level9", lambda m: m.loss(x, stage="level9")),
        "set_stage": (ValueError, "stage: .*joint", lambda m: m.set_stage("all")),
        "label": (ValueError, "labels: expected None", lambda m: m.loss(x, torch.zeros(2, dtype=torch.int64))),
        "seed type": (TypeError, "seeds: .*int64.*int32", lambda m: m.sample(s.int())),
        "seed list": (TypeError, "seeds: .*list", lambda m: m.sample([1, 2])),
        "seed shape": (ValueError, r"seeds: .*\(2, 1\)", lambda m: m.sample(s[:, None])),
        "seed count": (ValueError, r"seeds: .*\(2,\).*\(1,\)", lambda m: m.reconstruct(x, s[:1])),
        "no seeds": (ValueError, "seeds: ", lambda m: m.sample(s[:0])),
        "prior": (ValueError, "prior: .*chain.*other", lambda m: m.sample(s, prior="other")),
        "temperature": (ValueError, "temperature: .*-1", lambda m: m.sample(s, temperature=-1.0)),
        "temperatures": (ValueError, "temperature: .*3", lambda m: m.sample(s, temperature=[1.0, 1.0])),
        "coarse alone": (ValueError, "coarse, from_level", lambda m: m.sample(s, coarse=c)),
        "level alone": (ValueError, "coarse, from_level", lambda m: m.sample(s, from_level=1)),
        "level 0": (ValueError, "from_level: expected 1 to 2, got 0", lambda m: m.sample(s, coarse=x, from_level=0)),
        "level 3": (ValueError, "from_level: expected 1 to 2, got 3", lambda m: m.sample(s, coarse=c, from_level=3)),
        "coarse size": (ValueError, r"coarse: .*\(N, 3, 4, 4\)", lambda m: m.sample(s, coarse=c, from_level=2)),
        "coarse count": (
            ValueError,
            "coarse: expected 1 or 3, .*got 2",
            lambda m: m.sample(torch.arange(3), coarse=c, from_level=1),
        ),
        "painted": (ValueError, r"painted: .*\[-1, 1\]", lambda m: m.edit(x, c + 2, mask, 1, s)),
        "edit level": (ValueError, "level: expected 1 to 2", lambda m: m.edit(x, c, mask, 0, s)),
        "mask shape": (ValueError, r"mask: .*\(N, 1, 16, 16\)", lambda m: m.edit(x, c, mask[0], 1, s)),
        "mask range": (ValueError, r"mask: .*\[0, 1\]", lambda m: m.edit(x, c, mask * 255, 1, s)),
        "mask NaN": (ValueError, r"mask: .*\[0, 1\]", lambda m: m.edit(x, c, mask * float("nan"), 1, s)),
        "mask type": (TypeError, "mask: .*uint8", lambda m: m.edit(x, c, mask.byte(), 1, s)),
        "mask count": (ValueError, "mask: expected 1 or 2", lambda m: m.edit(x, c, mask.expand(3, -1, -1, -1), 1, s)),
        "edit images": (ValueError, "images: expected 1 or 3", lambda m: m.edit(x, c[:1], mask, 1, torch.arange(3))),
        "steps": (ValueError, "steps: .*at least 2", lambda m: m.interpolate(x, x, 1)),
        "ends": (ValueError, "b: expected the shape of a", lambda m: m.interpolate(x, x[:1], 3)),
        "codes": (ValueError, "codes: expected 1 to 3", lambda m: m.decode([])),
        "code shape": (ValueError, r"codes: .*\(N, 12\) of z_2", lambda m: m.decode([torch.zeros(2, 11)])),
    }


@pytest.mark.parametrize("case", bad_calls())
def test_bad_arguments_are_named(case: str) -> None:
    error, message, call = bad_calls()[case]
    model = small().eval()
    state = state_of(model)
    with pytest.raises(error, match=message):
        call(model)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels: .*3 classes"),
        (torch.tensor([0, 3]), "labels: expected 0 to 2, got 0 to 3"),
        (torch.tensor([-1, 0]), "labels: expected 0 to 2, got -1"),
        (torch.tensor([0]), r"labels: expected shape \(2,\)"),
        (torch.tensor([0.0, 1.0]), "labels: expected torch.int64"),
    ],
)
def test_labels_are_checked(labels: Tensor | None, message: str) -> None:
    model = small(num_classes=3).eval()
    for call in (lambda: model.sample(torch.arange(2), labels), lambda: model.loss(smooth_images(2), labels)):
        with pytest.raises((ValueError, TypeError), match=message):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size"),
        ({"channels": -1}, "channels"),
        ({"image_size": 16.0}, "image_size"),
        ({"levels": 0}, "levels"),
        ({"levels": 5}, "levels: expected at most log2"),
        ({"latent": 0}, "latent"),
        ({"band_latent": (4, 4, 4)}, "band_latent: expected one number or 2"),
        ({"band_width": []}, "band_width"),
        ({"widths": ()}, "widths"),
        ({"variance": "learned"}, "variance"),
        ({"variance": 0.0}, "variance"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"kl_weight": (1.0,)}, "kl_weight: expected one number or 3"),
        ({"training": "both"}, "training"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_batch_of_one_cannot_be_normalised() -> None:
    model = small()
    model.set_stage("level2")
    with pytest.raises(ValueError, match=r"images: .*at least 2"):
        model.loss(smooth_images(1))
