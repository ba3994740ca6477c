"""What is missing, damaged or of the wrong kind is one DataError that names it."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lapcore.data import open_images
from lapcore.errors import DataError
from tests.data.test_containers import PIXELS, cifar_binary, parquet_bytes, png, tarred, zipped


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


def cut(path: Path, left: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def saved(path: Path, array: object) -> Path:
    np.save(path, array, allow_pickle=True)  # type: ignore[arg-type]
    return path


def with_file(path: Path, name: str, data: bytes) -> Path:
    """A folder of one good picture and this file."""
    (path / "set").mkdir()
    (path / "set" / "a.png").write_bytes(png(PIXELS[0]))
    (path / "set" / name).write_bytes(data)
    return path / "set"


def tiff(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="TIFF")
    return buffer.getvalue()


def mixed_depth(path: Path) -> Path:
    (path / "set" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (path / "set" / name).write_bytes(png(PIXELS[0]))
    return path / "set"


def linked(path: Path) -> Path:
    with tarfile.open(path / "set.tar", "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "b.png"
        archive.addfile(info)
    return path / "set.tar"


def table(path: Path, rows: dict[str, list[object]]) -> Path:
    pq.write_table(pa.table(rows), path / "set.parquet")
    return path / "set.parquet"


def npz_of(path: Path, labels: object) -> Path:
    np.savez(path / "a.npz", images=PIXELS[:2], labels=labels)  # type: ignore[arg-type]
    return path / "a.npz"


NAN = np.where(np.arange(2 * 8 * 8).reshape(2, 8, 8) == 70, np.nan, 0).astype(np.float32)
GREY = png(PIXELS[0, ..., 0])
CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing path": (lambda p: p / "nothing.zip", r"nothing\.zip: no such file or folder"),
    "missing shard": (lambda p: p / "s-{0..1}.tar", r"s-0\.tar: no such file"),
    "empty folder": (lambda p: p, "expected images .* found nothing"),
    "folder of other files": (lambda p: written(p / "a.csv", b"1").parent, r"found 1 x \.csv"),
    "unknown kind": (lambda p: written(p / "a.xyz", b"1"), r"a\.xyz: not a kind of file known"),
    "mixed depth": (mixed_depth, r"a\.png lies beside"),
    "unreadable image": (lambda p: with_file(p, "b.png", b"garbage"), r"b\.png: not a readable image"),
    "empty image": (lambda p: with_file(p, "b.png", b""), r"b\.png: the file is empty"),
    "cut image": (lambda p: with_file(p, "b.png", png(PIXELS[0])[:900]), r"b\.png: not a readable image"),
    "grey among colour": (lambda p: with_file(p, "b.png", GREY), r"b\.png: expected 3 channels .* got mode L"),
    "wrong size": (lambda p: with_file(p, "b.png", png(PIXELS[0][:20])), r"b\.png: expected 32x32, got 20x32"),
    "16 bits": (lambda p: with_file(p, "b.tif", tiff(np.ones((32, 32), np.uint16))), r"b\.tif: expected 8 bits"),
    "NaN image": (lambda p: with_file(p, "b.tif", tiff(NAN[1])), r"b\.tif: .* got NaN"),
    "cut zip": (lambda p: cut(zipped(p)), r"set\.zip: not a readable zip"),
    "cut tar": (lambda p: cut(tarred(p)), r"set\.tar: (not a readable tar|damaged or cut short)"),
    "tar cut at a header": (lambda p: cut_tar_at_header(p), r"set\.tar: damaged or cut short"),
    "cut tar.gz": (lambda p: cut(tarred(p, "tar.gz")), r"set\.tar\.gz: damaged or cut short"),
    "cut tar.xz": (lambda p: cut(tarred(p, "tar.xz")), r"set\.tar\.xz: damaged or cut short"),
    "not gzip": (lambda p: written(p / "a.tar.gz", b"no"), r"a\.tar\.gz: damaged"),
    "link in tar": (linked, r"set\.tar:a\.png: expected a picture, got a link"),
    "cut parquet": (lambda p: cut(parquet_bytes(p)), r"set\.parquet: not a readable parquet"),
    "parquet without images": (lambda p: table(p, {"a": [1]}), r"set\.parquet: expected a column 'image'"),
    "parquet with a hole": (lambda p: table(p, {"image": [png(PIXELS[0]), None]}), r"without the picture's bytes"),
    "NaN array": (lambda p: saved(p / "a.npy", NAN), r"a\.npy: expected uint8 images, got float32 with NaN at \[1, 0, 6\]"),
    "float array": (lambda p: saved(p / "a.npy", np.zeros((2, 8, 8))), r"a\.npy: expected uint8 .* got float64"),
    "object array": (lambda p: saved(p / "a.npy", np.array([Evil()])), r"a\.npy: not a readable array"),
    "array of size 8": (lambda p: saved(p / "a.npy", PIXELS[:, :8, :8]), r"a\.npy\[0\]: expected 32x32, got 8x8"),
    "empty array": (lambda p: saved(p / "a.npy", PIXELS[:0]), r"a\.npy: expected .* got \(0, 32, 32, 3\)"),
    "ambiguous array": (lambda p: saved(p / "a.npy", PIXELS[:, :3]), r"a\.npy: .* ambiguous"),
    "grey array": (lambda p: saved(p / "a.npy", PIXELS[..., 0]), r"a\.npy: expected 3 channels"),
    "cut npy": (lambda p: cut(saved(p / "a.npy", PIXELS)), r"a\.npy: not a readable array"),
    "cut CIFAR": (lambda p: cut(cifar_binary(p) / "data_batch_2.bin").parent, r"data_batch_2\.bin: .* 3073 bytes"),
    "evil CIFAR": (lambda p: written(p / "data_batch_1", pickle.dumps({"data": Evil()})), r"has no place in a file"),
    "cut CIFAR pickle": (lambda p: written(p / "data_batch_1", pickle.dumps({"data": 1})[:9]), r"not a CIFAR-10 batch"),
    "cut IDX": (
        lambda p: written(p / "a-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 2, 8, 8) + bytes(64)),
        r"a-images-idx3-ubyte: expected 128 values .* got 64",
    ),
    "not IDX": (lambda p: written(p / "a-images-idx3-ubyte", b"hello"), r"expected an IDX file"),
    "sample without picture": (
        lambda p: tarred(p, "tar", {"a.png": png(PIXELS[0]), "a.cls": b"0", "b.cls": b"1"}),
        r"sample b: expected one picture",
    ),
    "identifiers for labels": (
        lambda p: table(p, {"image": [png(PIXELS[0])] * 2, "label": [3, 2**31]}),
        r"row 1: expected labels that number classes, below 1000000, got 2147483648",
    ),
    "identifiers of 64 bits": (
        lambda p: npz_of(p, np.array([2**63 + 5, 0], np.uint64)),
        r"a\.npz: expected labels that number classes, .* got 9223372036854775813",
    ),
    "label on some": (
        lambda p: tarred(p, "tar", {"a.png": png(PIXELS[0]), "a.cls": b"0", "b.png": png(PIXELS[0])}),
        r"set\.tar:b\.png: expected a label",
    ),
}  # fmt: skip


def cut_tar_at_header(path: Path) -> Path:
    tar = tarred(path)
    with tarfile.open(tar) as archive:
        header = archive.getmembers()[3].offset
    tar.write_bytes(tar.read_bytes()[:header])
    return tar


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    build, message = CASES[case]
    path = build(tmp_path / "here")
    with pytest.raises(DataError, match=message) as caught:
        open_images(path, size=32, verify=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


def test_content_is_checked_when_read_unless_asked_for(tmp_path: Path) -> None:
    dataset = open_images(with_file(tmp_path, "b.png", b"garbage"), size=32)
    assert dataset[0][0].shape == (3, 32, 32)
    with pytest.raises(DataError, match=r"b\.png"):
        dataset[1]


def test_file_that_shrinks_after_opening(tmp_path: Path) -> None:
    dataset = open_images(tarred(tmp_path))
    cut(tmp_path / "set.tar", 0.1)
    with pytest.raises(DataError, match="cut short"):
        dataset[5]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"size": 0}, "size"),
        ({"channels": 2}, "channels"),
        ({"resize": "bigger", "size": 8}, "resize"),
        ({"resize": "crop"}, "resize"),
        ({"crops_per_image": 2, "size": 8}, "crops_per_image"),
    ],
)
def test_wrong_arguments(options: dict[str, object], name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        open_images(tmp_path, **options)  # type: ignore[arg-type]
