"""Hypothesis strategies: images of any shape, stride, dtype and value, and what an op takes beside them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from tests.layouts import LAYOUTS
from tests.oracle.pyramid import BORDERS

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SPECIALS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e-30, -1.0)

borders = st.sampled_from(BORDERS)
dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(sorted(LAYOUTS))
seeds = st.integers(-(2**63), 2**63 - 1)
streams = st.integers(0, 2**63 - 1)


@st.composite
def shapes(draw: st.DrawFn, max_side: int = 20, max_lead: int = 3, min_lead: int = 0) -> tuple[int, ...]:
    """(..., H, W); leading sizes may be 0, sides are at least 1."""
    lead = draw(st.lists(st.integers(0, 3), min_size=min_lead, max_size=max_lead))
    return (*lead, draw(st.integers(1, max_side)), draw(st.integers(1, max_side)))


@st.composite
def images(
    draw: st.DrawFn, max_side: int = 20, max_lead: int = 3, dtype: torch.dtype | None = None, specials: bool = False
) -> torch.Tensor:
    """Values of one scale in [1e-3, 1e3]; with `specials`, up to three are replaced by NaN, infinities or zeros."""
    shape, dtype = draw(shapes(max_side, max_lead)), dtype or draw(dtypes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0 ** draw(st.integers(-3, 3))
    if specials and x.numel():
        for _ in range(draw(st.integers(1, 3))):
            x.view(-1)[draw(st.integers(0, x.numel() - 1))] = draw(st.sampled_from(SPECIALS))
    return LAYOUTS[draw(layouts)](x.to(dtype))


@st.composite
def up_sizes(draw: st.DrawFn, x: torch.Tensor) -> tuple[int, int]:
    """A size pyr_up accepts for x."""
    h, w = x.shape[-2:]
    return 2 * h - draw(st.integers(0, 1)), 2 * w - draw(st.integers(0, 1))
