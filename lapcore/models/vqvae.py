"""VQVAE: an autoencoder with discrete codes, and a prior of them (van den Oord, Vinyals & Kavukcuoglu, NIPS 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lapcore.models.autoencoding import AutoencodingModel
from lapcore.models.base import Player, check_tensor, inference, positive
from lapcore.models.gated_pixelcnn import GatedPixelCNN
from lapcore.nn.code_maps import MapDecoder, MapEncoder, code_side
from lapcore.nn.codebook import VectorQuantizer
from lapcore.nn.running_gaussians import ErrorVariance
from lapcore.ops.gaussian import gaussian_nll
from lapcore.ops.pixelcnn_sampler import level_indices, level_values
from lapcore.ops.vector_quantize import vector_quantize


class VQVAE(AutoencodingModel):
    """An autoencoder whose code is a map of numbers, of the nearest of K codebook vectors, and a Gated PixelCNN as their prior.

    Stage "autoencoder", with z_e(x) what the encoder gives, z_q the nearest code for it at each place, and sg[] a constant:

        L = ||x - f(z_q)||^2 / s^2 + ||sg[z_e(x)] - z_q||^2 + beta ||z_e(x) - sg[z_q]||^2

    all of them means, s^2 the variance of the images' values; the gradient goes straight through from z_q to z_e. By default codes
    follow moving averages of the vectors that chose them, and the middle term is left out, as in the paper's appendix A.1. Stage
    "prior" trains p(z) on the code maps of the finished autoencoder, whose weights stay.

    With p(x|z) = N(f(z), v I), where v is each channel's mean squared error of late, log p(x) >= log p(x|z) + log p(z) for the z
    that x is encoded to, which `elbo` gives.

    Layers are the paper's; images whose size is no multiple of 4 are continued by their last pixels. How v is found, the length of
    codes, new starts for idle ones, and all of the prior's sizes are ours.

    Args:
        image_size, channels: of the images, square; any size.
        num_classes: of the labels, which reach the prior alone; None for a model without.
        codes, dim: K, and the length of a code.
        hidden: maps of all convolutions of the autoencoder.
        blocks: residual blocks, in the encoder and in the decoder.
        beta: weight of the commitment loss.
        decay: of the moving averages; None: the codebook is moved by its loss, the middle term.
        restart_after: batches after which a code that nothing chose becomes a vector of the batch; None: never.
        data_variance: s^2.
        prior_hidden, prior_layers, prior_embedding: of the prior, `GatedPixelCNN`'s hidden, layers and embedding; its head has
            2 prior_hidden maps.

    Raises ValueError for settings out of range.
    """

    name = "vqvae"
    terms: ClassVar[dict[str, str]] = {
        "loss": "of the autoencoder, the error over the images' variance, and the codes' losses; of the prior, nats per code",
        "mse": "mean squared error of decoded images, values in [-1, 1]",
        "commitment": "mean squared distance of what the encoder gives from the nearest codes",
        "perplexity": "how many codes are in use, of those there are",
        "bits_per_code": "-log2 p(z) for each code",
    }

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        *,
        num_classes: int | None = None,
        codes: int = 512,
        dim: int = 64,
        hidden: int = 256,
        blocks: int = 2,
        beta: float = 0.25,
        decay: float | None = 0.99,
        restart_after: int | None = 100,
        data_variance: float = 0.25,
        prior_hidden: int = 128,
        prior_layers: int = 10,
        prior_embedding: int = 64,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(dim=dim, hidden=hidden, blocks=blocks)
        positive(prior_hidden=prior_hidden, prior_layers=prior_layers, prior_embedding=prior_embedding)
        if not 0 < data_variance < math.inf:
            raise ValueError(f"data_variance: expected a number above 0, got {data_variance!r}")
        if isinstance(codes, bool) or not isinstance(codes, int) or not 2 <= codes <= 65536:
            raise ValueError(f"codes: expected an integer from 2 to 65536, got {codes!r}")
        self.data_variance = data_variance
        self.codes, self.side = codes, code_side(image_size)
        self.encoder = MapEncoder(channels, image_size, hidden, blocks, dim)
        self.quantizer = VectorQuantizer(codes, dim, beta=beta, decay=decay, restart_after=restart_after)
        self.decoder = MapDecoder(channels, image_size, hidden, blocks, dim)
        self.error = ErrorVariance(channels)
        self.prior = GatedPixelCNN(
            self.side,
            1,
            hidden=prior_hidden,
            layers=prior_layers,
            num_classes=num_classes,
            levels=codes,
            head=2 * prior_hidden,
            embedding=prior_embedding,
        )

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"autoencoder": (self.encoder, self.quantizer, self.decoder, self.error), "prior": (self.prior,)}

    def players(self, stage: str) -> tuple[Player, ...]:
        """One; the autoencoder's has the paper's learning rate, without a schedule."""
        modules = tuple(self.modules_of(stage))
        if stage == "prior":
            return (Player("model", modules),)
        return (Player("model", modules, lr=2e-4, warmup=0, schedule="constant", grad_clip=0.0),)

    def loss(
        self, images: Tensor, labels: Tensor | None = None, stage: str | None = None, seeds: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars of a batch; nothing is drawn from seeds. stage: None takes the one `set_stage` chose, else "autoencoder".

        "autoencoder": "loss", L; "mse" in [-1, 1] units; "commitment", the mean of ||z_e - z_q||^2; "perplexity", from 1, one code
        does it all, to K. "prior": "loss", -log p(z) in nats per code, and the same in "bits_per_code".
        """
        self._check_batch(images, labels, seeds)
        stage = self._stage(stage or self.stage or "autoencoder")
        return self._prior_loss(images, labels) if stage == "prior" else self._autoencoder_loss(images)

    def _autoencoder_loss(self, images: Tensor) -> dict[str, Tensor]:
        coded = self.quantizer(self.encoder(images))
        errors = self.decoder(coded.quantized) - images
        if self.training:
            self.error.follow(errors)
        mse = errors.square().mean()
        return {
            "loss": mse / self.data_variance + coded.loss,
            "mse": mse.detach(),
            "commitment": coded.commitment_loss.detach(),
            "perplexity": coded.perplexity,
        }

    def _prior_loss(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            values = self._values(self._indices(images))
        losses = self.prior.loss(values, labels)
        return {"loss": losses["loss"], "bits_per_code": losses["bpd"]}

    @inference
    def elbo(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x|z) + log p(z) <= log p(images), a density in [-1, 1]^D, in nats, (N,), z the codes of the images.

        Exact in z, so nothing is drawn; loose until stage "prior" has trained p(z). In evaluation mode, without gradient.
        """
        self._check_batch(images, labels, None)
        indices = self._indices(images)
        mean = self.decoder(self.quantizer.lookup(indices))
        logvar = self.error.logvar().expand_as(mean)
        return self.prior.log_likelihood(self._values(indices), labels) - gaussian_nll(images, mean, logvar)

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Numbers of codes, int64 (N, h, w), h = w = image_size / 4, rounded up. labels change nothing."""
        self._check_images("images", images)
        return self._indices(images)

    @inference
    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Numbers of codes, int64 (N, h, w) -> the mean of p(x|z), (N, C, H, W), which may leave [-1, 1] a little.

        labels change nothing. Errors: TypeError, ValueError naming the argument.
        """
        check_tensor("codes", codes, torch.int64, self.device)
        if codes.dim() != 3 or codes.shape[1:] != (self.side, self.side) or len(codes) == 0:
            raise ValueError(f"codes: expected shape (N, {self.side}, {self.side}), got {tuple(codes.shape)}")
        if codes.min() < 0 or codes.max() >= self.codes:
            raise ValueError(f"codes: expected 0 to {self.codes - 1}, got {codes.min()} to {codes.max()}")
        images: Tensor = self.decoder(self.quantizer.lookup(codes))
        return images

    @inference
    def sample(self, seeds: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decoded draws of the prior, (N, C, H, W); image i depends on (weights, seeds[i], labels[i]) only. seeds: int64 (N,)."""
        self._check_seeds(seeds)
        drawn = level_indices(self.prior.sample(seeds, labels), self.codes)
        return self.decode(drawn[:, 0])

    def _code(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """z_e: what lies between two images is between these, and then quantised."""
        features: Tensor = self.encoder(images)
        return features

    def _decoded(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        images: Tensor = self.decoder(self.quantizer.lookup(self._nearest(codes)))
        return images

    def _indices(self, images: Tensor) -> Tensor:
        return self._nearest(self.encoder(images))

    def _nearest(self, features: Tensor) -> Tensor:
        """(N, dim, h, w) -> (N, h, w)."""
        return vector_quantize(features.movedim(1, -1), self.quantizer.codebook)[1]

    def _values(self, indices: Tensor) -> Tensor:
        """Numbers of codes as the prior takes them, as images of K levels."""
        return level_values(self.codes, indices.device)[indices[:, None]].to(self.dtype)
