"""The configs of the experiments fit their models, compare equal sizes and budgets, and their driver runs nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bench import experiments
from bench.experiments import CONFIGS, EXPERIMENTS, Experiment, model_of, parted, run, seeds_of, split, table
from lapcore.data import write_png
from lapcore.models import MODELS
from lapcore.models.base import ImageModel
from lapcore.training import TrainConfig

NAMES = [config for experiment in EXPERIMENTS.values() for config in experiment.configs]
OF_THE_DATA = ("size", "channels", "model")


def opened(name: str) -> tuple[ImageModel, TrainConfig]:
    settings: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    model = MODELS[model_of(name)](settings["size"], settings.get("channels", 3), **settings["model"])
    return model, TrainConfig(**{key: value for key, value in settings.items() if key not in OF_THE_DATA})


def parameters(name: str) -> int:
    """Critics, which only training needs, not counted."""
    return sum(tensor.numel() for key, tensor in opened(name)[0].named_parameters() if "critic" not in key)


def steps(name: str) -> int:
    model, config = opened(name)
    return sum(config.steps_of(model.training_stages()))


def test_every_config_is_of_an_experiment() -> None:
    assert sorted(path.stem for path in CONFIGS.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_fits_its_model(name: str) -> None:
    model, config = opened(name)
    stages = model.training_stages()
    assert len(config.steps_of(stages)) == len(stages)
    labels = None if model.num_classes is None else torch.tensor([0, 1])
    images = torch.zeros(2, model.channels, model.image_size, model.image_size)
    assert torch.isfinite(model.loss(images, labels, stage=stages[0])["loss"])


@pytest.mark.parametrize("names", [("vae", "vae-linear", "vaegan", "lapcvae"), tuple(EXPERIMENTS["density"].configs)])
def test_compared_models_are_of_equal_size_and_steps(names: tuple[str, ...]) -> None:
    assert len({steps(name) for name in names}) == 1
    counts = [parameters(name) for name in names]
    assert max(counts) <= 1.03 * min(counts), counts


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


def test_seeds() -> None:
    assert (seeds_of("0-2"), seeds_of("3")) == (range(3), range(3, 4))
