"""Builds `lapcore._C` with CMake; everything else about the package is in pyproject.toml.

LAPCORE_BUILD chooses what is built:
  auto  (default) C++ if there is a compiler; CUDA too if there is nvcc. Never fails the install.
  cpu   C++ or an error.
  cuda  C++ and CUDA or an error.
  none  Python only.
LAPCORE_WERROR=1 makes warnings errors, and any error one of the install, which is how `make check` builds.
What was built, and why anything was not, is kept in lapcore/_build.json, which `lapcore info` shows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
MODES = ("auto", "cpu", "cuda", "none")


def build_mode() -> str:
    mode = os.environ.get("LAPCORE_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"LAPCORE_BUILD: expected one of {', '.join(MODES)}, got {mode!r}")
    return mode


def warnings_are_errors() -> bool:
    return os.environ.get("LAPCORE_WERROR", "0") == "1"


def cmake_command() -> str:
    """The cmake of the build requirements, or the system's when building without isolation."""
    try:
        import cmake
    except ImportError:
        found = shutil.which("cmake")
        if found is None:
            raise RuntimeError("cmake was not found; install it with: pip install cmake") from None
        return found
    return str(Path(cmake.CMAKE_BIN_DIR) / "cmake")


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


class CMakeBuild(build_ext):
    """Configures and builds csrc/ with CMake and records the outcome."""

    def build_extension(self, ext: Extension) -> None:
        mode = build_mode()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.unlink(missing_ok=True)  # a build that fails, or is not asked for, must not leave an old one behind
        report = {"mode": mode, "cpu": mode != "none", "cuda": False, "reason": ""}
        if mode == "none":
            report["reason"] = "installed with LAPCORE_BUILD=none"
        else:
            nvcc = find_nvcc() if mode in ("auto", "cuda") else None
            if mode == "cuda" and nvcc is None:
                raise RuntimeError("LAPCORE_BUILD=cuda: nvcc was not found on PATH or under CUDA_HOME")
            self.compile(target, mode, nvcc, report)
        in_place = self.inplace or self.editable_mode
        if in_place and not report["cpu"]:
            (ROOT / "lapcore" / target.name).unlink(missing_ok=True)
        for folder in (target.parent, ROOT / "lapcore") if in_place else (target.parent,):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "_build.json").write_text(json.dumps(report, indent=2) + "\n")
        self.announce(f"lapcore: native build: {json.dumps(report)}", level=3)

    def compile(self, target: Path, mode: str, nvcc: str | None, report: dict[str, object]) -> None:
        """Builds with CUDA, then without, then not at all, as far as the mode allows."""
        try:
            self.cmake(target, nvcc)
            report["cuda"] = nvcc is not None
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            if mode in ("cpu", "cuda") or warnings_are_errors():
                raise
            report["reason"] = f"{'CUDA: ' if nvcc else ''}{self.describe(error)}"
            if nvcc is not None:
                self.compile(target, mode, None, report)
            else:
                report["cpu"] = False
                self.announce(f"lapcore: no native code was built: {report['reason']}", level=3)

    def cmake(self, target: Path, nvcc: str | None) -> None:
        import pybind11

        work = Path(self.build_temp).resolve() / ("cuda" if nvcc else "cpu")
        work.mkdir(parents=True, exist_ok=True)
        configure = [
            cmake_command(), "--fresh", "-S", str(ROOT), "-B", str(work), "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DLAPCORE_MODULE={target}",
            f"-DLAPCORE_CUDA={'ON' if nvcc else 'OFF'}",
            f"-DLAPCORE_WERROR={'ON' if warnings_are_errors() else 'OFF'}",
        ]  # fmt: skip
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        if nvcc:
            configure.append(f"-DCMAKE_CUDA_COMPILER={nvcc}")
        self.run_logged(configure)
        self.run_logged(
            [cmake_command(), "--build", str(work), "--parallel", str(self.parallel or os.cpu_count() or 1)]
        )

    @staticmethod
    def run_logged(command: list[str]) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        sys.stdout.write(done.stdout)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, output=done.stdout)

    @staticmethod
    def describe(error: Exception) -> str:
        """The first line of a failed build that says what is wrong."""
        text = str(getattr(error, "output", "") or error)
        if "CMAKE_CXX_COMPILER" in text:
            return "no C++ compiler was found (Debian, Ubuntu: apt-get install g++)"
        if "Development.Module" in text:
            return "Python's headers were not found (Debian, Ubuntu: apt-get install python3-dev)"
        lines = [line.strip() for line in text.splitlines() if "error" in line.lower()]
        return lines[0] if lines else str(error)


setup(
    packages=[*find_packages(include=["lapcore", "lapcore.*"]), "lapcore.kernels"],
    ext_modules=[Extension("lapcore._C", sources=[], optional=build_mode() in ("auto", "none"))],
    cmdclass={"build_ext": CMakeBuild},
)
