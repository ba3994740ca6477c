"""Help, exit codes, and what the shell sees when things go wrong."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest

from lapcore.cli import main as cli
from lapcore.errors import CheckpointError, MissingDependencyError
from lapcore.training import Stopped


def test_help_lists_the_commands(run):
    shown = run("--help")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "train"])
def test_every_command_has_help(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert f"usage: lapcore {command} " in capsys.readouterr().out


def test_info_names_every_backend(lapcore):
    result = lapcore("info")
    assert result.returncode == 0 and result.stderr == ""
    backends = result.stdout.split("\nbackends\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in backends] == ["cuda", "triton", "cpu", "reference"]
    for line in backends:
        assert "ready" in line or "missing: " in line


WITHOUT_EXTRAS = """
import importlib.machinery, importlib.metadata, sys
from lapcore.cli.info import EXTRAS
gone = {"PIL", "yaml", *(name for names in EXTRAS.values() for name in names)}
path_finder = importlib.machinery.PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.split(".")[0] in gone else path_finder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(path_finder)] = Finder
real = importlib.metadata.version
def version(name):
    if name in gone:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
sys.modules.pop("lapcore.cli.info")
from lapcore.cli.main import main
codes = [main(["info"]), main(["pyramid", "x.png", "--out", "y"]), main(["--help"])]
print(codes)
"""


def test_info_needs_no_extras_and_says_how_to_get_them(tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    command = [sys.executable, "-c", WITHOUT_EXTRAS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert result.stdout.endswith("[0, 1, 0]\n"), result
    for extra in ("triton", "hub", "data", "train", "plot"):
        assert f'pip install "lapcore[{extra}]"' in result.stdout
    assert result.stderr.count("\n") == 1 and 'pip install "lapcore[data]"' in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["--nonsense"], "COMMAND"),
        (["info", "extra"], "unrecognized arguments: extra"),
        (["pyramid", "x.png"], "--out"),
        (["pyramid", "x.png", "--out", "y", "--levels", "0"], "at least 1"),
        (["sample", "run", "--out", "y"], "--seeds"),
        (["sample", "run", "--out", "y", "--seeds", "9-7"], "from low to high"),
        (["sample", "run", "--out", "y", "--seeds", "1,x"], "'x' in '1,x'"),
        (["sample", "run", "--out", "y", "--seeds", "1", "--format", "gif"], "invalid choice: 'gif'"),
        (["sample", "run", "--out", "y", "--seeds", "1", "--labels", "a"], "--labels"),
        (["sample", "run", "--out", "y", "--see", "1"], "--seeds"),
        (["eval", "run", "--data", "y", "--metrics", "rmse,nice"], "'nice'"),
        (["eval", "run", "--data", "y", "--preprocess", "celeba", "--resize", "crop"], "--resize"),
        (["eval", "run", "--data", "y", "--validation", "z"], "--validation"),
        (["eval", "run", "--data", "y", "--metrics", "parzen", "--samples", "0"], "at least 1"),
        (["edit", "run", "x.png", "--painted", "y.png", "--out", "z", "--level", "0"], "--level"),
    ],
)
def test_bad_usage_exits_2_and_writes_nothing(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: lapcore") and message in captured.err
    assert list(tmp_path.iterdir()) == []


def run_that_raises(error, arguments=("info",)):
    def raising(_):
        raise error

    original = cli._dispatch
    cli._dispatch = raising
    try:
        return cli.main(list(arguments))
    finally:
        cli._dispatch = original


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CheckpointError("run/model: no such folder"), "run/model: no such folder"),
        (ValueError("size: expected at least 1,\n  got 0"), "size: expected at least 1, got 0"),
        (MissingDependencyError('pip install "lapcore[data]"'), 'pip install "lapcore[data]"'),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x: cannot write, No space left on device; free"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write, No space left on device; free some space"),
        (MemoryError(), "out of memory: try a smaller batch"),
        (KeyError("weights"), "unexpected KeyError: 'weights' (add --debug for the traceback)"),
    ],
)
def test_a_failure_is_one_line_and_exit_1(error, line, capsys):
    assert run_that_raises(error) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"lapcore: {line}") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback(capsys):
    assert run_that_raises(ValueError("odd"), ["info", "--debug"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err and captured.err.endswith("lapcore: odd\n")


def test_interruption(capsys):
    assert run_that_raises(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "lapcore: interrupted\n"
    assert run_that_raises(Stopped("stopped: go on with: x", signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "lapcore: stopped: go on with: x\n"


def test_a_full_disk_for_output():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lapcore.cli.main", "info"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "No space left on device" in result.stderr


def test_a_closed_pipe_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "lapcore.cli.main", "info"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert result.returncode == 1 and result.stderr == ""


def limit_files(size):
    """A disk that is full after `size` bytes of a file: writing on fails with EFBIG."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_leaves_nothing(failing, picture, tmp_path):
    image = picture(rows=200, columns=200)
    line = failing("pyramid", image, "--out", tmp_path / "out", preexec_fn=limit_files(10_000))
    assert "cannot write, File too large" in line
    assert list(tmp_path.iterdir()) == [image]
