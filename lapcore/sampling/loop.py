"""The sampling loop: seed in, file out, the same bytes whatever the order, the split or a crash.

A network's rounding may depend on the batch shape and on an image's place in the batch. So the network always runs on
`batch` images at once, and seed s always stands at place s mod batch of block s // batch: a block whose seeds are not
all asked for is computed whole and the rest is dropped. What an image is then depends on the weights, its seed, its
label, `batch` and the kind of device.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import lapcore
from lapcore.data.files import atomic_file
from lapcore.data.images import from_array, to_uint8
from lapcore.errors import LapcoreError, require

FORMATS = ("png", "npy", "tar", "parquet")
MANIFEST = "sampling.json"
LARGEST_SEED = 2**63 - 1


class Sampler(Protocol):
    """What the loop asks of a model; every `lapcore.models.ImageModel` that has `sample` will do."""

    config: dict[str, Any]
    num_classes: int | None

    @property
    def device(self) -> torch.device: ...

    def state_dict(self) -> dict[str, Any]: ...

    def sample(self, seeds: Tensor, labels: Tensor | None = None) -> Tensor: ...


def sample_blocks(
    model: Sampler, seeds: Sequence[range], *, labels: Sequence[int] | None = None, batch: int = 64
) -> Iterator[tuple[list[int], Tensor]]:
    """Yields (seeds, uint8 images (n, C, H, W) on the CPU) for each block of `batch` seeds that is asked for, in order.

    `seeds`: ascending ranges of step 1 that do not overlap, from 0 to 2**63 - 1. Seed s takes label
    `labels[s % len(labels)]`. Raises ValueError before anything is computed. Deterministic: see the module.
    """
    _check(model, seeds, labels, batch)
    return (_one_block(model, list(block), labels, batch) for _, block in _blocks(seeds, batch))


def sample_to_folder(
    model: Sampler,
    seeds: Sequence[range],
    out: Path,
    *,
    labels: Sequence[int] | None = None,
    batch: int = 64,
    format: str = "png",
    overwrite: bool = False,
    on_images: Callable[[int], None] = lambda count: None,
) -> int:
    """Writes one image per seed into `out`; returns how many it computed: what is there already is left as it is.

    * `png`: one file per seed, `00000042.png`
    * `npy`: one uint8 (n, H, W, C) array per block, named by the block's first seed
    * `tar`: one webdataset shard per block: `00000042.png`, and with labels `00000042.cls`
    * `parquet`: one file per block with columns seed (int64), image (struct of PNG bytes and path) and, with labels,
      label (int64)

    `sampling.json` in `out` records what the files depend on: other settings in the same folder are refused, or with
    `overwrite` the earlier samples are removed first. Each file is written whole under a temporary name and then
    renamed, so a run that was stopped goes on where it was. `on_images(n)` is called as images are finished. `seeds`
    and `labels` as in `sample_blocks`. Raises ValueError for bad arguments, LapcoreError for a folder that holds
    something else, OSError if the disk refuses.
    """
    _check(model, seeds, labels, batch)
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if format != "npy":
        require("PIL", "data")
    if format == "parquet":
        require("pyarrow", "data")
    _claim_folder(out, _settings(model, seeds, labels, batch, format), overwrite)
    computed = 0
    for block, numbers in _blocks(seeds, batch):
        wanted = list(numbers)
        todo = _unfinished(out, wanted, block * batch, format)
        if todo:
            _, images = _one_block(model, todo, labels, batch)
            for name, content in _encode(todo, images, labels, block * batch, format):
                _write(out / name, content)
            computed += len(todo)
        on_images(len(wanted))
    return computed


def _check(model: Sampler, seeds: Sequence[range], labels: Sequence[int] | None, batch: int) -> None:
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    last = -1
    for part in seeds:
        if part.step != 1 or not part or part.start <= last or part[-1] > LARGEST_SEED:
            raise ValueError(f"seeds: expected ascending, separate, non-empty ranges within 0..2**63-1, got {part}")
        last = part[-1]
    if last < 0:
        raise ValueError("seeds: expected at least one range, got none")
    if labels is None:
        return
    if model.num_classes is None:
        raise ValueError("labels: this model was trained without classes; leave them out")
    if not labels or not all(0 <= label < model.num_classes for label in labels):
        raise ValueError(f"labels: expected numbers in 0..{model.num_classes - 1}, got {list(labels)}")


def _blocks(seeds: Sequence[range], batch: int) -> Iterator[tuple[int, Iterator[int]]]:
    return groupby(chain.from_iterable(seeds), key=lambda seed: seed // batch)


def _one_block(model: Sampler, seeds: list[int], labels: Sequence[int] | None, batch: int) -> tuple[list[int], Tensor]:
    """The images of `seeds`, all of one block, through the whole block."""
    device = model.device
    start = seeds[0] // batch * batch
    # The last block of all ends at the largest seed: its places beyond repeat that one.
    whole = [min(seed, LARGEST_SEED) for seed in range(start, start + batch)]
    classes = None if labels is None else torch.tensor([_label(s, labels) for s in whole], device=device)
    with torch.no_grad():
        images = model.sample(torch.tensor(whole, dtype=torch.int64, device=device), classes)
    if not torch.isfinite(images).all():
        raise LapcoreError(
            f"seeds {start}-{whole[-1]}: the model gave NaN or infinity; its weights are damaged or diverged"
        )
    return seeds, to_uint8(images[[seed - start for seed in seeds]]).cpu()


def _label(seed: int, labels: Sequence[int]) -> int:
    return labels[seed % len(labels)]


def _unfinished(out: Path, seeds: list[int], start: int, format: str) -> list[int]:
    if format == "png":
        return [seed for seed in seeds if not (out / f"{_name(seed)}.png").exists()]
    return [] if (out / f"{_name(start)}.{format}").exists() else seeds


def _name(seed: int) -> str:
    return f"{seed:08d}"


def _encode(
    seeds: list[int], images: Tensor, labels: Sequence[int] | None, start: int, format: str
) -> Iterator[tuple[str, bytes]]:
    """The files of one block: (name, content)."""
    if format == "npy":
        stream = io.BytesIO()
        np.save(stream, images.permute(0, 2, 3, 1).contiguous().numpy())
        yield f"{_name(start)}.npy", stream.getvalue()
        return
    pictures = [_png(image) for image in images]
    if format == "png":
        yield from ((f"{_name(seed)}.png", picture) for seed, picture in zip(seeds, pictures, strict=True))
    elif format == "tar":
        yield f"{_name(start)}.tar", _tar(seeds, pictures, labels)
    else:
        yield f"{_name(start)}.parquet", _parquet(seeds, pictures, labels)


def _png(image: Tensor) -> bytes:
    stream = io.BytesIO()
    from_array(image.permute(1, 2, 0).contiguous().numpy()).save(stream, "PNG")
    return stream.getvalue()


def _tar(seeds: list[int], pictures: list[bytes], labels: Sequence[int] | None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for seed, picture in zip(seeds, pictures, strict=True):
            files = {"png": picture}
            if labels is not None:
                files["cls"] = str(_label(seed, labels)).encode()
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"{_name(seed)}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _parquet(seeds: list[int], pictures: list[bytes], labels: Sequence[int] | None) -> bytes:
    import pyarrow
    from pyarrow import parquet

    image_type = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": picture, "path": f"{_name(seed)}.png"} for seed, picture in zip(seeds, pictures, strict=True)]
    columns = {"seed": pyarrow.array(seeds, pyarrow.int64()), "image": pyarrow.array(rows, image_type)}
    if labels is not None:
        columns["label"] = pyarrow.array([_label(seed, labels) for seed in seeds], pyarrow.int64())
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def _settings(
    model: Sampler, seeds: Sequence[range], labels: Sequence[int] | None, batch: int, format: str
) -> dict[str, Any]:
    """All that the bytes of a file depend on. A shard holds many seeds, so there they belong to it; a PNG holds one."""
    return {
        "lapcore": lapcore.__version__,
        "weights": _digest(model),
        "format": format,
        "batch": batch,
        "labels": None if labels is None else list(labels),
        "seeds": None if format == "png" else ",".join(f"{part[0]}-{part[-1]}" for part in seeds),
        "device": model.device.type,
    }


def _digest(model: Sampler) -> str:
    digest = hashlib.sha256(repr(sorted(model.config.items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _claim_folder(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes `out` the folder of `settings`, or raises if it holds anything else."""
    if out.exists() and not out.is_dir():
        raise LapcoreError(f"{out}: expected a folder for the samples, got a file")
    manifest = out / MANIFEST
    if overwrite and out.is_dir():
        # The manifest goes first: without it the rest is nobody's, whatever stops us half way.
        manifest.unlink(missing_ok=True)
        for path in out.iterdir():
            if re.fullmatch(rf"\d{{8,}}\.({'|'.join(FORMATS)})", path.name):
                path.unlink()
    elif manifest.exists():
        _compare(manifest, settings)
        return
    elif out.is_dir() and any(out.iterdir()):
        raise LapcoreError(f"{out}: the folder is not empty; choose another --out or add --overwrite")
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
