"""`lapcore blend`: regions of several pictures, against the blend of their pyramids computed here."""

from __future__ import annotations

import pytest
import torch

import lapcore as lib
from lapcore.cli.main import main
from lapcore.data import read_image, write_png


def blend(*arguments):
    return main(["blend", *map(str, arguments)])


def mask(path, rows, columns, top, bottom):
    """White between two rows."""
    picture = torch.zeros(1, rows, columns, dtype=torch.uint8)
    picture[:, top:bottom] = 255
    write_png(path, picture)
    return path


def by_hand(region, base, weight, levels):
    """Burt and Adelson's: bands mixed by the Gaussian pyramid of the mask."""
    weights = lib.gaussian_pyramid(weight, levels)
    bands = zip(weights, lib.laplacian_pyramid(region, levels), lib.laplacian_pyramid(base, levels), strict=True)
    return lib.collapse([m * a + (1 - m) * b for m, a, b in bands])


def test_regions_of_two_pictures(picture, tmp_path, capsys):
    base, first, second = (picture(f"{name}.png", 24, 20, seed=seed) for seed, name in enumerate("abc"))
    upper, lower = mask(tmp_path / "m.png", 24, 20, 0, 8), mask(tmp_path / "n.png", 24, 20, 14, 24)
    out = tmp_path / "new" / "out.png"
    assert blend(base, "--region", first, upper, "--region", second, lower, "--levels", 2, "--out", out) == 0
    assert "2 regions" in capsys.readouterr().out
    expected = read_image(base).double()
    for region, weight in ((first, upper), (second, lower)):
        expected = by_hand(read_image(region).double(), expected, read_image(weight, 1).double() / 255, 2)
    got = read_image(out)
    assert (got - expected.round().clamp(0, 255)).abs().max() <= 1
    assert (got[:, :2].float() - read_image(first)[:, :2]).abs().max() <= 1
    assert (got[:, -2:].float() - read_image(second)[:, -2:]).abs().max() <= 1


def test_a_region_of_nothing_changes_nothing(picture, tmp_path):
    base, other = picture("a.png", seed=0), picture("b.png", seed=1)
    assert blend(base, "--region", other, mask(tmp_path / "m.png", 16, 16, 0, 0), "--out", tmp_path / "o.png") == 0
    assert read_image(tmp_path / "o.png").equal(read_image(base))


def test_refusals_write_nothing(picture, tmp_path, capsys):
    base, other, odd = picture("a.png"), picture("b.png", seed=1), picture("odd.png", 5, 4)
    white, small = mask(tmp_path / "m.png", 16, 16, 0, 16), mask(tmp_path / "s.png", 5, 4, 0, 5)
    kept = picture("kept.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    out = tmp_path / "out.png"
    for arguments, message in (
        ((base, "--region", odd, white, "--out", out), "odd.png: expected 16x16, like the first picture, got 5x4"),
        ((base, "--region", other, small, "--out", out), "s.png: expected 16x16"),
        ((base, "--region", other, base, "--out", out), "a.png: expected 1 channel"),
        ((base, "--region", other, white, "--levels", 5, "--out", out), "--levels 5: expected 1 to 4"),
        ((base, "--region", other, white, "--out", tmp_path / "out.jpg"), "ends in .png"),
        ((base, "--region", other, white, "--out", kept), "the file exists"),
        ((base, "--region", tmp_path / "gone.png", white, "--out", out), "gone.png: cannot be read"),
    ):
        assert blend(*arguments) == 1
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert blend(base, "--region", other, white, "--out", kept, "--overwrite") == 0
    assert read_image(kept).equal(read_image(other))


@pytest.mark.parametrize("arguments", [(), ("--region", "x.png"), ("--region", "x.png", "m.png", "--levels", 0)])
def test_bad_usage(picture, arguments, tmp_path, capsys):
    assert blend(picture(), *arguments, "--out", tmp_path / "out.png") == 2
    assert "usage" in capsys.readouterr().err
