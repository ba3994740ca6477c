"""Seed and label lists: what they mean, and what is refused."""

from __future__ import annotations

from argparse import ArgumentTypeError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapcore.cli import arguments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", [range(0, 1)]),
        ("0-49999", [range(50000)]),
        ("1,5,7-9", [range(1, 2), range(5, 6), range(7, 10)]),
        ("7-9,1, 5", [range(1, 2), range(5, 6), range(7, 10)]),
        ("1-3,2-5,6", [range(1, 7)]),
        ("4,4", [range(4, 5)]),
        ("9223372036854775807", [range(2**63 - 1, 2**63)]),
    ],
)
def test_ranges(text, expected):
    assert arguments.ranges(text) == expected


@given(st.sets(st.integers(0, 40), min_size=1), st.randoms())
def test_ranges_are_the_set_of_their_numbers_in_order(numbers, random):
    shuffled = list(numbers)
    random.shuffle(shuffled)
    parts = arguments.ranges(",".join(map(str, shuffled)))
    assert [n for part in parts for n in part] == sorted(numbers)
    assert all(a.stop < b.start for a, b in pairwise(parts))


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "1.5", "-1", "3-", "1-2-3", "9-7", "0x10", "9223372036854775808", "²", "1 2"]
)
def test_bad_ranges_name_the_bad_part(text):
    with pytest.raises(ArgumentTypeError, match="expected"):
        arguments.ranges(text)


def test_labels_are_a_list_of_numbers():
    assert arguments.labels("3,5-7") == [3, 5, 6, 7]
    with pytest.raises(ArgumentTypeError, match="million"):
        arguments.labels("0-99999999999")


@pytest.mark.parametrize("text", ["", "-1", "1,2", "1-2", "x", "9223372036854775808", "²"])
def test_bad_seed(text):
    with pytest.raises(ArgumentTypeError, match="expected"):
        arguments.seed(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "²"])
def test_bad_count(text):
    with pytest.raises(ArgumentTypeError, match="at least 1"):
        arguments.positive(text)
