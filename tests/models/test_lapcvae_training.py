"""LapCVAE: what each stage trains, and its loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import lapcore
from lapcore.nn.level_noise import POSTERIOR, noise_stream
from tests.models.lapcvae_models import level_of, priors_of, small, smooth_images, state_of, warmed


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("greedy", ("level2", "level1", "level0")),
        ("joint", ("joint",)),
        ("greedy+joint", ("level2", "level1", "level0", "joint")),
    ],
)
def test_stages_run_from_coarse_to_fine(training: str, expected: tuple[str, ...]) -> None:
    assert small(training=training).training_stages() == (*expected, "prior")


@pytest.mark.parametrize("variance", ["pixel", "channel", 0.01])
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("stage", ["level2", "level1", "level0", "joint", "prior"])
def test_gradients_reach_exactly_the_parameters_of_the_stage(
    stage: str, num_classes: int | None, variance: Any
) -> None:
    model = small(num_classes=num_classes, variance=variance)
    chosen = model.set_stage(stage)
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 0])
    model.loss(smooth_images(4), labels, stage=stage)["loss"].backward()
    of_stage = {"joint": [model.bands, model.coarsest], "prior": priors_of(model)}
    modules = of_stage[stage] if stage in of_stage else [level_of(model, int(stage[-1]))]
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
        same = [torch.equal(before[j][name], after[name]) for name in after if not name.endswith("_places")]
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
    for stage in ("level2", "level1", "level0", "joint"):
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
    """L_1 again, from the public pieces and torch.distributions in float64.

    A term of either sum takes fewer than 16 roundings, those of exp and log included, and then the sum's n and the mean's 4: so
    each is off by (n + 20) u of the sum of its parts' magnitudes at most. The network is the same in both, and its codes are
    but for the last bit of an exp, which through so small a network is far less than the n u of the sums.
    """
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
        band = model.decompose(images).bands[1]
        nll = -normal(mean, (logvar / 2).exp()).log_prob(band).flatten(1).sum(1)
        kl = torch.distributions.kl_divergence(q, p).flatten(1).sum(1)
        losses = model.loss(images, stage="level1", seeds=seeds)
    (mq, lq), (mp, lp) = moments[1], prior
    parts = {
        "nll1": math.log(2 * math.pi) + logvar.abs() + (band - mean).square() / logvar.exp(),
        "kl1": lq.abs() + lp.abs() + (lq.exp() + (mq - mp).square()) / lp.exp() + 1,
    }
    for name, want in (("nll1", nll.mean()), ("kl1", kl.mean())):
        size = parts[name].flatten(1) / 2
        off = (size.shape[1] + 20) * torch.finfo(torch.float64).eps / 2 * float(size.sum(1).mean())
        torch.testing.assert_close(losses[name], want, rtol=0, atol=2 * off)


@pytest.mark.parametrize("layers", [0, 2])
def test_the_coarsest_kl_is_against_its_prior(layers: int) -> None:
    """In closed form against N(0, I); against the learned one log q(z) - log p(z) of the code drawn."""
    model = warmed(prior_layers=layers).double()
    images, seeds = smooth_images(4).double(), torch.tensor([3, 1, 4, 1])
    mean, logvar = model.encode(images)[2]
    q = torch.distributions.Normal(mean, (logvar / 2).exp())
    z = lapcore.reparameterize(mean, logvar, seeds, stream=noise_stream(2, POSTERIOR))
    if layers:
        kl = q.log_prob(z).sum(1) - model.coarsest.prior.log_prob(z, None)
    else:
        kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    with torch.no_grad():
        got = model.loss(images, stage="level2", seeds=seeds)["kl2"]
    torch.testing.assert_close(got, kl.mean().detach(), rtol=1e-9, atol=1e-9, check_dtype=False)


def test_the_priors_stage_lowers_the_kls_of_codes_that_stay() -> None:
    model = warmed()
    images, seeds = smooth_images(8), torch.arange(8)
    before, codes = state_of(model), model.encode(images)
    with torch.no_grad():
        joint = model.loss(images, stage="joint", seeds=seeds)
    optimizer = torch.optim.Adam(model.set_stage("prior"), 1e-2)
    losses = model.loss(images, stage="prior", seeds=seeds)
    kls = {name: joint[name] for name in ("kl0", "kl1", "kl2")}
    for name, kl in kls.items():
        torch.testing.assert_close(losses[name], kl)
    torch.testing.assert_close(losses["loss"].detach(), kls["kl0"] / 4 + kls["kl1"] / 4 + kls["kl2"] / 12)
    for _ in range(50):
        optimizer.zero_grad()
        model.loss(images, stage="prior", seeds=seeds)["loss"].backward()
        optimizer.step()
    after = model.loss(images, stage="prior", seeds=seeds)
    assert all(after[name] < 0.7 * kl for name, kl in kls.items())
    model.eval()
    for old, new in zip(codes, model.encode(images), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    own = {
        name for name, p in model.named_parameters() if any(p is q for m in priors_of(model) for q in m.parameters())
    }
    moved = {name for name, old in before.items() if not torch.equal(old, model.state_dict()[name])}
    assert moved <= own and len(moved) > 0.8 * len(own)


def test_perceptual_loss_is_of_the_decoded_image() -> None:
    model, images, seeds = warmed(), smooth_images(4), torch.arange(4)
    plain = model.loss(images, stage="level1", seeds=seeds)
    weight = torch.randn(2, 3, 3, 3)
    model.perceive(lambda x: torch.nn.functional.conv2d(x, weight).tanh(), 0.5)
    losses = model.loss(images, stage="level1", seeds=seeds)
    moments = model.encode(images)
    codes = [lapcore.reparameterize(*m, seeds, stream=noise_stream(k, POSTERIOR)) for k, m in enumerate(moments)]
    decoded, true = (
        x.detach().numpy().astype("f8") for x in (model.decode(codes[1:]), model.decompose(images).images[1])
    )

    def phi(x: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        return np.tanh(np.einsum("nchwij,ocij->nohw", windows, weight.numpy()))

    want = 0.5 * np.square(phi(decoded) - phi(true)).mean()
    assert losses["perceptual1"].item() == pytest.approx(want, rel=1e-4)
    assert (losses["loss"] - plain["loss"]).item() == pytest.approx(want, rel=1e-3)
    model.perceive(None)
    assert "perceptual1" not in model.loss(images, stage="level1", seeds=seeds)
    with pytest.raises(ValueError, match="weight: expected a number from 0, got -1"):
        model.perceive(None, -1)


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
