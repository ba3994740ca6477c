"""Runs in processes of their own: killed at any moment, and several at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from lapcore.data import write_png
from lapcore.models.running import checkpoints
from tests.training.tiny import run

ROOT = Path(__file__).parents[2]


def started(*arguments: str) -> subprocess.Popen[str]:
    environment: dict[str, str] = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, start_new_session=True, **pipes)


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a launcher's workers outlive it
        raise


def python(*arguments: str, fails: bool = False) -> str:
    process = started(*arguments)
    out, errors = finished(process)
    assert (process.returncode != 0) == fails, errors[-3000:]
    return out


def test_killed_at_any_moment_the_run_ends_in_the_same_bytes(tmp_path: Path) -> None:
    results = [json.loads(line) for line in python("-m", "tests.training.killed", str(tmp_path)).splitlines()]
    assert Counter(result["kind"] for result in results) == {"tiny": 11, "duel": 4}
    for result in results:
        assert result == {"kind": result["kind"], "point": result["point"], "status": -9, "same": True, "litter": []}


LAUNCH = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", "0"],
}


PLAIN = {"norm": False, "dropout": 0.0}
SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.5}
SAME: dict[str, tuple[dict[str, Any], float]] = {
    "Adam": ({"kind": "tiny", "model": PLAIN}, 1e-4),
    "batch norm": ({"kind": "tiny", "model": {"dropout": 0.0}, "players": {"model": SGD}}, 2e-6),
    "vae": ({"kind": "vae", "players": {"model": SGD}}, 2e-6),
    "duel": ({"kind": "duel", "players": {"critic": SGD}}, 2e-6),
}
"""Runs of which two processes make the weights that one makes, and how near they come."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[list[int]]]]:
    """The folder of the runs of two processes, by name, and the exit statuses of both."""
    folder = tmp_path_factory.mktemp("pairs")
    runs = {name: [settings] for name, (settings, _) in SAME.items()}
    runs |= {"whole": [{"kind": "duel"}], "cut": [{"kind": "duel", "die": 13}, {"kind": "duel", "resume": True}]}
    every = [[{"out": str(folder / name), **part} for part in parts] for name, parts in runs.items()]
    lines = python("-m", "tests.training.pair", json.dumps(every)).splitlines()
    return folder, dict(zip(runs, map(json.loads, lines), strict=True))


def assert_same_run(two: Path, folder: Path, settings: dict[str, Any], atol: float) -> None:
    run(folder / "one", **settings)
    one, two_ = (safetensors.torch.load_file(path / "model/model.safetensors") for path in (folder / "one", two))
    for name, weight in one.items():
        torch.testing.assert_close(two_[name], weight, rtol=0, atol=atol)
    logged = [
        [json.loads(line)["losses"] for line in (path / "log.jsonl").read_text().splitlines()]
        for path in (folder / "one", two)
    ]
    for mine, theirs in zip(*logged, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4)
    newest = checkpoints(two / "checkpoints")[-1].name
    assert newest == {"tiny": "step-00000017", "duel": "step-00000011", "vae": "step-00000006"}[settings["kind"]]


@pytest.mark.parametrize("name", SAME)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_do_what_one_does(
    name: str, pairs: tuple[Path, dict[str, list[list[int]]]], tmp_path: Path
) -> None:
    """The weights are those of one process, batch norm included; without dropout, which each process draws for itself.

    Steps of SGD carry the rounding of their gradients on: 17 of at most 0.05 times a gradient of at most 1 that 16 sums of two
    shares have rounded, and twice that by momentum, 2 * 17 * 0.05 * 16 u < 2e-6. Those of Adam are lr m / sqrt(v), and a gradient
    near 0 turns rounding into steps of up to lr: they are tried without batch norm, which leaves biases none but such.
    """
    folder, statuses = pairs
    assert statuses[name] == [[0, 0]]
    assert_same_run(folder / name, tmp_path, *SAME[name])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCH)
@pytest.mark.usefixtures("one_thread")
def test_every_launcher_is_understood(launcher: str, tmp_path: Path) -> None:
    settings, atol = SAME["Adam"]
    python(*LAUNCH[launcher], "-m", "tests.training.tiny", json.dumps({"out": str(tmp_path / "two"), **settings}))
    assert_same_run(tmp_path / "two", tmp_path, settings, atol)


def test_two_processes_are_killed_and_resumed(pairs: tuple[Path, dict[str, list[list[int]]]]) -> None:
    """One is killed in the critic's 13th turn, of step 7, and the other fails or is ended."""
    folder, statuses = pairs
    (other, killed), resumed = statuses["cut"]
    assert killed == -signal.SIGKILL and other != 0 and resumed == [0, 0] and statuses["whole"] == [[0, 0]]
    one, two = (folder / name / "model/model.safetensors" for name in ("whole", "cut"))
    assert one.read_bytes() == two.read_bytes()


def test_a_signal_to_two_processes(tmp_path: Path) -> None:
    """As from a terminal: to the whole group, and once more from the launcher."""
    data = tmp_path / "photos"
    data.mkdir()
    for index in range(6):
        write_png(data / f"{index}.png", torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8))
    model = "--model.latent 4 --model.widths [4] --model.decoder_widths [4] --model.hidden 8 --batch_size 4"
    run = f"--data {data} --size 8 --out {tmp_path / 'run'} --steps 100000 --num_workers 1 --checkpoint_every 20"
    process = started(*LAUNCH["torchrun"], "-m", "lapcore.cli.main", "train", "vae", *model.split(), *run.split())
    folder = tmp_path / "run/checkpoints"
    while not (folder / "step-00000020").exists() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = finished(process)
    said = [line for line in errors.splitlines() if line.startswith("lapcore: ")]
    newest = int(checkpoints(folder)[-1].name.removeprefix("step-"))
    assert len(said) == 1 and said[0].startswith(f"lapcore: stopped by SIGINT: step {newest} of 100000"), errors[-3000:]
