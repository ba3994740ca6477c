"""The module that users load: what it exports, what it asks of the system, and wheels as they are found without a compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from lapcore import native

ROOT = Path(__file__).parents[1]
OLDEST_GLIBC = (2, 28)
LEVELS = {"x86-64-v4": "avx512", "x86-64-v3": "avx2"}
# Makes a pyramid with the C++ kernels alone, of every instruction set.
USE = """
import torch, lapcore
from lapcore import _C
x = torch.rand(2, 3, 67, 43)
best = _C.isa()
for isa in _C.isas():
    _C.use_isa(isa)
    with lapcore.backend("cpu"):
        assert (lapcore.collapse(lapcore.laplacian_pyramid(x, 3)) - x).abs().max() < 1e-6, isa
print(lapcore.__file__, best)
"""
# Loads the module alone, by its file: PyTorch need not be there.
LOAD = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("lapcore._C", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
print(module.isa())
"""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command with no more of an environment than is said."""
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)


def processors_isa() -> str:
    """The instruction set of this processor, as the dynamic linker sees it."""
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    told = run(loader, "--help").stdout if loader.exists() else ""
    if "x86-64-v2" not in told:
        pytest.skip("needs x86-64 and glibc 2.33, whose dynamic linker tells what the processor has")
    return next((isa for level, isa in LEVELS.items() if f"{level} (supported" in told), "baseline")


def dynamic_symbols(module: Path) -> tuple[set[str], dict[str, str]]:
    """What a module exports, and what it cannot do without: the versions of undefined symbols by name."""
    if shutil.which("objdump") is None:
        pytest.skip("needs objdump (binutils)")
    exported, needed = set(), {}
    for line in run(shutil.which("objdump") or "", "-T", module).stdout.splitlines():
        symbol = re.fullmatch(r"[0-9a-f]{16} (.{7}) (\S+)\s+[0-9a-f]{16} +(?:\(?([\w.]+)\)?)? +(\S+)", line)
        if symbol is None:
            continue
        flags, section, version, name = symbol.groups()
        if section != "*UND*":
            exported.add(name)
        elif "w" not in flags:
            needed[name] = version or ""
    assert exported
    return exported, needed


@pytest.mark.skipif(native.missing() is not None, reason="needs native code")
def test_the_installed_module_exports_only_its_entry_and_takes_the_processors_instruction_set() -> None:
    module = native.load()
    exported, _ = dynamic_symbols(Path(str(module.__file__)))
    assert exported == {"PyInit__C"}
    assert module.isas()[-1] == processors_isa()


def pythons() -> list[str]:
    """This interpreter, and others that can be had."""
    found = [sys.executable]
    for minor in (12, 13):
        python = shutil.which(f"python3.{minor}")
        if python and minor != sys.version_info.minor and run(python, "-c", "import venv", PATH="").returncode == 0:
            found.append(python)
    return found


@pytest.fixture(scope="session")
def wheels() -> dict[str, Path]:
    """What `make wheel` makes, by the interpreter that it is for."""
    interpreters = pythons()
    made = subprocess.run(
        ["make", "wheel", f"PYTHONS={' '.join(interpreters)}"], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    found = {}
    for python in interpreters:
        tag = run(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").stdout.strip()
        (found[python],) = (ROOT / "dist").glob(f"lapcore-*-{tag}-{tag}-manylinux_2_28_x86_64.whl")
    return found


@pytest.mark.slow
def test_wheels_need_an_old_system_and_nothing_beside(wheels: dict[str, Path], tmp_path: Path) -> None:
    for python, wheel in wheels.items():
        folder = tmp_path / wheel.stem
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            archive.extractall(folder)
        assert {"lapcore/bench/pyramid.py", "lapcore/kernels/pyramid.py", "lapcore/_build.json"} <= set(names)
        assert not [name for name in names if name.split("/")[0] not in ("lapcore", "lapcore-0.1.0.dist-info")]
        (module,) = (folder / "lapcore").glob("_C*.so")
        exported, needed = dynamic_symbols(module)
        assert exported == {"PyInit__C"}
        of_python = {name for name in needed if re.match("_?Py", name)}
        for name, version in needed.items() - {(name, "") for name in of_python}:
            library, _, number = version.partition("_")
            assert library in ("GLIBC", "GCC"), f"{name} is of no version that every system has: {version or 'none'}"
            if library == "GLIBC":
                assert tuple(map(int, number.split(".")))[:2] <= OLDEST_GLIBC, f"{name} {version}"
        assert run(python, "-c", LOAD, module).stdout.split() == [processors_isa()]


def required(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distribution of this name and all that it requires, as far as they are here."""
    try:
        here = distribution(name)
    except PackageNotFoundError:
        return found  # for another system
    if here.name not in found:
        found[here.name] = here
        for line in here.requires or ():
            if "extra ==" not in line:
                required(re.split(r"[^\w.-]", line)[0], found)
    return found


def empty_environment(folder: Path) -> tuple[str, Path]:
    """A new environment with PyTorch and what it requires, by links: its commands' folder, and its packages'."""
    assert run(sys.executable, "-m", "venv", folder / "venv").returncode == 0
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    for package in [*required("torch", {}).values(), distribution("numpy")]:
        for name in {file.parts[0] for file in package.files or ()} - {".."}:
            if not (site / name).exists():
                (site / name).symlink_to(package.locate_file(name))
    return str(folder / "venv" / "bin"), site


@pytest.mark.slow
def test_a_wheel_runs_where_there_is_no_compiler(wheels: dict[str, Path], tmp_path: Path) -> None:
    """In an environment with nothing beside it but PyTorch, this one's, since that is a large download."""
    path, site = empty_environment(tmp_path)
    python, command = Path(path) / "python", Path(path) / "lapcore"
    installed = run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheels[sys.executable], PATH=path)
    assert installed.returncode == 0, installed.stderr
    for compiler in ("cc", "c++", "gcc", "g++", "clang", "nvcc"):
        assert shutil.which(compiler, path=path) is None

    used = run(python, "-c", USE, cwd=tmp_path, PATH=path, LAPCORE_STRICT="1")
    assert used.stdout.split() == [str(site / "lapcore" / "__init__.py"), processors_isa()], used.stderr
    info = run(command, "info", cwd=tmp_path, PATH=path)
    assert info.returncode == 0 and f"ready ({processors_isa()})" in info.stdout, info.stderr
    case = ("bench", "pyramid", "--only", "host time of pyr_down 1x1x4x4", "--seconds", "0.001")
    measured = run(command, *case, cwd=tmp_path, PATH=path)
    assert measured.returncode == 0 and "C11" in measured.stdout, measured.stderr
