"""`lapcore train`: from a folder of pictures to a model that samples; settings files, resumption, refusals."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import signal
import time

import pytest
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


def test_train_then_sample(one_thread, photos, tmp_path, capsys):
    run = tmp_path / "run"
    assert in_process("vae", "--data", photos, "--out", run, *TINY, *SMALL) == 0, capsys.readouterr().err
    assert str(run / "model") in capsys.readouterr().out
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == "vae" and config["options"]["latent"] == 8 and config["train"]["steps"] == [6]
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
    assert config["train"]["steps"] == [4] and config["options"]["latent"] == 8
    assert in_process("vae", "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b") == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert in_process("lapcvae", "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "c") == 1
    assert "settings of a vae" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "c").exists()


def stopped_at(out, number, *arguments):
    """stderr of a training that got the signal after its second checkpoint."""
    process = start("train", "vae", "--out", out, *arguments)
    deadline = time.monotonic() + 180
    while not list((out / "checkpoints").glob("step-*50")):
        assert process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no checkpoint after three minutes: {process.communicate()}")
        time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in stderr, stderr
    return stderr.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_with_the_command_that_it_names(number, one_thread, photos, tmp_path, capsys):
    settings = ["--data", photos, *TINY, *SMALL, "--steps", 150, "--checkpoint_every", 50, "--log_every", 50]
    out = tmp_path / "cut short's"
    *_, pending, last = stopped_at(out, number, *settings)
    match = re.fullmatch(
        rf"lapcore: stopped by {number.name}: step (\d+) of 150 \(stage all\) is kept in (.*); go on with: lapcore (.*)",
        last,
    )
    assert match and match[2] == str(out), last
    assert pending.startswith(f"step {match[1]}/150") and not (out / "model").exists()
    assert main(["sample", str(out), "--seeds", "0-3", "--batch", "4", "--out", str(tmp_path / "samples")]) == 0
    assert f"training has not finished; taking step {match[1]} of 150, in stage all" in capsys.readouterr().err
    assert main(shlex.split(match[3])) == 0, capsys.readouterr().err
    assert in_process("vae", "--out", tmp_path / "whole", *settings) == 0
    assert same_weights(out, tmp_path / "whole")


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


def test_a_finished_run_is_trained_further(one_thread, photos, tmp_path, capsys):
    out = tmp_path / "run"
    settings = ["--data", photos, *TINY, *SMALL]
    assert in_process("vae", "--out", out, *settings) == 0
    assert in_process("vae", "--out", out, "--resume") == 0
    assert "already finished, 6 steps" in capsys.readouterr().err
    assert in_process("vae", "--out", out, "--resume", "--steps", 4) == 0, capsys.readouterr().err
    assert in_process("vae", "--out", out, "--stage", "all") == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["stages"] == ["all"] * 3 and config["train"]["steps"] == [6, 4, 4]
    assert in_process("vae", "--out", out, *settings, "--stage", "all") == 1
    assert "already there" in capsys.readouterr().err
    assert in_process("vae", "--config", out / "config.yaml", "--out", tmp_path / "again") == 0
    assert same_weights(out, tmp_path / "again")


def test_levels_trained_apart_are_joined(one_thread, photos, tmp_path, capsys):
    tiny = ["--model.sizes", "[8,16]", "--model.width", 4, "--model.critic_width", 4, "--model.hidden", 8]
    command = ["lapgan", *tiny, *SMALL, "--steps", 2, "--data", photos]
    parts = {stage: tmp_path / stage for stage in ("level1", "level0")}
    for stage, part in parts.items():
        assert in_process(*command, "--stage", stage, "--out", part) == 0, capsys.readouterr().err
    out = tmp_path / "run"
    assert main(["join", str(parts["level0"]), str(parts["level1"]), "--out", str(out)]) == 0, capsys.readouterr().err
    weights = load_file(out / "model/model.safetensors")
    starts = load_file(parts["level1"] / "checkpoints/step-00000000/model.safetensors")
    for stage, part in parts.items():
        trained, level = load_file(part / "model/model.safetensors"), f"levels.{stage[-1]}."
        assert all(weights[name].equal(trained[name]) for name in weights if name.startswith(level))
        assert not all(weights[name].equal(starts[name]) for name in weights if name.startswith(level))
    assert yaml.safe_load((out / "config.yaml").read_text())["stages"] == ["level1", "level0"]
    assert in_process("lapgan", "--out", out, "--resume", "--steps", 2) == 0, capsys.readouterr().err
    assert main(["sample", str(out), "--seeds", "0-3", "--batch", "4", "--out", str(tmp_path / "samples")]) == 0
    capsys.readouterr()
    for stage, settings, words in [
        ("level1", [], f"trained stage level1, weights of which {parts['level1']} trained too"),
        ("level0", ["--seed", 1], f"train.seed: 0 in {parts['level1']}, 1 in {tmp_path / 'other'}"),
    ]:
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        assert in_process(*command, "--stage", stage, "--out", tmp_path / "other", *settings) == 0
        assert main(["join", str(parts["level1"]), str(tmp_path / "other"), "--out", str(tmp_path / "both")]) == 1
        assert words in capsys.readouterr().err and not (tmp_path / "both").exists()
    assert in_process(*command, "--stage", "level7", "--out", tmp_path / "both") == 1
    assert "stages: expected some of level1, level0, got level7" in capsys.readouterr().err


def test_weights_of_another_run_to_start_from(one_thread, photos, tmp_path, capsys):
    settings = ["--data", photos, *TINY, *SMALL]
    assert in_process("vae", "--out", tmp_path / "a", *settings) == 0
    assert in_process("vae", "--out", tmp_path / "b", *settings, "--start", tmp_path / "a", "--model.latent", 5) == 0
    assert (
        "3 did not fit and start anew: encoder.moments.weight, encoder.moments.bias, decoder.start.weight"
        in capsys.readouterr().err
    )
    assert in_process("vae", "--out", tmp_path / "c", *settings, "--start", tmp_path / "none") == 1
    assert in_process("lapcvae", "--out", tmp_path / "c", "--data", photos, *SMALL, "--start", tmp_path / "a") == 1
    assert "expected the weights of a lapcvae" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_numbers_for_words(one_thread, photos, tmp_path, capsys):
    settings = ["--data", photos, *TINY, *SMALL, "--model.variance"]
    assert in_process("vae", "--out", tmp_path / "a", *settings, "0.02") == 0, capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "a/config.yaml").read_text())["options"]["variance"] == 0.02
    assert in_process("vae", "--out", tmp_path / "b", *settings, "pixel") == 0
    assert in_process("vae", "--out", tmp_path / "c", *settings, "much") == 1


def test_held_out_images(one_thread, photos, tmp_path, capsys):
    out = tmp_path / "run"
    settings = ["--data", photos, *TINY, *SMALL, "--steps", 4, "--checkpoint_every", 2]
    assert in_process("vae", "--out", out, *settings, "--validation", 0.3) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    assert "4 images of 16x16x3, 2 more held out" in said and said.count("held-out loss") == 2
    assert (
        main(["sample", str(out / "best"), "--seeds", "0-1", "--batch", "4", "--out", str(tmp_path / "samples")]) == 0
    )
    assert in_process("vae", "--out", out, "--resume", "--steps", 2) == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4, 6]
    assert in_process("vae", "--out", tmp_path / "b", *settings, "--validation", photos) == 0
    assert in_process("vae", "--out", tmp_path / "b", "--resume", "--steps", 2) == 0, capsys.readouterr().err
    assert in_process("vae", "--out", tmp_path / "c", *settings, "--validation", tmp_path / "none") == 1
    assert in_process("gan", "--out", tmp_path / "c", "--data", photos, *SMALL, "--validation", 0.3) == 1
    assert "validation: expected None for stage" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_classes_must_be_there(one_thread, photos, tmp_path, capsys):
    settings = ["--data", photos, *TINY, *SMALL, "--model.num_classes", 3]
    assert in_process("vae", "--out", tmp_path / "a", *settings) == 1
    assert "num_classes: expected none, as the data has no classes, got 3" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
