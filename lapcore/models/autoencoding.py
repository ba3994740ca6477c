"""Models that encode and decode images share reconstruction, interpolation, and arithmetic of codes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore.models.base import (
    ImageModel,
    check_ends,
    check_tensor,
    check_variance,
    inference,
    mean_difference,
    positive,
)
from lapcore.nn.blocks import Moments, VectorDecoder, VectorEncoder
from lapcore.ops import random
from lapcore.ops.gaussian import reparameterize

PRIOR, POSTERIOR = 0, 1
"""Streams of noise."""


class AutoencodingModel(ImageModel):
    """A model in which one code stands for an image. A subclass says which in `_code`, and what it decodes to in `_decoded`."""

    @abstractmethod
    def _code(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """The code that stands for each image, (N, ...); the mean, where codes are drawn."""

    @abstractmethod
    def _decoded(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Images (N, C, H, W) of codes (N, ...)."""

    @inference
    def reconstruct(self, images: Tensor, seeds: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Images encoded and decoded, (N, C, H, W). Where a code is a function of its image, seeds, int64 (N,), change nothing."""
        self._check_batch(images, labels, seeds)
        return self._decoded(self._code(images, labels), labels)

    @inference
    def interpolate(self, a: Tensor, b: Tensor, steps: int, labels: Tensor | None = None) -> Tensor:
        """Decoded points on the line between the codes of a and b, (steps, N, C, H, W); the ends reconstruct them."""
        check_ends(a, b, steps)
        self._check_batch(a, labels, None)
        self._check_batch(b, labels, None)
        first, last = self._code(a, labels), self._code(b, labels)
        weights = torch.linspace(0, 1, steps, dtype=torch.float64).tolist()
        return torch.stack([self._decoded(torch.lerp(first, last, weight), labels) for weight in weights])

    @inference
    def attribute_vector(self, images: Tensor, has: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean code of the images with an attribute, minus that of those without, for `shift`.

        has: bool (N,), True where the image has it. All images are encoded at once; for more than memory holds, encode them in
        parts and see `lapcore.models.base.mean_difference`. Errors: TypeError, ValueError naming the argument.
        """
        self._check_batch(images, labels, None)
        return mean_difference(self._code(images, labels), has)

    @inference
    def shift(self, images: Tensor, vector: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images with `vector`, such as a multiple of `attribute_vector`, added to their codes, (N, C, H, W).

        vector: of the shape of one code, or one for each image. Errors: TypeError, ValueError naming the argument.
        """
        self._check_batch(images, labels, None)
        check_tensor("vector", vector, self.dtype, self.device)
        codes = self._code(images, labels)
        if vector.shape not in (codes.shape[1:], codes.shape):
            raise ValueError(f"vector: expected shape {tuple(codes.shape[1:])}, got {tuple(vector.shape)}")
        return self._decoded(codes + vector, labels)


class VectorCodeModel(AutoencodingModel):
    """A model whose codes are vectors of length `latent`."""

    latent: int

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (N, latent) -> images (N, C, H, W), the mean of p(x|z) where that is a density. ValueError naming the argument."""
        if codes.dim() != 2 or codes.shape[1] != self.latent:
            raise ValueError(f"codes: expected shape (N, {self.latent}), got {tuple(codes.shape)}")
        self._check_labels(labels, len(codes))
        return self._decoded(codes, labels)


class GaussianCodeModel(VectorCodeModel):
    """A model whose encoder gives a diagonal Gaussian q(z|x) of code vectors, and whose decoder the mean of p(x|z)."""

    encoder: VectorEncoder
    decoder: VectorDecoder

    def _add_networks(
        self,
        latent: int,
        widths: Sequence[int],
        decoder_widths: Sequence[int],
        hidden: int,
        variance: str | float,
        *,
        linear: bool = False,
    ) -> None:
        """Checks these settings, which `lapcore.models.VAE` describes, and makes encoder and decoder of them."""
        positive(latent=latent, widths=widths, decoder_widths=decoder_widths, hidden=hidden)
        check_mirrored(widths, decoder_widths)
        check_variance(variance)
        size, steps = (self.image_size, self.image_size), [widths[-1], *decoder_widths]
        self.latent = latent
        self.encoder = VectorEncoder(self.channels, size, widths, hidden, latent, self.condition, linear=linear)
        self.decoder = VectorDecoder(
            self.channels, size, steps, latent, self.condition, variance, squash=not linear, linear=linear
        )

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Moments:
        """Mean and log-variance of q(z|x), (N, latent) each."""
        self._check_batch(images, labels, None)
        moments: Moments = self.encoder(images, labels)
        return moments

    def _code(self, images: Tensor, labels: Tensor | None) -> Tensor:
        mean: Tensor = self.encoder(images, labels)[0]
        return mean

    def _decoded(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        images: Tensor = self.decoder(codes, labels)[0]
        return images

    @inference
    def sample(self, seeds: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
        """Decoded draws of the prior, (N, C, H, W); image i depends on (weights, seeds[i], labels[i]) only.

        seeds: int64 (N,). temperature: scales the noise of the codes.
        """
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        return self._decoded(self._drawn_codes(seeds, labels, temperature), labels)

    def _drawn_codes(self, seeds: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
        """(N, latent) from the prior, N(0, I) unless a subclass has another."""
        return temperature * random.normal((len(seeds), self.latent), seeds, stream=PRIOR, dtype=self.dtype)

    @inference
    def reconstruct(self, images: Tensor, seeds: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Images encoded and decoded, through the mean code, or with seeds, int64 (N,), through a sampled one."""
        self._check_batch(images, labels, seeds)
        mean, logvar = self.encoder(images, labels)
        codes = mean if seeds is None else reparameterize(mean, logvar, seeds, stream=POSTERIOR)
        return self._decoded(codes, labels)


def check_mirrored(widths: Sequence[int], decoder_widths: Sequence[int]) -> None:
    if len(decoder_widths) != len(widths):
        raise ValueError(f"decoder_widths: expected {len(widths)} numbers, as in widths, got {decoder_widths!r}")
