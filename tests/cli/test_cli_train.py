"""`lapcore train` by subprocess: from a folder of pictures to a model that samples; settings files, resumption, refusals."""

from __future__ import annotations

import json
import math
import signal
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lapcore.cli.main import main
from tests.cli.conftest import start

TINY = ("--model.latent", 8, "--model.widths", "[8,8]", "--model.decoder_widths", "[8,8]", "--model.hidden", 16)
SMALL = ("--size", 16, "--steps", 6, "--batch_size", 4, "--num_workers", 0, "--device", "cpu", "--log_every", 2)


@pytest.fixture
def photos(picture, tmp_path):
    for seed in range(6):
        picture(f"photos/{seed}.png", seed=seed)
    return tmp_path / "photos"


def same_weights(a, b):
    first, second = (load_file(run / "model" / "model.safetensors") for run in (a, b))
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_train_then_sample(lapcore, photos, tmp_path):
    run = tmp_path / "run"
    result = lapcore("train", "vae", "--data", photos, "--out", run, *TINY, *SMALL)
    assert result.returncode == 0, result.stderr
    assert str(run / "model") in result.stdout and "Traceback" not in result.stderr
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == "vae" and config["options"]["latent"] == 8 and config["train"]["steps"] == 6
    assert main(["sample", str(run), "--seeds", "0-2", "--out", str(tmp_path / "samples"), "--batch", "4"]) == 0
    assert len(list((tmp_path / "samples").glob("[0-9]*.png"))) == 3


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("pixelcnn", ["--model.hidden", 4, "--model.layers", 1, "--model.levels", 4, "--model.head", 4]),
        ("gated_pixelcnn", ["--model.hidden", 4, "--model.layers", 2, "--model.levels", 4, "--model.head", 4]),
        (
            "pixelcnn_pp",
            [
                "--model.hidden",
                4,
                "--model.resnets",
                1,
                "--model.mixtures",
                2,
                "--betas",
                "[0.95,0.9995]",
                "--ema",
                0.9995,
            ],
        ),
    ],
)
def test_autoregressive_models_train_and_are_measured(model, settings, one_thread, picture, tmp_path, capsys):
    for seed in range(4):
        picture(f"photos/{seed}.png", 4, 4, seed=seed)
    run, photos = tmp_path / "run", tmp_path / "photos"
    assert in_process(model, "--data", photos, "--out", run, *SMALL, "--size", 4, *settings) == 0, (
        capsys.readouterr().err
    )
    assert main(["eval", str(run), "--data", str(photos), "--baseline", str(photos)]) == 0
    printed = capsys.readouterr().out
    assert "bpd " in printed and "bpd_independent" in printed
    losses = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["losses"]
    assert losses["bpd"] == pytest.approx(losses["loss"] / math.log(2))


@pytest.fixture
def one_thread():
    """As the processes of `start`: sums in another number of parts round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_process(*arguments):
    return main(["train", *map(str, arguments)])


def test_settings_files_come_first_and_runs_are_settings_files(one_thread, photos, tmp_path, capsys):
    file = tmp_path / "settings.yaml"
    file.write_text(
        f"data: {photos}\nsize: 16\nsteps: 2\nbatch_size: 4\nnum_workers: 0\ndevice: cpu\n"
        "model: {latent: 8, widths: [8, 8], decoder_widths: [8, 8], hidden: 16}\n"
    )
    assert in_process("vae", "--out", tmp_path / "a", "--steps", 4, "--config", file) == 0, capsys.readouterr().err
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["train"]["steps"] == 4 and config["options"]["latent"] == 8
    assert in_process("vae", "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b") == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert in_process("lapcvae", "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "c") == 1
    assert "settings of a vae" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "c").exists()


def test_an_interrupted_run_resumes_to_the_same_weights(one_thread, photos, tmp_path, capsys):
    settings = ["--data", photos, *TINY, *SMALL, "--steps", 600, "--checkpoint_every", 50, "--log_every", 50]
    process = start("train", "vae", "--out", tmp_path / "cut", *settings)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cut" / "checkpoints").glob("step-*50")):
        assert process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint after a minute: {process.communicate()}")
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.splitlines()[-1].startswith("lapcore: interrupted"), stderr
    assert "Traceback" not in stderr and not (tmp_path / "cut" / "model").exists()
    assert in_process("vae", "--out", tmp_path / "cut", "--resume") == 0, capsys.readouterr().err
    assert in_process("vae", "--out", tmp_path / "whole", *settings) == 0
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "MODEL"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["vae", "--out", "run"], "data"),
        (["vae", "--data", "photos", "--size", "x", "--out", "run"], "size"),
        (["vae", "--data", "photos", "--size", "16", "--out", "run", "--model.latent", "x"], "model.latent"),
        (["vae", "--data", "photos", "--size", "16", "--out", "run", "--nonsense", "1"], "--nonsense"),
    ],
)
def test_bad_usage_exits_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert in_process(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: lapcore train") and message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_refusals_are_one_line(photos, picture, tmp_path, capsys):
    run = tmp_path / "run"
    settings = ["--out", run, *SMALL]
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.yaml").write_text("- 1\n")
    picture("mixed/a.png")
    picture("mixed/b.png", rows=9)
    cases = [
        (["--data", tmp_path / "missing", *settings], "missing"),
        (["--data", tmp_path / "empty", *settings], "found nothing"),
        (["--data", tmp_path / "mixed", "--verify", *settings], "9x16"),
        (["--data", photos, *settings, "--size", 20], "20x20"),
        (["--data", photos, *settings, "--lr", -1], "lr"),
        (["--data", photos, *settings, "--resume"], "config.yaml"),
        (["--config", tmp_path / "list.yaml", *settings], "list.yaml"),
        (["--config", tmp_path / "missing.yaml", *settings], "missing.yaml"),
    ]
    for arguments, words in cases:
        assert in_process("vae", *arguments) == 1
        captured = capsys.readouterr()
        assert words in captured.err and captured.err.count("\n") == 1 and captured.out == "", captured
        assert not (run / "model").exists()
    run.mkdir(exist_ok=True)
    (run / "notes.txt").write_text("mine")
    assert in_process("vae", "--data", photos, *settings) == 1
    assert (run / "notes.txt").read_text() == "mine"
