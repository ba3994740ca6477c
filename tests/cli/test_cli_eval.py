"""`lapcore eval` on samples: distances, levels, features of a network of one's own, and what is refused before work begins."""

from __future__ import annotations

import json

import pytest
import torch

from lapcore.cli.main import main
from lapcore.data import open_images, to_model_range
from lapcore.metrics import (
    draw_samples,
    evaluate_elbo,
    evaluate_multiscale_parzen,
    evaluate_samples,
    feature_network,
    low_pass,
)
from lapcore.models import VAE, GatedPixelCNN, LapCVAE, load_model

SIZE, COUNT = 16, 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs")
    small = {"image_size": SIZE, "latent": 4, "hidden": 8}
    LapCVAE(**small, levels=2, band_latent=2, widths=(8,), band_width=8).save_pretrained(folder / "lapcvae")
    VAE(**small, widths=(4,), decoder_widths=(4,), num_classes=2).save_pretrained(folder / "classes")
    VAE(**small, widths=(4,), decoder_widths=(4,), attributes=["hat"]).save_pretrained(folder / "attributes")
    GatedPixelCNN(image_size=SIZE, channels=3, hidden=4, layers=1, levels=4, head=6).save_pretrained(folder / "pixels")
    return folder


@pytest.fixture
def data(picture, tmp_path, monkeypatch):
    """Pictures of two classes, with a table of attributes, and a module with a network in the working folder."""
    for index in range(COUNT):
        picture(f"in/{'ab'[index % 2]}/{index}.png", SIZE, SIZE, seed=index)
    rows = [f"{'ab'[index % 2]}/{index}.png,{index % 3 / 2}" for index in range(COUNT)]
    (tmp_path / "in" / "attributes.csv").write_text("\n".join(["file,hat", *rows]) + "\n")
    (tmp_path / "places_of_images.py").write_text("def places(images):\n    return images[:, :, ::7, ::7].flatten(1)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def images_of(data):
    dataset = open_images(data)
    return torch.stack([dataset[index][0] for index in range(len(dataset))])


FEATURES = ("--features", "places_of_images:places")


@pytest.fixture
def evaluated(capsys, tmp_path):
    """Runs eval and returns its report; every figure is printed too."""

    def call(*arguments):
        report = tmp_path / "report.json"
        code = main([*map(str, ("eval", *arguments, "--batch", 4, "--json", report, "--overwrite"))])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        found = json.loads(report.read_text())
        for name, result in found["metrics"].items():
            (line,) = [line for line in captured.out.splitlines() if line.split()[:1] == [name]]
            assert f"{result['mean']:.3f}" in line and result.get("features", "") in line
            assert ("+-" in line) == ("std" in result)
        return found

    return call


@pytest.fixture
def refused(capsys):
    """eval must end with this code, print no result and draw nothing; returns the last line on stderr."""

    def call(code, *arguments):
        assert main([*map(str, ("eval", *arguments))]) == code
        captured = capsys.readouterr()
        assert captured.out == "" and "images/s" not in captured.err and "Traceback" not in captured.err
        return captured.err.splitlines()[-1]

    return call


def test_distances_of_samples(runs, data, evaluated):
    report = evaluated(
        runs / "lapcvae", "--data", data, "--metrics", "swd,kid,prdc,frechet", *FEATURES, "--repeats", 2, "--seed", 3
    )
    images, model = images_of(data), load_model(runs / "lapcvae")
    sets = [draw_samples(model, COUNT, seed=seed, batch=4) for seed in (3, 3 + COUNT)]
    network = feature_network("places_of_images:places")
    want = evaluate_samples(images, sets, ["swd", "kid", "prdc", "frechet"], samples=COUNT, network=network)
    assert report["metrics"] == want and report["features"] == "places_of_images:places"
    assert want["kid"]["features"] == report["features"] and want["kid"]["sets"] == 2


def test_partial_samples_and_low_pass_images(runs, data, evaluated):
    settings = ("--metrics", "kid", *FEATURES, "--samples", 10, "--temperature", "0.5")
    report = evaluated(runs / "lapcvae", "--data", data, *settings, "--from-level", 1, "--level", 2)
    images, model = images_of(data), load_model(runs / "lapcvae")
    drawn = draw_samples(model, 10, batch=4, options={"temperature": 0.5}, images=images, from_level=1)
    network = feature_network("places_of_images:places")
    want = evaluate_samples(low_pass(images, 2), [low_pass(drawn, 2)], ["kid"], samples=10, network=network)
    assert report["metrics"] == want
    assert (report["from_level"], report["level"], report["temperature"]) == (1, 2, 0.5)


def test_labels_of_samples(runs, data, evaluated):
    """Classes in turn, attributes as the images have them."""
    images = images_of(data)
    for name, labels in (
        ("classes", torch.tensor([0, 1])),
        ("attributes", open_images(data, attributes=["hat"]).labels),
    ):
        report = evaluated(runs / name, "--data", data, "--metrics", "swd", "--limit", 7)
        drawn = draw_samples(load_model(runs / name), 7, batch=4, labels=labels[:7])
        assert report["metrics"] == evaluate_samples(images[:7], [drawn], ["swd"], samples=7)
    report = evaluated(runs / "classes", "--data", data / "b", "--metrics", "swd", "--label", "1")
    drawn = draw_samples(load_model(runs / "classes"), COUNT // 2, batch=4, labels=torch.tensor([1]))
    assert report["metrics"] == evaluate_samples(images[COUNT // 2 :], [drawn], ["swd"], samples=COUNT // 2)
    assert report["label"] == 1


def test_bounds_and_multiscale_parzen(runs, data, evaluated):
    settings = ("--metrics", "bound,multiscale", "--samples", 6, "--details", 3, "--limit", 5, "--seed", 1)
    report = evaluated(runs / "lapcvae", "--data", data, *settings)
    images, model = images_of(data)[:5], load_model(runs / "lapcvae")
    batches = [(to_model_range(part), None) for part in torch.split(images, 4)]
    drawn = draw_samples(model, 6, seed=1, batch=4)
    want = evaluate_elbo(model, batches, seed=1)
    chosen, *others = torch.randperm(5, generator=torch.Generator().manual_seed(0)).tolist()
    test, validation = images[sorted(others)], images[[chosen]]
    want |= evaluate_multiscale_parzen(model, test, validation, drawn, details=3, seed=1)
    assert report["metrics"] == want
    assert report["metrics"].keys() == {"elbo_pyramid", "multiscale_parzen"}


def test_a_model_that_does_not_reconstruct_is_measured_as_it_can_be(runs, data, evaluated):
    assert evaluated(runs / "pixels", "--data", data).get("metrics").keys() == {"bpd"}


def test_usage(runs, data, refused):
    model = (runs / "lapcvae", "--data", data)
    for arguments, words in (
        (("--metrics", "fid"), "expected some of rmse, bpd, bound, parzen, multiscale, swd, kid, prdc, frechet"),
        (("--metrics", "kid"), "--features: kid, prdc and frechet compare features; name a network"),
        (FEATURES, "--features: only kid, prdc and frechet"),
        (("--metrics", "swd", "--feature-size", 8), "--feature-size: expected beside --features"),
        (("--metrics", "rmse", "--repeats", 2), "--repeats: only swd"),
        (("--metrics", "rmse", "--validation", data), "--validation: only parzen and multiscale"),
        (("--metrics", "multiscale", "--level", 1), "--level: multiscale has levels of its own"),
        (("--metrics", "swd", "--temperature", "hot"), "expected numbers from 0"),
    ):
        assert words in refused(2, *model, *arguments)


def test_what_a_model_or_the_images_cannot_give_is_refused_first(runs, data, refused):
    for run, arguments, words in (
        ("pixels", ("--metrics", "bound"), "a gated_pixelcnn cannot bound how likely an image is"),
        ("classes", ("--metrics", "multiscale"), "a vae cannot take an image apart into levels"),
        ("classes", ("--metrics", "swd", "--from-level", 1), "--from-level: a vae has no levels to keep"),
        ("lapcvae", ("--metrics", "swd", "--from-level", 3), "--from-level 3: expected 1 to 2, the model's levels"),
        ("lapcvae", ("--metrics", "rmse", "--from-level", 1), "--from-level: rmse draws no samples"),
        ("pixels", ("--metrics", "swd", "--temperature", 1), "--temperature: a gated_pixelcnn does not sample with it"),
        ("lapcvae", ("--metrics", "swd", "--level", 2), "images: expected sides of at least 7 for swd, got 4x4"),
        ("lapcvae", ("--metrics", "prdc", *FEATURES, "--samples", 5), "samples: expected at least 6 for prdc, got 5"),
        ("lapcvae", ("--metrics", "kid", *FEATURES, "--limit", 1), "images: expected at least 2 for kid, got 1"),
        ("lapcvae", ("--metrics", "kid", "--features", "inception"), "features inception: expected efficientnet_lite0"),
        ("lapcvae", ("--metrics", "kid", "--features", "json:nothing"), "features json:nothing"),
    ):
        assert words in refused(1, runs / run, "--data", data, *arguments)


def test_results_are_not_lost_with_the_report(runs, data, refused, tmp_path, capsys, monkeypatch):
    """A report that cannot be written is refused first; should it fail later, the results have been printed."""
    (tmp_path / "file").write_text("x")
    for report in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json"):
        message = refused(1, runs / "lapcvae", "--data", data, "--json", report)
        assert f"--json {report}: {tmp_path / 'file'} is not a folder that can be written in" in message
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "can be written in" in refused(1, runs / "lapcvae", "--data", data, "--json", tmp_path / "a.json")
    monkeypatch.undo()
    report = tmp_path / "later" / "a.json"
    monkeypatch.setattr(
        "lapcore.metrics.evaluate_rmse", lambda *_: report.parent.write_text("x") and {"rmse": {"mean": 1.5}}
    )
    assert main([*map(str, ("eval", runs / "lapcvae", "--data", data, "--json", report))]) == 1
    captured = capsys.readouterr()
    assert "rmse" in captured.out and "1.500" in captured.out and str(report.parent) in captured.err


def test_pictures_are_compared_as_they_were_saved(runs, data, evaluated, tmp_path):
    """A model's own samples, written by `lapcore sample`, are at distance 0 of themselves."""
    assert (
        main([*map(str, ("sample", runs / "lapcvae", "--seeds", "0-7", "--out", tmp_path / "own", "--batch", 4))]) == 0
    )
    own = tmp_path / "own"
    (own / "sheet.png").unlink()
    report = evaluated(runs / "lapcvae", "--data", own, "--metrics", "swd,prdc,frechet", *FEATURES)["metrics"]
    assert report["swd"]["mean"] == 0 and report["frechet"]["mean"] < 1e-9
    assert [report[name]["mean"] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
