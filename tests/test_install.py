"""The package as its users get it: from a source distribution, away from this checkout, with and without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IN_SDIST = (
    "CMakeLists.txt",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench/pyramid.py",
    "constraints.txt",
    "csrc/bindings.cpp",
    "csrc/common/taps.h",
    "csrc/cpu/pyramid.cpp",
    "csrc/cuda/pyramid.cu",
    "kernels/pyramid.py",
    "lapcore/_C.pyi",
    "lapcore/py.typed",
    "setup.py",
    "tests/oracle/pyramid.py",
)
# An editable install of this checkout would lend its parts to the installed package.
USE = """
import json, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in finder.__module__]
import torch, lapcore, lapcore.kernels, lapcore.bench.pyramid
x = torch.rand(2, 3, 9, 14)
error = float((lapcore.collapse(lapcore.laplacian_pyramid(x, 3)) - x).abs().max())
print(json.dumps([lapcore.__file__, error, lapcore.explain("pyr_down", x)["cpu"]]))
"""

Run = subprocess.CompletedProcess[str]


def run(*command: str, cwd: Path, **environment: str) -> Run:
    env = {name: value for name, value in os.environ.items() if not name.startswith("LAPCORE_")} | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("lapcore-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture
def install(source: Path, tmp_path: Path) -> Callable[..., tuple[Run, Run]]:
    """Installs into an empty folder; gives what pip said and what a program in another empty folder saw."""

    def call(code: str = USE, **environment: str) -> tuple[Run, Run]:
        target, empty = tmp_path / "site", tmp_path / "empty"
        empty.mkdir()
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", str(target)]
        done = run(*pip, str(source), cwd=empty, **environment)
        return done, run(sys.executable, "-c", code, cwd=empty, PYTHONPATH=str(target))

    return call


def test_the_sdist_holds_what_it_takes_to_build(source: Path) -> None:
    assert [name for name in IN_SDIST if not (source / name).is_file()] == []


def test_the_sdist_holds_the_sources_of_this_checkout(source: Path) -> None:
    """So that what is built from it is what was built here."""
    for folder in ("csrc", "kernels", "lapcore"):
        sources = {
            path for path in (ROOT / folder).rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".map", ".py", ".pyi")
        }
        assert sources
        assert [path for path in sources if not (source / path.relative_to(ROOT)).is_file()] == []


@pytest.mark.slow
def test_installs_with_native_code(install: Callable[..., tuple[Run, Run]], tmp_path: Path) -> None:
    done, used = install(LAPCORE_BUILD="cpu")
    assert done.returncode == 0, done.stdout
    assert str(tmp_path / "site") in used.stdout and used.stdout.endswith("null]\n"), used.stdout + used.stderr


@pytest.mark.slow
def test_a_second_install_from_the_same_tree_builds_again(install: Callable[..., tuple[Run, Run]]) -> None:
    done, used = install(LAPCORE_BUILD="cpu")
    assert done.returncode == 0 and used.stdout.endswith("null]\n"), done.stdout + used.stderr


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"LAPCORE_BUILD": "none"}, "LAPCORE_BUILD=none"), ({"CXX": "/nonexistent/g++"}, "no C++ compiler was found")],
    ids=["none", "no compiler"],
)
def test_installs_without_native_code_and_says_why(
    install: Callable[..., tuple[Run, Run]], environment: dict[str, str], reason: str
) -> None:
    done, used = install(**environment)
    assert done.returncode == 0, done.stdout
    assert reason in used.stdout, used.stdout + used.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LAPCORE_BUILD": "cpu", "CXX": "/nonexistent/g++"}, "CMAKE_CXX_COMPILER"),
        ({"LAPCORE_BUILD": "cuda", "CUDA_HOME": "/nonexistent"}, "nvcc was not found"),
        ({"LAPCORE_BUILD": "some"}, "expected one of auto, cpu, cuda, none, got 'some'"),
    ],
    ids=["cpu", "cuda", "unknown"],
)
def test_what_was_asked_for_and_cannot_be_built_fails(
    install: Callable[..., tuple[Run, Run]], environment: dict[str, str], message: str
) -> None:
    done, _ = install(**environment)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
