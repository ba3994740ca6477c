"""Classes and attributes of pictures from the command line: whether a model and a set mean the same by them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from lapcore.cli.images import batches, open_data
from lapcore.cli.main import main
from lapcore.data import open_images, read_image, to_model_range, to_uint8
from lapcore.errors import DataError, LapcoreError
from lapcore.models import VAE, LapCVAE, load_model
from lapcore.training import RunConfig

SIZE = 16
TINY = {"image_size": SIZE, "latent": 8, "widths": (8, 8), "decoder_widths": (8, 8), "hidden": 16}


@pytest.fixture
def run_of(tmp_path):
    """run_of(classes, num_classes) -> a run's folder and its model: trained on a set of these classes."""

    def make(classes, num_classes):
        torch.manual_seed(0)
        model = VAE(**TINY, num_classes=num_classes)
        model.save_pretrained(tmp_path / "run" / "model")
        RunConfig("vae", {}, {"classes": classes} if classes else {}).save(tmp_path / "run" / "config.yaml")
        return tmp_path / "run", model.eval()

    return make


def opened(path: Path, run: Path, model: VAE, **given):
    options = Namespace(model=run, resize="none", convert=False, **{"label": None, "attributes": None} | given)
    return open_data(path, model, options, SIZE)


def test_a_set_records_its_class_names(picture, tmp_path):
    for name in ("cat/1", "dog/1", "one/x/1", "numbers/0/1", "numbers/1/1", "gaps/0/1", "gaps/7/1"):
        picture(f"{name}.png")
    assert open_images(tmp_path / "numbers").spec["classes"] == 2
    assert open_images(tmp_path / "gaps").spec["classes"] == ["0", "7"]
    assert "classes" not in open_images(tmp_path / "one").spec
    for name in ("one", "numbers", "gaps"):
        (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}-{name}")
    assert open_images(tmp_path).spec["classes"] == ["cat", "dog"]


def test_classes_are_matched_by_name(run_of, picture, tmp_path):
    run, model = run_of(["cat", "dog", "owl"], 3)
    for name in ("dog", "owl"):
        picture(f"some/{name}/1.png")
        picture(f"other/{name}/1.png")
    picture("other/ant/1.png")
    dataset = opened(tmp_path / "some", run, model)
    assert dataset.labels.tolist() == [1, 2] and [label for _, label in dataset] == [1, 2]
    with pytest.raises(DataError, match="expected classes of the model, cat, dog, owl; got ant"):
        opened(tmp_path / "other", run, model)


def test_classes_that_are_numbers(run_of, picture, tmp_path):
    run, model = run_of(None, 12)
    np.savez(tmp_path / "some.npz", images=np.zeros((3, SIZE, SIZE, 3), np.uint8), labels=[0, 5, 5])
    assert opened(tmp_path / "some.npz", run, model).labels.tolist() == [0, 5, 5]
    np.savez(tmp_path / "more.npz", images=np.zeros((3, SIZE, SIZE, 3), np.uint8), labels=[0, 5, 12])
    with pytest.raises(DataError, match="expected classes below the model's 12, got 12"):
        opened(tmp_path / "more.npz", run, model)
    np.savez(tmp_path / "none.npz", images=np.zeros((3, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(DataError, match="expected the model's 12 classes, got 1"):
        opened(tmp_path / "none.npz", run, model)
    for number in (2, 10):
        picture(f"folders/{number}/x.png")
    dataset = opened(tmp_path / "folders", run, model)
    assert dataset.classes == ("10", "2") and dataset.labels.tolist() == [10, 2]


def test_names_for_a_model_without_names(run_of, picture, tmp_path):
    run, model = run_of(None, 2)
    for name in ("cat", "dog", "owl"):
        picture(f"three/{name}/1.png")
        if name != "owl":
            picture(f"two/{name}/1.png")
    for where in (run, run / "model"):
        assert opened(tmp_path / "two", where, model).labels.tolist() == [0, 1]
        with pytest.raises(DataError, match="expected the model's 2 classes, got 3"):
            opened(tmp_path / "three", where, model)


def test_one_label_for_all(run_of, picture, tmp_path):
    run, model = run_of(["cat", "dog", "owl"], 3)
    path = picture("x.png")
    with pytest.raises(DataError, match="expected classes of the model"):
        opened(path, run, model)
    dataset = opened(path, run, model, label=2)
    assert [labels.tolist() for _, labels in batches(dataset[0][0][None], dataset, model, 4)] == [[2]]
    for label in (3, -1):
        with pytest.raises(LapcoreError, match=f"--label {label}: the model has 3 classes"):
            opened(path, run, model, label=label)
    with pytest.raises(LapcoreError, match="--label 0: the model has no classes"):
        opened(path, run, VAE(**TINY), label=0)


def test_one_vector_for_all(picture, run_of):
    path = picture("x.png")
    model = VAE(**TINY, attributes=["glasses", "hair=red"])
    dataset = opened(path, path.parent, model, attributes="hair=red")
    assert dataset.labels.tolist() == [[0, 1]] and dataset[0][1].tolist() == [0, 1]
    with pytest.raises(LapcoreError, match="without attributes"):
        opened(path, path.parent, VAE(**TINY), attributes="hair=red")


def test_reconstruct_takes_a_label(run_of, picture, tmp_path, capsys):
    run, model = run_of(["cat", "dog", "owl"], 3)
    path = picture("x.png")
    assert main(["reconstruct", str(run), str(path), "--label", "1", "--out", str(tmp_path / "out")]) == 0
    expected = to_uint8(model.reconstruct(to_model_range(read_image(path))[None], labels=torch.tensor([1])))[0]
    assert (read_image(tmp_path / "out" / "x.png").int() - expected.int()).abs().max() <= 1
    assert main(["eval", str(run), "--data", str(path), "--label", "1"]) == 0
    assert "1 images" in capsys.readouterr().out and load_model(run).num_classes == 3


def test_edit_takes_a_label(picture, tmp_path, capsys):
    torch.manual_seed(0)
    settings = {"levels": 1, "latent": 8, "band_latent": 2, "widths": (8,), "band_width": 8, "hidden": 16}
    LapCVAE(image_size=SIZE, **settings, num_classes=3).save_pretrained(tmp_path / "run")
    LapCVAE(image_size=SIZE, **settings).save_pretrained(tmp_path / "plain")
    path, painted = picture("x.png"), picture("y.png", seed=1)

    def edit(run, *more):
        arguments = ("edit", tmp_path / run, path, "--painted", painted, "--level", 1, "--samples", 2, *more)
        return main(list(map(str, arguments)))

    assert edit("run", "--label", 2, "--out", tmp_path / "a") == 0
    model = load_model(tmp_path / "run").eval()
    image, other = (to_model_range(read_image(file))[None] for file in (path, painted))
    level, mask = model.decompose(other).images[1], torch.ones(1, 1, SIZE, SIZE)
    expected = to_uint8(model.edit(image, level, mask, 1, torch.arange(2), torch.full((2,), 2)))
    assert (read_image(tmp_path / "a" / "edit-1.png").int() - expected[1].int()).abs().max() <= 1
    for run, more, message in (
        ("run", (), "--label: the model has 3 classes"),
        ("run", ("--label", 3), "--label 3: the model has 3 classes"),
        ("plain", ("--label", 0), "neither classes nor attributes"),
        ("plain", ("--attributes", "hair=red"), "neither classes nor attributes"),
    ):
        assert edit(run, *more, "--out", tmp_path / "b") == 1
        assert message in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_train_on_a_table_of_attributes(picture, tmp_path, capsys):
    for seed in range(4):
        picture(f"in/{seed}.png", seed=seed)
    rows = "".join(f"{seed}.png,{seed % 2},{('red', 'black')[seed // 2]}\n" for seed in range(4))
    (tmp_path / "in" / "attributes.csv").write_text("file,glasses,hair\n" + rows)
    tiny = ["--model.latent=8", "--model.widths=[8,8]", "--model.decoder_widths=[8,8]", "--model.hidden=16"]
    settings = [*tiny, "--size=16", "--steps=3", "--batch_size=4", "--num_workers=0", "--device=cpu"]
    data, run = f"--data={tmp_path}/in", tmp_path / "run"
    assert main(["train", "vae", data, f"--out={run}", *settings, "--attributes", "glasses, hair"]) == 0
    names = ("glasses", "hair=black", "hair=red")
    assert load_model(run).attributes == names
    assert RunConfig.load(run / "config.yaml").data["attributes"] == list(names)
    assert main(["train", "vae", f"--out={run}", "--resume", "--steps=2"]) == 0
    assert main(["sample", str(run), "--seeds=0", "--attributes=hair=red", f"--out={tmp_path}/samples"]) == 0
    assert main(["eval", str(run), data]) == 0
    capsys.readouterr()
    for more, message in (
        (["--attributes", "beard"], "no column 'beard'"),
        (["--attributes", "hair", "--model.num_classes=2"], "attributes"),
    ):
        assert main(["train", "vae", data, f"--out={tmp_path}/other", *settings, *more]) == 1
        assert message in capsys.readouterr().err and not (tmp_path / "other").exists()
    pixelcnn = ["train", "pixelcnn", data, f"--out={tmp_path}/other", *settings[4:], "--attributes", "hair"]
    assert main(pixelcnn) == 1 and "--attributes: a pixelcnn takes none" in capsys.readouterr().err
