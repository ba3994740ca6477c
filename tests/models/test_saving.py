"""Models on disk: the round trip, and one clear error for everything that can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from lapcore.errors import CheckpointError, MissingDependencyError
from lapcore.models import MODELS, VAE, ImageModel, LapCVAE, load_model, saving

SETTINGS: dict[str, dict[str, Any]] = {
    "lapcvae": dict(
        image_size=13, levels=2, latent=6, band_latent=(2, 3), widths=(4,), band_width=4, hidden=8, num_classes=3,
        variance="channel", kl_weight=(1.0, 2.0, 0.5),
    ),
    "lapgan": dict(
        image_size=13, sizes=(3, 9, 13), networks="modern", latent=3, width=(2, 3), critic_width=2, num_classes=3, loss="wgan-gp",
        penalty_weight=5.0,
    ),
    "gan": dict(image_size=5, channels=1, networks="goodfellow", latent=3, hidden=(4, 5), critic_hidden=(4,), loss="hinge"),
    "dcgan": dict(image_size=9, latent=3, width=2, norm="spectral", num_classes=3, class_head=True),
    "cvae": dict(
        image_size=9, latent=3, widths=(4,), decoder_widths=(4,), hidden=8, num_classes=3, prior="standard", kl_weight=0.5,
    ),
    "vaegan": dict(
        image_size=9, latent=3, widths=(4,), decoder_widths=(4,), hidden=8, critic_widths=(2, 3, 4, 5), critic_hidden=6,
        gamma=0.1, kl_weight=0.5, margin=0.2, equilibrium=0.6, adversarial="nonsaturating",
    ),
    "hierarchical_vae": dict(
        image_size=9, latent=3, top_latent=2, code_hidden=5, widths=(4,), decoder_widths=(4,), hidden=8, num_classes=3,
    ),
    "vqvae": dict(
        image_size=9, codes=4, dim=3, hidden=4, blocks=1, prior_hidden=4, prior_layers=2, prior_embedding=2, num_classes=3,
        decay=None, restart_after=None, beta=0.5, data_variance=0.1,
    ),
    "autoencoder": dict(image_size=9, latent=3, widths=(4,), decoder_widths=(4,), hidden=8),
    "pca": dict(image_size=5, channels=1, latent=3, rank=7),
    "pixelcnn": dict(image_size=3, channels=1, hidden=4, layers=1, levels=4, embedding=2),
    "gated_pixelcnn": dict(image_size=3, hidden=4, layers=2, levels=4, head=5, num_classes=3),
    "pixelcnn_pp": dict(image_size=4, hidden=3, mixtures=2, resnets=1, dropout=0.1, num_classes=3),
    "vae": dict(image_size=9, channels=1, latent=3, widths=(4,), decoder_widths=(4,), hidden=8, variance=0.1),
}  # fmt: skip


def made(name: str) -> ImageModel:
    model = MODELS[name](**SETTINGS[name])
    for tensor in model.state_dict().values():  # batch-norm statistics too
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor))
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made("vae").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_comes_back_the_same(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path / "run" / "model")
    assert sorted(p.name for p in (tmp_path / "run" / "model").iterdir()) == ["config.json", "model.safetensors"]
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]
    for loaded in (
        type(model).from_pretrained(tmp_path / "run" / "model"),
        load_model(tmp_path / "run" / "model"),
        load_model(str(tmp_path / "run")),
    ):
        assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
        expected = model.state_dict()
        assert list(loaded.state_dict()) == list(expected)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
        labels = torch.tensor([0, 2]) if model.num_classes else None
        assert torch.equal(loaded.sample(torch.arange(2), labels), model.sample(torch.arange(2), labels))
        assert all(p.requires_grad and p.device.type == "cpu" for p in loaded.parameters())


def test_a_loaded_model_trains_on(tmp_path: Path) -> None:
    made("lapcvae").save_pretrained(tmp_path / "m")
    model = LapCVAE.from_pretrained(tmp_path / "m")
    optimizer = torch.optim.SGD(model.set_stage("level1"), lr=0.1)
    before = model.bands[1].head.weight.clone()
    model.loss(torch.rand(4, 3, 13, 13), torch.tensor([0, 1, 2, 0]))["loss"].backward()
    optimizer.step()
    assert not torch.equal(before, model.bands[1].head.weight)


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    state = torch.get_rng_state()
    VAE.from_pretrained(saved)
    assert torch.equal(torch.get_rng_state(), state)


def test_config_is_readable(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert config["model"] == "vae"
    assert config["image_size"] == 9 and config["widths"] == [4] and config["variance"] == 0.1


def test_saving_again_replaces_the_files_and_nothing_else(saved: Path) -> None:
    (saved / "README.md").write_text("mine")
    other = made("lapcvae")
    other.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "mine"
    assert load_model(saved).config == other.config
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model"]


def test_a_write_that_fails_leaves_what_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    for folder in (saved, saved.parent / "new"):
        with pytest.raises(OSError, match="No space left"):
            made("vae").save_pretrained(folder)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def edit_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, folder / "model.safetensors")

    return rewrite


def truncate(size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])  # type: ignore[func-returns-value]


BIAS = "decoder.head.bias"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: cannot be read: No such file"),
    "config cut": (lambda f: (f / "config.json").write_text('{"model": "va'), "config.json: not valid JSON"),
    "config binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: not valid JSON"),
    "config list": (lambda f: (f / "config.json").write_text("[1]"), "config.json: expected a JSON object, got list"),
    "other model": (edit_config(model="glow"), "config.json: expected a model .*got 'glow'"),
    "no model": (edit_config(model=None), "config.json: expected a model"),
    "setting": (edit_config(depth=3), "saved with other settings"),
    "cut": (truncate(-5000), "model.safetensors: damaged"),
    "cut by a byte": (truncate(-1), "model.safetensors: damaged"),
    "cut in the header": (truncate(100), "model.safetensors: damaged"),
    "cut to the length": (truncate(8), "model.safetensors: damaged"),
    "empty": (truncate(0), "model.safetensors: damaged"),
    "no safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"PK" + bytes(500)), "model.safetensors: damaged"),
    "tensor missing": (edit_weights(lambda t: t.pop("decoder.head.weight")), "no tensor decoder.head.weight"),
    "tensor too many": (edit_weights(lambda t: t.update(extra=torch.zeros(1))), "unknown tensor extra"),
    "tensor shape": (edit_weights(lambda t: t.update({BIAS: torch.zeros(7)})), r"bias: expected .*\(1,\), got .*\(7,\)"),
    "tensor type": (edit_weights(lambda t: t.update({BIAS: torch.zeros(1).int()})), "bias: .*int32"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("load", [load_model, VAE.from_pretrained])
def test_damage_is_named(case: str, load: Callable[[Path], ImageModel], saved: Path) -> None:
    damage, message = DAMAGE[case]
    damage(saved)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved)
    assert str(saved) in str(caught.value) and "\n" not in str(caught.value)


def without_metadata(folder: Path) -> None:
    """Weights of another tool, which do not carry their settings."""
    edit_weights(lambda tensors: None)(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 3}, "vae has no setting depth"),
        ({"latent": 0}, "config.json: latent"),
        ({"hidden": 16}, "expected .* got"),
        ({"image_size": None}, "config.json: image_size"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict[str, Any], message: str, saved: Path) -> None:
    without_metadata(saved)
    assert load_model(saved).name == "vae"
    edit_config(**changes)(saved)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_missing_folders_and_unfinished_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match="none: expected a folder"):
        VAE.from_pretrained(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"holds neither config.json nor model/$"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"^[^:]*config.json: cannot be read: No such file"):
        VAE.from_pretrained(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(CheckpointError, match="has not finished"):
        load_model(tmp_path)


def test_another_class_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a model lapcvae, got 'vae'"):
        LapCVAE.from_pretrained(saved)


def test_without_safetensors_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingDependencyError, match=r"lapcore\[hub\]"):
        made("vae").save_pretrained(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_importing_models_imports_no_optional_library() -> None:
    code = (
        "import sys, lapcore.models; print([m for m in ('safetensors', 'huggingface_hub', 'PIL') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_push_to_hub_uploads_the_saved_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    calls: dict[str, Any] = {}

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> Any:
            calls["create"] = (repo_id, options)
            return type("Repo", (), {"repo_id": f"user/{repo_id}"})

        def upload_folder(self, **options: Any) -> str:
            calls["upload"] = options
            calls["model"] = load_model(options["folder_path"])
            return "https://example.invalid/commit"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert made("vae").push_to_hub("faces", private=True, revision="main") == "https://example.invalid/commit"
    assert calls["create"] == ("faces", {"private": True, "exist_ok": True})
    assert calls["upload"]["repo_id"] == "user/faces" and calls["upload"]["revision"] == "main"
    assert calls["model"].name == "vae"
