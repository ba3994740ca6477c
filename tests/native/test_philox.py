"""csrc/common/philox.h against the oracle: words and uniforms to the bit, normals within 4e-6; against the reference to the bit."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lapcore
from tests.oracle import random as oracle
from tests.tolerance import NORMAL

ROOT = Path(__file__).parents[2]
SOURCE = """
#include "common/philox.h"
extern "C" void draw(std::uint64_t seed, std::uint64_t stream, std::int64_t blocks, std::uint32_t* words, float* u, float* z) {
    for (std::int64_t b = 0; b < blocks; ++b) {
        const auto w = lapcore::philox4x32_10(seed, b, stream);
        for (int k = 0; k < 4; ++k) {
            words[4 * b + k] = w.w[k];
            u[4 * b + k] = lapcore::uniform_of<float>(w.w[k]);
        }
        for (int k = 0; k < 4; k += 2) {
            const auto pair = lapcore::box_muller<float>(w.w[k], w.w[k + 1]);
            z[4 * b + k] = pair.first;
            z[4 * b + k + 1] = pair.second;
        }
    }
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("philox")
    (folder / "draw.cpp").write_text(SOURCE)
    options = [
        "-std=c++17",
        "-O2",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        f"-I{ROOT / 'csrc'}",
    ]
    subprocess.run([compiler, *options, "draw.cpp", "-o", "draw.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "draw.so"))


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (7, 3), (-1, -1), (2**40 + 9, 2**33)])
def test_header_equals_the_oracle(library: ctypes.CDLL, seed: int, stream: int) -> None:
    n = 4096
    words, u, z = np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.float32)
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (words, u, z))
    library.draw(ctypes.c_uint64(seed % 2**64), ctypes.c_uint64(stream % 2**64), ctypes.c_int64(n // 4), *pointers)
    np.testing.assert_array_equal(words, oracle.bits((n,), seed, stream))
    np.testing.assert_array_equal(u, oracle.uniform((n,), seed, stream))
    np.testing.assert_allclose(z, oracle.normal((n,), seed, stream), rtol=0, atol=NORMAL)
    with lapcore.backend("reference"):
        np.testing.assert_array_equal(z, lapcore.random.normal((n,), seed, stream=stream).numpy())
