"""`lapcore edit` on a small model with the weights it starts from."""

from __future__ import annotations

import torch

import lapcore as lib
from lapcore.data import read_image, write_png
from tests.cli.conftest import SIZE, contents


def test_edit_from_a_painted_coarse_picture(run, lapcvae, picture, tmp_path):
    path = picture("x.png", SIZE, SIZE)
    run("pyramid", path, "--levels", 2, "--out", tmp_path / "pyramid")
    painted = read_image(tmp_path / "pyramid" / "coarse-1.png")
    painted[:, 2:5, 3:5] = 255
    write_png(tmp_path / "painted.png", painted)
    settings = ("--painted", tmp_path / "painted.png", "--level", 1)
    printed = run("edit", lapcvae, path, *settings, "--samples", 3, "--out", tmp_path / "out")
    assert "3 edits" in printed
    names = ["edit-0.png", "edit-1.png", "edit-2.png", "mask.png", "reconstruction.png"]
    assert sorted(contents(tmp_path / "out")) == names
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    mask[:, 4:10, 6:10] = 255
    assert read_image(tmp_path / "out" / "mask.png", 1).equal(mask)
    edits = [read_image(tmp_path / "out" / name) for name in names[:3]]
    assert not edits[0].equal(edits[1])
    run("edit", lapcvae, path, *settings, "--samples", 1, "--seed", 2, "--out", tmp_path / "again")
    again = read_image(tmp_path / "again" / "edit-0.png")
    assert (again.int() - edits[2].int()).abs().max() <= 1


def test_edit_from_a_whole_painted_picture_and_a_mask_file(run, lapcvae, picture, tmp_path):
    path = picture("x.png", SIZE, SIZE)
    painted = read_image(path)
    painted[:, 8:12, 8:12] = 0
    write_png(tmp_path / "painted.png", painted)
    run(
        "edit",
        lapcvae,
        path,
        "--painted",
        tmp_path / "painted.png",
        "--level",
        1,
        "--samples",
        1,
        "--out",
        tmp_path / "a",
    )
    mask = read_image(tmp_path / "a" / "mask.png", 1)
    assert mask[0, 8:12, 8:12].eq(255).all() and mask.eq(255).sum() == 16
    small = torch.zeros(1, 8, 8, dtype=torch.uint8)
    small[:, 4:6, 4:6] = 255
    write_png(tmp_path / "mask.png", small)
    settings = ("--painted", tmp_path / "painted.png", "--mask", tmp_path / "mask.png", "--level", 1, "--samples", 1)
    run("edit", lapcvae, path, *settings, "--out", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_edit_refusals(refused, lapcvae, vae, picture, tmp_path):
    path, odd = picture("x.png", SIZE, SIZE), picture("odd.png", 5, 5)
    out = ("--out", tmp_path / "out")
    other = picture("other.png", SIZE, SIZE, seed=1)
    assert "nothing to edit" in refused("edit", lapcvae, path, "--painted", path, "--level", 1, *out)
    assert "8x8 or 16x16, got 5x5" in refused("edit", lapcvae, path, "--painted", odd, "--level", 1, *out)
    assert "16x16, got 5x5" in refused("edit", lapcvae, odd, "--painted", odd, "--level", 1, *out)
    assert "a vae cannot edit" in refused("edit", vae, path, "--painted", other, "--level", 1, *out)
    assert "level" in refused("edit", lapcvae, path, "--painted", other, "--level", 9, *out)
    assert not (tmp_path / "out").exists()


def test_library_and_command_agree_on_the_coarse_picture(picture, run, tmp_path):
    path = picture("x.png", 21, 34)
    run("pyramid", path, "--levels", 2, "--out", tmp_path / "out")
    coarse = lib.pyr_down(lib.pyr_down(read_image(path).double()))
    assert read_image(tmp_path / "out" / "coarse-2.png").equal(coarse.round().to(torch.uint8))
