"""The Laplacian loss: an L1 distance of images, band by band, of one pyramid of their difference.

The filters are linear, so lap(a) - lap(b) = lap(a - b): one pyramid instead of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lapcore import backends
from lapcore.ops import _check
from lapcore.ops._eager import transformed
from lapcore.ops._linear import Size, Sizes, call
from lapcore.ops.pyramid import BORDERS, apply_of
from lapcore.reference import laplacian_loss as reference

REDUCTIONS = ("mean", "sum", "none")


def laplacian_loss(
    input: Tensor,
    target: Tensor,
    levels: int = 5,
    *,
    weights: str | Sequence[float] = "uniform",
    mask: Tensor | None = None,
    include_residual: bool = False,
    reduction: str = "mean",
    odd: str = "exact",
    border: str = "reflect",
) -> Tensor:
    """The weighted sum over the bands h_l of the Laplacian pyramid of input - target of the mean of |h_l|.

    Formula: sum_l w_l sum(m_l |h_l|) / sum(m_l), l = 0 .. levels - 1, with m_l = 1, or mask[..., ::2^l, ::2^l]; an empty
        mask gives 0.

    Shapes: input, target (N, ..., H, W), of one shape, H, W >= 1 -> a scalar; for reduction="none" (N,), each sample's own mean.
    weights: "uniform" (w_l = 1), "pow2" (w_l = 2^l), or `levels` numbers of at least 0.
    include_residual: adds the low-pass g_L as one more level, with the next weight (a sequence then has levels + 1).
    mask: of at least 0, broadcastable to input, its last two sides H and W; a constant, it gets no gradient.
    reduction: "mean"; "sum", without the division; "none", per sample.
    odd: "exact" halves odd sides rounding up, at any size and depth; "crop" drops the last row or column of an odd side
        before each halving, as RobustVideoMatting does, and needs sides of 2^levels at least.
    border: as for laplacian_pyramid.
    Dtypes: float16, bfloat16, float32, float64. Differences and sums are taken, and the loss is given, in float32 (float64
        for float64).
    Gradient: by formula, A^T (w_l m_l sign(h_l) / sum(m_l)) with A the pyramid, and 0 where h_l is 0. A second derivative is
        that of a piecewise linear function: 0 at input and target.
    Determinism: bit-identical for every thread count and stride; "none" also for every batch split. No atomics.
    Errors: TypeError, ValueError naming the argument.
    Source: Bojanowski et al., Optimizing the Latent Space of Generative Networks, 2018; the presets of lapcore.compat are
        RIFE's (uniform) and RobustVideoMatting's (pow2, crop).
    """
    _check_images(input, target, mask)
    _check.count("levels", levels, 1)
    _check.choice("reduction", reduction, REDUCTIONS)
    _check.choice("odd", odd, ("exact", "crop"))
    _check.choice("border", border, BORDERS)
    sizes = _sizes((input.shape[-2], input.shape[-1]), levels, odd)
    columns = _weights(weights, levels, include_residual)
    masks = None if mask is None else _mask_levels(mask.detach().expand(input.shape), sizes[: len(columns)])
    coefficients = _coefficients(columns, input, sizes, masks, reduction)
    loss = _call(input, target, masks or [], coefficients, sizes, border)
    return loss if reduction == "none" else loss.sum()


def _check_images(input: Tensor, target: Tensor, mask: Tensor | None) -> None:
    _check.image("input", input, _check.FLOATS)
    _check.image("target", target, _check.FLOATS)
    if input.dim() < 3:
        raise ValueError(f"input: expected shape (N, ..., H, W), got {tuple(input.shape)}")
    if target.shape != input.shape:
        raise ValueError(f"target: expected shape {tuple(input.shape)} like input, got {tuple(target.shape)}")
    _check.like("target", target, input.dtype, input.device, "input")
    if mask is None:
        return
    _check.image("mask", mask, _check.FLOATS)
    _check.like("mask", mask, input.dtype, input.device, "input")
    fits = mask.dim() <= input.dim() and all(
        m in (1, n) for m, n in zip(mask.shape[::-1], input.shape[::-1], strict=False)
    )
    if not fits or mask.shape[-2:] != input.shape[-2:]:
        raise ValueError(
            f"mask: expected a shape that broadcasts to {tuple(input.shape)}, with its sides, got {tuple(mask.shape)}"
        )
    if mask.requires_grad:
        raise ValueError("mask: expected a constant, got a tensor that requires a gradient; use mask.detach()")


def _sizes(size: Size, levels: int, odd: str) -> Sizes:
    """The sizes of the levels, each as it is halved; the last is the residual's."""
    sizes = []
    height, width = size
    for level in range(levels):
        if odd == "crop":
            height, width = height - height % 2, width - width % 2
            if height == 0 or width == 0:
                raise ValueError(
                    f"levels: expected at most {level} for images of {size[0]}x{size[1]} with odd='crop', got {levels}"
                )
        sizes.append((height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    return (*sizes, (height, width))


def _weights(weights: str | Sequence[float], levels: int, include_residual: bool) -> list[float]:
    count = levels + include_residual
    if isinstance(weights, str):
        _check.choice("weights", weights, ("uniform", "pow2"))
        return [1.0 if weights == "uniform" else 2.0**level for level in range(count)]
    if not isinstance(weights, Sequence) or not all(isinstance(w, int | float) for w in weights):
        raise TypeError(f"weights: expected 'uniform', 'pow2' or a sequence of {count} numbers, got {weights!r}")
    numbers = [float(w) for w in weights]
    if len(numbers) != count or not all(0 <= w < math.inf for w in numbers):
        raise ValueError(f"weights: expected {count} finite numbers of at least 0, got {list(weights)}")
    return numbers


def _mask_levels(mask: Tensor, sizes: Sizes) -> list[Tensor]:
    """m_l: every 2^l-th row and column."""
    return [mask[..., :: 2**level, :: 2**level][..., :height, :width] for level, (height, width) in enumerate(sizes)]


def _coefficients(
    weights: Sequence[float], input: Tensor, sizes: Sizes, masks: list[Tensor] | None, reduction: str
) -> Tensor:
    """(N, number of weights): what sample n's sum of m_l |h_l| is multiplied by."""
    compute = torch.promote_types(input.dtype, torch.float32)
    samples = input.shape[0]
    if masks is None or reduction == "sum":
        planes = 1 if reduction == "sum" else input[:1].numel() // (input.shape[-2] * input.shape[-1])
        pixels = [1 if reduction == "sum" else height * width for height, width in sizes]
        batch = samples if reduction == "mean" else 1
        row = [w / max(planes * p * batch, 1) for w, p in zip(weights, pixels, strict=False)]
        return torch.tensor(row, dtype=compute, device=input.device).expand(samples, len(row))
    sums = torch.stack([m.double().contiguous().flatten(1).sum(1) for m in masks], 1)
    if reduction == "mean":
        sums = sums.sum(0, keepdim=True).expand(samples, -1)
    sums = sums.to(compute)
    return torch.where(sums > 0, torch.tensor(weights, dtype=compute, device=input.device) / sums, 0.0)


def _run(
    input: Tensor,
    target: Tensor,
    masks: list[Tensor],
    coefficients: Tensor,
    sizes: Sizes,
    border: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    room = backends.select("pyramid", [input])
    fused = getattr(room, "laplacian_loss", None)
    if fused is not None:
        result: tuple[Tensor, Tensor | None] | None = fused(
            input, target, masks or None, coefficients, sizes, border, with_grad
        )
        if result is not None:
            return result
    apply = apply_of(room, "binomial")
    return reference.laplacian_loss(input, target, masks or None, coefficients, sizes, border, with_grad, apply)


SCHEMA = (
    "(Tensor input, Tensor target, Tensor[] masks, Tensor coefficients, SymInt[] sizes, str border, bool with_grad)"
    " -> (Tensor, Tensor)"
)
torch.library.define("lapcore::laplacian_loss", SCHEMA)


@torch.library.impl("lapcore::laplacian_loss", ("CPU", "CUDA"))
def _kernel(
    input: Tensor,
    target: Tensor,
    masks: list[Tensor],
    coefficients: Tensor,
    sizes: list[int],
    border: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor]:
    pairs = tuple(zip(sizes[::2], sizes[1::2], strict=True))
    loss, grad = _run(input, target, masks, coefficients, pairs, border, with_grad)
    return loss, coefficients.new_empty(0) if grad is None else grad.to(coefficients.dtype)


def _fake(
    input: Tensor,
    target: Tensor,
    masks: list[Tensor],
    coefficients: Tensor,
    sizes: list[int],
    border: str,
    with_grad: bool,
) -> tuple[Tensor, Tensor]:
    loss = coefficients.new_empty(input.shape[0])
    return loss, coefficients.new_empty(input.shape if with_grad else 0)


torch.library.register_fake("lapcore::laplacian_loss", _fake)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, grad = output
    ctx.mark_non_differentiable(grad)
    ctx.save_for_backward(grad)
    ctx.masks, ctx.dtype = len(inputs[2]), inputs[0].dtype


def _backward(ctx: Any, loss_grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    (grad,) = ctx.saved_tensors
    # Before the gradient of the loss, which a loss scale may have made large, 16 bits would lose what 1/count leaves.
    scaled = (grad * reference.per_sample(loss_grad, grad)).to(ctx.dtype)
    return scaled, -scaled, [None] * ctx.masks, None, None, None, None


torch.library.register_autograd("lapcore::laplacian_loss", _backward, setup_context=_setup_context)


def _differentiable(
    op: str, x: Tensor, size: Size, filter: str, border: str, base: Tensor | None = None, alpha: int = 1
) -> Tensor:
    """A forward operator as a registered operation, which has derivatives of every kind."""
    own = (x.shape[-2], x.shape[-1])
    y = call(f"pyr_{op}", [x], (own, size) if op == "down" else (size, own), filter, border)[0]
    return y if base is None else base + alpha * y


def _call(
    input: Tensor, target: Tensor, masks: list[Tensor], coefficients: Tensor, sizes: Sizes, border: str
) -> Tensor:
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError("laplacian_loss: torch.jit.trace is not supported; use torch.compile or torch.export")
    if not torch.compiler.is_compiling() and transformed():
        loss, _ = reference.laplacian_loss(
            input, target, masks or None, coefficients, sizes, border, False, _differentiable
        )
        return loss
    with_grad = torch.is_grad_enabled() and (input.requires_grad or target.requires_grad)
    flat = [side for size in sizes for side in size]
    fused: Tensor = torch.ops.lapcore.laplacian_loss(input, target, masks, coefficients, flat, border, with_grad)[0]
    return fused
