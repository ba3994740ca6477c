"""Builds `lapcore._C` with CMake; everything else about the package is in pyproject.toml.

LAPCORE_BUILD chooses what is built:
  auto  (default) C++ if there is a compiler; CUDA too if there are nvcc and a card. Never fails the install.
  cpu   C++ or an error.
  cuda  C++ and CUDA or an error.
  none  Python only.
LAPCORE_GLIBC=2.28, for one, links for systems with that version of glibc or a newer one, which needs the package ziglang.
LAPCORE_WERROR=1 makes warnings errors, and whatever does not compile an error of the install, which is how `make` builds.
What was built, and why anything was not, is kept in lapcore/_build.json, which `lapcore info` shows. Objects are kept in
build/, so that the next build compiles only what has changed; ccache is used where it is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
MODES = ("auto", "cpu", "cuda", "none")
COMPILER_VARIABLES = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDAARCHS", "CUDACXX", "CUDAFLAGS")
"""Those that CMake reads when it configures a folder for the first time, and never again."""


def build_mode() -> str:
    mode = os.environ.get("LAPCORE_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"LAPCORE_BUILD: expected one of {', '.join(MODES)}, got {mode!r}")
    return mode


def warnings_are_errors() -> bool:
    return os.environ.get("LAPCORE_WERROR", "0") == "1"


def build_tool(name: str) -> str | None:
    """cmake or ninja: that of the build requirements, or the system's when building without isolation."""
    try:
        package = import_module(name)
    except ImportError:
        return shutil.which(name)
    return str(Path(getattr(package, "CMAKE_BIN_DIR", None) or package.BIN_DIR) / name)


def cmake_command() -> str:
    found = build_tool("cmake")
    if found is None:
        raise RuntimeError("cmake was not found; install it with: pip install cmake")
    return found


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=f"{home}/bin" if home else None)


def has_card() -> bool:
    """Whether NVIDIA's driver lists a card."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and b"GPU " in subprocess.run([tool, "-L"], capture_output=True).stdout


def version_of(cmake: str) -> str:
    return subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True).stdout.partition("\n")[0]


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
            if mode == "auto" and nvcc is not None and not has_card():
                nvcc, report["reason"] = None, "CUDA: there is nvcc, but nvidia-smi lists no card"
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
            if mode in ("cpu", "cuda") or (warnings_are_errors() and "--build" in getattr(error, "cmd", ())):
                raise
            report["reason"] = f"{'CUDA: ' if nvcc else ''}{self.describe(error)}"
            if nvcc is not None:
                self.compile(target, mode, None, report)
            else:
                report["cpu"] = False
                self.announce(f"lapcore: no native code was built: {report['reason']}", level=3)

    def cmake(self, target: Path, nvcc: str | None) -> None:
        import pybind11

        cmake = cmake_command()
        work = ROOT / "build" / ("cuda" if nvcc else "cpu")  # of every Python, for which kernels are compiled once
        configure = [
            cmake, "-S", str(ROOT), "-B", str(work), "-DCMAKE_BUILD_TYPE=Release",
            "-U*Python*",  # the one before
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DLAPCORE_MODULE={work / target.name}",
            f"-DLAPCORE_CUDA={'ON' if nvcc else 'OFF'}",
            f"-DLAPCORE_WERROR={'ON' if warnings_are_errors() else 'OFF'}",
            f"-DLAPCORE_GLIBC={os.environ.get('LAPCORE_GLIBC', '')}",
        ]  # fmt: skip
        if ninja := build_tool("ninja"):
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        if ccache := shutil.which("ccache"):
            configure += [f"-DCMAKE_{language}_COMPILER_LAUNCHER={ccache}" for language in ("CXX", "CUDA")]
        if nvcc:
            configure.append(f"-DCMAKE_CUDA_COMPILER={nvcc}")
        self.run_logged([*configure, *self.fresh(work, cmake)])
        self.run_logged([cmake, "--build", str(work), "--parallel", str(self.parallel or os.cpu_count() or 1)])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(work / target.name, target)

    @staticmethod
    def fresh(work: Path, cmake: str) -> list[str]:
        """CMake's option to configure anew, where the folder was configured with another CMake or other compilers."""
        work.mkdir(parents=True, exist_ok=True)
        settings = json.dumps([version_of(cmake), build_tool("ninja") is not None, shutil.which("ccache") is not None,
                               *(os.environ.get(name) for name in COMPILER_VARIABLES)])  # fmt: skip
        kept = work / "settings.json"
        if kept.is_file() and kept.read_text() == settings:
            return []
        kept.write_text(settings)
        return ["--fresh"]

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
    packages=[*find_packages(include=["lapcore", "lapcore.*"]), "lapcore.kernels", "lapcore.bench"],
    ext_modules=[Extension("lapcore._C", sources=[], optional=build_mode() in ("auto", "none"))],
    cmdclass={"build_ext": CMakeBuild},
)
