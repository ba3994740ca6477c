"""Autoencoder: the plain one, which variational autoencoders are measured against (Hinton & Salakhutdinov, Science 2006)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from lapcore.models.autoencoding import PRIOR, VectorCodeModel, check_mirrored
from lapcore.models.base import inference, positive
from lapcore.nn.batch_norm import BatchNorm1d
from lapcore.nn.blocks import Down, VectorDecoder, full_precision, halvings
from lapcore.nn.running_gaussians import CodeGaussian
from lapcore.ops import random


class Autoencoder(VectorCodeModel):
    """z = e(x) of length `latent`, trained to minimise the mean of (x - f(z))^2.

    The layers are those of `VAE`, without its noise. linear=True: e and f are affine maps; at the minimum, f's columns span the
    same subspace as the first `latent` principal components (Baldi and Hornik 1989), and `PCA` is the reference.

    It gives codes no distribution; to be compared with models that do, it samples from the Gaussian of the mean and covariance of
    the codes seen in training (`lapcore.nn.running_gaussians`), as Ghosh et al. 2020 fit one afterwards.

    Args:
        image_size, channels: of the images, square; any size.
        latent: length of the code.
        linear: affine encoder and decoder; the settings below are then without effect.
        widths: channels of the encoder's convolutions; the decoder's map has `widths[-1]`.
        decoder_widths: channels after the decoder's transposed convolutions, one for each of `widths`.
        hidden: units of the encoder's hidden layer.

    Raises ValueError for settings out of range.
    """

    name = "autoencoder"
    terms: ClassVar[dict[str, str]] = {
        "loss": "mean squared error of decoded images, values in [-1, 1]",
    }

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        *,
        latent: int = 128,
        linear: bool = False,
        widths: Sequence[int] = (64, 128, 256),
        decoder_widths: Sequence[int] = (256, 128, 32),
        hidden: int = 1024,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(latent=latent, widths=widths, decoder_widths=decoder_widths, hidden=hidden)
        check_mirrored(widths, decoder_widths)
        self.latent = latent
        self.encoder: nn.Module
        self.decoder: nn.Module
        if linear:
            shape = (channels, image_size, image_size)
            values = channels * image_size**2
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(values, latent))
            self.decoder = nn.Sequential(nn.Linear(latent, values), nn.Unflatten(1, shape))
        else:
            self.encoder = _encoder(channels, image_size, widths, hidden, latent)
            self.decoder = MeanDecoder(
                channels,
                (image_size, image_size),
                [widths[-1], *decoder_widths],
                latent,
                self.condition,
                1.0,
                squash=True,
            )
        self.prior = CodeGaussian(latent)

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.encoder, self.decoder, self.prior)}

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """ "loss": the mean squared error in [-1, 1] units. In training mode the Gaussian follows the codes; nothing is drawn."""
        self._check_batch(images, labels, seeds)
        self._stage(stage)
        codes = self._code(images, labels)
        if self.training:
            self.prior.follow(codes)
        return {"loss": (self._decoded(codes, labels) - images).square().mean()}

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (N, latent). labels: None."""
        self._check_batch(images, labels, None)
        return self._code(images, labels)

    @inference
    def sample(self, seeds: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
        """Decoded draws of the codes' Gaussian, (N, C, H, W); image i depends on (weights, seeds[i]) only.

        seeds: int64 (N,). labels: None. temperature: scales the noise of the codes.
        """
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        noise = random.normal((len(seeds), self.latent), seeds, stream=PRIOR, dtype=self.dtype)
        return self._decoded(self.prior.draw(temperature * noise), labels)

    def _code(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return full_precision(self.encoder(images))

    def _decoded(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        return full_precision(self.decoder(codes))


class MeanDecoder(VectorDecoder):
    """The mean alone of what `VectorDecoder` gives: codes (N, latent) -> (N, C, H, W)."""

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(z, labels)[0]


def _encoder(channels: int, size: int, widths: Sequence[int], hidden: int, latent: int) -> nn.Module:
    """`VectorEncoder` without its log-variance."""
    side = halvings((size, size), len(widths))[-1][0]
    return nn.Sequential(
        *[Down(a, b) for a, b in zip([channels, *widths[:-1]], widths, strict=True)],
        nn.Flatten(),
        nn.Linear(widths[-1] * side**2, hidden, bias=False),
        BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, latent),
    )
