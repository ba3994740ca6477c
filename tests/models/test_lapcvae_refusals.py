"""LapCVAE: what is refused, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.lapcvae_models import small, smooth_images, state_of


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
