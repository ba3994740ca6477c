"""Runs in processes of their own: killed at any moment, and several at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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


@pytest.mark.parametrize(("kind", "points"), [("tiny", 11), ("duel", 4)])
def test_killed_at_any_moment_the_run_ends_in_the_same_bytes(kind: str, points: int, tmp_path: Path) -> None:
    results = [json.loads(line) for line in python("-m", "tests.training.killed", str(tmp_path), kind).splitlines()]
    assert len(results) == points
    for result in results:
        assert result == {"point": result["point"], "status": -9, "same": True, "litter": []}


LAUNCH = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", "0"],
}


PLAIN = {"norm": False, "dropout": 0.0}
SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.5}


@pytest.mark.parametrize(
    ("launcher", "kind", "model", "players", "atol"),
    [
        ("torchrun", "tiny", PLAIN, {}, 1e-4),
        ("accelerate", "tiny", PLAIN, {}, 1e-4),
        ("torchrun", "tiny", {"dropout": 0.0}, {"model": SGD}, 2e-6),
        ("torchrun", "vae", {}, {"model": SGD}, 2e-6),
        ("torchrun", "duel", {}, {"critic": SGD}, 2e-6),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_do_what_one_does(
    launcher: str, kind: str, model: dict[str, Any], players: dict[str, Any], atol: float, tmp_path: Path
) -> None:
    """The weights are those of one process, batch norm included; without dropout, which each process draws for itself.

    Steps of SGD carry the rounding of their gradients on: 17 of at most 0.05 times a gradient of at most 1 that 16 sums of two
    shares have rounded, and twice that by momentum, 2 * 17 * 0.05 * 16 u < 2e-6. Those of Adam are lr m / sqrt(v), and a gradient
    near 0 turns rounding into steps of up to lr: they are tried without batch norm, which leaves biases none but such.
    """
    settings = {"kind": kind, "model": model, "players": players}
    options = json.dumps({"out": str(tmp_path / "two"), **settings})
    python(*LAUNCH[launcher], "-m", "tests.training.tiny", options)
    run(tmp_path / "one", **settings)
    one, two = (safetensors.torch.load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=atol)
    logged = [
        [json.loads(line)["losses"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for mine, theirs in zip(*logged, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4)
    newest = checkpoints(tmp_path / "two/checkpoints")[-1].name
    assert newest == {"tiny": "step-00000017", "duel": "step-00000011", "vae": "step-00000006"}[kind]


def test_two_processes_are_killed_and_resumed(tmp_path: Path) -> None:
    """One is killed in the critic's 13th turn, of step 7, and the launcher ends the other."""
    for name, parts in {"whole": [{}], "cut": [{"die": 13}, {"resume": True}]}.items():
        for part in parts:
            options = json.dumps({"out": str(tmp_path / name), "kind": "duel", **part})
            python(*LAUNCH["torchrun"], "-m", "tests.training.tiny", options, fails="die" in part)
            assert (tmp_path / name / "model").exists() != ("die" in part)
    one, two = (tmp_path / name / "model/model.safetensors" for name in ("whole", "cut"))
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
