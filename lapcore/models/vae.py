"""VAE: the variational autoencoder (Kingma & Welling 2014), the baseline of LapCVAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from lapcore.models.autoencoding import POSTERIOR, GaussianCodeModel
from lapcore.models.base import check_kl_weight
from lapcore.nn.blocks import Moments
from lapcore.ops.gaussian import gaussian_nll, reparameterize_kl


class VAE(GaussianCodeModel):
    """A variational autoencoder with one code vector; with classes or attributes, labels reach encoder and decoder.

    L = -E_{z ~ q(z|x)} [log p(x|z)] + kl_weight KL[q(z|x) || N(0, I)], and by default p(x|z) = N(f(z), s^2 I). A fixed `variance` c
    makes it, up to a constant, C ||x - f(z)||^2 + KL with C = 1/(2c).

    The layers are those of LapCVAE's authors: encoder of 5x5 convolutions of stride 2 with batch norm and ReLU, a hidden
    layer with the same, linear to mean and log-variance; decoder linear to a map, 5x5 transposed convolutions of stride 2 with
    the same, a 5x5 convolution, tanh. Ours: the log-variances' bounds and starting values (`lapcore.nn.blocks`).

    Args:
        image_size, channels: of the images, square; any size.
        num_classes: of the labels, None for a model without.
        attributes: names of the values of a vector, which is then an image's label, (N, len(attributes)); None for a model
            without.
        latent: length of the code.
        widths: channels of the encoder's convolutions; the decoder's map has `widths[-1]`.
        decoder_widths: channels after the decoder's transposed convolutions, one for each of `widths`.
        hidden: units of the encoder's hidden layer.
        linear: also linear maps between image and code, which start as cosine transforms, as in LapCVAE's coarsest level.
        variance: of the decoder's pixels: "channel" - one learned number per channel, "pixel" - predicted for each, or a
            fixed number.
        kl_weight: of the KL term; 1 is the evidence bound.

    Raises ValueError for settings out of range.
    """

    name = "vae"
    terms: ClassVar[dict[str, str]] = {
        "loss": "minus the bound, in nats per value of an image, a density in [-1, 1]; negative where errors are small",
        "nll": "-log p(x|z), nats per image",
        "kl": "KL[q(z|x) || p(z)], nats per image",
        "mse": "mean squared error of decoded images, values in [-1, 1]",
    }

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        latent: int = 128,
        widths: Sequence[int] = (64, 128, 256),
        decoder_widths: Sequence[int] = (256, 128, 32),
        hidden: int = 1024,
        linear: bool = False,
        variance: str | float = "channel",
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        check_kl_weight(kl_weight)
        self.kl_weight = kl_weight
        self._add_networks(latent, widths, decoder_widths, hidden, variance, linear=linear)

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.encoder, self.decoder)}

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The bound per pixel value, in nats: "loss", and its parts "nll" and "kl" (per image); "mse" in [-1, 1] units."""
        self._check_batch(images, labels, seeds)
        self._stage(stage)
        nll, kl, mean = self._terms(images, labels, seeds)
        loss = (nll + self.kl_weight * kl).mean() / images[0].numel()
        mse = (mean.detach() - images).square().mean()
        return {"loss": loss, "nll": nll.detach().mean(), "kl": kl.detach().mean(), "mse": mse}

    def _terms(self, images: Tensor, labels: Tensor | None, seeds: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(images, labels)
        prior_mean, prior_logvar = self._prior(labels) or (None, None)
        z, kl = reparameterize_kl(mean, logvar, prior_mean, prior_logvar, seeds, stream=POSTERIOR)
        mean, logvar = self.decoder(z, labels)
        return gaussian_nll(images, mean, logvar), kl, mean

    def _prior(self, labels: Tensor | None) -> Moments | None:
        """Gives the moments of the codes' prior, (N, latent) each; None for N(0, I)."""
        return None

    def elbo(self, images: Tensor, labels: Tensor | None = None, seeds: Tensor | None = None) -> Tensor:
        """A lower bound on log p(images), a density in [-1, 1]^D, in nats, (N,), from one code per image."""
        self._check_batch(images, labels, seeds)
        nll, kl, _ = self._terms(images, labels, seeds)
        return -nll - kl
