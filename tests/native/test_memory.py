"""The memory of large outputs: reused once nobody holds it, never before."""

from __future__ import annotations

import pytest
import torch

import lapcore
from lapcore import native
from lapcore.native.memory import LARGE

SHAPE = (LARGE // 4, 4)  # of uint8: pyr_up makes four times as many bytes


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    if reason := native.missing():
        pytest.skip(reason)
    from lapcore import _C

    _C.release_kept_blocks()


def test_an_output_takes_the_memory_of_one_that_is_gone() -> None:
    x = torch.zeros(SHAPE, dtype=torch.uint8)
    address = lapcore.pyr_up(x).data_ptr()
    assert lapcore.pyr_up(x).data_ptr() == address


@pytest.mark.parametrize("size", [LARGE, (1 << 22) - 1, 1 << 22, 6_422_528, (1 << 23) + 1])
def test_so_it_is_for_every_size(size: int) -> None:
    """Whatever a block is rounded up to: 6,422,528 bytes take four large pages, a third more."""
    from lapcore import _C

    def address() -> int:
        return torch.frombuffer(_C.Block(size), dtype=torch.uint8).data_ptr()

    first = address()
    assert address() == first


def test_memory_that_a_view_still_holds_is_left_alone() -> None:
    ones, zeros = torch.ones(SHAPE, dtype=torch.uint8), torch.zeros(SHAPE, dtype=torch.uint8)
    view = lapcore.pyr_up(ones)[::2, 1:]
    others = [lapcore.pyr_up(zeros) for _ in range(3)]
    assert (view == 1).all() and len({x.data_ptr() for x in others}) == 3


def test_what_is_kept_is_bounded_and_given_back() -> None:
    from lapcore import _C

    held = [_C.Block(1 << 26) for _ in range(6)]
    del held
    assert _C.release_kept_blocks() == 1 << 28
    assert _C.release_kept_blocks() == 0
