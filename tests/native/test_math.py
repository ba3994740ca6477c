"""csrc/common/math.h and philox.h against NumPy in double: of one number and of vectors, which must agree to the bit."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = """
#include "common/philox.h"
namespace lapcore {
typedef float Four __attribute__((vector_size(16)));
template <class V> V cos_of(V t) { return cos_sin_of_quarters(t).first; }
template <class V> V sin_of(V t) { return cos_sin_of_quarters(t).second; }
#define FUNCTION(name) \\
    extern "C" void one_##name(const float* x, float* y, long n) { for (long i = 0; i < n; ++i) y[i] = name(x[i]); } \\
    extern "C" void four_##name(const float* x, float* y, long n) { \\
        for (long i = 0; i < n; i += 4) { \\
            Four v; \\
            std::memcpy(&v, x + i, sizeof v); \\
            v = name(v); \\
            std::memcpy(y + i, &v, sizeof v); \\
        } \\
    }
FUNCTION(exp_within) FUNCTION(expm1_within) FUNCTION(exp_of) FUNCTION(expm1_of)
FUNCTION(square_radius_of) FUNCTION(log_of_normal) FUNCTION(log_of) FUNCTION(log1p_of)
FUNCTION(cos_of) FUNCTION(sin_of) FUNCTION(square_root)
}
"""
U = 2.0**-24
TINY = float(np.finfo(np.float32).tiny)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("math")
    (folder / "math.cpp").write_text(SOURCE)
    options = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, f"-I{ROOT / 'csrc'}", "math.cpp", "-o", "math.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "math.so"))


def evaluate(library: ctypes.CDLL, name: str, x: np.ndarray) -> np.ndarray:
    """The function's values, the same for numbers and vectors."""
    x = np.resize(x.astype(np.float32), -(-len(x) // 4) * 4)
    one, four = np.empty_like(x), np.empty_like(x)
    for function, y in ((f"one_{name}", one), (f"four_{name}", four)):
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, y)]
        getattr(library, function)(*pointers, ctypes.c_long(len(x)))
    np.testing.assert_array_equal(one, four)
    return one


def spread(low: float, high: float) -> np.ndarray:
    return np.random.default_rng(5).uniform(low, high, 1 << 16).astype(np.float32)


def positive() -> np.ndarray:
    """Over all exponents of normal numbers."""
    bits = np.random.default_rng(6).integers(0x00800000, 0x7F7FFFFF, 1 << 16)
    return bits.astype(np.uint32).view(np.float32)


def of_quarters(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: function(np.pi / 2 * t)


# name, true function, arguments, allowed error relative to the value, and absolute, both in units of 2^-24
CASES = {
    "exp_within": (np.exp, spread(-87, 87), 2, 0),
    "exp_of": (np.exp, np.concatenate([spread(-110, 89), spread(-1, 1)]), 2, 2**-125),
    "expm1_within": (np.expm1, spread(-87, 87), 3, 0),
    "expm1_of": (np.expm1, np.concatenate([spread(-200, 88.7), spread(-1e-3, 1e-3), spread(-1, 1)]), 3, 0),
    "log_of_normal": (np.log, np.concatenate([positive(), spread(0.5, 2), spread(0.999, 1.001)]), 2, 0),
    "log_of": (np.log, np.concatenate([positive(), positive() * np.float32(2.0**-130)]), 2, 0),
    "log1p_of": (np.log1p, np.concatenate([spread(0, 1), spread(0, 1e-4), spread(0, 1e30)]), 3, 0),
    "cos_of": (of_quarters(np.cos), spread(0, 4), 0, 2),
    "sin_of": (of_quarters(np.sin), spread(0, 4), 0, 2),
    "square_radius_of": (
        lambda x: -2 * np.log(x * 2.0**-32),
        np.concatenate([spread(0.5, 2**32), 2.0 ** spread(-1, 32)]),
        *(24, 24),  # a polynomial of lower degree: 4e-6 is allowed to the noise
    ),
    "square_root": (np.sqrt, positive(), 1, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_error(library: ctypes.CDLL, name: str) -> None:
    function, x, relative, absolute = CASES[name]
    x = x[: len(x) // 4 * 4]
    if name == "log_of":
        x = x[x > 0]
        x = x[: len(x) // 4 * 4]
    with np.errstate(over="ignore"):
        want = function(x.astype(np.float64))
    finite = np.abs(want) < np.finfo(np.float32).max
    got = evaluate(library, name, x)
    allowed = (relative * np.abs(want) + absolute) * U + 2.0**-149 * (np.abs(want) < TINY)
    error = np.abs(got - want)
    worst = int(np.argmax(np.where(finite, error - allowed, -np.inf)))
    assert error[worst] <= allowed[worst], f"{name}({x[worst]!r}) = {got[worst]!r}, expected {want[worst]!r}"
    assert np.isinf(got[~finite]).all()


def test_near_one_the_logarithm_keeps_its_relative_error(library: ctypes.CDLL) -> None:
    x = np.float32(1) + np.arange(-512, 512, dtype=np.float32) * np.float32(2.0**-23)
    want = np.log(x.astype(np.float64))
    np.testing.assert_allclose(evaluate(library, "log_of_normal", x), want, rtol=2 * U, atol=0)


def test_ends(library: ctypes.CDLL) -> None:
    inf, nan = np.inf, np.nan
    for name, given, expected in (
        ("exp_of", [-inf, inf, nan, 0.0], [0, inf, nan, 1]),
        ("expm1_of", [-inf, inf, nan, 0.0], [-1, inf, nan, 0]),
        ("log_of", [0.0, inf, nan, -1.0, -inf, 1.0], [-inf, inf, nan, nan, nan, 0]),
        ("log1p_of", [0.0, inf, nan], [0, inf, nan]),
    ):
        got = evaluate(library, name, np.array(given, np.float32))[: len(given)]
        np.testing.assert_array_equal(got, np.array(expected, np.float32), err_msg=name)
