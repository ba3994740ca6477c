"""Generative models of images. `MODELS` maps the names that `lapcore train` knows to their classes."""

from __future__ import annotations

import os
from pathlib import Path

from lapcore.errors import CheckpointError
from lapcore.models import running, saving
from lapcore.models.autoencoder import Autoencoder
from lapcore.models.base import ImageModel
from lapcore.models.cvae import CVAE
from lapcore.models.dcgan import DCGAN
from lapcore.models.gan import GAN
from lapcore.models.gated_pixelcnn import GatedPixelCNN
from lapcore.models.hierarchical_vae import HierarchicalVAE
from lapcore.models.lapcvae import LapCVAE
from lapcore.models.lapgan import LAPGAN
from lapcore.models.pca import PCA
from lapcore.models.pixelcnn import PixelCNN
from lapcore.models.pixelcnn_pp import PixelCNNPlusPlus
from lapcore.models.vae import VAE
from lapcore.models.vaegan import VAEGAN
from lapcore.models.vqvae import VQVAE

__all__ = [
    "CVAE",
    "DCGAN",
    "GAN",
    "LAPGAN",
    "MODELS",
    "PCA",
    "VAE",
    "VAEGAN",
    "VQVAE",
    "Autoencoder",
    "GatedPixelCNN",
    "HierarchicalVAE",
    "ImageModel",
    "LapCVAE",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "load_model",
    "pretrained",
]

PRETRAINED = Path(__file__).parent.parent / "pretrained"

MODELS: dict[str, type[ImageModel]] = {
    model.name: model
    for model in (
        LapCVAE,
        LAPGAN,
        GAN,
        DCGAN,
        VAE,
        CVAE,
        VAEGAN,
        HierarchicalVAE,
        VQVAE,
        Autoencoder,
        PCA,
        PixelCNN,
        GatedPixelCNN,
        PixelCNNPlusPlus,
    )
}


def pretrained(name: str) -> Path:
    """The folder of a model that comes with lapcore, for `load_model` and the commands.

    "faces64": a LapCVAE of 64x64 cartoon faces (`docs/lapcvae.md`). Raises ValueError for another name.

        >>> import torch
        >>> from lapcore.models import load_model, pretrained
        >>> model = load_model(pretrained("faces64"))
        >>> model.sample(torch.arange(2)).shape
        torch.Size([2, 3, 64, 64])
    """
    names = sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))
    if name not in names:
        raise ValueError(f"name: expected {', '.join(names)}, got {name!r}")
    return PRETRAINED / name


def load_model(folder: str | os.PathLike[str]) -> ImageModel:
    """The model in a folder of `save_pretrained`, or in a training run's folder, in its `model/`.

    Of a run that has not finished it is that of the newest checkpoint, with the averages for weights, and a line on stderr says
    of which step.

    On the CPU, in evaluation mode. Raises CheckpointError, naming the file, if it is missing, damaged or of no known model.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; expected a saved model or a training run")
    if (path / saving.CONFIG).exists():
        return saving.load(path, MODELS)
    if (path / "model").is_dir():
        return saving.load(path / "model", MODELS)
    return running.load_running(path, MODELS)
