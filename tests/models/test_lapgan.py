"""LAPGAN: the paper's networks and pyramid, each player's loss, sampling as one chain, and Haar details for Parzen windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.metrics import evaluate_multiscale_parzen, haar_merge, haar_split, multiscale_parzen
from lapcore.models import LAPGAN
from lapcore.models.adversarial import MIX, PRIOR
from tests.models import adversaries
from tests.models import autoencoders as shared
from tests.models.autoencoders import CLOSE, images_of, numpy


def small(**options: Any) -> LAPGAN:
    settings = dict(image_size=16, sizes=(4, 8, 16), latent=6, hidden=12, critic_hidden=10, width=4, critic_width=4)
    return LAPGAN(**(settings | options))


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_the_papers() -> None:
    model = LAPGAN(image_size=32, sizes=(8, 16, 32), width=64, critic_width=64)
    assert count(model.levels[0].generator) == 218_179
    assert count(model.levels[0].critic) == 116_545
    shapes = [tuple(p.shape) for p in model.levels[2].generator.parameters() if p.ndim == 2]
    assert shapes == [(1200, 100), (1200, 1200), (3 * 8 * 8, 1200)]
    shapes = [tuple(p.shape) for p in model.levels[2].critic.parameters() if p.ndim == 2]
    assert shapes == [(600, 3 * 8 * 8), (600, 600), (1, 600)]


def test_a_class_adds_a_plane_to_both_networks() -> None:
    """One-hot -> linear to a plane -> ReLU -> one more input map: its linear layer, and that map's kernels."""
    plain, told = (LAPGAN(32, sizes=(8, 32), num_classes=classes) for classes in (None, 10))
    linear = 10 * 32 * 32 + 32 * 32
    assert count(told.levels[0].generator) - count(plain.levels[0].generator) == linear + 64 * 7 * 7
    assert count(told.levels[0].critic) - count(plain.levels[0].critic) == linear + 64 * 5 * 5
    assert count(told.levels[1].generator) - count(plain.levels[1].generator) == 10 * 1200
    assert count(told.levels[1].critic) - count(plain.levels[1].critic) == 10 * 600


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"image_size": 28}, (28, 14, 8)),
        ({"image_size": 96}, (96, 64, 32, 16, 8)),
        ({"image_size": 64}, (64, 32, 16, 8, 4)),
        ({"image_size": 32}, (32, 16, 8)),
        ({"image_size": 45}, (45, 23, 12, 6)),
        ({"image_size": 2}, (2, 1)),
        ({"image_size": 28, "filter": "binomial"}, (28, 14, 7)),
        ({"image_size": 96, "filter": "binomial"}, (96, 48, 24, 12, 6)),
        ({"image_size": 20, "sizes": [5, 7, 20]}, (20, 7, 5)),
    ],
)
def test_schedules(options: dict[str, Any], sizes: tuple[int, ...]) -> None:
    model = LAPGAN(**options, width=2, critic_width=2, hidden=4, critic_hidden=4)
    assert model.sizes == sizes
    assert model.training_stages() == tuple(f"level{k}" for k in reversed(range(len(sizes))))


def area_down(image: Any, size: int) -> Any:
    """Means over areas: each new pixel covers n / size old ones, those at its edges in part."""
    n = image.shape[-1]
    weights = np.zeros((size, n))
    for i in range(size):
        low, high = i * n / size, (i + 1) * n / size
        for j in range(n):
            weights[i, j] = max(0.0, min(high, j + 1) - max(low, j)) / (high - low)
    return weights @ image @ weights.T


def linear_up(image: Any, size: int) -> Any:
    """Linear interpolation with the corners aligned."""
    n = image.shape[-1]
    weights = np.zeros((size, n))
    for i in range(size):
        place = i * (n - 1) / (size - 1)
        j = min(int(place), n - 2)
        weights[i, j], weights[i, j + 1] = 1 - (place - j), place - j
    return weights @ image @ weights.T


def test_the_pyramid_is_the_published_codes() -> None:
    model, images = small(image_size=28, sizes=(8, 14, 28)), images_of(2, 28)
    bands, pyramid = model.decompose(images)
    expected = [numpy(images)]
    for size in (14, 8):
        expected.append(area_down(expected[-1], size))
    for k, image in enumerate(expected):
        np.testing.assert_allclose(numpy(pyramid[k]), image, atol=1e-6)
    for k, band in enumerate(bands):
        np.testing.assert_allclose(numpy(band), expected[k] - linear_up(expected[k + 1], 28 >> k), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"filter": "binomial", "image_size": 27, "sizes": None}])
def test_bands_add_up_to_the_image(options: dict[str, Any]) -> None:
    model = small(**options)
    images = images_of(2, model.image_size)
    bands, pyramid = model.decompose(images)
    image = pyramid[-1]
    for k in reversed(range(model.top)):
        image = bands[k] + lapcore.pyr_up(image, (model.sizes[k], model.sizes[k]), filter=model.filter)
    torch.testing.assert_close(image, images)
    if model.filter == "binomial":
        for ours, theirs in zip((*bands, pyramid[-1]), lapcore.laplacian_pyramid(images, model.top), strict=True):
            torch.testing.assert_close(ours, theirs)


def perturbed(**options: Any) -> LAPGAN:
    """Weights at which all scores differ, in evaluation mode, where nothing is dropped."""
    torch.manual_seed(0)
    model = small(**options).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def noise(model: LAPGAN, level: int, seeds: Tensor) -> Tensor:
    shape = (len(seeds), 6) if level == model.top else (len(seeds), 1, model.sizes[level], model.sizes[level])
    return 2 * lapcore.random.uniform(shape, seeds, stream=2 * level + PRIOR, dtype=torch.float64) - 1


def test_the_finer_networks_are_their_layers() -> None:
    """Convolutions in torch, all else by hand: noise, low-pass in units of 0.5 and class plane in; band + low-pass judged."""
    model, labels = perturbed(num_classes=3), torch.tensor([2, 0])
    low, band, z = (torch.rand(2, c, 16, 16).double() - 0.5 for c in (3, 3, 1))
    weights = dict(model.levels[0].named_parameters())

    def plane(player: str) -> Tensor:
        matrix, bias = (weights[f"{player}.planes.plane.linear.{name}"] for name in ("weight", "bias"))
        return (matrix[:, labels].T + bias).clamp(min=0).reshape(2, 1, 16, 16)

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return torch.nn.functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    x = conv(torch.cat([z, 2 * low, plane("generator")], 1), "generator.layers.0", padding=3).clamp(min=0)
    x = conv(x, "generator.layers.2", padding=3).clamp(min=0)
    expected = conv(x, "generator.layers.4", padding=2) / 2
    torch.testing.assert_close(model.levels[0].generator(z, low, labels), expected)
    x = conv(torch.cat([2 * (band + low), plane("critic")], 1), "critic.layers.0").clamp(min=0)
    x = conv(x, "critic.layers.2", stride=2).clamp(min=0).flatten(1)
    expected = x @ weights["critic.head.score.weight"][0] + weights["critic.head.score.bias"]
    torch.testing.assert_close(model.levels[0].critic(band, low, labels).scores, expected)


def test_modern_bands_leave_the_mean_to_the_coarser_levels() -> None:
    model, seeds = perturbed(networks="modern"), torch.arange(4)
    coarse = model.decompose(images_of(4).double()).images[1]
    low = lapcore.pyr_up(coarse, filter="area")
    drawn = model.sample(seeds, coarse=coarse, from_level=1)
    assert (drawn - low).std() > 1e-3
    torch.testing.assert_close(drawn.mean((2, 3)), low.mean((2, 3)))


@pytest.mark.parametrize("networks", ["paper", "modern"])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("kind", adversaries.KINDS)
def test_losses_are_the_formulas(networks: str, level: int, kind: str) -> None:
    """On true low-pass images: the critic's scores of h + l and of G(z, l) + l."""
    model = perturbed(loss=kind, networks=networks, penalty_weight=3.0)
    images, seeds = images_of(4).double(), torch.tensor([3, 1, 4, 1])
    generator, critic = model.levels[level].generator, model.levels[level].critic
    pyramid = [torch.from_numpy(area_down(numpy(images), size)) for size in (16, 8, 4)]
    if level == model.top:
        given: tuple[Any, ...] = (None,)
        real = pyramid[level]
    else:
        low = torch.from_numpy(linear_up(numpy(pyramid[level + 1]), model.sizes[level]))
        given, real = (low, None), pyramid[level] - low
    drawn = generator(noise(model, level, seeds), *given)
    on_real, on_drawn = (numpy(critic(x, *given).scores) for x in (real, drawn))
    point = {"lsgan": 0.5, "wgan-gp": np.concatenate([on_real, on_drawn]).mean()}.get(kind, 0.0)
    expected = {
        "loss": adversaries.critic_equation(kind, on_real, on_drawn),
        "accuracy": np.concatenate([on_real > point, on_drawn < point]).mean(),
    }
    if kind == "wgan-gp":
        stream = 2 * level + MIX
        expected["penalty"] = adversaries.penalty(lambda x: critic(x, *given).scores, real, drawn, seeds, stream)
        expected["loss"] += 3 * expected["penalty"]
    fooled = {"loss": adversaries.generator_equation(kind, on_drawn)}
    adversaries.assert_losses_are(model, images, seeds, f"level{level}", {"critic": expected, "generator": fooled})


@pytest.mark.parametrize("stage", ["level2", "level1", "level0"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"networks": "modern"},
        {"num_classes": 3},
        {"num_classes": 3, "class_head": True, "networks": "modern"},
        {"loss": "wgan-gp", "networks": "modern"},
        {"loss": "wgan-gp"},
    ],
)
def test_gradients_reach_the_player_alone(options: dict[str, Any], stage: str) -> None:
    torch.manual_seed(1)
    labels = torch.arange(6) % 3 if "num_classes" in options else None
    # Wasserstein scores may be moved together at no cost, and so may the scores of about 0 that the paper's critics start with.
    shared.assert_gradients_reach_the_player_alone(small(**options), images_of(6), stage, labels, ["head.score.bias"])


@pytest.mark.parametrize("networks", ["paper", "modern"])
@pytest.mark.parametrize("stage", ["level2", "level0"])
def test_each_player_wins_alone(networks: str, stage: str) -> None:
    torch.manual_seed(0)
    model = small(networks=networks, critic_hidden=32, loss="hinge", width=8, critic_width=8)
    images = (images_of(16) + 0.3 * torch.rand(16, 3, 16, 16)).clamp(-1, 1)
    adversaries.assert_each_wins_alone(model, images, stage, 80, lr=4e-3)


def test_training() -> None:
    for networks, optimizer, lr in (("paper", "sgd", 0.02), ("modern", "adamw", 2e-4)):
        critic, generator = small(networks=networks).players("level1")
        for player in (critic, generator):
            assert (player.optimizer, player.lr, player.turns, player.grad_clip) == (optimizer, lr, 1, 0.0)
        assert critic.momentum == (0.5 if networks == "paper" else 0.0)
        assert critic.final_momentum == (0.8 if networks == "paper" else None)
        assert (critic.averaged, generator.averaged) == (False, True)
    model = small(loss="wgan-gp")
    critic, generator = model.players("level0")
    assert (critic.optimizer, critic.turns, generator.turns) == ("adamw", 5, 1)
    assert critic.modules == (model.levels[0].critic,) and generator.modules == (model.levels[0].generator,)


def test_a_stage_trains_its_level_alone() -> None:
    model = small()
    chosen = model.set_stage("level1")
    assert {id(p) for p in chosen} == {id(p) for p in model.levels[1].parameters()}
    assert all(player.training for player in (model.levels[1].generator, model.levels[1].critic))
    assert not any(module.training for level in (0, 2) for module in model.levels[level].modules())
    shared.train_by_hand(model, images_of(6), 2, stage="level1")


@pytest.mark.parametrize("networks", ["paper", "modern"])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_depends_on_its_seed_and_label_alone(networks: str, labelled: bool) -> None:
    model = small(num_classes=3 if labelled else None, networks=networks, hidden=32)
    labels = torch.arange(6) % 3 if labelled else None
    for stage in model.training_stages():
        shared.train_by_hand(model, images_of(6), 3, labels, stage)
    shared.assert_a_sample_depends_on_its_seed_and_label_alone(model.eval(), labelled)


def test_a_sample_is_one_chain_of_levels() -> None:
    model, seeds = perturbed(), torch.tensor([3, -1, 2**40])
    image = model.levels[2].generator(noise(model, 2, seeds), None)
    torch.testing.assert_close(model.sample(seeds, to_level=2), image)
    for level in (1, 0):
        low = torch.from_numpy(linear_up(numpy(image), model.sizes[level]))
        image = low + model.levels[level].generator(noise(model, level, seeds), low, None)
        torch.testing.assert_close(model.sample(seeds, to_level=level), image)
    assert torch.equal(model.sample(seeds), model.sample(seeds, to_level=0))


def test_partial_samples_keep_the_coarse_part() -> None:
    model, seeds = perturbed().float(), torch.tensor([3, -1, 2**40])
    images = images_of(3)
    pyramid = model.decompose(images).images
    drawn = model.sample(seeds, coarse=pyramid[1], from_level=1)
    low = lapcore.pyr_up(pyramid[1], filter="area")
    torch.testing.assert_close(drawn, low + model.levels[0].generator(noise(model, 0, seeds).float(), low, None))
    again = model.sample(seeds[1:2], coarse=pyramid[1][1:2], from_level=1)
    torch.testing.assert_close(again, drawn[1:2], **CLOSE)
    one = model.sample(seeds, coarse=pyramid[2][:1], from_level=2)
    assert (one[0] - one[1]).abs().max() > 1e-3
    whole = model.sample(seeds, to_level=1)
    torch.testing.assert_close(model.sample(seeds, coarse=whole, from_level=1), model.sample(seeds), **CLOSE)
    middle = model.sample(seeds, coarse=pyramid[2], from_level=2, to_level=1)
    torch.testing.assert_close(
        model.sample(seeds, coarse=middle, from_level=1), model.sample(seeds, coarse=pyramid[2], from_level=2), **CLOSE
    )


@pytest.mark.parametrize("level", [0, 1])
def test_details_are_haars_of_what_is_drawn_for_the_mean(level: int) -> None:
    """The low of an image in [0, 1] is 2^(level + 1) times its mean, which is the model's coarse image."""
    model, seeds = perturbed().float(), torch.arange(5)
    unit = (images_of(1) + 1) / 2
    low = unit
    for _ in range(level + 1):
        low = haar_split(low)[0]
    high = model.draw_details(level, low, seeds)
    size = model.sizes[level + 1]
    assert high.shape == (5, 3, 3, size, size)
    coarse = model.decompose(2 * unit - 1).images[level + 1]
    drawn = model.sample(seeds, coarse=coarse, from_level=level + 1, to_level=level)
    expected = haar_split(2**level * (drawn + 1) / 2)
    rounding = {"rtol": 0.0, "atol": 2**level * 8 * torch.finfo(torch.float32).eps * drawn.abs().max().item()}
    torch.testing.assert_close(high, expected[1], **rounding)
    torch.testing.assert_close(haar_merge(expected[0], high), 2**level * (drawn + 1) / 2, **rounding)


def test_multiscale_parzen_of_a_model() -> None:
    model, images = small().eval(), (images_of(6) + 1) / 2
    seeds = torch.arange(20)
    low_samples = 4 * (model.sample(seeds, to_level=2) + 1) / 2
    found = multiscale_parzen(
        images[:3], images[3:], low_samples, lambda level, low: model.draw_details(level, low, seeds)
    )
    assert len(found["means"]) == 3 and np.isfinite(found["mean"])
    assert found["mean"] == pytest.approx(sum(found["means"]))


@pytest.mark.parametrize("filter", ["area", "binomial"])
def test_multiscale_parzen_as_eval_computes_it(filter: str) -> None:
    model = small(filter=filter, num_classes=3).eval()
    images = ((images_of(6) + 1) * 127.5).round().to(torch.uint8)
    found = evaluate_multiscale_parzen(model, images[:3], images[3:], images, details=8)["multiscale_parzen"]
    assert len(found["means"]) == 3 and np.isfinite(found["mean"])


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = small(num_classes=3, networks="modern", loss="hinge", class_head=True)
    shared.assert_comes_back_the_same(model, tmp_path / "m", torch.tensor([0, 2]))


@pytest.mark.parametrize("networks", ["paper", "modern"])
def test_trains_through_the_loop(networks: str, tmp_path: Path) -> None:
    model = small(image_size=8, sizes=(4, 8), num_classes=2, networks=networks)
    shared.assert_trains(model, tmp_path, labelled=True, absent=adversaries.OPTIONAL)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["level1"] * 3 + ["level0"] * 3
    assert {"generator_loss", "critic_loss", "critic_accuracy"} <= lines[0]["losses"].keys()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", [(1, 2), (3, 9, 13), (5, 10), (8, 14, 28)])
@pytest.mark.parametrize("networks", ["paper", "modern"])
def test_any_sizes(sizes: tuple[int, ...], channels: int, networks: str) -> None:
    model = small(image_size=sizes[-1], sizes=sizes, channels=channels, networks=networks, attributes=["glasses"])
    images, labels = images_of(3, sizes[-1], channels), torch.rand(3, 1)
    for stage in model.training_stages():
        assert all(loss.isfinite() for loss in model.loss(images, labels, stage=stage).values())
    assert model.sample(torch.arange(3), labels).shape == images.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (4, 8)}, r"sizes: expected at least two that rise to image_size 16, got \(4, 8\)"),
        ({"sizes": (16,)}, "sizes: expected at least two"),
        ({"sizes": (8, 8, 16)}, "sizes: expected at least two that rise"),
        ({"sizes": (0, 16)}, "sizes: expected integers of at least 1"),
        ({"image_size": 1, "sizes": None}, "sizes: expected at least two that rise to image_size 1"),
        ({"sizes": (6, 16), "filter": "binomial"}, r'sizes: expected \(8, 16\) with filter "binomial", which halves'),
        ({"filter": "half_pixel"}, 'filter: expected "area" or "binomial", got \'half_pixel\''),
        ({"networks": "dcgan"}, 'networks: expected "paper" or "modern", got \'dcgan\''),
        ({"loss": "w"}, "loss: expected minimax"),
        ({"width": (4,)}, "width: expected one number or 2"),
        ({"critic_width": 0}, "critic_width"),
        ({"class_head": True}, "class_head"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_arguments_are_named() -> None:
    model, images, seeds = small().eval(), images_of(2), torch.arange(2)
    coarse = model.decompose(images).images
    with pytest.raises(ValueError, match="stage: expected level2, level1, level0, got None"):
        model.loss(images)
    with pytest.raises(ValueError, match="stage: expected level2, level1, level0, got 'all'"):
        model.players("all")
    with pytest.raises(ValueError, match="coarse, from_level: expected both or neither, got one"):
        model.sample(seeds, coarse=coarse[1])
    with pytest.raises(ValueError, match="from_level: expected 1 to 2, got 0"):
        model.sample(seeds, coarse=coarse[0], from_level=0)
    with pytest.raises(ValueError, match="from_level: expected 2 to 2, got 1"):
        model.sample(seeds, coarse=coarse[1], from_level=1, to_level=2)
    with pytest.raises(ValueError, match=r"coarse: expected shape \(N, 3, 8, 8\)"):
        model.sample(seeds, coarse=coarse[2], from_level=1)
    with pytest.raises(ValueError, match="coarse: expected 1 or 3, one per seed, got 2"):
        model.sample(torch.arange(3), coarse=coarse[1], from_level=1)
    with pytest.raises(ValueError, match="to_level: expected 0 to 2, got 3"):
        model.sample(seeds, to_level=3)
    with pytest.raises(ValueError, match="level: expected 0 to 1, got 2"):
        model.draw_details(2, coarse[2], seeds)
    for other in (small(filter="binomial"), small(sizes=(4, 6, 16))):
        with pytest.raises(ValueError, match='level: expected a pyramid of filter "area" that halves 16 exactly'):
            other.draw_details(0, torch.rand(1, 3, 8, 8), seeds)
