"""The one command for a machine with a card: build for it, test, look for bad memory accesses and races, measure.

    python -m bench.gpu --json bench/results/gpu.json

Needs a CUDA build of PyTorch, nvcc, pytest and the build requirements, and no network. Every step runs in processes of its own
under a time limit; what fails or runs out of time is kept with its output, and the rest goes on. The JSON is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .report import versions, write_json

ROOT = Path(__file__).resolve().parents[1]
TAIL = 20_000
NO_TESTS_SELECTED = 5  # pytest's exit status


@dataclass(frozen=True)
class Step:
    """A command under a time limit; `least` seconds are kept for it by the steps before."""

    name: str
    command: list[str]
    limit: float
    least: float = 0
    environment: dict[str, str] = field(default_factory=dict)
    passing: tuple[int, ...] = (0,)
    result: Path | None = None
    """A JSON file that the command writes, perhaps again and again."""


@dataclass(frozen=True)
class Outcome:
    name: str
    command: str
    passed: bool
    status: int | None
    """The exit status; None where it ran out of time or could not be started."""
    seconds: float
    why: str
    output: str
    result: Any


def no_card() -> str | None:
    """Why nothing can be run here."""
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) was built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    return None


def run(step: Step, limit: float) -> Outcome:
    """Runs a step; past its limit it is stopped, with every process it started."""
    started = time.monotonic()
    line = " ".join(step.command)
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        try:
            process = subprocess.Popen(
                step.command,
                cwd=ROOT,
                env={**os.environ, **step.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(step.name, line, False, None, 0.0, f"could not be started: {error}", "", None)
        status, why = None, f"stopped after its limit of {limit:.0f} s"
        try:
            status = process.wait(limit)
            why = "" if status in step.passing else f"exit status {status}"
        except subprocess.TimeoutExpired:
            pass
        finally:
            stop(process)
        seconds = time.monotonic() - started
        output.seek(0)
        told = output.read()[-TAIL:]
    return Outcome(step.name, line, not why, status, round(seconds, 1), why, told, read(step.result))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started; they share its session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read(path: Path | None) -> Any:
    return json.loads(path.read_text()) if path and path.is_file() else None


def build_step(capability: tuple[int, int], mode: str = "cuda") -> Step:
    """Installs the checkout where it is, with kernels for this card alone: the shortest build."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-v",
        "-e",
        str(ROOT),
    ]
    architecture = f"{capability[0]}{capability[1]}-real"
    environment = {"LAPCORE_BUILD": mode, "CUDAARCHS": architecture, "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    return Step(f"build ({mode})", pip, limit=170, environment=environment)


def sanitizer() -> str | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(f"{home}/bin" for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def later_steps(with_cuda: bool, scratch: Path) -> Iterator[Step]:
    """All after the build. Without CUDA kernels the Triton ones are still worth it, and falling back to them is no error."""
    python = [sys.executable, "-m"]
    strict = {"LAPCORE_STRICT": str(int(with_cuda))}
    testing = strict | {"LAPCORE_TEST_BACKENDS": "triton,cuda" if with_cuda else "triton"}
    pytest = [*python, "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-m"]
    several = ["-n", "8"] if find_spec("xdist") else []
    if shutil.which("nvidia-smi"):
        yield Step("machine", ["nvidia-smi"], limit=10)
    yield Step("info", [*python, "lapcore.cli.main", "info"], limit=30, environment=strict)
    exercises = {
        "exercise": "lapcore.bench.gpu_pyramid",
        "exercise distances": "lapcore.bench.gpu_distances",
        "exercise gaussian": "lapcore.bench.gpu_gaussian",
        "exercise masked convolutions": "lapcore.bench.gpu_masked_conv",
        "exercise sampling": "lapcore.bench.gpu_sampling",
    }
    for name, module in exercises.items():
        yield Step(name, [*python, module, "exercise"], limit=90, least=7, environment=strict)
    yield Step("tests marked gpu", [*pytest, "gpu"], 60, 10, testing, passing=(0, NO_TESTS_SELECTED))
    kernels = [*pytest, "not slow", *several, "tests/ops", "-k", "triton or cuda"]
    yield Step("tests of the kernels", kernels, 100, 20, testing)
    yield Step(
        "tests of every operation", [*pytest, "not slow", *several, "tests/ops/test_every_op.py"], 70, 10, testing
    )
    for tool in ("memcheck", "racecheck") if sanitizer() else ():
        watched = [str(sanitizer()), "--tool", tool, "--error-exitcode", "9"]
        # One allocation a tensor: inside PyTorch's large blocks an access out of bounds would go unseen.
        environment = strict | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        for name, module in exercises.items():
            yield Step(name.replace("exercise", tool), [*watched, *python, module, "exercise"], 60, 8, environment)
    for goal in ("G1", "G2", "G3"):
        path = scratch / f"{goal}.json"
        command = [*python, "lapcore.bench.gpu_pyramid", "measure", goal, "--json", str(path)]
        yield Step(goal, command, 100, 30, strict, result=path)
    for goal, module in (("G4", "lapcore.bench.gpu_gaussian"), ("G5", "lapcore.bench.gpu_masked_conv")):
        path = scratch / f"{goal}.json"
        yield Step(goal, [*python, module, "measure", "--json", str(path)], 60, 20, strict, result=path)
    path = scratch / "sampling.json"
    command = [*python, "lapcore.bench.gpu_sampling", "measure", "--json", str(path)]
    yield Step("G6, G7", command, 80, 20, strict, result=path)
    for op in ("vector_quantize", "parzen_log_likelihood"):
        path = scratch / f"{op}.json"
        command = [*python, "lapcore.bench.gpu_distances", "measure", op, "--json", str(path)]
        yield Step(op, command, 60, 20, strict, result=path)


def device() -> dict[str, Any]:
    card = torch.cuda.get_device_properties(0)
    return {
        "name": card.name,
        "capability": f"{card.major}.{card.minor}",
        "memory_bytes": card.total_memory,
        "multiprocessors": card.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description="Build, test and measure on this machine's card."
    )
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "gpu.json", metavar="FILE")
    parser.add_argument("--budget", type=float, default=520, metavar="SECONDS", help="for everything (520)")
    options = parser.parse_args(arguments)
    if reason := no_card():
        print(f"bench.gpu: nothing to run on: {reason}", file=sys.stderr)
        return 1
    return run_all(options.json, options.budget)


def run_all(path: Path, budget: float) -> int:
    """Every step within the budget, each kept as soon as it has ended; 0 if all passed."""
    end = time.monotonic() + budget
    report: dict[str, Any] = {
        "device": device(),
        "versions": versions(),
        "budget_seconds": budget,
        "sanitizer": sanitizer() or "compute-sanitizer was not found: no memory or race check",
        "steps": [],
    }

    def take(step: Step, reserved: float) -> bool:
        limit = min(step.limit, end - time.monotonic() - reserved)
        if limit < 1:
            outcome = Outcome(step.name, " ".join(step.command), False, None, 0.0, "no time was left", "", None)
        else:
            outcome = run(step, limit)
        report["steps"].append(asdict(outcome))
        write_json(path, report)
        print(f"{step.name}: {'passed' if outcome.passed else outcome.why}, {outcome.seconds:.0f} s", flush=True)
        return outcome.passed

    with tempfile.TemporaryDirectory() as scratch:
        steps = list(later_steps(True, Path(scratch)))
        reserved = sum(step.least for step in steps)
        if not take(build_step(torch.cuda.get_device_capability()), reserved):
            take(build_step(torch.cuda.get_device_capability(), "cpu"), reserved)
            steps = list(later_steps(False, Path(scratch)))
        for done, step in enumerate(steps, 1):
            take(step, sum(later.least for later in steps[done:]))
    for step in report["steps"]:
        if step["result"] or not step["passed"]:
            print(f"\n{step['name']}{': ' + step['why'] if step['why'] else ''}\n{step['output'][-4000:]}")
    return int(not all(step["passed"] for step in report["steps"]))


if __name__ == "__main__":
    sys.exit(main())
