"""`lapcore faces`: whole folders or none, the same for any number of processes."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from lapcore.cli.main import main
from lapcore.data import open_images
from tests.cli.conftest import contents, start


def test_faces_are_data(tmp_path, capsys):
    assert main(["faces", "--count", "5", "--size", "16", "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr()
    assert "5 faces of 16x16" in said.out and "faces: 5/5 images" in said.err
    dataset = open_images(tmp_path / "a", size=16, attributes=["glasses", "hair"])
    assert len(dataset) == 5 and dataset.attributes[0] == "glasses" and dataset[4][0].shape == (3, 16, 16)


def test_another_seed_makes_other_faces(tmp_path):
    for seed in (0, 1):
        assert main(["faces", "--count", "3", "--size", "8", "--seed", f"{seed}", "--out", f"{tmp_path}/{seed}"]) == 0
    first, second = contents(tmp_path / "0"), contents(tmp_path / "1")
    assert first.keys() == second.keys() and all(first[name] != second[name] for name in first)


def test_a_folder_with_anything_in_it_is_refused(refused, tmp_path):
    (tmp_path / "00000000.png").write_bytes(b"mine")
    assert "not empty" in refused("faces", "--count", 2, "--out", tmp_path)
    assert contents(tmp_path) == {"00000000.png": b"mine"}


@pytest.mark.parametrize(
    "wrong", [("--count", "0"), ("--size", "0"), ("--size", "5000"), ("--workers", "0"), ("--seed", "-1")]
)
def test_bad_usage(tmp_path, capsys, wrong):
    arguments = {"--count": "1", "--out": str(tmp_path / "out")} | dict([wrong])
    assert main(["faces", *(part for pair in arguments.items() for part in pair)]) == 2
    assert wrong[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["python_avatars", "resvg_py"])
def test_without_the_libraries(tmp_path, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["faces", "--count", "1", "--out", str(tmp_path / "out")]) == 1
    assert 'pip install "lapcore[faces]"' in capsys.readouterr().err and not (tmp_path / "out").exists()


def heed_interrupts() -> None:
    """As in a terminal. What a shell starts in the background ignores SIGINT, and so does all that it starts in turn."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupted_command_leaves_nothing(tmp_path):
    """Ctrl-C reaches every process of a terminal's foreground."""
    command = ("faces", "--count", 100000, "--size", 64, "--out", tmp_path / "out", "--workers", 2)
    process = start(*command, start_new_session=True, preexec_fn=heed_interrupts)
    try:
        deadline = time.monotonic() + 180
        while not list(tmp_path.glob(".tmp-*/*.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.glob(".tmp-*/*.png"))
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and output == "" and "Traceback" not in errors
    assert not list(tmp_path.iterdir())
