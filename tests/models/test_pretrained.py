"""The models that come with lapcore."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

from lapcore.data import open_images, to_model_range
from lapcore.metrics import evaluate_rmse
from lapcore.models import load_model, pretrained


def test_the_faces_model_reconstructs_faces_that_it_never_saw(tmp_path: Path) -> None:
    """Its errors on 500 faces, docs/experiments.md, are 6.6 +- 0.9 grey levels; here the mean of 16 is below 8."""
    draw_faces = pytest.importorskip("lapcore.data.faces").draw_faces
    pytest.importorskip("python_avatars")
    draw_faces(tmp_path, 16, 64, seed=7, workers=1)
    drawn = open_images(tmp_path, size=64)
    faces = to_model_range(torch.stack([drawn[index][0] for index in range(16)]))
    model = load_model(pretrained("faces64"))
    assert evaluate_rmse(model, [(faces, None)], 0)["rmse"]["mean"] < 8
    drawn_by_model = model.sample(torch.arange(16))
    assert drawn_by_model.shape == faces.shape and drawn_by_model.isfinite().all()
    # On white, as faces are: the corners above are never hair.
    assert (drawn_by_model[..., :4, :4] > 0.5).float().mean() > 0.9


def test_it_is_small_enough_to_come_along() -> None:
    assert (pretrained("faces64") / "model.safetensors").stat().st_size < 8e6


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name: expected faces64, got 'faces'"):
        pretrained("faces")


def test_the_example_runs() -> None:
    failed, tried = doctest.testmod(importlib.import_module("lapcore.models"))
    assert tried and not failed
