"""`lapcore reconstruct` on small models with the weights they start from."""

from __future__ import annotations

import json

import pytest
import torch

from lapcore.data import grid, open_images, read_image, to_model_range, to_uint8
from lapcore.metrics import evaluate_rmse
from lapcore.models import load_model
from tests.cli.conftest import SIZE, contents, table


def test_tables_of_attributes_reach_the_model(run, refused, described, picture, tmp_path):
    images = torch.stack([read_image(picture(f"in/{seed}.png", seed=seed)) for seed in range(3)])
    table(tmp_path / "in", "0.png,1,black", "1.png,0,red", "2.png,0,gray")
    vectors = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.float32)
    run("reconstruct", described, tmp_path / "in", "--out", tmp_path / "out", "--batch", 3)
    decoded = to_uint8(load_model(described).reconstruct(to_model_range(images), labels=vectors))
    assert all(read_image(tmp_path / "out" / f"{seed}.png").equal(decoded[seed]) for seed in range(3))
    run(
        "eval",
        described,
        "--data",
        tmp_path / "in",
        "--metrics",
        "rmse",
        "--json",
        tmp_path / "rmse.json",
        "--batch",
        3,
    )
    expected = evaluate_rmse(load_model(described), [(to_model_range(images), vectors)])
    assert json.loads((tmp_path / "rmse.json").read_text())["metrics"]["rmse"] == pytest.approx(expected["rmse"])
    table(tmp_path / "in", "0.png,no,black", "1.png,no,red", "2.png,yes,gray")
    message = refused("reconstruct", described, tmp_path / "in", "--out", tmp_path / "other")
    assert "expected the model's attributes glasses, hair=black" in message and "glasses=no, glasses=yes" in message
    (tmp_path / "in" / "attributes.csv").unlink()
    assert "attributes.csv" in refused("reconstruct", described, tmp_path / "in", "--out", tmp_path / "other")


def test_sheets_of_reconstructions(run, vae, picture, tmp_path):
    originals = [read_image(picture(f"in/{seed}.png", SIZE, SIZE, seed=seed)) for seed in range(5)]
    run("reconstruct", vae, tmp_path / "in", "--out", tmp_path / "out", "--batch", 2, "--sheet", 3)
    decoded = [read_image(tmp_path / "out" / f"{seed}.png") for seed in range(5)]
    pairs = [image for seed in range(3) for image in (originals[seed], decoded[seed])]
    assert read_image(tmp_path / "out" / "sheet.png").equal(grid(torch.stack(pairs), 4))
    assert len(open_images(tmp_path / "out", size=SIZE)) == 5
    record = json.loads((tmp_path / "out" / "reconstruction.json").read_text())
    error = torch.stack([(a.double() - b).square().mean().sqrt() for a, b in zip(originals, decoded, strict=True)])
    assert record["rmse"] == pytest.approx(error.mean().item()) and record["images"] == str(tmp_path / "in")
    run("reconstruct", vae, tmp_path / "in", "--out", tmp_path / "none", "--sheet", 0)
    assert "sheet.png" not in contents(tmp_path / "none")


def test_a_picture_called_sheet_is_reconstructed_too(run, vae, picture, tmp_path):
    for name in ("a", "sheet"):
        picture(f"in/{name}.png", SIZE, SIZE)
    run("reconstruct", vae, tmp_path / "in", "--out", tmp_path / "out")
    assert {"00000000.png", "00000001.png", "sheet.png"} <= contents(tmp_path / "out").keys()


def test_reconstruct(run, lapcvae, picture, tmp_path):
    paths = [picture(f"in/{name}.png", SIZE, SIZE, seed=seed) for seed, name in enumerate("cab")]
    printed = run("reconstruct", lapcvae, tmp_path / "in", "--out", tmp_path / "out", "--batch", 2)
    assert "3 reconstructions, sqrt(MSE) " in printed
    model = load_model(lapcvae).eval()
    for path in paths:
        with torch.no_grad():
            expected = to_uint8(model.reconstruct(to_model_range(read_image(path))[None]))[0]
        got = read_image(tmp_path / "out" / path.name)
        # Another batch size may round a network's last bits the other way: one grey level at most.
        assert (got.int() - expected.int()).abs().max() <= 1


def test_reconstruct_from_drawn_codes(run, vae, picture, tmp_path):
    path = picture("x.png", SIZE, SIZE)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("reconstruct", vae, path, "--seed", seed, "--out", tmp_path / name)
    run("reconstruct", vae, path, "--out", tmp_path / "mean")
    images = {name: (tmp_path / name / "x.png").read_bytes() for name in ("a", "b", "c", "mean")}
    assert images["a"] == images["b"] and len(set(images.values())) == 3


def test_reconstruct_of_equal_names_and_other_sizes(run, refused, vae, picture, tmp_path):
    picture("in/cat/1.png", SIZE, SIZE)
    picture("in/dog/1.png", 20, 30)
    message = refused("reconstruct", vae, tmp_path / "in", "--out", tmp_path / "out")
    assert "in/dog/1.png" in message and "16x16" in message and "20x30" in message
    assert not (tmp_path / "out").exists()
    run("reconstruct", vae, tmp_path / "in", "--out", tmp_path / "out", "--resize", "crop")
    made = ["00000000.png", "00000001.png", "reconstruction.json", "sheet.png"]
    assert sorted(contents(tmp_path / "out")) == made
