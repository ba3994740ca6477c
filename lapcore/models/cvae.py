"""CVAE: the conditional variational autoencoder (Sohn, Lee & Yan, NIPS 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lapcore.models.base import inference
from lapcore.models.vae import VAE
from lapcore.nn.blocks import Moments, code_moments


class CVAE(VAE):
    """A variational autoencoder of images x given labels y: encoder, decoder and prior are told the label.

    L = -E_{z ~ q(z|x,y)} [log p(x|z,y)] + kl_weight KL[q(z|x,y) || p(z|y)], and p(z|y) = N(m(y), s(y)^2 I).

    The layers are `VAE`'s. Ours: the prior network is one linear layer, a mean and a log-variance for each class or linear in the
    attributes, which starts at N(0, I).

    Args:
        image_size, channels: of the images, square; any size.
        num_classes: of the labels, int64 (N,); or
        attributes: names of the values of the labels, float (N, len(attributes)). One of the two.
        prior: "learned", or "standard": p(z|y) = N(0, I), as in Kingma et al. 2014, so that codes hold what the label does not say.
        latent, widths, decoder_widths, hidden, linear, variance, kl_weight: as `VAE`.

    Raises ValueError for settings out of range.
    """

    name = "cvae"

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        prior: str = "learned",
        latent: int = 128,
        widths: Sequence[int] = (64, 128, 256),
        decoder_widths: Sequence[int] = (256, 128, 32),
        hidden: int = 1024,
        linear: bool = False,
        variance: str | float = "channel",
        kl_weight: float = 1.0,
    ) -> None:
        if num_classes is None and not attributes:
            raise ValueError("num_classes, attributes: expected one of them, as the model is of images given labels")
        if prior not in ("learned", "standard"):
            raise ValueError(f'prior: expected "learned" or "standard", got {prior!r}')
        super().__init__(
            image_size,
            channels,
            num_classes=num_classes,
            attributes=attributes,
            latent=latent,
            widths=widths,
            decoder_widths=decoder_widths,
            hidden=hidden,
            linear=linear,
            variance=variance,
            kl_weight=kl_weight,
        )
        self.config["prior"] = prior
        self.prior = nn.Linear(self.condition.length, 2 * latent) if prior == "learned" else None
        if self.prior is not None:
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"all": (self.encoder, self.decoder, *([] if self.prior is None else [self.prior]))}

    def _prior(self, labels: Tensor | None) -> Moments | None:
        if self.prior is None or labels is None:
            return None
        return code_moments(self.prior(self.condition.vector(labels).to(self.dtype)), start=0.0)

    def _drawn_codes(self, seeds: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
        return self._from_standard(super()._drawn_codes(seeds, labels, temperature), labels)

    @inference
    def relabel(self, images: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """Images of `labels` as they would be with the labels `others`, all else kept, (N, C, H, W).

        The mean code m(y) + s(y) e becomes m(y') + s(y') e, of the same e, and is decoded with the other label y'. labels, others:
        as in `loss`. Errors: TypeError, ValueError naming the argument.
        """
        self._check_batch(images, labels, None)
        self._check_labels(others, len(images))
        standard = self._to_standard(self._code(images, labels), labels)
        return self._decoded(self._from_standard(standard, others), others)

    def _from_standard(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Codes of N(0, I) as codes of p(z|y)."""
        moments = self._prior(labels)
        return codes if moments is None else moments[0] + torch.exp(moments[1] / 2) * codes

    def _to_standard(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        moments = self._prior(labels)
        return codes if moments is None else (codes - moments[0]) * torch.exp(-moments[1] / 2)
