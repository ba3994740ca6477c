"""`lapcore sample, reconstruct, edit, eval` on small models with the weights they start from."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import lapcore as lib
from lapcore.cli.main import main
from lapcore.data import grid, open_images, read_image, to_model_range, to_uint8, write_png
from lapcore.metrics import evaluate_bpd, evaluate_parzen, evaluate_rmse, independent_bpd
from lapcore.models import VAE, GatedPixelCNN, LapCVAE, load_model

SIZE = 16
TINY = {"image_size": SIZE, "latent": 8, "widths": (8, 8), "decoder_widths": (8, 8), "hidden": 16}


@pytest.fixture(scope="session")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "vae"
    VAE(**TINY).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lapcvae(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "lapcvae"
    LapCVAE(image_size=SIZE, levels=2, latent=8, band_latent=2, widths=(8,), band_width=8, hidden=16).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def conditional(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    VAE(**TINY, num_classes=4).save_pretrained(folder)
    return folder


ATTRIBUTES = ["glasses", "hair=black", "hair=red"]


@pytest.fixture(scope="session")
def described(tmp_path_factory):
    """A model of attributes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "described"
    VAE(**TINY, attributes=ATTRIBUTES).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pixels(tmp_path_factory):
    """An autoregressive model of grey images of 5x5."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "pixels"
    GatedPixelCNN(image_size=5, channels=1, hidden=4, layers=2, levels=16).save_pretrained(folder)
    return folder


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


def test_samples_are_a_property_of_their_seeds(lapcore, run, vae, tmp_path):
    """As two processes with different thread counts, and in parts."""
    for threads in (1, 2):
        out = tmp_path / f"threads-{threads}"
        result = lapcore(
            "sample", vae, "--seeds", "0-9", "--out", out, "--batch", 4, env={"OMP_NUM_THREADS": str(threads)}
        )
        assert result.returncode == 0, result.stderr
        assert "10 samples, 10 of them new" in result.stdout
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


def table(folder, *rows):
    (folder / "attributes.csv").write_text("file,glasses,hair\n" + "".join(f"{row}\n" for row in rows))


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


def test_sample_refuses_a_folder_of_other_samples(run, refused, vae, lapcvae, tmp_path):
    run("sample", vae, "--seeds", "0", "--out", tmp_path, "--batch", 2)
    before = contents(tmp_path)
    assert "another weights" in refused("sample", lapcvae, "--seeds", "0", "--out", tmp_path, "--batch", 2)
    assert contents(tmp_path) == before
    run("sample", lapcvae, "--seeds", "0", "--out", tmp_path, "--batch", 2, "--overwrite")
    assert contents(tmp_path).keys() == before.keys() and contents(tmp_path) != before


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


def test_eval_is_the_metric(run, lapcvae, picture, tmp_path):
    for seed in range(5):
        picture(f"in/{seed}.png", SIZE, SIZE, seed=seed)
    printed = run("eval", lapcvae, "--data", tmp_path / "in", "--json", tmp_path / "r" / "rmse.json", "--batch", 5)
    images = torch.stack([read_image(tmp_path / "in" / f"{seed}.png") for seed in range(5)])
    expected = evaluate_rmse(load_model(lapcvae).eval(), [(to_model_range(images), None)])
    report = json.loads((tmp_path / "r" / "rmse.json").read_text())
    assert report["metrics"].keys() == expected.keys() and report["metrics"]["rmse"]["images"] == 5
    for name, result in expected.items():
        assert report["metrics"][name] == pytest.approx(result)
        assert name in printed and f"{result['mean']:.3f} +- {result['std']:.3f}" in printed


def test_classes_reach_the_model(run, refused, conditional, picture, tmp_path):
    images = torch.stack([read_image(picture(f"in/{name}/x.png", seed=seed)) for seed, name in enumerate("abcd")])
    report = tmp_path / "rmse.json"
    run("eval", conditional, "--data", tmp_path / "in", "--json", report, "--batch", 4)
    model = load_model(conditional)
    expected = evaluate_rmse(model, [(to_model_range(images), torch.arange(4))])
    assert json.loads(report.read_text())["metrics"]["rmse"] == pytest.approx(expected["rmse"])
    run("reconstruct", conditional, tmp_path / "in", "--out", tmp_path / "out", "--batch", 4)
    decoded = to_uint8(model.reconstruct(to_model_range(images), labels=torch.arange(4)))
    assert all(read_image(tmp_path / "out" / f"{index:08d}.png").equal(decoded[index]) for index in range(4))
    shutil.rmtree(tmp_path / "in" / "d")
    assert "4 classes, got 3" in refused("eval", conditional, "--data", tmp_path / "in")


def test_eval_of_celeba(run, refused, vae, picture, tmp_path):
    picture("in/000001.png", 218, 178)
    run("eval", vae, "--data", tmp_path / "in", "--preprocess", "celeba", "--json", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["preprocess"] == "celeba"
    assert "16x16" in refused("eval", vae, "--data", tmp_path / "in")
    picture("in/000002.png", SIZE, SIZE)
    message = refused("eval", vae, "--data", tmp_path / "in", "--preprocess", "celeba")
    assert "000002.png" in message and "218x178" in message


def test_eval_of_parzen_windows(run, refused, vae, conditional, picture, tmp_path):
    for seed in range(12):
        picture(f"in/{seed:02d}.png", SIZE, SIZE, seed=seed)
    images = torch.stack([read_image(tmp_path / "in" / f"{seed:02d}.png") for seed in range(12)])
    settings = (
        "--metrics",
        "parzen,rmse",
        "--samples",
        30,
        "--seed",
        5,
        "--batch",
        8,
        "--json",
        tmp_path / "a.json",
        "--overwrite",
    )
    printed = run("eval", vae, "--data", tmp_path / "in", *settings)
    # Two of twelve, a tenth rounded up, drawn by lot, choose sigma; the set's order decides nothing.
    lots = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    test, validation = images[sorted(lots[2:])], images[sorted(lots[:2])]
    expected = evaluate_parzen(load_model(vae).eval(), test, validation, samples=30, seed=5, batch=8)["parzen"]
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["metrics"].keys() == {"parzen", "rmse", "rmse_mean_rounded"} and report["batch"] == 8
    assert report["metrics"]["parzen"] == pytest.approx(expected) and expected["images"] == 10
    assert f"{expected['mean']:.3f} +- {expected['std']:.3f}" in printed and "30 samples" in printed

    apart = run("eval", vae, "--data", tmp_path / "in", "--validation", tmp_path / "in", *settings)
    assert "12 images, 30 samples" in apart
    assert json.loads((tmp_path / "a.json").read_text())["validation"] == str(tmp_path / "in")
    one = picture("one/x.png", SIZE, SIZE)
    assert "at least 2 images" in refused("eval", vae, "--data", one, *settings)
    for seed in range(4):
        picture(f"classes/{seed}/x.png", seed=seed)
    assert "3 images" in run("eval", conditional, "--data", tmp_path / "classes", *settings)


def test_eval_keeps_an_existing_report(run, refused, vae, picture, tmp_path):
    path, report = picture("x.png", SIZE, SIZE), tmp_path / "rmse.json"
    report.write_text("mine")
    assert "the file exists" in refused("eval", vae, "--data", path, "--json", report)
    assert report.read_text() == "mine"
    run("eval", vae, "--data", path, "--json", report, "--overwrite")
    assert json.loads(report.read_text())["metrics"]["rmse"]["images"] == 1


def test_bad_data_is_one_line(refused, vae, tmp_path):
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "nan.npy", np.full((2, SIZE, SIZE, 3), np.nan, np.float32))
    np.save(tmp_path / "float.npy", np.zeros((2, SIZE, SIZE, 3), np.float32))
    (tmp_path / "text.png").write_text("not a picture")
    cases = {
        "empty": "found nothing",
        "nan.npy": "NaN",
        "float.npy": "uint8",
        "text.png": "not a readable",
        "no": "no such",
    }
    for name, words in cases.items():
        for command in (("eval", vae, "--data"), ("reconstruct", vae, "--out", tmp_path / "out")):
            message = refused(*command, tmp_path / name)
            assert words in message and str(tmp_path / name) in message
    assert not (tmp_path / "out").exists()


def test_bad_models_are_one_line(refused, vae, tmp_path):
    out = ("--seeds", "0", "--out", tmp_path / "out")
    assert str(tmp_path / "missing") in refused("sample", tmp_path / "missing", *out)
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused("sample", tmp_path / "empty", *out)
    for cut in (0, 8, 1000):
        broken = tmp_path / f"cut-{cut}"
        shutil.copytree(vae, broken)
        weights = next(broken.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:cut])
        assert str(broken) in refused("sample", broken, *out)
    config = tmp_path / "config"
    shutil.copytree(vae, config)
    (config / "config.json").write_text('{"model": ')
    assert str(config) in refused("sample", config, *out)
    assert not (tmp_path / "out").exists()


def test_no_card(refused, vae, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cpu" in refused("sample", vae, "--seeds", "0", "--out", tmp_path / "out", "--device", "cuda")


def test_library_and_command_agree_on_the_coarse_picture(picture, run, tmp_path):
    path = picture("x.png", 21, 34)
    run("pyramid", path, "--levels", 2, "--out", tmp_path / "out")
    coarse = lib.pyr_down(lib.pyr_down(read_image(path).double()))
    assert read_image(tmp_path / "out" / "coarse-2.png").equal(coarse.round().to(torch.uint8))


def test_eval_of_bits_per_dimension(run, refused, pixels, vae, picture, tmp_path):
    for seed in range(7):
        picture(f"{'train' if seed < 4 else 'test'}/{seed}.png", 5, 5, channels=1, seed=seed)
    train, test = (
        torch.stack([read_image(path, 1) for path in sorted((tmp_path / name).iterdir())]) for name in ("train", "test")
    )
    settings = ("--data", tmp_path / "test", "--baseline", tmp_path / "train", "--json", tmp_path / "a.json")
    printed = run("eval", pixels, *settings)
    report = json.loads((tmp_path / "a.json").read_text())
    expected = evaluate_bpd(load_model(pixels), [(to_model_range(test), None)]) | independent_bpd(train, test, 16)
    assert report["metrics"].keys() == expected.keys() == {"bpd", "bpd_independent"}
    assert report["baseline"] == str(tmp_path / "train")
    for name, result in expected.items():
        assert report["metrics"][name] == pytest.approx(result)
        assert f"{result['mean']:.3f} +- {result['std']:.3f}" in printed
    assert "bits per dimension" in printed
    again = run("eval", pixels, "--data", tmp_path / "test", "--metrics", "bpd")
    assert f"{expected['bpd']['mean']:.3f}" in again and "independent" not in again
    assert "a gated_pixelcnn cannot reconstruct" in refused("eval", pixels, *settings[:2], "--metrics", "rmse")
    assert "a vae cannot say how likely an image is" in refused("eval", vae, *settings[:2], "--metrics", "bpd")
    assert "only bpd has a baseline" in refused("eval", vae, *settings[:4])


def test_an_autoregressive_model_samples_and_does_not_reconstruct(run, refused, pixels, picture, tmp_path):
    run("sample", pixels, "--seeds", "0-2", "--out", tmp_path / "samples", "--batch", 4)
    expected = to_uint8(load_model(pixels).sample(torch.arange(4)))
    for seed in range(3):
        drawn = read_image(tmp_path / "samples" / f"{seed:08d}.png", 1)
        assert drawn.equal(expected[seed]) and (drawn % 17 == 0).all()
    path = picture("x.png", 5, 5, channels=1)
    message = refused("reconstruct", pixels, path, "--out", tmp_path / "out")
    assert "a gated_pixelcnn cannot reconstruct" in message and not (tmp_path / "out").exists()
