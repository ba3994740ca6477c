"""lapcore.random on every backend, against Philox4x32-10's published vectors and the float64 oracle."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lapcore
from tests import strategies
from tests.oracle import random as oracle
from tests.tolerance import NORMAL, assert_close, assert_same_bits, to_numpy

PROBE = ("random.bits", (1,))
DRAWS = {"bits": lapcore.random.bits, "uniform": lapcore.random.uniform, "normal": lapcore.random.normal}
draws = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
SEEDS = (0, 1, 7, -1, -(2**33) - 5, 2**32, 2**32 + 1, 2**40 + 3, INT64_MAX, INT64_MIN)
STREAMS = (0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 9, INT64_MAX)

# Seeds whose block 0 holds a word at an end of the range, found by exhaustive search: seed -> (lane, word).
EXTREME_WORDS = {
    1343428: (3, 0x00000000),
    293046734: (1, 0x00000000),
    627779616: (2, 0x00000000),
    454088803: (1, 0xFFFFFFFF),
    1352247272: (0, 0xFFFFFFFF),
    111254071: (0, 0xFFFFFF82),
    186408231: (2, 0xFFFFFF81),
    39075: (3, 0xFFFFFF7F),
    178432074: (3, 0xFFFFFF7F),
}


def as_uint32(bits: torch.Tensor) -> np.ndarray:
    assert bits.dtype == torch.int32
    return bits.cpu().numpy().view(np.uint32)


# The oracle itself -------------------------------------------------------------------------------------------------------------

KNOWN_ANSWERS = [  # Random123's kat_vectors, philox 4x32 with 10 rounds: counter, key, result
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_oracle_gives_the_known_answers(counter: str, key: str, result: str) -> None:
    assert [int(word) for word in oracle.philox4x32(words(counter), words(key))] == words(result)


def test_oracle_uniform_is_the_rounded_exact_value() -> None:
    from fractions import Fraction

    for word in (0, 1, 2, 3, 2**24 - 1, 2**24 + 1, 2**31, 0xFFFFFF7E, 0xFFFFFF7F, 0x12345678):
        exact = Fraction(2 * word + 1, 2**33)
        got = oracle.to_uniform(np.array([word], dtype=np.uint32))[0]
        error = abs(Fraction(float(got)) - exact)
        for neighbour in (np.nextafter(got, np.float32(0)), np.nextafter(got, np.float32(2))):
            assert error <= abs(Fraction(float(neighbour)) - exact)
    top = oracle.to_uniform(np.array([0xFFFFFF80, 0xFFFFFFFF], dtype=np.uint32))
    assert (top == np.float32(1 - 2.0**-24)).all()


# Bits --------------------------------------------------------------------------------------------------------------------------


def test_bits_of_seed_zero_are_the_known_answer(backend: str, device: str) -> None:
    assert as_uint32(lapcore.random.bits((4,), 0, device=device)).tolist() == words(KNOWN_ANSWERS[0][2])


def test_known_seeds_reach_both_ends(backend: str, device: str) -> None:
    for seed, (lane, word) in EXTREME_WORDS.items():
        assert as_uint32(lapcore.random.bits((4,), seed, device=device))[lane] == word


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stream", STREAMS)
def test_bits_equal_the_oracle(backend: str, device: str, seed: int, stream: int) -> None:
    shape = (3, 2, 5)
    np.testing.assert_array_equal(
        as_uint32(lapcore.random.bits(shape, seed, device=device, stream=stream)), oracle.bits(shape, seed, stream)
    )
    rows = [seed, 5, seed]
    np.testing.assert_array_equal(
        as_uint32(lapcore.random.bits(shape, torch.tensor(rows, device=device), stream=stream)),
        oracle.bits(shape, rows, stream),
    )


def test_bits_equal_the_oracle_everywhere(backend: str, slow_backend: bool, device: str) -> None:
    @settings(max_examples=20 if slow_backend else 60)
    @given(
        shape=st.lists(st.integers(0, 6), min_size=1, max_size=4).map(tuple),
        seeds=st.data(),
        stream=strategies.streams,
    )
    def check(shape: tuple[int, ...], seeds: st.DataObject, stream: int) -> None:
        one = seeds.draw(strategies.seeds)
        np.testing.assert_array_equal(
            as_uint32(lapcore.random.bits(shape, one, device=device, stream=stream)), oracle.bits(shape, one, stream)
        )
        rows = seeds.draw(st.lists(strategies.seeds, min_size=shape[0], max_size=shape[0]))
        per_row = torch.tensor(rows, dtype=torch.int64, device=device)
        np.testing.assert_array_equal(
            as_uint32(lapcore.random.bits(shape, per_row, stream=stream)), oracle.bits(shape, rows, stream)
        )

    check()


@pytest.mark.heavy
def test_long_rows_equal_the_oracle(backend: str, device: str) -> None:
    shape = (2, 3, 100_003)
    np.testing.assert_array_equal(as_uint32(lapcore.random.bits(shape, 11, device=device)), oracle.bits(shape, 11))
    np.testing.assert_array_equal(
        as_uint32(lapcore.random.bits(shape, torch.tensor([11, -3], device=device))), oracle.bits(shape, [11, -3])
    )


# Uniforms ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_uniforms_equal_the_oracle_to_the_bit(backend: str, device: str, seed: int) -> None:
    got = lapcore.random.uniform((7, 1001), seed, device=device, stream=3)
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(to_numpy(got), oracle.uniform((7, 1001), seed, 3))


def test_uniforms_are_inside_the_open_interval_at_both_ends(backend: str, device: str) -> None:
    seeds = list(EXTREME_WORDS)
    got = lapcore.random.uniform((len(seeds), 4), torch.tensor(seeds, device=device))
    assert (got > 0).all() and (got < 1).all()
    np.testing.assert_array_equal(to_numpy(got), oracle.uniform((len(seeds), 4), seeds))
    by_word = {word: float(got[i, lane]) for i, (lane, word) in enumerate(EXTREME_WORDS.values())}
    assert by_word[0] == 2.0**-33
    assert by_word[0xFFFFFFFF] == by_word[0xFFFFFF82] == by_word[0xFFFFFF7F] == 1 - 2.0**-24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_uniforms_are_rounded_once_and_kept_inside(backend: str, device: str, dtype: torch.dtype) -> None:
    seeds = torch.cat([torch.arange(100, device=device), torch.tensor(list(EXTREME_WORDS), device=device)])
    got = lapcore.random.uniform((len(seeds), 40), seeds, dtype=dtype)
    rounded = lapcore.random.uniform((len(seeds), 40), seeds).to(dtype)
    inside = (rounded > 0) & (rounded < 1)
    assert got.dtype == dtype
    assert_same_bits(got[inside], rounded[inside])
    assert (~inside).any(), "float16 rounds some of these to 1"
    assert (got > 0).all() and (got < 1).all()
    assert_close(got, to_numpy(rounded), torch.finfo(dtype).eps / 2)


def test_float64_uniforms(backend: str, device: str) -> None:
    single = lapcore.random.uniform((3, 501), 5, device=device)
    double = lapcore.random.uniform((3, 501), 5, device=device, dtype=torch.float64)
    assert_same_bits(double, single.double())


# Normals -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_normals_are_within_the_contract(backend: str, device: str, seed: int) -> None:
    for shape in ((5,), (4, 3), (2, 3, 333)):
        assert_close(lapcore.random.normal(shape, seed, device=device, stream=2), oracle.normal(shape, seed, 2), NORMAL)
        rows = [seed + i if seed < 0 else seed - i for i in range(shape[0])]
        got = lapcore.random.normal(shape, torch.tensor(rows, device=device), stream=2)
        assert got.dtype == torch.float32
        assert_close(got, oracle.normal(shape, rows, 2), NORMAL)


def test_normals_at_the_ends_of_the_uniforms(backend: str, device: str) -> None:
    seeds = list(EXTREME_WORDS)
    got = lapcore.random.normal((len(seeds), 4), torch.tensor(seeds, device=device))
    assert torch.isfinite(got).all()
    assert_close(got, oracle.normal((len(seeds), 4), seeds), NORMAL)
    smallest = got[seeds.index(627779616), 2:]  # u = 2^-33: the largest radius there is
    assert float(smallest.double().norm()) == pytest.approx(math.sqrt(2 * 33 * math.log(2)), abs=1e-5)
    largest = got[seeds.index(1352247272), :2]  # u = 1 - 2^-24: the smallest
    assert 0 < float(largest.double().norm()) < 3.5e-4


@pytest.mark.heavy
def test_a_million_normals_are_within_the_contract(backend: str, device: str) -> None:
    shape = (4, 250_000)
    assert_close(lapcore.random.normal(shape, torch.arange(4, device=device)), oracle.normal(shape, range(4)), NORMAL)


def test_normals_in_other_dtypes(backend: str, device: str) -> None:
    single = lapcore.random.normal((3, 501), 5, device=device)
    for dtype in (torch.float16, torch.bfloat16):
        assert_same_bits(lapcore.random.normal((3, 501), 5, device=device, dtype=dtype), single.to(dtype))
    double = lapcore.random.normal((3, 501), 5, device=device, dtype=torch.float64)
    assert double.dtype == torch.float64
    assert_close(double, oracle.normal((3, 501), 5), NORMAL)


# Seeds, rows and shapes --------------------------------------------------------------------------------------------------------


@draws
def test_an_int_seed_counts_over_the_whole_tensor(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    flat = draw((60,), 9, device=device)
    for shape in ((3, 20), (5, 3, 4), (60, 1, 1), (1, 60)):
        assert_same_bits(draw(shape, 9, device=device), flat.view(shape))


@draws
def test_a_tensor_seed_counts_inside_each_row(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    rows = draw((3, 4, 5), torch.tensor([9, 2**35, -1], device=device))
    for row, seed in zip(rows, (9, 2**35, -1), strict=True):
        assert_same_bits(row.reshape(-1), draw((20,), seed, device=device))


@draws
def test_rows_do_not_depend_on_their_batch(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    seeds = torch.tensor([5, -7, 5, 2**60, 0], device=device)
    whole = draw((5, 3, 7), seeds, stream=4)
    for i in range(5):
        assert_same_bits(whole[i : i + 1], draw((1, 3, 7), seeds[i : i + 1], stream=4))
    order = torch.tensor([4, 2, 0, 3, 1], device=device)
    assert_same_bits(draw((5, 3, 7), seeds[order], stream=4), whole[order])
    assert_same_bits(whole[0], whole[2])


@draws
def test_a_prefix_of_a_longer_row_is_the_shorter_row(
    backend: str, device: str, draw: Callable[..., torch.Tensor]
) -> None:
    seeds = torch.tensor([1, 2], device=device)
    longer = draw((2, 1000), seeds)
    for length in (1, 2, 3, 4, 5, 7, 8, 997):
        assert_same_bits(draw((2, length), seeds), longer[:, :length])


@draws
def test_seeds_may_have_any_stride(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    seeds = torch.arange(40, device=device)[3::9]
    assert_same_bits(draw((5, 6), seeds), draw((5, 6), seeds.contiguous()))
    one = torch.tensor([12], device=device).expand(5)
    assert_same_bits(draw((5, 6), one), draw((5, 6), one.contiguous()))


@pytest.mark.heavy
@draws
def test_threads_do_not_matter(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = draw((3, 50_001), 8, device=device)
        torch.set_num_threads(2)
        assert_same_bits(draw((3, 50_001), 8, device=device), one)
    finally:
        torch.set_num_threads(before)


@draws
def test_torch_generators_play_no_part(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    state = torch.random.get_rng_state()
    first = draw((100,), 3, device=device)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert_same_bits(draw((100,), 3, device=device), first)


@pytest.fixture(scope="module")
def drawn_elsewhere() -> str:
    code = "import lapcore; print(lapcore.random.normal((2, 9), -5, stream=7).view(-1).tolist())"
    options = {"env": os.environ | {"LAPCORE_BACKEND": "reference"}, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, "-c", code], check=True, **options).stdout.strip()


def test_another_process_draws_the_same(backend: str, device: str, drawn_elsewhere: str) -> None:
    assert str(lapcore.random.normal((2, 9), -5, device=device, stream=7).view(-1).tolist()) == drawn_elsewhere


@draws
def test_empty_and_small_shapes(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    assert draw((0,), 1, device=device).shape == (0,)
    assert draw((3, 0, 2), 1, device=device).shape == (3, 0, 2)
    assert draw((0, 4), torch.zeros(0, dtype=torch.int64, device=device)).shape == (0, 4)
    assert draw((3,), torch.tensor([1, 2, 3], device=device)).shape == (3,)
    assert draw(torch.Size((2, 2)), 1, device=device).shape == (2, 2)
    assert draw([2, 2], 1, device=device).shape == (2, 2)


@draws
def test_the_result_lives_where_it_was_asked_for(backend: str, device: str, draw: Callable[..., torch.Tensor]) -> None:
    got = draw((2, 3), 1, device=device)
    assert got.device.type == device
    assert got.is_contiguous()
    assert not got.requires_grad


# Errors ------------------------------------------------------------------------------------------------------------------------


@draws
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (((3, -1), 1), "shape"),
        (((3, 1.5), 1), "shape"),
        (("3", 1), "shape"),
        (((3, 4), 1.0), "seeds"),
        (((3, 4), "1"), "seeds"),
        (((3, 4), None), "seeds"),
        (((3, 4), 2**64), "seed"),
        (((3, 4), -(2**63) - 1), "seed"),
        (((3, 4), torch.zeros(4, dtype=torch.int64)), "seeds"),
        (((3, 4), torch.zeros(3, 1, dtype=torch.int64)), "seeds"),
        (((3, 4), torch.zeros(3)), "seeds"),
        (((3, 4), torch.zeros(3, dtype=torch.int32)), "seeds"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_bad_arguments_are_named(draw: Callable[..., torch.Tensor], arguments: tuple[object, ...], names: str) -> None:
    with pytest.raises((ValueError, TypeError), match=names):
        draw(*arguments)


@draws
@pytest.mark.parametrize("stream", [1.5, "0", None, 2**64])
def test_bad_streams_are_named(draw: Callable[..., torch.Tensor], stream: object) -> None:
    with pytest.raises((ValueError, TypeError), match="stream"):
        draw((3, 4), 1, stream=stream)


@pytest.mark.parametrize("draw", [lapcore.random.uniform, lapcore.random.normal])
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.complex64, "float32"])
def test_bad_dtypes_are_named(draw: Callable[..., torch.Tensor], dtype: object) -> None:
    with pytest.raises((ValueError, TypeError), match="dtype"):
        draw((3, 4), 1, dtype=dtype)
