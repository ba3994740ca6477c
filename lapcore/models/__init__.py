"""Generative models of images. `MODELS` maps the names that `lapcore train` knows to their classes."""

from __future__ import annotations

import os
from pathlib import Path

from lapcore.errors import CheckpointError
from lapcore.models import saving
from lapcore.models.base import ImageModel
from lapcore.models.lapcvae import LapCVAE
from lapcore.models.vae import VAE

__all__ = ["MODELS", "VAE", "ImageModel", "LapCVAE", "load_model"]

MODELS: dict[str, type[ImageModel]] = {"lapcvae": LapCVAE, "vae": VAE}


def load_model(folder: str | os.PathLike[str]) -> ImageModel:
    """The model in a folder of `save_pretrained`, or in a training run's folder, in its `model/`.

    On the CPU, in evaluation mode. Raises CheckpointError, naming the file, if it is missing, damaged or of no known model.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; expected a saved model or a training run")
    if (path / saving.CONFIG).exists():
        return saving.load(path, MODELS)
    if (path / "model").is_dir():
        return saving.load(path / "model", MODELS)
    unfinished = (
        " (the run has not finished; go on with: lapcore train --resume)" if (path / "config.yaml").exists() else ""
    )
    raise CheckpointError(f"{path}: holds neither {saving.CONFIG} nor model/{unfinished}")
