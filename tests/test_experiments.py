"""The configs of the experiments fit their models, compare equal sizes and budgets, and their driver runs nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lapcore.bench import experiments, quickstart
from lapcore.bench.experiments import (
    CONFIGS,
    EXPERIMENTS,
    Experiment,
    faces,
    model_of,
    parted,
    run,
    seeds_of,
    split,
    table,
)
from lapcore.bench.pictures import draw_pictures
from lapcore.data import read_image, write_png
from lapcore.models import MODELS, LapCVAE
from lapcore.models.base import ImageModel
from lapcore.training import TrainConfig

NAMES = [config for experiment in EXPERIMENTS.values() for config in experiment.configs if ":" not in config]
OF_THE_DATA = ("size", "channels", "attributes", "model")


def opened(name: str) -> tuple[ImageModel, TrainConfig]:
    settings: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    told = {} if "attributes" not in settings else {"attributes": settings["attributes"].split(",")}
    model = MODELS[model_of(name)](settings["size"], settings.get("channels", 3), **settings["model"], **told)
    return model, TrainConfig(**{key: value for key, value in settings.items() if key not in OF_THE_DATA})


def parameters(name: str) -> int:
    """Critics, which only training needs, not counted."""
    return sum(tensor.numel() for key, tensor in opened(name)[0].named_parameters() if "critic" not in key)


def steps(name: str) -> int:
    """A learned prior's steps, which are many times quicker, not counted."""
    model, config = opened(name)
    stages = model.training_stages()
    return sum(count for stage, count in zip(stages, config.steps_of(stages), strict=True) if stage != "prior")


def test_every_config_is_of_an_experiment() -> None:
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_fits_its_model(name: str) -> None:
    model, config = opened(name)
    stages = model.training_stages()
    assert len(config.steps_of(stages)) == len(stages)
    labels = None if model.num_classes is None else torch.tensor([0, 1])
    if model.attributes:
        labels = torch.zeros(2, len(model.attributes))
    images = torch.zeros(2, model.channels, model.image_size, model.image_size)
    players = model.players(stages[0])
    named = {} if len(players) == 1 else {"player": players[0].name}
    config.check_player_names([player.name for player in players])
    assert torch.isfinite(model.loss(images, labels, stage=stages[0], **named)["loss"])


@pytest.mark.parametrize(
    "names",
    [
        ("vae", "vae-linear", "vaegan", "lapcvae"),
        ("vae-faces", "vae-linear-faces", "lapcvae-faces"),
        tuple(EXPERIMENTS["density"].configs),
    ],
)
def test_compared_models_are_of_equal_size_and_steps(names: tuple[str, ...]) -> None:
    assert len({steps(name) for name in names}) == 1
    counts = [parameters(name) for name in names]
    assert max(counts) <= 1.03 * min(counts), counts


@pytest.mark.parametrize(("shown", "name"), [("LapCVAE", "lapcvae-faces"), ("VAE", "vae-faces")])
def test_the_quickstart_trains_the_models_of_the_experiment(shown: str, name: str) -> None:
    (model, counts), (expected, config) = quickstart.models()[shown], opened(name)
    assert (model.config, counts) == (expected.config, config.steps_of(expected.training_stages()))


def test_gan_and_lapgan_take_equal_steps() -> None:
    assert steps("gan") == steps("lapgan")


def test_the_last_of_each_class_are_held_out_and_classes_come_in_turn() -> None:
    labels = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert parted(labels, 1) == ([0, 3, 6, 1, 4, 7], [2, 5, 8])
    with pytest.raises(ValueError, match="more than 3 pictures of each class"):
        parted(labels, 3)


def test_split_writes_what_is_held_out_and_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "cifar" / name).mkdir(parents=True)
        for number in range(4):
            value = 60 * number + 10 * (name == "dog")
            picture = torch.full((3, 32, 32), value, dtype=torch.uint8)
            write_png(tmp_path / "cifar" / name / f"{number:04}.png", picture)
    monkeypatch.setattr(experiments, "VALIDATION", 1)
    split(tmp_path / "cifar", tmp_path / "data", held_out=2)
    values = {}
    for name in [f"{kind}-{part}" for kind in ("colour", "grey") for part in ("train", "test", "validation")]:
        with np.load(tmp_path / "data" / f"{name}.npz") as archive:
            values[name] = (archive["images"][:, 0, 0, 0].tolist(), archive["labels"].tolist())
            assert archive["images"].shape[1:] == ((32, 32, 3) if "colour" in name else (16, 16, 1))
    assert values["colour-train"] == values["grey-train"] == ([0, 10, 60, 70], [0, 1, 0, 1])
    assert values["colour-test"] == values["grey-test"] == ([120, 130, 180, 190], [0, 1, 0, 1])
    assert values["colour-validation"] == values["grey-validation"] == ([180, 190], [0, 1])


def test_run_trains_and_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "CONFIGS", tmp_path)
    (tmp_path / "autoencoder.yaml").write_text(
        "{size: 32, steps: 2, batch_size: 4, num_workers: 0, device: cpu, "
        "model: {latent: 4, widths: [4, 4], decoder_widths: [4, 4], hidden: 8}}"
    )
    for part in ("train", "test"):
        images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        np.savez(tmp_path / f"colour-{part}.npz", images=images, labels=np.arange(8) % 2)
    experiment, out = Experiment({"autoencoder": "rmse"}), tmp_path / "runs"
    run(experiment, tmp_path, out, [0])
    folder = out / "autoencoder"
    files = [folder / "seed0.json", *(folder / "seed0" / "model").iterdir()]
    before = [path.stat().st_mtime_ns for path in files]
    run(experiment, tmp_path, out, [0])
    assert [path.stat().st_mtime_ns for path in files] == before

    mean = json.loads(files[0].read_text())["metrics"]["rmse"]["mean"]
    row = table(experiment, out).splitlines()[2]
    size = sum(
        tensor.numel() for tensor in MODELS["autoencoder"].from_pretrained(folder / "seed0" / "model").parameters()
    )
    assert row.startswith(f"| autoencoder | {size:,} | 0 | 2 |")
    assert f"{mean:.2f}" in row


def test_faces_are_drawn_once_and_measured_from_a_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "CONFIGS", tmp_path)
    (tmp_path / "lapcvae-small.yaml").write_text(
        "{size: 32, steps: [1, 1, 1], batch_size: 4, num_workers: 0, device: cpu, model: {levels: 1, latent: 4, "
        "band_latent: 4, widths: [4], hidden: 8, band_width: 4, band_hidden: 8, prior_layers: 0, linear: false}}"
    )
    monkeypatch.setattr(experiments, "FACES", {32: 6})
    faces(tmp_path, 32, held_out=4)
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.glob("faces32-*/*")}
    assert len(drawn) == 6 + 4 + 2
    faces(tmp_path, 32, held_out=4)
    assert drawn == {path: path.stat().st_mtime_ns for path in tmp_path.glob("faces32-*/*")}
    experiment, out = Experiment({"lapcvae-small": "rmse,swd", "lapcvae-small:1": "swd"}, "faces32"), tmp_path / "runs"
    run(experiment, tmp_path, out, [3])
    whole, partial = (json.loads((out / "lapcvae-small" / f"seed3{end}.json").read_text()) for end in ("", "-level1"))
    assert set(whole["metrics"]) == {"rmse", "rmse_mean_rounded", *partial["metrics"]}
    assert partial["metrics"]["swd"]["mean"] < whole["metrics"]["swd"]["mean"]
    rows = table(experiment, out).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| lapcvae-small", "| lapcvae-small:1"]
    assert f"{whole['metrics']['swd']['mean']:.2f}" in rows[0] and f"{partial['metrics']['swd']['mean']:.2f}" in rows[1]


def test_pictures_are_drawn_of_the_models_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "FACES", {64: 60})
    faces(tmp_path, 64, held_out=60)
    torch.manual_seed(0)
    model = LapCVAE(64, levels=2, latent=4, band_latent=4, widths=(4,), hidden=8, band_width=4, band_hidden=8)
    model.save_pretrained(tmp_path / "runs" / "lapcvae-faces64" / "seed0" / "model")
    draw_pictures(tmp_path, tmp_path / "runs", tmp_path / "pictures")
    shapes = {path.stem: tuple(read_image(path).shape[1:]) for path in (tmp_path / "pictures").iterdir()}
    rows = {"samples": (4, 16), "partial": (4, 8), "interpolation": (4, 8), "painted": (6, 8), "arithmetic": (4, 8)}
    assert set(shapes) == {f"faces64-{name}" for name in rows}
    for name, (down, across) in rows.items():
        height, width = shapes[f"faces64-{name}"]
        assert (height // (2 * 64), width // (2 * 64)) == (down, across), name


def test_seeds() -> None:
    assert (seeds_of("0-2"), seeds_of("3")) == (range(3), range(3, 4))
