"""Held-out images: which they are, what their loss is, and the best model; labels that fit; what a run says of itself."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lapcore.data import open_images, write_png
from lapcore.data.images import to_model_range
from lapcore.models import VAE, load_model
from lapcore.training import RunConfig, TrainConfig, order, train
from lapcore.training.held_out import split
from lapcore.training.log import Record, Terminal
from lapcore.training.pace import Pace
from lapcore.training.run import Leg
from lapcore.training.talk import Legend
from tests.training.test_train import part_of, weights
from tests.training.tiny import SETTINGS, Pictures, Tiny, made, run, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def config_of(**settings: Any) -> TrainConfig:
    return TrainConfig(**{**SETTINGS, **settings})


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_share_is_held_out_by_seed() -> None:
    rest, held = split(Pictures(20), 0.3, seed=4)
    both = torch.cat([rest.indices, held.indices])
    assert len(held) == 6 and torch.equal(both.sort().values, torch.arange(20))
    assert torch.equal(split(Pictures(20), 0.3, seed=4)[1].indices, held.indices)
    assert not torch.equal(split(Pictures(20), 0.3, seed=5)[1].indices, held.indices)
    image, label = held[2]
    assert torch.equal(image, Pictures(20).images[held.indices[2]]) and label == int(held.indices[2]) % 2
    for share in (0.01, 0.99, 1.5):
        with pytest.raises(ValueError, match="validation: expected a share that leaves pictures on both sides of 20"):
            split(Pictures(20), share, 0)


def test_crops_of_a_picture_stay_together(tmp_path: Path) -> None:
    for index in range(5):
        write_png(tmp_path / f"{index}.png", torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8))
    rest, held = split(open_images(tmp_path, size=8, resize="random_crop", crops_per_image=3), 0.4, seed=0)
    assert len(rest) == 9 and len(held) == 6
    assert not {int(i) // 3 for i in rest.indices} & {int(i) // 3 for i in held.indices}


def loss_by_hand(model: Tiny, images: Tensor, seeds: Tensor, stage: str) -> float:
    model.eval()
    with torch.no_grad():
        return float(model.loss(to_model_range(images), None, stage, seeds)["loss"])


def test_the_held_out_loss_is_that_of_the_averages(tmp_path: Path) -> None:
    out = tmp_path / "a"
    held = Pictures(13)
    train(tiny(), Pictures(), config_of(keep_checkpoints=0), out, validation=held)
    found = {line["step"]: line["validation"]["loss"] for line in lines_of(out) if "validation" in line}
    assert sorted(found) == [4, 8, 9, 12, 16, 17]
    seeds = order.held_out_seeds(5, torch.arange(13))
    for step, stage in [(4, "coarse"), (12, "fine")]:
        model, files = tiny(), out / f"checkpoints/step-{step:08}"
        tensors = [safetensors.torch.load_file(files / f"{name}.safetensors") for name in ("model", "ema")]
        model.load_state_dict(tensors[0] | tensors[1])
        assert found[step] == pytest.approx(loss_by_hand(model, held.images, seeds, stage), rel=1e-5)
    model = tiny()
    model.load_state_dict(safetensors.torch.load_file(out / "model/model.safetensors"))
    assert found[17] == pytest.approx(loss_by_hand(model, held.images, seeds, "fine"), rel=1e-5)


def test_measuring_changes_nothing_and_resumes(tmp_path: Path) -> None:
    run(tmp_path / "plain")
    train(tiny(), Pictures(), config_of(keep_checkpoints=0), tmp_path / "a", validation=Pictures(5))
    assert weights(tmp_path / "a") == weights(tmp_path / "plain")
    part = part_of(tmp_path / "a", tmp_path / "part", 8)
    train(tiny(), Pictures(), config_of(keep_checkpoints=0), part, validation=Pictures(5), resume=True)
    assert lines_of(part)[-1]["validation"] == lines_of(tmp_path / "a")[-1]["validation"]
    with pytest.raises(ValueError, match=r"validation\.images: 5 in the run, 6 now"):
        train(tiny(), Pictures(), config_of(keep_checkpoints=0), part, validation=Pictures(6), resume=True)


def test_the_best_model_of_a_share(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VAE(8, 3, latent=4, widths=[4], decoder_widths=[4], hidden=8)
    # A rate that first learns and then spoils what was learned.
    config = config_of(
        steps=24, validate_every=2, lr=0.1, schedule="constant", grad_clip=0.0, ema=0.0, keep_checkpoints=0
    )
    config = TrainConfig(**{**config.__dict__, "checkpoint_every": 2})
    out = tmp_path / "a"
    train(model, Pictures(), config, out, validation=0.25)
    assert RunConfig.load(out / "config.yaml").validation == {"fraction": 0.25}
    found = {line["step"]: line["validation"]["loss"] for line in lines_of(out) if "validation" in line}
    best = min(found, key=lambda step: found[step])
    assert lines_of(out)[-1]["best"] == best < 24
    kept = load_model(out / "best").state_dict()
    then = safetensors.torch.load_file(out / f"checkpoints/step-{best:08}/model.safetensors")
    assert all(torch.equal(kept[name], then[name]) for name in kept)


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"validation: expected None for stage duel, whose players \(critic, generator\)"
    ):
        train(made("duel"), Pictures(), config_of(), tmp_path / "a", validation=0.2)

    class Others(Pictures):
        classes = ("light", "dark")

    with pytest.raises(
        ValueError, match="validation: expected the classes of the training data, dark, light, got light, dark"
    ):
        train(tiny(num_classes=2), Pictures(), config_of(), tmp_path / "a", validation=Others())
    assert not (tmp_path / "a").exists()


class Vectors(Dataset[tuple[Tensor, Tensor]]):
    """Images with two attributes."""

    attributes = ("glasses", "beard")

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return Pictures(12).images[index], torch.tensor([index % 2, index / 12])


@pytest.mark.parametrize("workers", [0, 1])
def test_attributes_reach_the_model(workers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VAE(8, 3, attributes=["glasses", "beard"], latent=4, widths=[4], decoder_widths=[4], hidden=8)
    config = config_of(steps=4, num_workers=workers, in_memory=workers == 0)
    train(model, Vectors(), config, tmp_path / "a", validation=0.25)
    with pytest.raises(ValueError, match="dataset: expected the attributes glasses, beard of the model, got none"):
        train(model, Pictures(), config, tmp_path / "b")
    other = VAE(8, 3, attributes=["beard", "glasses"], latent=4, widths=[4], decoder_widths=[4], hidden=8)
    with pytest.raises(ValueError, match="expected the attributes beard, glasses of the model, got glasses, beard"):
        train(other, Vectors(), config, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("classes", "count", "message"),
    [
        (("photos",), 3, "num_classes: expected none, as the data has no classes, got 3"),
        (("dark", "light"), 3, r"num_classes: expected 2, as the data has \(dark, light\), got 3"),
        (("0", "1"), 3, None),
        (("a", "b", "c", "d"), 3, r"dataset: expected at most 3 classes, as the model has, got 4 \(a, b, c, d\)"),
    ],
)
def test_classes_of_model_and_data(classes: tuple[str, ...], count: int, message: str | None, tmp_path: Path) -> None:
    data = Pictures()
    data.classes = classes  # type: ignore[assignment]
    if message is None:
        train(tiny(num_classes=count), data, config_of(steps=2), tmp_path / "a")
    else:
        with pytest.raises(ValueError, match=message):
            train(tiny(num_classes=count), data, config_of(steps=2), tmp_path / "a")
        assert not (tmp_path / "a").exists()


def test_a_run_opens_by_saying_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my run"
    train(tiny(num_classes=2), Pictures(), config_of(steps=[2, 1]), out, validation=0.2)
    said = capsys.readouterr().err.splitlines()
    parameters = sum(p.numel() for p in tiny(num_classes=2).parameters())
    assert said[0] == "data: 17 images of 8x8x3, 4 more held out; 2 classes (dark, light)"
    assert said[1] == f"model: tiny, {parameters} parameters; precision: float32"
    assert said[2] == "steps of each stage: coarse 2, fine 1; 8 images a batch; device: cpu, 1 threads"
    assert said[3] == f"curves and pictures: tensorboard --logdir '{out}/tensorboard'"
    assert said[4] == "loss: what the stage minimises"
    assert said[5].startswith("step 2/3") and "held-out loss" in said[-1]


def test_names_in_the_log_explain_themselves_once() -> None:
    model = tiny()
    model.terms = {"loss": "the error", "nll": "nats", "accuracy": "a share"}  # type: ignore[assignment]
    legend = Legend(model)
    assert list(legend.lines(["loss", "nll3", "other"], ["model"])) == ["loss: the error", "nll3: nats"]
    names = ["critic_loss", "critic_accuracy", "generator_plays", "nll2"]
    expected = ["critic_accuracy: a share", "generator_plays: share of its turns that the player took"]
    assert list(legend.lines(names, ["critic", "generator"])) == expected


def test_time_left_counts_stages_to_come_at_their_own_pace() -> None:
    legs = [Leg("a", 10), Leg("b", 20), Leg("c", 5), Leg("a", 3)]
    pace = Pace(legs, {"a": 0.5, "b": 1.5, "c": 0.25})
    assert pace.left(0, 4, 2.0) == pytest.approx(6 * 2 + 20 * 6 + 5 * 1 + 3 * 2)
    assert pace.left(1, 5, 7.0) == pytest.approx(15 * 7 + 5 * 7 / 6 + 3 * 2)
    assert pace.left(3, 1, 1.0) == pytest.approx(2)
    screen = io.StringIO()
    Terminal(38, 0, show=True, stream=screen).record(Record(4, "a", {"loss": 1.0}, 8.0, 1e-3, 8.0), 3725.0)
    assert screen.getvalue() == "step 4/38  a  loss 1  8 images/s  1:02:05 left\n"
