"""Pictures kept as plain arrays: npy, npz, IDX, CIFAR-10."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lapcore.errors import DataError

MOST_CLASSES = 1_000_000
CIFAR_BATCH = re.compile(r"(data_batch_\d+|test_batch)(\.bin)?")
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGE_KEYS = ("images", "image", "x", "x_train", "data", "arr_0")
_LABEL_KEYS = ("labels", "label", "y", "y_train", "targets", "arr_1")


class ArraySource:
    """uint8 pictures (N, H, W, C), from memory, or from an npy file mapped into it by each process for itself."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        path: Path,
        classes: tuple[str, ...] | None = None,
        mapped: Callable[[], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.labels = np.zeros(len(images), np.int64) if labels is None else labels
        # The one class of a set without labels has the set's name, lest it pass for the class that labels call 0.
        named = (path.stem,) if labels is None else tuple(map(str, range(int(labels.max(initial=0)) + 1)))
        self.classes = classes or named
        self.path = path
        self._images: NDArray[np.uint8] | None = images
        self._mapped = mapped

    @property
    def images(self) -> NDArray[np.uint8]:
        if self._images is None and self._mapped is not None:
            self._images = self._mapped()
        assert self._images is not None
        return self._images

    def name(self, index: int) -> str:
        return f"{self.path}[{index}]"

    def image(self, index: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self.images[index]
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None if self._mapped else self._images}


class _Mapped:
    """Maps an npy file into memory again: what a spawned worker gets in place of the pixels."""

    def __init__(self, path: Path, channels: int) -> None:
        self.path, self.channels = path, channels

    def __call__(self) -> NDArray[np.uint8]:
        array = _load(self.path, mmap_mode="r")
        return as_images(array, self.path, self.channels)


def open_npy(path: Path, *, channels: int) -> ArraySource:
    mapped = _Mapped(path, channels)
    return ArraySource(mapped(), None, path, mapped=mapped)


def open_npz(path: Path, *, channels: int) -> ArraySource:
    archive = _load(path)
    keys = list(archive.keys())
    chosen = next((key for key in _IMAGE_KEYS if key in keys), keys[0] if len(keys) == 1 else None)
    if chosen is None:
        got = ", ".join(keys) or "none"
        raise DataError(f"{path}: expected an array named 'images' (and maybe 'labels'), got {got}")
    label_key = next((key for key in _LABEL_KEYS if key in keys and key != chosen), None)
    try:
        array = archive[chosen]
        labels = None if label_key is None else archive[label_key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged, or holds Python objects: {error}") from error
    images = as_images(array, path, channels)
    return ArraySource(images, None if labels is None else as_labels(labels, len(images), path), path)


def _load(path: Path, **options: Any) -> Any:
    try:
        return np.load(path, allow_pickle=False, **options)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable array file: {error}") from error


def as_images(array: NDArray[Any], path: Path, channels: int) -> NDArray[np.uint8]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) to a view (N, H, W, C); DataError unless uint8 and of `channels`."""
    if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
        raise DataError(f"{path}: expected uint8 images, got {array.dtype} with NaN at {_first_nan(array)}")
    if array.dtype != np.uint8:
        raise DataError(f"{path}: expected uint8 images, values 0..255, got {array.dtype}; convert them first")
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(f"{path}: expected (N, H, W), (N, H, W, C) or (N, C, H, W), none of them 0, got {array.shape}")
    grey = array.ndim == 3
    if grey:
        array = array[..., None]
    last, first = array.shape[-1] == channels, array.shape[1] == channels and not grey
    if last and first and channels > 1:
        raise DataError(f"{path}: expected {channels} channels on one side only, got ambiguous shape {array.shape}")
    if not last and not first:
        shape = array.shape[1:3] if grey else array.shape[1:]
        raise DataError(f"{path}: expected {channels} channel{'s' * (channels > 1)}, got images of shape {shape}")
    return array if last else np.moveaxis(array, 1, -1)


def as_labels(labels: NDArray[Any], count: int, path: Path) -> NDArray[np.int64]:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer) or int(labels.min(initial=0)) < 0:
        raise DataError(f"{path}: expected {count} labels, integers from 0, got {labels.dtype} {labels.shape}")
    check_class_number(int(labels.max(initial=0)), str(path))
    return labels.astype(np.int64)


def check_class_number(largest: int, where: str) -> None:
    """Every number up to the largest becomes a class, which identifiers are not meant to."""
    if largest >= MOST_CLASSES:
        raise DataError(f"{where}: expected labels that number classes, below {MOST_CLASSES}, got {largest}")


def _first_nan(array: NDArray[Any]) -> str:
    return str([int(axis) for axis in np.unravel_index(int(np.isnan(array).argmax()), array.shape)])


def open_idx(path: Path, *, channels: int) -> ArraySource:
    """IDX (MNIST's format); labels come from the file beside it whose name says `labels` and `idx1`, also .gz, if it is there."""
    images = as_images(_read_idx(path), path, channels)
    plain = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    beside = [path.with_name(name) for name in (plain, f"{plain}.gz") if path.with_name(name) != path]
    labels = next((file for file in beside if file.exists()), None)
    if labels is None:
        return ArraySource(images, None, path)
    return ArraySource(images, as_labels(_read_idx(labels), len(images), labels), path)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: expected an IDX file of unsigned bytes, got header {data[:4].hex() or 'nothing'}")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    start = 4 + 4 * data[3]
    if len(data) - start != math.prod(shape):
        raise DataError(f"{path}: expected {math.prod(shape)} values for shape {shape}, got {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def cifar_batches(names: Sequence[str]) -> list[str]:
    """The training batches of CIFAR-10 among the names of one folder, in order."""
    return sorted(name for name in names if CIFAR_BATCH.fullmatch(Path(name).name) and "test" not in Path(name).name)


def open_cifar(
    files: Mapping[str, Callable[[], bytes]], names: Sequence[str], path: Path, *, channels: int
) -> ArraySource:
    """CIFAR-10 batches `names` among `files`, binary (`.bin`) or Python."""
    if channels != 3:
        raise DataError(f"{path}: expected channels=3 for CIFAR-10, got channels={channels}")
    readers = {name: _cifar_binary if name.endswith(".bin") else _cifar_python for name in names}
    batches = [read(_bytes(files[name], path), f"{path.parent}/{name}") for name, read in readers.items()]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    classes = _CIFAR_CLASSES if int(labels.max(initial=0)) < 10 else None
    return ArraySource(np.moveaxis(images.reshape(-1, 3, 32, 32), 1, -1), labels, path, classes)


def _bytes(read: Callable[[], bytes], path: Path) -> bytes:
    try:
        return read()
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {error.strerror}") from error


def _cifar_binary(data: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not data or len(data) % 3073:
        raise DataError(f"{where}: expected CIFAR-10 records of 3073 bytes, got {len(data)} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    if int(records[:, 0].max()) > 9:
        raise DataError(f"{where}: expected CIFAR-10 labels 0..9, got {int(records[:, 0].max())}")
    return records[:, 1:], records[:, 0].astype(np.int64)


def _cifar_python(data: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"{where}: not a CIFAR-10 batch: {type(error).__name__}: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or len(images) == 0:
        raise DataError(f"{where}: expected uint8 data (N, 3072), got {images.dtype} {images.shape}")
    return images, as_labels(labels, len(images), Path(where))


class _ArrayUnpickler(pickle.Unpickler):
    """Loads containers, bytes and numpy arrays and refuses any other name, so that a file can run no code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of images")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Python 3 writes bytes in Python 2's protocol as latin-1 text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding {encoding!r} has no place in a file of images")
    return text.encode("latin1")
