"""The files that a block of images becomes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from lapcore.data.images import from_array
from lapcore.errors import require

FORMATS = ("png", "npy", "tar", "parquet")


def check_format(format: str) -> None:
    """ValueError for an unknown format, MissingDependencyError for one whose library is missing."""
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if format != "npy":
        require("PIL", "data")
    if format == "parquet":
        require("pyarrow", "data")


def unfinished(out: Path, seeds: list[int], start: int, format: str) -> list[int]:
    """Returns those of a block's seeds whose files are not there."""
    if format == "png":
        return [seed for seed in seeds if not (out / f"{file_stem(seed)}.png").exists()]
    return [] if (out / f"{file_stem(start)}.{format}").exists() else seeds


def encode(
    seeds: list[int], images: Tensor, labels: Tensor | None, start: int, format: str
) -> Iterator[tuple[str, bytes]]:
    """The files of one block: (name, content)."""
    if format == "npy":
        stream = io.BytesIO()
        np.save(stream, images.permute(0, 2, 3, 1).contiguous().numpy())
        yield f"{file_stem(start)}.npy", stream.getvalue()
        return
    pictures = [_png(image) for image in images]
    if format == "png":
        yield from ((f"{file_stem(seed)}.png", picture) for seed, picture in zip(seeds, pictures, strict=True))
        return
    pack = _tar if format == "tar" else _parquet
    of_each = None if labels is None else labels[[seed % len(labels) for seed in seeds]].tolist()
    yield f"{file_stem(start)}.{format}", pack(seeds, pictures, of_each)


def file_stem(seed: int) -> str:
    return f"{seed:08d}"


def _png(image: Tensor) -> bytes:
    stream = io.BytesIO()
    from_array(image.permute(1, 2, 0).contiguous().numpy()).save(stream, "PNG")
    return stream.getvalue()


def _tar(seeds: list[int], pictures: list[bytes], labels: list[int] | list[list[float]] | None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for place, (seed, picture) in enumerate(zip(seeds, pictures, strict=True)):
            files = {"png": picture}
            if labels is not None and isinstance(labels[place], int):
                files["cls"] = str(labels[place]).encode()
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"{file_stem(seed)}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _parquet(seeds: list[int], pictures: list[bytes], labels: list[int] | list[list[float]] | None) -> bytes:
    import pyarrow
    from pyarrow import parquet

    image_type = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": picture, "path": f"{file_stem(seed)}.png"} for seed, picture in zip(seeds, pictures, strict=True)]
    columns = {"seed": pyarrow.array(seeds, pyarrow.int64()), "image": pyarrow.array(rows, image_type)}
    if labels is not None and isinstance(labels[0], int):
        columns["label"] = pyarrow.array(labels, pyarrow.int64())
    elif labels is not None:
        columns["attributes"] = pyarrow.array(labels, pyarrow.list_(pyarrow.float32()))
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()
