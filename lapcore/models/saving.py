"""Models on disk: `model.safetensors` and `config.json`, the names that huggingface_hub gives them."""

from __future__ import annotations

import inspect
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lapcore.errors import CheckpointError, require

if TYPE_CHECKING:
    from lapcore.models.base import ImageModel

WEIGHTS, CONFIG = "model.safetensors", "config.json"
M = TypeVar("M", bound="ImageModel")


def save(model: ImageModel, folder: Path) -> None:
    """See `ImageModel.save_pretrained`."""
    safetensors = require("safetensors.torch", "hub")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    config = json.dumps({"model": model.name, **model.config}, indent=2) + "\n"
    # The weights carry the settings too: after a crash between the two replacements, `load` sees that they differ.
    files = {WEIGHTS: safetensors.save(tensors, {"config": config}), CONFIG: config.encode()}
    temporary = folder.with_name(f".tmp-{folder.name}-{secrets.token_hex(4)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.mkdir()
        for name, content in files.items():
            with open(temporary / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            for name in files:
                os.replace(temporary / name, folder / name)
        else:
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(folder: Path, models: Mapping[str, type[M]]) -> M:
    """The model in `folder`, which must be one of `models`; see `ImageModel.from_pretrained`."""
    config = _read_config(folder)
    name = config.pop("model", None)
    if name not in models:
        raise CheckpointError(f"{folder / CONFIG}: expected a model {' or '.join(models)}, got {name!r}")
    return built(models[name], config, _read_weights(folder, {"model": name, **config}), folder)


def built(kind: type[M], config: dict[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> M:
    """A model of these settings and weights, which were read in `folder`, in evaluation mode."""
    model = _build(kind, config, folder)
    _check_tensors(model, tensors, folder / WEIGHTS)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder with {CONFIG} and {WEIGHTS}, found none")
    content = _read(folder / CONFIG)
    try:
        config = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / CONFIG}: expected a JSON object, got {type(config).__name__}")
    return config


def _read_weights(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    safetensors = require("safetensors", "hub")
    path, content = folder / WEIGHTS, _read(folder / WEIGHTS)
    try:
        tensors: dict[str, Tensor] = require("safetensors.torch", "hub").load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file: {error}") from error
    saved = header.get("__metadata__", {}).get("config")
    if saved is not None and json.loads(saved) != config:
        raise CheckpointError(f"{path}: saved with other settings than those in {CONFIG}; save the model again")
    return tensors


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _build(model: type[M], config: dict[str, Any], folder: Path) -> M:
    """A model without storage: nothing is drawn, so torch's random state stays as it is."""
    unknown = config.keys() - inspect.signature(model).parameters
    if unknown:
        raise CheckpointError(f"{folder / CONFIG}: {model.name} has no setting {', '.join(sorted(unknown))}")
    try:
        with torch.device("meta"):
            return model(**config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error


def _check_tensors(model: ImageModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    for name in expected.keys() ^ tensors.keys():
        raise CheckpointError(
            f"{path}: {'no' if name in expected else 'unknown'} tensor {name}; a file of another model?"
        )
    for name, tensor in expected.items():
        found = tensors[name]
        if found.shape != tensor.shape or found.dtype.is_floating_point != tensor.dtype.is_floating_point:
            got = f"{found.dtype} {tuple(found.shape)}"
            raise CheckpointError(f"{path}: {name}: expected {tensor.dtype} {tuple(tensor.shape)}, got {got}")


def push_to_hub(model: ImageModel, repo_id: str, *, private: bool | None = None, **options: Any) -> str:
    """See `ImageModel.push_to_hub`."""
    api = require("huggingface_hub", "hub").HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save(model, folder)
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        options = {"commit_message": f"Save a {model.name} of lapcore", **options}
        return str(api.upload_folder(repo_id=repo, folder_path=folder, **options))
