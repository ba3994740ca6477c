"""The Laplacian loss, sum_l w_l mean |h_l(input - target)|, and its gradient at `input`, which is minus that at `target`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.oracle.pyramid import pyr_down, pyr_down_adjoint, pyr_up, pyr_up_adjoint

Array = np.ndarray
Shape = tuple[int, ...]


@dataclass
class Recipe:
    """What the loss takes beside the two images."""

    levels: int = 5
    weights: str | Sequence[float] = "uniform"
    mask: Array | None = None
    include_residual: bool = False
    reduction: str = "mean"
    odd: str = "exact"
    border: str = "reflect"

    def level_weights(self) -> Array:
        terms = self.levels + self.include_residual
        if isinstance(self.weights, str):
            return {"uniform": np.ones(terms), "pow2": 2.0 ** np.arange(terms)}[self.weights]
        assert len(self.weights) == terms
        return np.asarray(self.weights, dtype=np.float64)

    def cut(self, g: Array) -> Array:
        """With odd="crop" a level loses its odd row and column before it is halved."""
        h, w = g.shape[-2:]
        return g[..., : h - h % 2, : w - w % 2] if self.odd == "crop" else g

    def shapes(self, shape: Shape) -> list[Shape]:
        """Of every g, before it is cut."""
        out = [shape]
        for _ in range(self.levels):
            *lead, h, w = out[-1]
            out.append((*lead, h // 2, w // 2) if self.odd == "crop" else (*lead, (h + 1) // 2, (w + 1) // 2))
        return out

    def bands(self, difference: Array, sign: float = -1.0) -> list[Array]:
        """h_l, and the last g with include_residual. With sign = 1: see pyramid.laplacian_pyramid."""
        g, out = difference, []
        for _ in range(self.levels):
            g = self.cut(g)
            coarse = pyr_down(g, self.border)
            out.append(g + sign * pyr_up(coarse, g.shape[-2:], self.border))
            g = coarse
        return [*out, g] if self.include_residual else out

    def pull_back(self, grads: Sequence[Array], shape: Shape, sign: float = -1.0) -> Array:
        """The transpose of `bands`."""
        shapes, grads = self.shapes(shape), list(grads)
        total = grads.pop() if self.include_residual else np.zeros(shapes[-1])
        for grad, fine in zip(reversed(grads), reversed(shapes[:-1]), strict=True):
            height, width = grad.shape[-2:]
            total = total + sign * pyr_up_adjoint(grad, total.shape[-2:], self.border)
            padded = np.zeros(fine)
            padded[..., :height, :width] = grad + pyr_down_adjoint(total, (height, width), self.border)
            total = padded
        return total

    def masks(self, shape: Shape, bands: Sequence[Array]) -> list[Array]:
        """Every 2^l-th row and column of the mask, cut to the band."""
        if self.mask is None:
            return [np.ones(band.shape) for band in bands]
        mask = np.broadcast_to(np.asarray(self.mask, dtype=np.float64), shape)
        every = (mask[..., :: 2**level, :: 2**level] for level in range(len(bands)))
        return [m[..., : h.shape[-2], : h.shape[-1]] for m, h in zip(every, bands, strict=True)]

    def factors(self, shape: Shape, bands: Sequence[Array]) -> list[Array]:
        """What each |h| is multiplied by: w m / count, counted per sample for "none"; 0 where the mask is empty."""
        masks, weights = self.masks(shape, bands), self.level_weights()
        if self.reduction == "sum":
            return [w * m for w, m in zip(weights, masks, strict=True)]
        axes = tuple(range(1, len(shape))) if self.reduction == "none" else None
        counts = [m.sum(axis=axes, keepdims=True) for m in masks]
        return [w * m / np.where(c > 0, c, 1) for w, m, c in zip(weights, masks, counts, strict=True)]


def _difference(input: Array, target: Array) -> Array:
    return np.asarray(input, dtype=np.float64) - np.asarray(target, dtype=np.float64)


def _weighted(values: Sequence[Array], shape: Shape, recipe: Recipe) -> Array:
    terms = [f * v for f, v in zip(recipe.factors(shape, values), values, strict=True)]
    if recipe.reduction == "none":
        return np.sum([term.reshape(len(term), -1).sum(axis=1) for term in terms], axis=0)
    return np.asarray(sum(term.sum() for term in terms))


def laplacian_loss(input: Array, target: Array, recipe: Recipe) -> Array:
    bands = recipe.bands(_difference(input, target))
    return _weighted([np.abs(h) for h in bands], input.shape, recipe)


def laplacian_loss_magnitude(input: Array, target: Array, recipe: Recipe) -> Array:
    """The loss with every minus made a plus: what its rounding error is proportional to."""
    absolute = np.abs(np.asarray(input, dtype=np.float64)) + np.abs(np.asarray(target, dtype=np.float64))
    return _weighted(recipe.bands(absolute, sign=1.0), input.shape, recipe)


def _rows(grad: Array | float, ndim: int) -> Array:
    return np.reshape(grad, (-1, *[1] * (ndim - 1)))


def laplacian_loss_gradient(input: Array, target: Array, recipe: Recipe, grad: Array | float = 1.0) -> Array:
    """The transposed bands of factor * sign(h); `grad` is (N,) for "none"."""
    difference = _difference(input, target)
    bands = recipe.bands(difference)
    factors, rows = recipe.factors(difference.shape, bands), _rows(grad, difference.ndim)
    return recipe.pull_back([rows * f * np.sign(h) for f, h in zip(factors, bands, strict=True)], difference.shape)


def laplacian_loss_gradient_slack(
    input: Array, target: Array, recipe: Recipe, relative: float, grad: Array | float = 1.0
) -> Array:
    """How far a gradient may be off for an error of `relative` in everything: a sign may flip where h is that close to zero, which
    moves it by 2, and sums of signs carry the error themselves."""
    difference = _difference(input, target)
    shape = difference.shape
    bands, worst = recipe.bands(difference), recipe.bands(np.abs(difference), sign=1.0)
    factors, rows = recipe.factors(shape, bands), np.abs(_rows(grad, difference.ndim))
    unsure = [
        rows * f * (2.0 * (np.abs(h) <= relative * w) + relative) for f, h, w in zip(factors, bands, worst, strict=True)
    ]
    return recipe.pull_back(unsure, shape, sign=1.0)
