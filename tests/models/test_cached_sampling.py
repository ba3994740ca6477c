"""On the cpu backend the cached sampler draws, to the bit, what the whole network run for every pixel draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lapcore
from lapcore.models import MODELS
from lapcore.models.autoregressive import AutoregressiveModel
from tests.conftest import require_backend

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelcnn, grey": ("pixelcnn", dict(image_size=7, channels=1, hidden=6, layers=3, levels=16, num_classes=3)),
    "pixelcnn, colour": (
        "pixelcnn",
        dict(image_size=5, channels=3, hidden=7, layers=2, levels=8, head=12, num_classes=3),
    ),
    "pixelcnn, codes": ("pixelcnn", dict(image_size=6, channels=1, hidden=5, layers=2, levels=20, embedding=3)),
    "gated, grey": ("gated_pixelcnn", dict(image_size=7, channels=1, hidden=6, layers=4, levels=16, num_classes=3)),
    "gated, colour": (
        "gated_pixelcnn",
        dict(image_size=5, channels=3, hidden=7, layers=3, levels=8, head=12, num_classes=3),
    ),
    "gated, codes": ("gated_pixelcnn", dict(image_size=6, channels=1, hidden=5, layers=2, levels=20, embedding=3)),
    "plus plus, grey": (
        "pixelcnn_pp",
        dict(image_size=8, channels=1, hidden=4, mixtures=3, resnets=1, num_classes=3),
    ),
    "plus plus, colour": (
        "pixelcnn_pp",
        dict(image_size=4, channels=3, hidden=6, mixtures=2, resnets=2, num_classes=3),
    ),
}


@pytest.fixture(autouse=True)
def on_the_cpu_backend() -> Iterator[None]:
    for op in ("masked_conv2d", "categorical", "sample_discretized_logistic_mixture"):
        require_backend("cpu", op)
    with lapcore.backend("cpu"):
        yield


def made(name: str) -> Any:
    """With weights as large as training makes them, so that pixels depend on each other."""
    torch.manual_seed(4)
    kind, options = SETTINGS[name]
    model = MODELS[kind](**options)
    for key, parameter in model.named_parameters():
        if parameter.dim() == 4 or "gain" in key:
            parameter.data.mul_(2)
        elif key.startswith("class_vectors"):
            torch.nn.init.normal_(parameter)
    return model.eval()


def request(model: AutoregressiveModel, count: int) -> dict[str, Tensor]:
    """Seeds, labels, and half of the upper rows given."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, model.channels, model.image_size, model.image_size)
    known = torch.rand(count, 1, *shape[2:], generator=generator) < 0.5
    known[:, :, model.image_size // 2 :] = False
    asked = {
        "seeds": torch.randint(0, 2**62, (count,), generator=generator),
        "given": torch.rand(shape, generator=generator) * 2 - 1,
        "known": known,
    }
    if model.num_classes is not None:
        asked["labels"] = torch.arange(count) % model.num_classes
    return asked


@pytest.mark.parametrize("name", SETTINGS)
def test_cached_and_naive_draws_are_the_same_bits(name: str) -> None:
    """In batches of 1 and of 17, on one thread and on two, with classes, with and without given pixels."""
    model = made(name)
    completed = request(model, 17)
    drawn = {key: value for key, value in completed.items() if key not in ("given", "known")}
    for asked in (drawn, completed):
        torch.set_num_threads(1)
        expected = model.naive_sample(**asked)
        assert len(expected.flatten(1).unique(dim=0)) == 17
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert torch.equal(model.sample(**asked), expected)
            one = {key: value[11:12] for key, value in asked.items()}
            assert torch.equal(model.sample(**one), expected[11:12])
    assert torch.equal(model.naive_sample(**one), expected[11:12])


@pytest.mark.parametrize("name", ["pixelcnn, colour", "gated, colour", "plus plus, colour"])
def test_a_draw_does_not_depend_on_its_batch(name: str) -> None:
    model = made(name)
    asked = request(model, 40)
    whole = model.sample(**asked)
    parts = [model.sample(**{key: value[i : i + 13] for key, value in asked.items()}) for i in range(0, 40, 13)]
    assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(40)
    assert torch.equal(model.sample(**{key: value[order] for key, value in asked.items()}), whole[order])
