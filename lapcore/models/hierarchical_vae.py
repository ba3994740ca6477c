"""HierarchicalVAE: a variational autoencoder with two layers of latents (Rezende et al. 2014; Kingma & Welling 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lapcore.models.autoencoding import POSTERIOR, GaussianCodeModel
from lapcore.models.base import check_kl_weight, positive
from lapcore.nn.blocks import INITIAL_CODE_LOGVAR
from lapcore.nn.code_moments import CodeMoments
from lapcore.ops import random
from lapcore.ops.gaussian import gaussian_kl, gaussian_nll, reparameterize, reparameterize_kl

TOP_PRIOR, TOP_POSTERIOR, DRAWN = 2, 3, 4
"""Streams of noise: of z2 from its prior and from its posterior, and of z1 from p(z1|z2)."""


class HierarchicalVAE(GaussianCodeModel):
    """p(x, z1, z2) = p(x|z1) p(z1|z2) p(z2), with p(z2) = N(0, I), and as posterior q(z1|x) and q(z2|z1), all diagonal Gaussians:

        log p(x) >= E[log p(x|z1)] - E KL[q(z1|x) || p(z1|z2)] - E KL[q(z2|z1) || p(z2)]

    where z1 ~ q(z1|x) and z2 ~ q(z2|z1). The first divergence is taken over z1 anew for each z2, in closed form: the bound of a
    posterior in which z1 and z2 are independent given x, less what the convexity of the second divergence gives away.

    z1 stands for an image: it is what `encode` gives and `decode` takes. Encoder and decoder are `VAE`'s; p(z1|z2) and q(z2|z1)
    are networks of two hidden layers (ours).

    Args:
        image_size, channels: of the images, square; any size.
        num_classes: of the labels, which reach encoder, decoder and both networks between codes; None for a model without.
        attributes: names of the values of a vector, which is then an image's label, (N, len(attributes)); None for a model
            without.
        latent, top_latent: lengths of z1 and of z2.
        code_hidden: units of the hidden layers between z1 and z2.
        widths, decoder_widths, hidden, variance, kl_weight: as `VAE`.

    Raises ValueError for settings out of range.
    """

    name = "hierarchical_vae"
    terms: ClassVar[dict[str, str]] = {
        "loss": "minus the bound, in nats per value of an image, a density in [-1, 1]; negative where errors are small",
        "nll": "-log p(x|z1), nats per image",
        "kl1": "KL[q(z1|x) || p(z1|z2)], nats per image",
        "kl2": "KL[q(z2|z1) || p(z2)], nats per image",
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
        top_latent: int = 32,
        code_hidden: int = 512,
        widths: Sequence[int] = (64, 128, 256),
        decoder_widths: Sequence[int] = (256, 128, 32),
        hidden: int = 1024,
        variance: str | float = "channel",
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(top_latent=top_latent, code_hidden=code_hidden)
        check_kl_weight(kl_weight)
        self.top_latent, self.kl_weight = top_latent, kl_weight
        self._add_networks(latent, widths, decoder_widths, hidden, variance)
        self.top_encoder = CodeMoments(latent, code_hidden, top_latent, self.condition, INITIAL_CODE_LOGVAR)
        self.top_decoder = CodeMoments(top_latent, code_hidden, latent, self.condition, 0.0)

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.encoder, self.top_encoder, self.top_decoder, self.decoder)}

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The bound per pixel value, in nats: "loss"; per image its parts "nll", "kl1" and "kl2"; "mse" in [-1, 1] units."""
        self._check_batch(images, labels, seeds)
        self._stage(stage)
        nll, kl1, kl2, mean = self._terms(images, labels, seeds)
        loss = (nll + self.kl_weight * (kl1 + kl2)).mean() / images[0].numel()
        parts = {"nll": nll.mean(), "kl1": kl1.mean(), "kl2": kl2.mean(), "mse": (mean - images).square().mean()}
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def elbo(self, images: Tensor, labels: Tensor | None = None, seeds: Tensor | None = None) -> Tensor:
        """A lower bound on log p(images), a density in [-1, 1]^D, in nats, (N,), from one z1 and z2 per image."""
        self._check_batch(images, labels, seeds)
        nll, kl1, kl2, _ = self._terms(images, labels, seeds)
        return -nll - kl1 - kl2

    def _terms(
        self, images: Tensor, labels: Tensor | None, seeds: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean1, logvar1 = self.encoder(images, labels)
        z1 = reparameterize(mean1, logvar1, seeds, stream=POSTERIOR)
        mean2, logvar2 = self.top_encoder(z1, labels)
        z2, kl2 = reparameterize_kl(mean2, logvar2, seeds=seeds, stream=TOP_POSTERIOR)
        kl1 = gaussian_kl(mean1, logvar1, *self.top_decoder(z2, labels))
        mean, logvar = self.decoder(z1, labels)
        return gaussian_nll(images, mean, logvar), kl1, kl2, mean

    def _drawn_codes(self, seeds: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
        shape = (len(seeds), self.top_latent)
        z2 = temperature * random.normal(shape, seeds, stream=TOP_PRIOR, dtype=self.dtype)
        mean, logvar = self.top_decoder(z2, labels)
        noise = random.normal(mean.shape, seeds, stream=DRAWN, dtype=self.dtype)
        drawn: Tensor = mean + temperature * torch.exp(logvar / 2) * noise
        return drawn
