"""LAPGAN: a Laplacian pyramid of adversarial networks (Denton, Chintala, Szlam and Fergus, NIPS 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from lapcore.models.adversarial import ADAM, PRIOR, WASSERSTEIN_ADAM, AdversarialModel, Round, noise_of
from lapcore.models.base import Decomposition, inference, per_level, positive
from lapcore.nn.blocks import halvings
from lapcore.nn.dcgan import DCGANGenerator
from lapcore.nn.dense import DenseCritic, DenseGenerator, start_dense
from lapcore.nn.haar import haar_split
from lapcore.nn.lapgan import BandCritic, BandGenerator, ModernBandCritic, ModernBandGenerator, SpectralCritic
from lapcore.ops.pyramid import pyr_down, pyr_up

SCHEDULES = {28: (8, 14, 28), 64: (4, 8, 16, 32, 64), 96: (8, 16, 32, 64, 96)}
"""Sizes of the published models of CIFAR-10, LSUN and STL-10, coarse to fine."""

COARSEST = 8
"""Where there is no published schedule, sizes are halved until a side is at most this."""

PAPER_SGD = {**ADAM, "optimizer": "sgd", "lr": 0.02, "lr_decay": 1e-6, "momentum": 0.5, "final_momentum": 0.8}
"""The paper's optimiser. There momentum rises by 0.0008 an epoch, here over the steps that the stage has."""


class Level(nn.Module):
    """The two players of one level; noise_shape: of what the generator draws from."""

    def __init__(self, generator: nn.Module, critic: nn.Module, noise_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.generator, self.critic, self.noise_shape = generator, critic, noise_shape


class LAPGAN(AdversarialModel):
    """A Laplacian pyramid I_k = h_k + u(I_{k+1}), I_{k+1} = d(I_k), k = 0 finest ... K coarsest, with one GAN per level:

        I~_K = G_K(z_K),    I~_k = u(I~_{k+1}) + G_k(z_k, u(I~_{k+1})),    z_k ~ U(-1, 1)

    Level K is a GAN of I_K. Each finer level is a conditional GAN of the band h_k given l_k = u(I_{k+1}), trained on true low-pass
    images and so by itself: its critic judges h_k + l_k, real, or G_k(z_k, l_k) + l_k. The losses are those of
    `lapcore.nn.adversarial`, by default the paper's, with the generator's in its non-saturating form.

    networks:
        "paper"   level K: z_K of `latent` -> `hidden` ReLU -> `hidden` ReLU -> image, and image -> twice [`critic_hidden` ReLU,
                  dropout 0.5] -> score, told the class beside their input; finer levels: `lapcore.nn.lapgan`'s BandGenerator and
                  BandCritic, told the class by a plane: its one-hot through a linear map and ReLU. They train by SGD at 0.02, with
                  momentum that rises from 0.5 to 0.8, in the paper over epochs and here over the stage, and a rate
                  that is divided by 1 + 1e-6 t at step t.
        "modern"  ours: level K is a DCGAN, finer generators are small U-Nets without norms, and all critics have spectral norm
                  (`lapcore.nn.lapgan` says why); they train by DCGAN's Adam.
    Under "wgan-gp" all train by Adam, as Gulrajani et al. do.

    Ours: networks of "paper" see images in units of 0.5, about the deviation of photographs in [-1, 1], where the paper
    standardises every pixel position by the mean and deviation of the data. Those would have to be known, and the same for all
    processes and levels, before the first step; what they bring beside the unit, a mean image, the biases learn. In trials on
    CIFAR-10 the constant did what the statistics do, while images in [-1, 1] themselves took several times as long.

    Noise is a function of (seed, level, kind: prior or place of the gradient penalty) and position alone.

    Args:
        image_size, channels: of the images, square; any size from 2.
        sizes: of the levels, coarse to fine, the last being image_size; None for the published schedule of 28, 64 and 96, otherwise
            halvings, rounded up, until a side is at most 8.
        num_classes, attributes: of the labels, None for a model without.
        filter: of d and u: "area", the published code's mean over areas down and linear interpolation up, for any sizes; or
            "binomial", Burt and Adelson's, for sizes that halve.
        networks: "paper" or "modern", see above.
        latent: length of z_K; z_k is a plane for finer levels.
        hidden, critic_hidden: units of level K's layers in the paper's networks.
        width, critic_width: maps of the finer levels' networks; one number, or K from the finest level on. Modern level K has four
            times the last.
        loss: "minimax", "nonsaturating", "lsgan", "wgan-gp" or "hinge". penalty_weight: of the gradient penalty.
        class_head: critics name the class (AC-GAN) in place of being told it.

    Raises ValueError for settings out of range.
    """

    name = "lapgan"

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        sizes: Sequence[int] | None = None,
        *,
        num_classes: int | None = None,
        attributes: Sequence[str] | None = None,
        filter: str = "area",
        networks: str = "paper",
        latent: int = 100,
        hidden: int = 1200,
        critic_hidden: int = 600,
        width: int | Sequence[int] = 64,
        critic_width: int | Sequence[int] = 64,
        loss: str = "nonsaturating",
        penalty_weight: float = 10.0,
        class_head: bool = False,
    ) -> None:
        super().__init__({key: value for key, value in locals().items() if key not in ("self", "__class__")})
        positive(latent=latent, hidden=hidden, critic_hidden=critic_hidden, width=width, critic_width=critic_width)
        if filter not in ("area", "binomial"):
            raise ValueError(f'filter: expected "area" or "binomial", got {filter!r}')
        if networks not in ("paper", "modern"):
            raise ValueError(f'networks: expected "paper" or "modern", got {networks!r}')
        self.filter, self.sizes = filter, _schedule(image_size, sizes, filter)
        self.top = len(self.sizes) - 1
        widths = per_level("width", width, self.top)
        critic_widths = per_level("critic_width", critic_width, self.top)
        paper = networks == "paper"
        finer = self._paper_level if paper else self._modern_level
        levels = [finer(self.sizes[k], widths[k], critic_widths[k]) for k in range(self.top)]
        if paper:
            levels.append(self._paper_coarsest(latent, hidden, critic_hidden))
        else:
            levels.append(self._modern_coarsest(latent, 4 * widths[-1], 4 * critic_widths[-1]))
        self.levels = nn.ModuleList(levels)
        self.optimizer = WASSERSTEIN_ADAM if loss == "wgan-gp" else PAPER_SGD if paper else ADAM

    def _paper_level(self, side: int, width: int, critic_width: int) -> Level:
        size = (side, side)
        generator = BandGenerator(self.channels, size, width, self.condition)
        critic = BandCritic(self.channels, size, critic_width, self.critic_condition, self.head_classes)
        return Level(generator, critic, (1, *size))

    def _modern_level(self, side: int, width: int, critic_width: int) -> Level:
        size = (side, side)
        generator = ModernBandGenerator(self.channels, size, width, self.condition)
        critic = ModernBandCritic(self.channels, size, critic_width, self.critic_condition, self.head_classes)
        return Level(generator, critic, (1, *size))

    def _paper_coarsest(self, latent: int, hidden: int, critic_hidden: int) -> Level:
        shape = (self.channels, self.sizes[-1], self.sizes[-1])
        generator = DenseGenerator(shape, latent, (hidden, hidden), ("relu", "relu"), self.condition)
        critic = DenseCritic(shape, (critic_hidden, critic_hidden), self.critic_condition, self.head_classes)
        # The published code's starting weights.
        start_dense(generator, "normal", 0.05)
        start_dense(critic, "normal", 0.005)
        return Level(generator, critic, (latent,))

    def _modern_coarsest(self, latent: int, width: int, critic_width: int) -> Level:
        size = (self.sizes[-1], self.sizes[-1])
        generator = DCGANGenerator(self.channels, size, width, latent, self.condition)
        critic = SpectralCritic(self.channels, size, critic_width, self.critic_condition, self.head_classes)
        return Level(generator, critic, (latent,))

    def _stage_modules(self) -> Mapping[str, Sequence[nn.Module]]:
        """Names the stages "level{K}", ..., "level0", coarse to fine; none needs another, so they may train in any order."""
        levels = {f"level{k}": self._level(k) for k in reversed(range(self.top + 1))}
        return {name: (level.critic, level.generator) for name, level in levels.items()}

    def _level(self, k: int) -> Level:
        return cast(Level, self.levels[k])

    def _stream(self, stage: str, kind: int) -> int:
        return 2 * int(stage.removeprefix("level")) + kind

    def _round(self, stage: str, images: Tensor, labels: Tensor | None, seeds: Tensor) -> Round:
        k = int(stage.removeprefix("level"))
        critic, noise = self._level(k).critic, self._noise(k, seeds)
        image = self._down(images, 0, k)
        if k == self.top:
            return Round(image, lambda: self._level(k).generator(noise, labels), lambda x: critic(x, labels))
        low = self._up(self._down(image, k, k + 1), k)
        return Round(
            image - low, lambda: self._level(k).generator(noise, low, labels), lambda band: critic(band, low, labels)
        )

    def _noise(self, k: int, seeds: Tensor) -> Tensor:
        shape, stream = (len(seeds), *self._level(k).noise_shape), self._stream(f"level{k}", PRIOR)
        return noise_of("uniform", shape, seeds, stream, self.dtype)

    def _down(self, image: Tensor, start: int, end: int) -> Tensor:
        """I_end of I_start."""
        for k in range(start + 1, end + 1):
            image = pyr_down(image, (self.sizes[k], self.sizes[k]), filter=self.filter)
        return image

    def _up(self, image: Tensor, k: int) -> Tensor:
        """u(I_{k+1}), of level k's size."""
        return pyr_up(image, (self.sizes[k], self.sizes[k]), filter=self.filter)

    def _refine(self, image: Tensor, k: int, seeds: Tensor, labels: Tensor | None) -> Tensor:
        """I~_k drawn for I_{k+1}."""
        low = self._up(image, k)
        band: Tensor = self._level(k).generator(self._noise(k, seeds), low, labels)
        return low + band

    def decompose(self, images: Tensor) -> Decomposition:
        """The pyramid that the model sees: bands h_0, ..., h_{K-1} and images I_0, ..., I_K, (N, C, H_k, W_k) each."""
        self._check_images("images", images)
        pyramid = [images]
        for k in range(self.top):
            pyramid.append(self._down(pyramid[-1], k, k + 1))
        bands = [pyramid[k] - self._up(pyramid[k + 1], k) for k in range(self.top)]
        return Decomposition(tuple(bands), tuple(pyramid))

    @inference
    def sample(
        self,
        seeds: Tensor,
        labels: Tensor | None = None,
        *,
        coarse: Tensor | None = None,
        from_level: int | None = None,
        to_level: int = 0,
    ) -> Tensor:
        """Draws (N, C, H, W), coarse to fine; image i depends on (weights, seeds[i], labels[i], coarse[i]) only.

        seeds: int64 (N,), of every level. coarse, from_level: an I_k (N or 1, C, H_k, W_k), as `decompose` gives them, and k from
        1 to K: this coarse part is taken as given and the finer bands are drawn. to_level: where to stop, giving I~ of that level.
        Values may leave [-1, 1] a little.
        """
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        if (coarse is None) != (from_level is None):
            raise ValueError("coarse, from_level: expected both or neither, got one")
        self._check_level("to_level", to_level, 0, self.top)
        if coarse is not None and from_level is not None:
            self._check_level("from_level", from_level, max(1, to_level), self.top)
            image, start = self._check_coarse("coarse", coarse, from_level, len(seeds)), from_level
        else:
            start = self.top
            image = self._level(start).generator(self._noise(start, seeds), labels)
        for k in reversed(range(to_level, start)):
            image = self._refine(image, k, seeds, labels)
        return image

    @inference
    def draw_details(self, level: int, low: Tensor, seeds: Tensor, labels: Tensor | None = None) -> Tensor:
        """Haar details drawn for a low, (N, C, 3, h, w): the `draw` of `lapcore.metrics.multiscale_parzen`, for given seeds.

        There images are in [0, 1], and the low that `haar_split` leaves at `level` is 2^(level + 1) times the mean over squares
        of as many pixels a side. With filter="area" and sizes that halve exactly down to level + 1, that mean is
        I_{level + 1}: the model draws I~_level for it, and the answer is the high part of `haar_split` of that. LAPGAN's own
        bands are no such split: h_k has as many values as I_k, so a pyramid has more values than its image and no density of
        it, and a drawn I~_k need not have the mean that it was drawn for. The low of its own is dropped, as p(high | low) is of
        the high part alone.

        level: 0, the finest, to K - 1. low: (1 or N, C, h, w) in [0, 2^(level + 1)]. seeds: int64 (N,). Raises ValueError where the
        pyramid is not Haar's down to `level`.
        """
        self._check_level("level", level, 0, self.top - 1)
        self._check_seeds(seeds)
        self._check_labels(labels, len(seeds))
        times = 2 ** (level + 1)
        if self.filter != "area" or self.sizes[level + 1] * times != self.image_size:
            raise ValueError(
                f'level: expected a pyramid of filter "area" that halves {self.image_size} exactly down to level {level + 1}, '
                f"as Haar's does, got {self.filter!r} with sizes {self.sizes[::-1]}"
            )
        coarse = self._check_coarse("low", 2 * low / times - 1, level + 1, len(seeds))
        drawn = self._refine(coarse, level, seeds, labels)
        return haar_split((drawn + 1) / 2 * 2**level)[1]

    def _check_level(self, name: str, level: int, least: int, most: int) -> None:
        if isinstance(level, bool) or not isinstance(level, int) or not least <= level <= most:
            raise ValueError(f"{name}: expected {least} to {most}, got {level!r}")

    def _check_coarse(self, name: str, coarse: Tensor, level: int, count: int) -> Tensor:
        self._check_images(name, coarse, self.sizes[level], bounded=False)
        if len(coarse) not in (1, count):
            raise ValueError(f"{name}: expected 1 or {count}, one per seed, got {len(coarse)}")
        return coarse.expand(count, *coarse.shape[1:])


def _schedule(image_size: int, sizes: Sequence[int] | None, filter: str) -> tuple[int, ...]:
    """The levels' sizes, fine to coarse."""
    if sizes is None and filter == "area" and image_size in SCHEDULES:
        return SCHEDULES[image_size][::-1]
    if sizes is None:
        times = 1
        while halvings((image_size, image_size), times)[-1][0] > COARSEST:
            times += 1
        sizes = [side for side, _ in reversed(halvings((image_size, image_size), times))]
    positive(sizes=sizes)
    found = tuple(sizes[::-1])
    if len(found) < 2 or found[0] != image_size or any(a <= b for a, b in pairwise(found)):
        raise ValueError(f"sizes: expected at least two that rise to image_size {image_size}, got {tuple(sizes)}")
    halved = tuple(side for side, _ in halvings((image_size, image_size), len(found) - 1))
    if filter == "binomial" and found != halved:
        raise ValueError(f'sizes: expected {halved[::-1]} with filter "binomial", which halves, got {tuple(sizes)}')
    return found
