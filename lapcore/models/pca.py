"""PCA: principal components, the linear reference of the autoencoders (Tipping & Bishop 1999)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lapcore.models.autoencoding import PRIOR, VectorCodeModel
from lapcore.models.base import inference, positive
from lapcore.nn.blocks import IMAGE_LOGVAR
from lapcore.nn.subspace import PrincipalSubspace
from lapcore.ops import random


class PCA(VectorCodeModel):
    """z = V (x - m), x ~ m + V^T z, with the mean m of the images and the `latent` unit vectors V along which they vary most.

    As a density of images it is the maximum of likelihood of probabilistic PCA: x is Gaussian with variance l_i along axis i, and
    s^2 in every direction across them, with l_i and s^2 the images' variances there, none below that of one grey level.

    Nothing is trained: `loss` in training mode takes its batch into the estimate (`lapcore.nn.subspace`), which after a pass over a
    set is that of the whole set; more passes change nothing. The player of the stage has no parameters.

    Args:
        image_size, channels: of the images, square; any size.
        latent: components, at most the number of an image's values.
        rank: components that are kept while batches come in; None: 2 latent, or all if there are fewer. The result is exact if
            images vary in no more directions, else nearly so.

    Raises ValueError for settings out of range.
    """

    name = "pca"
    terms: ClassVar[dict[str, str]] = {
        "loss": "-log p(x), in nats per value of an image, a density; negative where errors are small",
        "mse": "mean squared error of projected images, values in [-1, 1]",
    }

    def __init__(self, image_size: int = 64, channels: int = 3, *, latent: int = 128, rank: int | None = None) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        values = channels * image_size**2
        positive(latent=latent, rank=latent if rank is None else rank)
        if latent > values:
            raise ValueError(f"latent: expected at most {values}, the values of an image, got {latent}")
        if rank is not None and rank < latent:
            raise ValueError(f"rank: expected at least latent, {latent}, got {rank}")
        self.latent = latent
        self.subspace = PrincipalSubspace(values, min(values, 2 * latent if rank is None else rank))

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.subspace,)}

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """ "loss": -log p(images) per value, in nats; "mse" of the projections in [-1, 1] units. No gradient; nothing is drawn."""
        self._check_batch(images, labels, seeds)
        self._stage(stage)
        with torch.no_grad():
            if self.training:
                self.subspace.follow(images.flatten(1))
            error = (self._decoded(self._code(images, None), None) - images).square().mean()
            return {"loss": -self._log_density(images).mean() / images[0].numel(), "mse": error}

    @inference
    def elbo(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(images), a density in R^D, in nats, (N,), of the Gaussian above: exact, where other models have a bound.

        labels: None. In evaluation mode, without gradient.
        """
        self._check_batch(images, labels, None)
        return self._log_density(images)

    def _log_density(self, images: Tensor) -> Tensor:
        codes = self._code(images, None)
        across = (images - self._decoded(codes, None)).flatten(1).square().sum(1)
        along, variance = self._variances()
        rest = images[0].numel() - self.latent
        squares = (codes.square() / along).sum(1) + across / variance
        return -(squares + along.log().sum() + rest * variance.log() + images[0].numel() * math.log(2 * math.pi)) / 2

    def _variances(self) -> tuple[Tensor, Tensor]:
        """l, (latent,), and s^2."""
        count = self.subspace.count.clamp(min=1)
        along = self.subspace.scales[: self.latent].square() / count
        rest = max(self.subspace.mean.numel() - self.latent, 1)
        across = (self.subspace.total / count - along.double().sum()) / rest
        floor = math.exp(IMAGE_LOGVAR[0])
        return along.clamp(min=floor), across.clamp(min=floor).to(along.dtype)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (N, latent), by falling variance. labels: None."""
        self._check_batch(images, labels, None)
        return self._code(images, labels)

    @inference
    def sample(self, seeds: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
        """m + V^T z, z_i ~ N(0, l_i), (N, C, H, W); image i depends on (weights, seeds[i]) only. Values may leave [-1, 1].

        seeds: int64 (N,). labels: None. temperature: scales the codes.
        """
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        noise = random.normal((len(seeds), self.latent), seeds, stream=PRIOR, dtype=self.dtype)
        return self._decoded(temperature * self._variances()[0].sqrt() * noise, labels)

    def _code(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return (images.flatten(1) - self.subspace.mean) @ self.subspace.axes[: self.latent].T

    def _decoded(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        rows = self.subspace.mean + codes @ self.subspace.axes[: self.latent]
        return rows.view(-1, self.channels, self.image_size, self.image_size)
