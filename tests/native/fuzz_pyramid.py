"""Random calls of the native pyramid kernels: see tests/native/fuzz.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tests.native.fuzz import FLOATS, Draw, Kind, main
from tests.oracle import integer
from tests.oracle import laplacian_loss as loss_oracle
from tests.oracle import pyramid as oracle
from tests.oracle.filters import BORDERS, FILTERS, borders_of
from tests.tolerance import assert_close, bound, largest, loss_error, resize_bound, to_numpy

Tensor = torch.Tensor
Size = tuple[int, int]
INTEGERS = (torch.uint8, torch.int16, torch.uint16)
FORWARD = {"down": oracle.pyr_down, "up": oracle.pyr_up}
ADJOINT = {"down_adjoint": oracle.pyr_down_adjoint, "up_adjoint": oracle.pyr_up_adjoint}


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def band_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.int16


def pick_rule(draw: Draw, dtype: torch.dtype) -> tuple[str, str]:
    filter = draw.choice(FILTERS) if dtype.is_floating_point else "binomial"
    return filter, draw.choice(borders_of(filter))


def pick_sizes(draw: Draw, op: str, filter: str) -> tuple[Size, Size]:
    """Of the input and of the result of an operator."""
    fine = draw.side(), draw.side()
    coarse = oracle.halve(fine, filter)
    if filter != "binomial" and draw.random() < 0.5:
        ratio = draw.random()
        coarse = tuple(max(1, round(n * ratio)) for n in fine)
    return (fine, coarse) if op in ("down", "up_adjoint") else (coarse, fine)


def operator(draw: Draw, native, tables: Callable, checked: bool) -> None:
    """One operator, perhaps with a base, into any memory."""
    dtype = draw.choice(FLOATS + INTEGERS)
    filter, border = pick_rule(draw, dtype)
    op = draw.choice(["down", "up", "down_adjoint", "up_adjoint"] if dtype.is_floating_point else ["down", "up"])
    source, size = pick_sizes(draw, op, filter)
    lead = draw.lead()
    x = draw.memory((*lead, *source), dtype)
    based = dtype is not torch.uint16 and draw.random() < 0.4
    base_dtype = draw.choice([dtype, band_dtype(dtype)])
    base = draw.memory((*lead, *size), dtype if dtype.is_floating_point else base_dtype) if based else None
    if base is not None and base.dtype is not dtype:
        base = None  # int16 bands on bytes: only what the pyramids ask for
    alpha = draw.choice([1, -1])
    out = draw.choice([None, draw.memory((*lead, *size), dtype if base is None else band_dtype(dtype), written=True)])
    taps = None
    if filter != "binomial":
        taps = tables(op, source, size, filter, border, x.device, torch.promote_types(dtype, torch.float32))
    got = native.apply(op, x, size, filter, border, base, alpha, out, taps)
    if checked:
        check_operator(op, x, size, filter, border, base, alpha, got)


def check_operator(
    op: str, x: Tensor, size: Size, filter: str, border: str, base: Tensor | None, alpha: int, got: Tensor
) -> None:
    values, what = to_numpy(x), f"{op} {tuple(x.shape)} {x.stride()} {x.dtype} to {size} {filter} {border}"
    if not x.dtype.is_floating_point:
        name = name_of(x.dtype)
        want = integer.pyr_down(values, name, border) if op == "down" else integer.pyr_up(values, name, size, border)
        if base is not None:
            want = integer.saturate(to_numpy(base).astype(np.int64) + alpha * want, "int16")
        assert_close(got, want, 0.0, what)
        return

    def run(a: np.ndarray) -> np.ndarray:
        if op in FORWARD:
            return FORWARD[op](a, border=border, filter=filter, size=size)
        return ADJOINT[op](a, size, border, filter)

    want, scale = run(values), run(np.abs(values))
    if base is not None:
        want, scale = to_numpy(base) + alpha * want, np.abs(to_numpy(base)) + scale
    most = 25 if filter == "binomial" else 36 * max(1, *(4 * n // m for n, m in zip(size, x.shape[-2:], strict=True)))
    assert_close(got, want, resize_bound(most + 1, x.dtype, largest(scale)), what)


def pyramid(draw: Draw, native, tables: Callable, checked: bool) -> None:
    """A whole Gaussian or Laplacian pyramid."""
    dtype, border = draw.choice(FLOATS + INTEGERS), draw.choice(BORDERS)
    gaussian = dtype is torch.uint16 or draw.random() < 0.4
    size, lead, levels = (draw.side(), draw.side()), draw.lead(), draw.randint(1, 6)
    sizes = tuple(oracle.sizes(size, levels))
    x = draw.memory((*lead, *size), dtype)
    where = f"{tuple(x.shape)} {x.stride()} {dtype} {levels} levels {border}"
    out, work = None, None
    if gaussian:
        if draw.random() < 0.5:
            out = [draw.memory((*lead, *each), dtype, written=True) for each in sizes[1:]]
        got = native.gaussian_pyramid([x], sizes, "binomial", border, out)
        op, lists = "gaussian_pyramid", (oracle.gaussian_pyramid, integer.gaussian_pyramid)
    else:
        if draw.random() < 0.5:
            out = [draw.memory((*lead, *each), band_dtype(dtype), written=True) for each in sizes]
        if draw.random() < 0.5:
            work = [torch.empty((*lead, *each), dtype=dtype) for each in sizes[1:-1]]
        got = native.laplacian_pyramid([x], sizes, "binomial", border, out, work)
        op, lists = "laplacian_pyramid", (oracle.laplacian_pyramid, integer.laplacian_pyramid)
    if not checked:
        return
    values = to_numpy(x)
    if dtype.is_floating_point:
        worst = lists[0](np.abs(values), levels, border, **({} if gaussian else {"sign": 1.0}))
        want, tolerance = lists[0](values, levels, border), bound(op, dtype, largest(*worst), levels)
    else:
        want, tolerance = lists[1](values, levels, name_of(dtype), border), 0.0
    for a, b in zip(got, want[1:] if gaussian else want, strict=True):
        assert_close(a, b, tolerance, f"{op} {where}")


def collapse(draw: Draw, native, tables: Callable, checked: bool) -> None:
    dtype, border = draw.choice((*FLOATS, torch.int16)), draw.choice(BORDERS)
    size, lead, levels = (draw.side(), draw.side()), draw.lead(), draw.randint(1, 6)
    sizes = tuple(oracle.sizes(size, levels))
    bands = [draw.memory((*lead, *each), dtype) for each in sizes]
    out = draw.choice([None, [draw.memory((*lead, *size), dtype, written=True)]])
    work = draw.choice([None, [torch.empty((*lead, *each), dtype=dtype) for each in sizes[1:-1]]])
    (got,) = native.collapse(bands, sizes, "binomial", border, out, work)
    if not checked:
        return
    values = [to_numpy(band) for band in bands]
    if dtype is torch.int16:
        want, tolerance = integer.collapse(values, border), 0.0
    else:
        worst = oracle.collapse([np.abs(v) for v in values], border)
        want, tolerance = oracle.collapse(values, border), bound("collapse", dtype, largest(worst), levels)
    assert_close(got, want, tolerance, f"collapse {(*lead, *size)} {dtype} {levels} levels {border}")


def loss(draw: Draw, native, tables: Callable, checked: bool) -> None:
    dtype, border = draw.choice(FLOATS), draw.choice(BORDERS)
    shape, levels = (*draw.lead(1), draw.side(), draw.side()), draw.randint(1, 6)
    residual, with_grad = draw.random() < 0.3, draw.random() < 0.5
    sizes = tuple(oracle.sizes(shape[-2:], levels))
    a, b = draw.memory(shape, dtype), draw.memory(shape, dtype)
    mask = draw.memory(shape, dtype, written=True).abs_() if draw.random() < 0.3 else None
    masks = None
    if mask is not None:
        masks = [mask[..., :: 2**level, :: 2**level] for level in range(levels + residual)]
    compute = torch.promote_types(dtype, torch.float32)
    weights = [1 + draw.random() for _ in range(levels + residual)]
    coefficients = torch.tensor(weights, dtype=compute).expand(shape[0], -1).contiguous()
    result = native.laplacian_loss(a, b, masks, coefficients, sizes, border, with_grad)
    if result is None or not checked or 0 in shape:
        return
    got, grad = result
    recipe = loss_oracle.Recipe(
        levels, weights, None if mask is None else to_numpy(mask), residual, "sum", border=border
    )
    values = to_numpy(a), to_numpy(b)
    bands = recipe.bands(values[0] - values[1])
    terms = [f * np.abs(h) for f, h in zip(recipe.factors(shape, bands), bands, strict=True)]
    rows = [term.reshape(shape[0], -1).sum(axis=1) for term in terms]
    relative = loss_error(shape, dtype, levels)
    worst = float(loss_oracle.laplacian_loss_magnitude(*values, recipe))
    assert_close(
        got, np.sum(rows, axis=0), relative * worst, f"laplacian_loss {shape} {dtype} {levels} levels {border}"
    )
    if grad is not None:
        want = loss_oracle.laplacian_loss_gradient(*values, recipe)
        slack = loss_oracle.laplacian_loss_gradient_slack(*values, recipe, relative)
        info = torch.finfo(dtype)
        assert_close(grad, want, slack + info.eps * np.abs(want) + info.tiny, f"its gradient {shape} {dtype} {border}")


def kinds() -> list[Kind]:
    from lapcore.native import pyramid as kernels
    from lapcore.reference.taps import tables

    def given(function: Callable[..., None]) -> Kind:
        def kind(draw: Draw, checked: bool) -> None:
            function(draw, kernels, tables, checked)

        kind.__name__ = function.__name__
        return kind

    return [given(function) for function in (operator, operator, operator, pyramid, pyramid, collapse, loss)]


if __name__ == "__main__":
    main(kinds)
