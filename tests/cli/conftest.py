"""The command as a user runs it: another process, its exit code, what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lapcore.data import write_png

ROOT = Path(__file__).parents[2]


def start(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lapcore.cli.main", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment | options.pop("env", {}), **streams | options)


@pytest.fixture
def lapcore():
    """lapcore("sample", run, ...) -> a finished process with returncode, stdout and stderr."""

    def call(*arguments, **options):
        process = start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return call


@pytest.fixture
def failing(lapcore):
    """Runs a command that must exit 1 with one line on stderr, and returns the line."""

    def call(*arguments, **options):
        result = lapcore(*arguments, **options)
        assert result.returncode == 1, result
        assert result.stderr.count("\n") == 1 and result.stderr.startswith("lapcore: "), result.stderr
        assert result.stdout == ""
        return result.stderr

    return call


@pytest.fixture
def picture(tmp_path):
    """picture("name.png", rows, columns) writes colour noise and returns its path."""

    def make(name="picture.png", rows=16, columns=16, channels=3, seed=0):
        noise = torch.randint(0, 256, (channels, rows, columns), generator=torch.Generator().manual_seed(seed))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, noise.to(torch.uint8))
        return path

    return make
