"""`lapcore eval` on small models with the weights they start from, and what commands on models refuse."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from lapcore.data import read_image, to_model_range, to_uint8
from lapcore.metrics import evaluate_bpd, evaluate_parzen, evaluate_rmse, independent_bpd
from lapcore.models import load_model
from tests.cli.conftest import SIZE


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
