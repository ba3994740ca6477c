"""Pyramids of one shape, again and again, without allocating."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from lapcore.ops import _check
from lapcore.ops.pyramid import IMAGES, _check_image, _checked_pyramid, level_sizes, run
from lapcore.reference.pyramid import band_dtype


class PyramidPlan:
    """A pyramid of images of one shape, dtype and device, with all its memory allocated in advance.

    plan(x) is laplacian_pyramid(x, levels) or gaussian_pyramid(x, levels), to the bit, in the same tensors at each call:
    what the last call left there is overwritten. plan.collapse() inverts what a Laplacian plan's tensors hold,
    plan.collapse(pyramid) another pyramid of that shape; the image, too, is one tensor. Nothing is allocated per call, so
    CUDA graphs can capture one.

    shape: (..., H, W). levels >= 1. dtype: as for the function; device: as for torch.empty. kind: "laplacian" or "gaussian".
    Gradients: none; inputs that require one are refused where gradients are enabled.
    Threads: a plan belongs to the thread that first calls it; another gets a RuntimeError. One plan per thread costs its
        tensors alone.
    Errors: TypeError, ValueError naming the argument; RuntimeError for a second thread, and for collapse of a Gaussian plan.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        kind: str = "laplacian",
        filter: str = "binomial",
        border: str = "reflect",
    ) -> None:
        if not isinstance(shape, Sequence):
            raise TypeError(f"shape: expected (..., H, W), got {shape!r} of type {type(shape).__name__}")
        sides = tuple(shape)
        for side in sides:
            _check.count("shape", side)
        _check.count("levels", levels, 1)
        _check.choice("kind", kind, ("laplacian", "gaussian"))
        probe = torch.empty(sides, dtype=dtype, device="meta")
        _check_image("shape", probe, filter, border, _check.IMAGES if kind == "laplacian" else IMAGES)
        self.shape, self.levels, self.kind = sides, levels, kind
        self.dtype, self.device = dtype, torch.empty(0, device=device).device
        self.filter, self.border = filter, border
        self._sizes = level_sizes((sides[-2], sides[-1]), levels, filter)
        self._thread: int | None = None
        if kind == "gaussian":
            self._out = self._allocate(self._sizes[1:], dtype)
            return
        bands = band_dtype(dtype)
        self._out = self._allocate(self._sizes, bands)
        self._gaussian = self._allocate(self._sizes[1:-1], dtype)
        self._image, *self._images = self._allocate(self._sizes[:-1], bands)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """The pyramid of x, of the plan's shape, dtype and device; of any strides."""
        self._own()
        _check.tensor("x", x)
        if x.shape != self.shape:
            raise ValueError(f"x: expected shape {self.shape}, got {tuple(x.shape)}")
        _check.like("x", x, self.dtype, self.device, "the plan")
        self._refuse_gradient("x", x)
        if self.kind == "gaussian":
            run("gaussian_pyramid", [x], self._sizes, self.filter, self.border, self._out)
            return (x, *self._out)
        run("laplacian_pyramid", [x], self._sizes, self.filter, self.border, self._out, self._gaussian)
        return tuple(self._out)

    def collapse(self, pyramid: Sequence[Tensor] | None = None) -> Tensor:
        """The image of a Laplacian pyramid of the plan's shape; None takes what the last call of the plan made."""
        self._own()
        if self.kind != "laplacian":
            raise RuntimeError("collapse: expected a plan of kind 'laplacian', got 'gaussian'")
        levels = self._out if pyramid is None else self._checked(pyramid)
        run("collapse", levels, self._sizes, self.filter, self.border, [self._image], self._images)
        return self._image

    def _allocate(self, sizes: Sequence[tuple[int, int]], dtype: torch.dtype) -> list[Tensor]:
        return [torch.zeros((*self.shape[:-2], *size), dtype=dtype, device=self.device) for size in sizes]

    def _own(self) -> None:
        thread = threading.get_ident()
        if self._thread is None:
            self._thread = thread
        if self._thread != thread:
            raise RuntimeError(
                "PyramidPlan: this plan belongs to another thread, whose results a call would overwrite; make one per thread"
            )

    def _checked(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        levels, _ = _checked_pyramid(pyramid, self.filter, self.border)
        if len(levels) != self.levels + 1 or levels[0].shape != self.shape:
            raise ValueError(
                f"pyramid: expected {self.levels + 1} levels, the first of shape {self.shape}, "
                f"got {len(levels)}, the first of shape {tuple(levels[0].shape)}"
            )
        _check.like("pyramid", levels[0], band_dtype(self.dtype), self.device, "the plan")
        for level, x in enumerate(levels):
            self._refuse_gradient(f"pyramid[{level}]", x)
        return levels

    def _refuse_gradient(self, name: str, x: Tensor) -> None:
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name}: expected a tensor without gradient (or torch.no_grad()), got one that requires it"
            )
