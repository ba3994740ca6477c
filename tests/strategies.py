"""Hypothesis strategies: images of any shape, stride, dtype and value, and what an op takes beside them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from tests.layouts import LAYOUTS
from tests.oracle.filters import BORDERS, FILTERS, borders_of

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int16, torch.uint16)
SPECIALS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e-30, -1.0)

borders = st.sampled_from(BORDERS)
rules = st.sampled_from([(filter, border) for filter in FILTERS for border in borders_of(filter)])
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
def integer_images(draw: st.DrawFn, max_side: int = 20, max_lead: int = 3) -> torch.Tensor:
    """The whole range of a dtype, or only its two ends, where everything saturates."""
    shape, dtype = draw(shapes(max_side, max_lead)), draw(st.sampled_from(INTEGERS))
    info, generator = torch.iinfo(dtype), torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        x = torch.where(torch.rand(shape, generator=generator) < 0.5, info.min, info.max)
    else:
        x = torch.randint(info.min, info.max + 1, shape, generator=generator)
    return LAYOUTS[draw(layouts)](x.to(dtype))
