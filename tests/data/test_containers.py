"""Every container gives back the pixels and labels that were put into it."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from multiprocessing.util import get_temp_dir
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from lapcore.data import ImageDataset, open_images
from lapcore.errors import DataError

COUNT, SIZE = 6, 32
PIXELS = np.random.default_rng(7).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = [0, 0, 1, 1, 2, 2]
NAMES = ("ant", "bee", "cow")


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def tree() -> dict[str, bytes]:
    files = {f"{NAMES[label]}/{index}.PNG": png(PIXELS[index]) for index, label in enumerate(LABELS)}
    return {**files, "ant/notes.txt": b"not a picture", "bee/.hidden.png": b"", "__MACOSX/ant/0.png": b""}


def folder(path: Path) -> Path:
    for name, data in tree().items():
        (path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "set" / name).write_bytes(data)
    return path / "set"


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in tree().items():
            archive.writestr(f"top/{name}", data)
    return path / "set.zip"


def tarred(path: Path, suffix: str = "tar", files: dict[str, bytes] | None = None, name: str = "set") -> Path:
    mode = "w" if suffix == "tar" else f"w:{suffix.removeprefix('tar.')}"
    with tarfile.open(path / f"{name}.{suffix}", mode) as archive:  # type: ignore[call-overload]
        for member, data in (tree() if files is None else files).items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path / f"{name}.{suffix}"


def npy(path: Path) -> Path:
    np.save(path / "set.npy", PIXELS)
    return path / "set.npy"


def npz(path: Path) -> Path:
    np.savez_compressed(path / "set.npz", images=np.moveaxis(PIXELS, -1, 1), labels=np.array(LABELS, np.uint8))
    return path / "set.npz"


def cifar_binary(path: Path) -> Path:
    rows = [bytes([label]) + np.moveaxis(image, -1, 0).tobytes() for label, image in zip(LABELS, PIXELS, strict=True)]
    (path / "data_batch_1.bin").write_bytes(b"".join(rows[:4]))
    (path / "data_batch_2.bin").write_bytes(b"".join(rows[4:]))
    (path / "test_batch.bin").write_bytes(rows[0])
    return path


def cifar_python(path: Path) -> Path:
    data = np.moveaxis(PIXELS, -1, 1).reshape(COUNT, -1)
    for number, part in enumerate((slice(0, 4), slice(4, 6)), 1):
        batch = {b"data": data[part], b"labels": LABELS[part], b"batch_label": b"x", b"filenames": [b"a.png"]}
        (path / f"data_batch_{number}").write_bytes(pickle.dumps(batch, protocol=2))
    (path / "batches.meta").write_bytes(b"")
    return path


def cifar_tar(path: Path) -> Path:
    (path / "in").mkdir()
    files = {f"cifar/{file.name}": file.read_bytes() for file in sorted(cifar_python(path / "in").iterdir())}
    return tarred(path, "tar.gz", files)


def parquet_struct(path: Path) -> Path:
    (path / "shards").mkdir()
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": NAMES}}}}
    for shard, part in enumerate((range(0, 2), range(2, 6))):
        rows = {
            "image": [{"bytes": png(PIXELS[index]), "path": None} for index in part],
            "label": [LABELS[index] for index in part],
            "other": ["x" for _ in part],
        }
        table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, path / "shards" / f"{shard}.parquet", row_group_size=2)
    return path / "shards"


def parquet_bytes(path: Path) -> Path:
    rows = {"img": [png(image) for image in PIXELS], "label": [NAMES[label] for label in LABELS]}
    pq.write_table(pa.table(rows), path / "set.parquet")
    return path / "set.parquet"


def shards(path: Path) -> Path:
    for shard, part in enumerate((range(0, 3), range(3, 6))):
        files = {}
        for index in part:
            files[f"{index:04}.png"] = png(PIXELS[index])
            if shard:
                files[f"{index:04}.json"] = json.dumps({"label": LABELS[index], "caption": "x"}).encode()
            else:
                files[f"{index:04}.cls"] = str(LABELS[index]).encode()
        tarred(path, "tar", files, f"train-{shard:03}")
    return path / "train-{000..001}.tar"


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "folder": folder,
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda path: tarred(path, "tar.gz"),
    "tar.xz": lambda path: tarred(path, "tar.xz"),
    "tar.bz2": lambda path: tarred(path, "tar.bz2"),
    "npz": npz,
    "cifar binary": cifar_binary,
    "cifar python": cifar_python,
    "cifar tar": cifar_tar,
    "parquet struct": parquet_struct,
    "parquet bytes": parquet_bytes,
    "webdataset": shards,
    "webdataset folder": lambda path: shards(path).parent,
}


def check(dataset: ImageDataset, labels: list[int] = LABELS) -> None:
    assert len(dataset) == COUNT
    for index in range(COUNT):
        image, label = dataset[index]
        assert image.dtype == torch.uint8 and image.is_contiguous()
        assert np.array_equal(image.numpy(), np.moveaxis(PIXELS[index], -1, 0))
        assert (label, int(dataset.labels[index])) == (labels[index], labels[index]) and isinstance(label, int)


@pytest.mark.parametrize("kind", BUILDERS)
def test_pixels_labels_and_workers(kind: str, tmp_path: Path) -> None:
    dataset = open_images(BUILDERS[kind](tmp_path), size=SIZE, verify=True)
    check(dataset)
    check(pickle.loads(pickle.dumps(dataset)))  # what a spawned worker gets
    images = torch.cat([images for images, _ in DataLoader(dataset, batch_size=1, num_workers=2)])
    assert np.array_equal(images.numpy(), np.moveaxis(PIXELS, -1, 1))
    assert str(tmp_path) in dataset.name(0) and dataset.spec["images"] == COUNT


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "parquet struct", "parquet bytes"])
def test_class_names(kind: str, tmp_path: Path) -> None:
    assert open_images(BUILDERS[kind](tmp_path)).classes == NAMES


def test_cifar_class_names_and_single_batch(tmp_path: Path) -> None:
    dataset = open_images(cifar_binary(tmp_path))
    assert dataset.classes[:4] == ("airplane", "automobile", "bird", "cat") and len(dataset.classes) == 10
    assert len(open_images(tmp_path / "test_batch.bin")) == 1


def test_npy_in_every_layout(tmp_path: Path) -> None:
    for images in (PIXELS, np.moveaxis(PIXELS, -1, 1)):
        np.save(tmp_path / "a.npy", images)
        dataset = open_images(tmp_path / "a.npy", size=SIZE)
        check(dataset, [0] * COUNT)
        assert len(pickle.dumps(dataset)) < 5000  # spawned workers map the file; the pixels do not travel
        check(pickle.loads(pickle.dumps(dataset)), [0] * COUNT)
    np.save(tmp_path / "a.npy", PIXELS[..., 0])
    assert np.array_equal(open_images(tmp_path / "a.npy", channels=1)[3][0][0].numpy(), PIXELS[3, ..., 0])


@pytest.mark.parametrize("packed", [False, True])
def test_idx(packed: bool, tmp_path: Path) -> None:
    write = (lambda path, data: Path(f"{path}.gz").write_bytes(gzip.compress(data))) if packed else Path.write_bytes
    header = b"\0\0\x08\x03" + struct.pack(">3I", COUNT, SIZE, SIZE)
    write(tmp_path / "train-images-idx3-ubyte", header + PIXELS[..., 1].tobytes())
    write(tmp_path / "train-labels-idx1-ubyte", b"\0\0\x08\x01" + struct.pack(">I", COUNT) + bytes(LABELS))
    dataset = open_images(tmp_path, channels=1)
    assert [dataset[index][1] for index in range(COUNT)] == LABELS and dataset.classes == ("0", "1", "2")
    assert all(np.array_equal(dataset[index][0][0].numpy(), PIXELS[index, ..., 1]) for index in range(COUNT))


def test_flat_folder_is_one_class_and_a_file_is_a_set_of_one(tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(png(PIXELS[index]))
    dataset = open_images(tmp_path)
    assert dataset.classes == (tmp_path.name,) and [label for _, label in dataset] == [0, 0]
    single = open_images(tmp_path / "1.png")
    assert len(single) == 1 and np.array_equal(single[0][0].numpy(), np.moveaxis(PIXELS[1], -1, 0))


@pytest.fixture
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, but for the sockets of workers: their names may have 107 bytes, and this folder's has more."""
    get_temp_dir()  # multiprocessing keeps what it finds
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    return tmp_path / "spool"


@pytest.mark.parametrize("kind", ["tar.gz", "parquet"])
def test_a_spool_has_no_name(kind: str, tmp_path: Path, spools: Path) -> None:
    """So that it goes with its process, even with one that is killed; workers reach it nevertheless."""
    dataset = open_images(tarred(tmp_path, kind) if kind == "tar.gz" else parquet_bytes(tmp_path))
    assert not list(spools.iterdir())
    for method in ("fork", "spawn"):
        loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context=method)
        images = torch.cat([images for images, _ in loader])
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), PIXELS)
    opened = len(os.listdir("/proc/self/fd"))
    del dataset, loader
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < opened


def test_a_spool_with_a_name_goes_with_the_dataset(
    tmp_path: Path, spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lapcore.data.readers._PROCESSES", tmp_path / "nowhere")
    dataset = open_images(tarred(tmp_path, "tar.gz"))
    assert len(list(spools.iterdir())) == 1 and np.array_equal(dataset[0][0].permute(1, 2, 0).numpy(), PIXELS[0])
    del dataset
    assert not list(spools.iterdir())


def test_a_zip_that_parts_folders_by_backslashes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for label, name in enumerate(("dogs\\1.png", "cats\\1.png")):
            archive.writestr(zipfile.ZipInfo(name), png(PIXELS[label]))
    dataset = open_images(tmp_path / "a.zip")
    assert dataset.classes == ("cats", "dogs") and dataset.labels.tolist() == [0, 1]
    assert np.array_equal(dataset[0][0].permute(1, 2, 0).numpy(), PIXELS[1])


def test_webdataset_of_names_with_dots(tmp_path: Path) -> None:
    files = {
        f"im.v{i}.{kind}": data for i in range(3) for kind, data in (("png", png(PIXELS[i])), ("cls", b"%d" % (2 - i)))
    }
    dataset = open_images(tarred(tmp_path, "tar", files))
    assert dataset.labels.tolist() == [2, 1, 0]
    assert np.array_equal(dataset[2][0].permute(1, 2, 0).numpy(), PIXELS[2])


@pytest.mark.parametrize("images", ["", ".gz"])
@pytest.mark.parametrize("labels", ["", ".gz"])
def test_idx_labels_packed_or_not(images: str, labels: str, tmp_path: Path) -> None:
    contents = {
        f"t-images-idx3-ubyte{images}": b"\0\0\x08\3" + struct.pack(">3I", 2, 4, 4) + bytes(32),
        f"t-labels-idx1-ubyte{labels}": b"\0\0\x08\1" + struct.pack(">I", 2) + bytes([1, 0]),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert open_images(tmp_path, channels=1).labels.tolist() == [1, 0]


def test_shards_beside_pictures(tmp_path: Path) -> None:
    """One must not hide the other without a word, but for the table that Hugging Face lays beside pictures."""
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(png(PIXELS[index]))
    pq.write_table(pa.table({"file_name": ["0.png", "1.png"]}), tmp_path / "metadata.parquet")
    assert len(open_images(tmp_path)) == 2
    tarred(tmp_path, name="backup")
    with pytest.raises(DataError, match=r"holds pictures and backup\.tar beside them"):
        open_images(tmp_path)
    assert len(open_images(tmp_path / "backup.tar")) == COUNT


@pytest.mark.parametrize("suffix", ["parquet", "tar"])
def test_splits_are_not_mixed(suffix: str, tmp_path: Path) -> None:
    for place, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        if suffix == "tar":
            tarred(tmp_path, "tar", {"a.png": png(PIXELS[place]), "a.cls": b"0"}, name=name)
        else:
            pq.write_table(pa.table({"image": [png(PIXELS[place])], "label": [0]}), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"several sets of images \(test, train\); name one: .*/train\*"):
        open_images(tmp_path)
    assert len(open_images(tmp_path / "train*")) == 2
    for path in tmp_path.glob("test*"):
        path.unlink()
    assert len(open_images(tmp_path)) == 2
