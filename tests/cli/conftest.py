"""The command as a user runs it: another process, its exit code, what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lapcore.cli.main import main
from lapcore.data import write_png
from lapcore.models import VAE, GatedPixelCNN, LapCVAE

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
def one_thread():
    """As the processes of `start`: sums in another number of parts round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


SIZE = 16
TINY = {"image_size": SIZE, "latent": 8, "widths": (8, 8), "decoder_widths": (8, 8), "hidden": 16}


ATTRIBUTES = ["glasses", "hair=black", "hair=red"]


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """saved(VAE, **settings) is the folder of such a model, with weights of seed 0."""

    def save(kind, **settings):
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("runs") / kind.name
        kind(**settings).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def vae(saved):
    return saved(VAE, **TINY)


@pytest.fixture(scope="session")
def lapcvae(saved):
    return saved(LapCVAE, image_size=SIZE, levels=2, latent=8, band_latent=8, widths=(8,), band_width=8, hidden=16)


@pytest.fixture(scope="session")
def conditional(saved):
    return saved(VAE, **TINY, num_classes=4)


@pytest.fixture(scope="session")
def described(saved):
    """A model is told attributes."""
    return saved(VAE, **TINY, attributes=ATTRIBUTES)


@pytest.fixture(scope="session")
def pixels(saved):
    """A model draws grey images of 5x5 pixel by pixel."""
    return saved(GatedPixelCNN, image_size=5, channels=1, hidden=4, layers=2, levels=16)


@pytest.fixture
def run(capsys):
    """run("sample", ...) in this process: exit 0 and returns stdout."""

    def call(*arguments):
        code = main(list(map(str, arguments)))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return call


@pytest.fixture
def refused(capsys):
    """A command that must exit 1 with one line on stderr, which it returns."""

    def call(*arguments):
        code = main(list(map(str, arguments)))
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert code == 1 and captured.out == "" and len(lines) == 1 and lines[0].startswith("lapcore: "), captured
        return lines[0]

    return call


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def table(folder, *rows):
    (folder / "attributes.csv").write_text("file,glasses,hair\n" + "".join(f"{row}\n" for row in rows))
