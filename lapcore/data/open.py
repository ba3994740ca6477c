"""Which kind of container a path is, and the dataset that reads it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lapcore.data.arrays import CIFAR_BATCH, ArraySource, cifar_batches, open_cifar, open_idx, open_npy, open_npz
from lapcore.data.attributes import TABLE, vectors
from lapcore.data.dataset import ImageDataset, Source
from lapcore.data.folders import Tar, has_pictures, open_folder, open_picture, open_tar, open_zip, walk
from lapcore.data.images import EXTENSIONS, check_channels
from lapcore.data.shards import expand, is_webdataset, open_parquet, open_webdataset
from lapcore.data.sizing import RESIZES, Resize, resized
from lapcore.errors import DataError

_TAR = re.compile(r".*\.(tar|tar\.(gz|xz|bz2)|tgz|txz|tbz2)", re.IGNORECASE)
_IDX = re.compile(r".*idx[34]-ubyte(\.gz)?")
_SPLIT = re.compile(r"(train|training|test|val|valid|validation|dev)(?![a-z])", re.IGNORECASE)
_KINDS = "a folder, zip or tar of images, an image, .npy, .npz, IDX, CIFAR-10 batches, .parquet, or webdataset shards"


def open_images(
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    channels: int = 3,
    resize: Resize = "none",
    convert: bool = False,
    seed: int = 0,
    crops_per_image: int = 1,
    attributes: Sequence[str] | None = None,
    verify: bool = False,
) -> ImageDataset:
    """Opens a set of images as a map-style dataset of `(uint8 (C, H, W), label)`.

    `path` is one of
    * a folder of images, or a zip or tar (.gz, .xz, .bz2) of one: subfolders are classes, none means one class,
      folders shared by all images do not count, files that are not images are passed over; or a single image;
    * `.npy`: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), mapped rather than read; `.npz` with such an array `images`
      and maybe `labels`;
    * IDX (`*-images-idx3-ubyte`, also .gz), with the labels file beside it;
    * CIFAR-10: the folder, or the distributed tar, of binary or Python batches (the training ones), or one by name;
    * parquet: a file, a folder or a pattern of them, with a column of encoded images (bytes, or Hugging Face's struct)
      and maybe `label`;
    * webdataset: a tar, a folder of tars or a pattern such as `train-{000..099}.tar`, labels from `.cls` or `.json`.
    Compressed tars and parquet are copied once to a temporary file, in `tempfile.gettempdir()`, for random access.

    `size=None` gives every image as it is. Otherwise all items are size x size, and `resize` says how:
    * `"none"`: an image of another size is an error;
    * `"crop"`: the central square, then antialiased bicubic (Pillow's) to `size`;
    * `"fit"`: the whole image, antialiased bicubic, as large as fits the square, centred on black;
    * `"random_crop"`: a size x size window at full resolution, its place a function of (`seed`, index) alone;
      `crops_per_image` items per image, neighbours in the order.
    `channels` is 1 or 3; image files with another number are an error unless `convert=True` (grey repeated, colour to
    BT.601 luma, alpha over black). Image files are checked when read, or all at once with `verify=True`.
    `attributes` names columns of the table `attributes.csv` that lies beside the pictures of a folder, zip or tar: a
    first line of names, one of them `file`, and a row for each picture. Labels are then float32 vectors: numbers as they
    are, a column of words as a 0 or 1 for each word, `hair_color=blonde`, which can also be asked for alone;
    `dataset.attributes` names the values. Without `attributes` the table is passed over.

    Raises DataError, naming the file, for what is missing, empty, damaged, cut short, or of the wrong size, type or
    channels; ValueError for wrong arguments. Deterministic: items come in sorted (folders, zips, tars) or stored order.
    """
    _check_arguments(size, channels, resize, crops_per_image, seed)
    _check_attributes(attributes)
    source = _open_source(path, channels, convert)
    if isinstance(source, ArraySource) and size is not None and resize in ("none", "random_crop"):
        resized(source.image(0), size, resize, source.name(0), seed, 0)
    spec: dict[str, Any] = {
        "path": _absolute(path),
        "size": size,
        "channels": channels,
        "resize": resize,
        "convert": convert,
        "seed": seed,
        "crops_per_image": crops_per_image,
    }
    found = None if attributes is None else _vectors(source, path, attributes)
    if found is not None:
        spec["attributes"] = list(found[0])
    dataset = ImageDataset(
        source,
        size=size,
        resize=resize,
        seed=seed,
        crops_per_image=crops_per_image,
        spec=spec,
        attributes=found,
    )
    if verify:
        dataset.verify()
    return dataset


def _check_arguments(size: int | None, channels: int, resize: str, crops_per_image: int, seed: int) -> None:
    check_channels(channels)
    if resize not in RESIZES:
        raise ValueError(f"resize: expected one of {', '.join(RESIZES)}, got {resize!r}")
    if size is not None and size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    if size is None and resize != "none":
        raise ValueError(f"resize: {resize!r} needs a size")
    if crops_per_image < 1 or (crops_per_image > 1 and resize != "random_crop"):
        raise ValueError(f"crops_per_image: expected 1, or more with resize='random_crop', got {crops_per_image}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected 0 to 2**64 - 1, got {seed}")


def _check_attributes(attributes: Sequence[str] | None) -> None:
    names = [] if attributes is None else list(attributes)
    if isinstance(attributes, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"attributes: expected a list of names, got {attributes!r}")
    if attributes is not None and not names:
        raise ValueError("attributes: expected at least one name, or None for none, got an empty list")


def _vectors(
    source: Source, path: str | os.PathLike[str], attributes: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    table = getattr(source, "table", None)
    if table is None:
        raise DataError(
            f"{path}: expected {TABLE} beside the pictures, of a folder, zip or tar, to read attributes from"
        )
    return vectors(table, attributes)


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(path))


def _open_source(path: str | os.PathLike[str], channels: int, convert: bool) -> Source:
    path = Path(path)
    if path.is_dir():
        return _open_directory(path, channels, convert)
    if path.exists():
        return _open_files([path], channels, convert)
    matches = [match for name in expand(str(path)) for match in sorted(glob.glob(name)) or [name]]
    missing = next((match for match in matches if not os.path.isfile(match)), None)
    if missing is not None:
        raise DataError(f"{missing}: no such file or folder; expected {_KINDS}")
    return _open_files([Path(match) for match in matches], channels, convert)


def _open_directory(path: Path, channels: int, convert: bool) -> Source:
    try:
        files = sorted(entry.name for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path}: cannot be listed: {error.strerror}") from error
    batches = cifar_batches(files)
    if batches:
        return open_cifar({name: (path / name).read_bytes for name in batches}, batches, path / "_", channels=channels)
    shards = _shards(path, files)
    if shards:
        return _open_files(shards, channels, convert)
    idx = [name for name in files if _IDX.fullmatch(name)]
    if len(idx) > 1:
        raise DataError(f"{path}: holds several sets of images ({', '.join(idx)}); name one of these files")
    if idx:
        return open_idx(path / idx[0], channels=channels)
    return open_folder(path, channels=channels, convert=convert)


def _shards(path: Path, files: Sequence[str]) -> list[Path]:
    """Parquet files or tars of a folder that is a set of these."""
    parquet, tars = ([name for name in files if re.fullmatch(kind, name)] for kind in (r".*\.parquet", _TAR))
    if (parquet or tars) and has_pictures(walk(path)):
        # A table beside pictures is a habit of Hugging Face's folders.
        strays = [name for name in parquet + tars if name != "metadata.parquet"]
        if strays:
            advice = "name that file, or move it elsewhere to use the pictures"
            raise DataError(f"{path}: holds pictures and {', '.join(strays[:3])} beside them; {advice}")
        return []
    found = parquet or tars
    splits = sorted({match[1].lower() for name in found if (match := _SPLIT.match(name))})
    if len(splits) > 1:
        raise DataError(f"{path}: holds several sets of images ({', '.join(splits)}); name one: {path / splits[-1]}*")
    return [path / name for name in found]


def _open_files(paths: Sequence[Path], channels: int, convert: bool) -> Source:
    path, name = paths[0], paths[0].name
    if all(_TAR.fullmatch(shard.name) for shard in paths):
        return _open_tars(paths, channels, convert)
    if all(shard.suffix == ".parquet" for shard in paths):
        return open_parquet(paths, channels=channels, convert=convert)
    if len(paths) > 1:
        raise DataError(f"{paths[0]} and {len(paths) - 1} more: expected shards that are all tars or all parquet files")
    if CIFAR_BATCH.fullmatch(name):
        return open_cifar({name: path.read_bytes}, [name], path, channels=channels)
    if path.suffix.lower() in EXTENSIONS:
        return open_picture(path, channels=channels, convert=convert)
    openers: dict[str, Callable[..., Source]] = {".npy": open_npy, ".npz": open_npz}
    if path.suffix in openers:
        return openers[path.suffix](path, channels=channels)
    if path.suffix == ".zip":
        return open_zip(path, channels=channels, convert=convert)
    if _IDX.fullmatch(name) or path.suffix == ".idx":
        return open_idx(path, channels=channels)
    raise DataError(f"{path}: not a kind of file known here; expected {_KINDS}")


def _open_tars(paths: Sequence[Path], channels: int, convert: bool) -> Source:
    tars = [Tar(path) for path in paths]
    first = tars[0]
    batches = cifar_batches([member.name for member in first.members])
    if batches:
        files = {member.name: member.read for member in first.members}
        return open_cifar(files, batches, first.path, channels=channels)
    if len(tars) > 1 or is_webdataset(first):
        source = open_webdataset(tars, channels=channels, convert=convert)
        if source is not None:
            return source
    return open_tar(first, channels=channels, convert=convert)
