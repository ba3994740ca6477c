"""`lapcore pyramid`: the pictures it writes, the proof it prints, what it refuses."""

from __future__ import annotations

import pytest
import torch

import lapcore as lib
from lapcore.cli.main import main
from lapcore.data import read_image


def test_pictures_and_proof(run, picture, tmp_path):
    path = picture(rows=37, columns=20)
    out = tmp_path / "new" / "out"
    said = run("pyramid", path, "--levels", 3, "--out", out)
    assert "exact as uint8" in said
    error = float(said.split("largest error ")[1].split()[0])
    assert error < 255 * 8 * 2**-24 * 4  # each of 3 additions, and the subtractions they undo, rounds once
    names = [*(f"band-{k}.png" for k in range(3)), *(f"coarse-{k}.png" for k in (1, 2, 3)), "collapsed.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)

    image = read_image(path)
    assert read_image(out / "collapsed.png").equal(image)
    bands = lib.laplacian_pyramid(image.float(), 3)
    coarse = lib.gaussian_pyramid(image.float(), 3)
    for level in range(3):
        shown = (bands[level] + 128).round().clamp(0, 255).to(torch.uint8)
        assert read_image(out / f"band-{level}.png").equal(shown)
        assert read_image(out / f"coarse-{level + 1}.png").equal(coarse[level + 1].round().to(torch.uint8))


def test_grey_pictures(picture, tmp_path):
    path = picture(channels=1)
    assert main(["pyramid", str(path), "--channels", "1", "--levels", "2", "--out", str(tmp_path / "a")]) == 0
    assert main(["pyramid", str(path), "--convert", "--levels", "2", "--out", str(tmp_path / "b")]) == 0
    grey, colour = (read_image(tmp_path / name / "band-0.png", channels) for name, channels in (("a", 1), ("b", 3)))
    assert colour.equal(grey.expand(3, -1, -1))


def refuses(arguments, capsys):
    assert main(list(map(str, arguments))) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.out == ""
    return captured.err


def test_refusals_leave_nothing(picture, tmp_path, capsys):
    path = picture(rows=16, columns=9)
    broken = tmp_path / "broken.png"
    broken.write_bytes(path.read_bytes()[:200])
    empty = tmp_path / "empty.png"
    empty.touch()
    grey = picture("grey.png", channels=1)
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out"
    assert "16x9 picture is down to one pixel after 4" in refuses(
        ["pyramid", path, "--levels", 5, "--out", out], capsys
    )
    for bad in (broken, empty, grey, tmp_path / "missing.png", tmp_path):
        assert str(bad) in refuses(["pyramid", bad, "--out", out], capsys)
    assert sorted(tmp_path.iterdir()) == before
    assert main(["pyramid", str(path), "--levels", "4", "--out", str(out)]) == 0


def test_existing_results_are_kept_unless_asked(picture, tmp_path, capsys):
    path, out = picture(), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert "not empty" in refuses(["pyramid", path, "--out", out], capsys)
    assert [entry.name for entry in out.iterdir()] == ["notes.txt"]
    assert main(["pyramid", str(path), "--out", str(out), "--overwrite"]) == 0
    capsys.readouterr()
    assert (out / "notes.txt").read_text() == "mine" and read_image(out / "collapsed.png").equal(read_image(path))
    assert "expected a folder" in refuses(["pyramid", path, "--out", path], capsys)


@pytest.mark.parametrize("out", [".", "new"])
def test_out_may_be_the_current_folder(out, picture, tmp_path, monkeypatch):
    path = picture()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["pyramid", str(path), "--out", out]) == 0
    assert (tmp_path / "here" / out / "collapsed.png").exists()


def test_results_reach_a_folder_that_is_there_without_a_rename_of_folders(picture, tmp_path, monkeypatch):
    """As on a mounted disk, whose root cannot be replaced, or in a folder that is all that can be written to."""
    path = picture()
    out = tmp_path / "out"
    (out / ".tmp-left-by-a-killed-command").mkdir(parents=True)
    identity = out.stat().st_ino
    assert main(["pyramid", str(path), "--levels", "2", "--out", str(out)]) == 0
    assert out.stat().st_ino == identity
    names = ["band-0.png", "band-1.png", "coarse-1.png", "coarse-2.png", "collapsed.png"]
    assert sorted(entry.name for entry in out.iterdir() if not entry.name.startswith(".")) == names
    assert [entry.name for entry in out.iterdir() if entry.name.startswith(".")] == [".tmp-left-by-a-killed-command"]
