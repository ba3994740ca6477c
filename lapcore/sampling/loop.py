"""The sampling loop: seed in, file out, the same bytes whatever the order, the split or a crash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lapcore
from lapcore import native
from lapcore.data.files import SAMPLING, SHEET, TEMPORARY, atomic_file
from lapcore.errors import LapcoreError
from lapcore.sampling.blocks import Labels, Sampler, blocks, check, one_block
from lapcore.sampling.formats import FORMATS, check_format, encode, unfinished


def sample_to_folder(
    model: Sampler,
    seeds: Sequence[range],
    out: Path,
    *,
    labels: Labels | None = None,
    batch: int = 64,
    format: str = "png",
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_images: Callable[[int], None] = lambda count: None,
) -> int:
    """Writes one image per seed into `out`; returns how many it computed: what is there already is left as it is.

    * `png`: one file per seed, `00000042.png`
    * `npy`: one uint8 (n, H, W, C) array per block, named by the block's first seed
    * `tar`: one webdataset shard per block: `00000042.png`, and with classes `00000042.cls`
    * `parquet`: one file per block with columns seed (int64), image (struct of PNG bytes and path) and, with labels,
      label (int64) or attributes (list of float32)

    `sampling.json` in `out` records what the files depend on: other settings in the same folder are refused, or with
    `overwrite` the earlier samples are removed first. Each file is written whole under a temporary name and then
    renamed, so a run that was stopped goes on where it was; nothing is written before the model has drawn its first
    block. `on_images(n)` is called as images are finished. `seeds`, `labels` and `options` as in `sample_blocks`.
    Raises ValueError for bad arguments, LapcoreError for a folder that holds something else, OSError if the disk
    refuses.
    """
    checked = check(model, seeds, labels, batch, options)
    check_format(format)
    settings = _settings(model, seeds, checked, batch, format, options)
    claimed = not _check_folder(out, settings, overwrite)
    computed = 0
    for block, numbers in blocks(seeds, batch):
        wanted = list(numbers)
        todo = unfinished(out, wanted, block * batch, format) if claimed else wanted
        if todo:
            _, images = one_block(model, todo, checked, batch, options)
            if not claimed:
                _claim_folder(out, settings, overwrite)
                claimed = True
            for name, content in encode(todo, images, checked, block * batch, format):
                _write(out / name, content)
            computed += len(todo)
        on_images(len(wanted))
    return computed


def _settings(
    model: Sampler,
    seeds: Sequence[range],
    labels: Tensor | None,
    batch: int,
    format: str,
    options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """All that the bytes of a file depend on. A shard holds many seeds, so there they belong to it; a PNG holds one."""
    return {
        "lapcore": lapcore.__version__,
        "weights": _digest_of_model(model),
        "format": format,
        "batch": batch,
        "labels": None if labels is None else labels.tolist(),
        "attributes": list(model.attributes),
        "options": {name: _recorded(value) for name, value in (options or {}).items()},
        "seeds": None if format == "png" else ",".join(f"{part[0]}-{part[-1]}" for part in seeds),
        "device": model.device.type,
        "isa": native.isa() if model.device.type == "cpu" else None,
    }


def _recorded(value: Any) -> Any:
    """A tensor by a digest of its shape and bytes."""
    if isinstance(value, Tensor):
        return hashlib.sha256(f"{tuple(value.shape)}".encode() + _bytes(value)).hexdigest()
    return list(value) if isinstance(value, tuple) else value


def _digest_of_model(model: Sampler) -> str:
    digest = hashlib.sha256(repr(sorted(model.config.items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _check_folder(out: Path, settings: dict[str, Any], overwrite: bool) -> bool:
    """Tells whether `out` has yet to become the folder of `settings`; raises if it holds anything else."""
    if out.exists() and not out.is_dir():
        raise LapcoreError(f"{out}: expected a folder for the samples, got a file")
    manifest = out / SAMPLING
    if not overwrite and manifest.exists():
        _compare(manifest, settings)
        return False
    if not overwrite and out.is_dir() and any(not entry.name.startswith(TEMPORARY) for entry in out.iterdir()):
        raise LapcoreError(f"{out}: the folder is not empty; choose another --out or add --overwrite")
    return True


def _claim_folder(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes `out` the folder of `settings`, unless another process has meanwhile; with `overwrite`, earlier samples go."""
    manifest = out / SAMPLING
    if not overwrite and not _check_folder(out, settings, overwrite):
        return
    if overwrite and out.is_dir():
        # The manifest goes first: without it the rest is nobody's, whatever stops us half way.
        manifest.unlink(missing_ok=True)
        for path in out.iterdir():
            if path.name == SHEET or re.fullmatch(rf"\d{{8,}}\.({'|'.join(FORMATS)})", path.name):
                path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    _write(manifest, (json.dumps(settings, indent=2) + "\n").encode())


def _compare(manifest: Path, settings: dict[str, Any]) -> None:
    try:
        there = json.loads(manifest.read_text())
        other = [name for name in settings if there[name] != settings[name]]
    except (ValueError, TypeError, KeyError) as error:
        raise LapcoreError(f"{manifest}: not a record of samples; choose another --out or add --overwrite") from error
    if other:
        raise LapcoreError(
            f"{manifest.parent}: holds samples with another {', '.join(other)}; choose another --out or add --overwrite"
        )


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)
