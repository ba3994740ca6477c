"""GAN: the fully connected generative adversarial network (Goodfellow et al. 2014), the baseline of LAPGAN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lapcore.models.adversarial import ADAM, WASSERSTEIN_ADAM, VectorGAN
from lapcore.models.base import positive
from lapcore.nn.dense import DenseCritic, DenseGenerator, linear_layers, start_dense


class Published(NamedTuple):
    """Networks as their authors' code has them; scales are those of the weights at the start, biases start at 0."""

    hidden: tuple[int, ...]
    activations: tuple[str, ...]
    squash: bool
    critic_hidden: tuple[int, ...]
    pieces: int
    input_dropout: float
    noise: str
    start: str
    scale: float
    last_scale: float
    critic_scale: float
    lr: float
    momentum: float


PUBLISHED = {
    "lapgan": Published(
        (8000, 8000), ("relu", "sigmoid"), False, (1600, 1600), 1, 0.0, "uniform", "normal", 0.05, 0.05, 0.005, 0.02, 0.5
    ),
    "goodfellow": Published(
        (8000, 8000), ("relu", "sigmoid"), False, (1600, 1600), 5, 0.2, "normal", "uniform", 0.05, 0.5, 0.005, 0.025, 0.5
    ),
    "goodfellow-mnist": Published(
        (1200, 1200), ("relu", "relu"), True, (240, 240), 5, 0.2, "normal", "uniform", 0.05, 0.05, 0.005, 0.1, 0.5
    ),
}  # fmt: skip


class GAN(VectorGAN):
    """A generative adversarial network of linear layers: min over G, max over D of

        E_x [log D(x)] + E_z [log(1 - D(G(z)))]

    the generator by default in its non-saturating form, and the other losses of `lapcore.nn.adversarial`. With labels both
    networks are told them (Mirza and Osindero 2014), or the critic names them (AC-GAN).

    networks:
        "lapgan"            the baseline of LAPGAN (Denton et al. 2015): z ~ U(-1, 1)^100 -> 8000 ReLU -> 8000 sigmoid -> image, and
                            image -> 1600 ReLU -> 1600 ReLU -> score, dropout 0.5
        "goodfellow"        Goodfellow's for CIFAR-10: the same generator of z ~ N(0, I); the critic's units are the largest of five
                            linear maps (maxout), with dropout 0.2 of pixels and 0.5 of units
        "goodfellow-mnist"  Goodfellow's for MNIST: z -> 1200 ReLU -> 1200 ReLU -> image, squashed to its range; maxout 240 and 240
    They train by SGD as published, but for two slow changes: momentum rises from 0.5 to 0.7 over the stage, theirs over 250 epochs;
    and the rate is divided by 1 + 4e-6 t at step t, theirs by 1.000004^t. The published images are standardised, by pixel position
    or by image; ours are in [-1, 1] like every model's, and the networks see them in units of 0.5 (`lapcore.nn.dense.DEVIATION`).
    Under "wgan-gp" both players train by Adam, as Gulrajani et al. do.

    Args:
        image_size, channels: of the images, square; any size.
        num_classes, attributes: of the labels, None for a model without.
        latent: length of z.
        hidden, critic_hidden: units of the layers; None takes the published ones. Weights that sum over another number of
            `hidden` start so that their sums have the published variance: 800 units for 8000 at the published scale give images
            that hardly depend on z, and such a generator went on to draw one image only.
        loss: "minimax", "nonsaturating", "lsgan", "wgan-gp" or "hinge". penalty_weight: of the gradient penalty.
        class_head: the critic names the class (AC-GAN) in place of being told it.

    Values of samples may leave [-1, 1] where the last layer is linear. Raises ValueError for settings out of range.
    """

    name = "gan"

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        networks: str = "lapgan",
        latent: int = 100,
        hidden: Sequence[int] | None = None,
        critic_hidden: Sequence[int] | None = None,
        loss: str = "nonsaturating",
        penalty_weight: float = 10.0,
        class_head: bool = False,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        if networks not in PUBLISHED:
            raise ValueError(f"networks: expected {', '.join(PUBLISHED)}, got {networks!r}")
        layout = PUBLISHED[networks]
        hidden, critic_hidden = hidden or layout.hidden, critic_hidden or layout.critic_hidden
        positive(latent=latent, hidden=hidden, critic_hidden=critic_hidden)
        if len(hidden) != len(layout.activations):
            raise ValueError(f"hidden: expected {len(layout.activations)} numbers, one a layer, got {hidden!r}")
        self.latent, self.noise = latent, layout.noise
        shape = (channels, image_size, image_size)
        self.generator = DenseGenerator(shape, latent, hidden, layout.activations, self.condition, squash=layout.squash)
        self.critic = DenseCritic(
            shape, critic_hidden, self.critic_condition, self.head_classes,
            pieces=layout.pieces, input_dropout=layout.input_dropout,
        )  # fmt: skip
        scales = [layout.scale] * len(hidden) + [layout.last_scale]
        narrower = [1.0, *(math.sqrt(theirs / ours) for theirs, ours in zip(layout.hidden, hidden, strict=True))]
        for layer, scale, ratio in zip(linear_layers(self.generator), scales, narrower, strict=True):
            start_dense(layer, layout.start, scale * ratio)
        start_dense(self.critic, layout.start, layout.critic_scale)
        self.optimizer = WASSERSTEIN_ADAM if loss == "wgan-gp" else _sgd(layout.lr, layout.momentum)


def _sgd(lr: float, momentum: float) -> Mapping[str, Any]:
    return {**ADAM, "optimizer": "sgd", "lr": lr, "lr_decay": 4e-6, "momentum": momentum, "final_momentum": 0.7}
