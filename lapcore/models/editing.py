"""Editing a picture through its pyramid: paint on the coarse version, draw the finer bands anew, compose regions of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lapcore.models.autoencoding import AutoencodingModel
from lapcore.models.base import check_tensor, inference
from lapcore.nn.blocks import Size
from lapcore.ops.pyramid import blend, gaussian_pyramid


class EditableModel(AutoencodingModel):
    """A model of pyramids x_0, ..., x_K, K = `top`, of `sizes`, that draws the finer levels for a given coarse one."""

    top: int
    sizes: list[Size]

    sample: Callable[..., Tensor]
    """Draws for seeds (N,), with `coarse`, an x_k, and k for `from_level`, images that have it for their coarse part."""

    @inference
    def edit(
        self,
        images: Tensor,
        painted: Tensor,
        mask: Tensor | None,
        level: int,
        seeds: Tensor,
        labels: Tensor | None = None,
        *,
        temperature: float | Sequence[float] = 1.0,
    ) -> Tensor:
        """Images with their coarse version painted over and the finer bands drawn anew, (N, C, H, W) for N seeds.

        painted: (N or 1, C, H_k, W_k) in [-1, 1], x_k of level k = `level`, 1 to K, after painting; it is encoded again, and
        `sample` draws the rest. mask: (N or 1, 1, H, W), bool or float in [0, 1], where the edit is to show; None for the places
        that were painted. Elsewhere the reconstruction shows, joined by a multi-band blend, whose reach beyond the mask is a few
        pixels of level K. images: (N or 1, C, H, W). seeds: int64 (N,): one image with N seeds gives N versions of an edit.
        """
        self._check_seeds(seeds)
        self._check_images("images", images)
        images = self._expand("images", images, len(seeds))
        self._check_labels(labels, len(seeds))
        painted = self._check_coarse("painted", painted, "level", level, len(seeds), bounded=True)
        if mask is None:
            changed = (painted - gaussian_pyramid(images, level)[-1]).abs().amax(1, keepdim=True) > 1 / 255
            mask = F.interpolate(changed.to(self.dtype), self.sizes[0], mode="nearest-exact")
        mask = self._expand("mask", self._check_mask(mask), len(seeds))
        drawn = self.sample(seeds, labels, coarse=painted, from_level=level, temperature=temperature)
        return blend(drawn, self.reconstruct(images, labels=labels), mask, self.top)

    @inference
    def compose(self, base: Tensor, others: Tensor, masks: Tensor) -> Tensor:
        """`base` with a region of each of `others` in place of its own, later ones on top, (N, C, H, W).

        base: (N, C, H, W), such as a reconstruction. others: (M, C, H, W), such as edits by several seeds; masks: (M, 1, H, W),
        bool or float in [0, 1], where the other is to show. Joined by multi-band blends over the model's levels, see
        `lapcore.blend`.
        """
        self._check_images("base", base, bounded=False)
        self._check_images("others", others, bounded=False)
        masks = self._check_mask(masks)
        if len(masks) != len(others):
            raise ValueError(f"masks: expected {len(others)}, one for each of others, got {len(masks)}")
        for other, mask in zip(others, masks, strict=True):
            base = blend(other.expand_as(base), base, mask.expand(len(base), -1, -1, -1), self.top)
        return base

    def _check_coarse(
        self, name: str, coarse: Tensor, level_name: str, level: int, count: int, *, bounded: bool = False
    ) -> Tensor:
        if not isinstance(level, int) or not 1 <= level <= self.top:
            raise ValueError(f"{level_name}: expected 1 to {self.top}, got {level!r}")
        self._check_images(name, coarse, self.sizes[level][0], bounded=bounded)
        return self._expand(name, coarse, count)

    def _check_mask(self, mask: Tensor) -> Tensor:
        check_tensor("mask", mask, torch.bool if mask.dtype == torch.bool else self.dtype, self.device)
        if mask.dim() != 4 or tuple(mask.shape[1:]) != (1, *self.sizes[0]):
            raise ValueError(
                f"mask: expected shape (N, 1, {self.image_size}, {self.image_size}), got {tuple(mask.shape)}"
            )
        mask = mask.to(self.dtype)
        if not ((mask >= 0) & (mask <= 1)).all():
            raise ValueError("mask: expected values in [0, 1]")
        return mask

    @staticmethod
    def _expand(name: str, tensor: Tensor, count: int) -> Tensor:
        if len(tensor) not in (1, count):
            raise ValueError(f"{name}: expected 1 or {count}, one per seed, got {len(tensor)}")
        return tensor.expand(count, *tensor.shape[1:])
