"""DCGAN: the deep convolutional generative adversarial network (Radford, Metz and Chintala, ICLR 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from lapcore.models.adversarial import ADAM, WASSERSTEIN_ADAM, VectorGAN
from lapcore.models.base import positive
from lapcore.nn.dcgan import NORMS, DCGANCritic, DCGANGenerator


class DCGAN(VectorGAN):
    """A generative adversarial network of strided convolutions, without pooling and without hidden linear layers.

    Generator: z ~ U(-1, 1)^latent, linear to a map of about 4x4, transposed convolutions that double it, batch norm and ReLU, tanh
    at the end. Critic: convolutions that halve the image, batch norm but for the first, leaky ReLU of slope 0.2, linear to the
    score. Kernels are 5x5, weights start from N(0, 0.02^2), and both train by Adam at 2e-4 with beta1 0.5, as published.

    Ours, where the paper has nothing: sizes that are no powers of two, halved and rounded up until a side is at most 6; labels,
    which the generator takes beside z and the critic as a plane of its input, as LAPGAN has them; "wgan-gp", under which the
    players train as Gulrajani et al.'s do and batch norm in the critic is refused, since the penalty takes each image by itself.

    Args:
        image_size, channels: of the images, square; any size.
        num_classes, attributes: of the labels, None for a model without.
        latent: length of z.
        width: channels at half the image's size, doubled at each halving up to 8 times; the paper has 128, its code 64.
        norm: of the critic: "batch", "spectral" or "none".
        loss: "minimax", "nonsaturating", "lsgan", "wgan-gp" or "hinge". penalty_weight: of the gradient penalty.
        class_head: the critic names the class (AC-GAN) in place of being told it.

    Raises ValueError for settings out of range.
    """

    name = "dcgan"

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        latent: int = 100,
        width: int = 64,
        norm: str = "batch",
        loss: str = "nonsaturating",
        penalty_weight: float = 10.0,
        class_head: bool = False,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(latent=latent, width=width)
        if norm not in NORMS:
            raise ValueError(f"norm: expected {', '.join(NORMS)}, got {norm!r}")
        if norm == "batch" and loss == "wgan-gp":
            raise ValueError('norm: expected "spectral" or "none" with loss "wgan-gp", got "batch"')
        size = (image_size, image_size)
        self.latent = latent
        self.generator = DCGANGenerator(channels, size, width, latent, self.condition)
        self.critic = DCGANCritic(channels, size, width, norm, self.critic_condition, self.head_classes)
        self.optimizer = WASSERSTEIN_ADAM if loss == "wgan-gp" else ADAM
