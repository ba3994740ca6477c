"""`lapcore sample` on small models with the weights they start from."""

from __future__ import annotations

import json

import pytest
import torch

from lapcore.cli.main import main
from lapcore.data import grid, open_images, read_image, to_model_range, to_uint8, write_png
from lapcore.models import load_model
from tests.cli.conftest import SIZE, contents, table


def test_samples_are_a_property_of_their_seeds(lapcore, run, one_thread, vae, tmp_path):
    """Two processes of different thread counts draw the same bytes, and so do parts of a range."""
    settings = ("sample", vae, "--seeds", "0-9", "--batch", 4, "--out")
    assert "10 samples, 10 of them new" in run(*settings, tmp_path / "threads-1")
    result = lapcore(*settings, tmp_path / "threads-2", env={"OMP_NUM_THREADS": "2"})
    assert result.returncode == 0 and "10 samples, 10 of them new" in result.stdout, result
    for seeds in ("9", "2,4-7", "0-9"):
        run("sample", vae, "--seeds", seeds, "--out", tmp_path / "parts", "--batch", 4)
    whole = contents(tmp_path / "threads-1")
    assert len(whole) == 12 and whole == contents(tmp_path / "threads-2") == contents(tmp_path / "parts")


def test_sample_is_the_models_sample(run, lapcvae, tmp_path):
    run("sample", lapcvae, "--seeds", "3", "--out", tmp_path, "--batch", 4)
    with torch.no_grad():
        expected = to_uint8(load_model(lapcvae).eval().sample(torch.arange(4)))[3]
    assert read_image(tmp_path / "00000003.png").equal(expected)


@pytest.mark.parametrize("format", ["npy", "tar", "parquet"])
def test_sample_formats_are_data_again(run, vae, tmp_path, format):
    run("sample", vae, "--seeds", "0-5", "--out", tmp_path / "png", "--batch", 6)
    run("sample", vae, "--seeds", "0-5", "--out", tmp_path / format, "--batch", 6, "--format", format)
    dataset = open_images(tmp_path / format / f"00000000.{format}", size=SIZE)
    for seed in range(6):
        assert dataset[seed][0].equal(read_image(tmp_path / "png" / f"{seed:08d}.png"))


def test_sample_with_labels(run, refused, conditional, vae, tmp_path):
    settings = ("--seeds", "0-3", "--batch", 4)
    run("sample", conditional, *settings, "--labels", "1,3", "--out", tmp_path / "a")
    with torch.no_grad():
        expected = to_uint8(load_model(conditional).eval().sample(torch.arange(4), torch.tensor([1, 3, 1, 3])))
    assert all(read_image(tmp_path / "a" / f"{seed:08d}.png").equal(expected[seed]) for seed in range(4))
    assert "0..3" in refused("sample", conditional, *settings, "--labels", "4", "--out", tmp_path / "b")
    assert "without classes" in refused("sample", vae, *settings, "--labels", "1", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_sample_needs_to_know_the_class(refused, conditional, tmp_path):
    message = refused("sample", conditional, "--seeds", "0", "--out", tmp_path / "out")
    assert "--labels 0-3" in message and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("glasses=1,hair=red", [1, 0, 1]),
        ("glasses, hair=black=0.5", [1, 0.5, 0]),
        ("glasses=-2.5", [-2.5, 0, 0]),
        ("none", [0, 0, 0]),
    ],
)
def test_sample_with_attributes(run, described, tmp_path, text, vector):
    run("sample", described, "--seeds", "5-6", "--batch", 4, "--attributes", text, "--out", tmp_path)
    vectors = torch.tensor([vector], dtype=torch.float32).expand(4, -1)
    expected = to_uint8(load_model(described).eval().sample(torch.arange(4, 8), vectors))
    assert all(read_image(tmp_path / f"{seed:08d}.png").equal(expected[seed - 4]) for seed in (5, 6))
    assert json.loads((tmp_path / "sampling.json").read_text())["labels"] == [vector]


def test_sample_like_images(run, refused, described, conditional, vae, picture, tmp_path):
    for name in ("a", "b"):
        picture(f"in/{name}.png", SIZE, SIZE)
    table(tmp_path / "in", "b.png,0.5,red", "a.png,1,black")
    settings = ("--seeds", "0-3", "--batch", 4, "--like", tmp_path / "in")
    run("sample", described, *settings, "--out", tmp_path / "a")
    vectors = torch.tensor([[1, 1, 0], [0.5, 0, 1]] * 2, dtype=torch.float32)
    expected = to_uint8(load_model(described).eval().sample(torch.arange(4), vectors))
    assert all(read_image(tmp_path / "a" / f"{seed:08d}.png").equal(expected[seed]) for seed in range(4))
    for name in "abcd":
        picture(f"classes/{name}/x.png", SIZE, SIZE)
    run("sample", conditional, *settings[:4], "--like", tmp_path / "classes", "--out", tmp_path / "b")
    run("sample", conditional, *settings[:4], "--labels", "0-3", "--out", tmp_path / "c")
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
    assert "--like: this model" in refused("sample", vae, *settings, "--out", tmp_path / "d")


@pytest.mark.parametrize("text", ["beard=1", "glasses=yes", "glasses=nan", "hair", "hair=green", ""])
def test_sample_refuses_unknown_attributes(refused, described, vae, tmp_path, text):
    out = ("--seeds", "0", "--out", tmp_path / "out")
    message = refused("sample", described, *out, "--attributes", text)
    assert "--attributes: expected NAME=VALUE of glasses, hair=black, hair=red" in message
    assert "without attributes" in refused("sample", vae, *out, "--attributes", text)
    assert "--attributes none" in refused("sample", described, *out)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_partial_samples_keep_the_coarse_part(run, lapcvae, picture, tmp_path, whole):
    model = load_model(lapcvae).eval()
    image = read_image(picture("x.png", SIZE, SIZE))
    level = model.decompose(to_model_range(image)[None]).images[1]
    if not whole:
        write_png(tmp_path / "x.png", to_uint8(level)[0])
        level = to_model_range(to_uint8(level))
    settings = ("--coarse", tmp_path / "x.png", "--from-level", 1, "--temperature", "0.5,1,1", "--batch", 4)
    run("sample", lapcvae, "--seeds", "0-3", "--out", tmp_path / "out", *settings)
    expected = to_uint8(model.sample(torch.arange(4), coarse=level, from_level=1, temperature=[0.5, 1, 1]))
    assert all(read_image(tmp_path / "out" / f"{seed:08d}.png").equal(expected[seed]) for seed in range(4))
    options = json.loads((tmp_path / "out" / "sampling.json").read_text())["options"]
    assert options["from_level"] == 1 and options["temperature"] == [0.5, 1, 1] and len(options["coarse"]) == 64


def test_the_temperature_is_part_of_what_a_sample_is(run, refused, lapcvae, pixels, tmp_path):
    settings = ("--seeds", "0-1", "--batch", 2)
    run("sample", lapcvae, *settings, "--temperature", 0, "--out", tmp_path / "a")
    expected = to_uint8(load_model(lapcvae).eval().sample(torch.arange(2), temperature=0))
    assert read_image(tmp_path / "a" / "00000001.png").equal(expected[1])
    assert "another options" in refused("sample", lapcvae, *settings, "--out", tmp_path / "a")
    message = refused("sample", pixels, *settings, "--temperature", 1, "--out", tmp_path / "b")
    assert "--temperature: a gated_pixelcnn does not" in message


def test_partial_sampling_refusals(refused, lapcvae, vae, picture, tmp_path, capsys):
    path, odd = picture("x.png", SIZE, SIZE), picture("odd.png", 5, 5)
    out = ("--seeds", "0", "--out", tmp_path / "out")
    assert "8x8 or 16x16, got 5x5" in refused("sample", lapcvae, *out, "--coarse", odd, "--from-level", 1)
    assert "--from-level 3: expected 1 to 2" in refused("sample", lapcvae, *out, "--coarse", path, "--from-level", 3)
    assert "--coarse: a vae does not" in refused("sample", vae, *out, "--coarse", path, "--from-level", 1)
    assert "temperature: expected" in refused("sample", lapcvae, *out, "--temperature", "1,1")
    for wrong in (("--coarse", path), ("--from-level", 1), ("--temperature", "-1"), ("--temperature", "warm")):
        assert main(list(map(str, ("sample", lapcvae, *out, *wrong)))) == 2
        assert wrong[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sheets_of_samples(run, vae, tmp_path):
    run("sample", vae, "--seeds", "4-9", "--out", tmp_path, "--batch", 4, "--sheet", 4)
    shown = torch.stack([read_image(tmp_path / f"{seed:08d}.png") for seed in range(4, 8)])
    assert read_image(tmp_path / "sheet.png").equal(grid(shown, 2))
    run("sample", vae, "--seeds", "3", "--out", tmp_path, "--batch", 4, "--sheet", 1)
    assert read_image(tmp_path / "sheet.png").equal(read_image(tmp_path / "00000003.png"))
    assert len(open_images(tmp_path, size=SIZE)) == 7
    run("sample", vae, "--seeds", "3", "--out", tmp_path, "--batch", 4, "--sheet", 0, "--overwrite")
    assert sorted(contents(tmp_path)) == ["00000003.png", "sampling.json"]


def test_sample_refuses_a_folder_of_other_samples(run, refused, vae, lapcvae, tmp_path):
    run("sample", vae, "--seeds", "0", "--out", tmp_path, "--batch", 2)
    before = contents(tmp_path)
    assert "another weights" in refused("sample", lapcvae, "--seeds", "0", "--out", tmp_path, "--batch", 2)
    assert contents(tmp_path) == before
    run("sample", lapcvae, "--seeds", "0", "--out", tmp_path, "--batch", 2, "--overwrite")
    assert contents(tmp_path).keys() == before.keys() and contents(tmp_path) != before
