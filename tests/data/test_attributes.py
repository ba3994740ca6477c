"""`attributes.csv`: columns to vectors, wherever the pictures lie, and refusals that name the row."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lapcore.data import open_images
from lapcore.errors import DataError

TABLE = "file,glasses,age,hair\nb.png,1,30,red\na.png,0,1.5,black\nc.png,1,-2,red\n"
EXPECTED = {"a.png": [0, 1.5, 1, 0], "b.png": [1, 30, 0, 1], "c.png": [1, -2, 0, 1]}
NAMES = ("glasses", "age", "hair=black", "hair=red")


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(stream, "PNG")
    return stream.getvalue()


def members(table=TABLE, inside=""):
    files = {f"{inside}{name}": png(place) for place, name in enumerate(("c.png", "a.png", "b.png"))}
    return files | {f"{inside}attributes.csv": table.encode()}


@pytest.fixture
def folder(tmp_path):
    """folder(table) -> a folder of three pictures and that table."""

    def make(table=TABLE):
        root = tmp_path / "faces"
        root.mkdir()
        for name, data in members(table).items():
            (root / name).write_bytes(data)
        return root

    return make


def packed(kind, path, files):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, {"tar": "w", "tar.gz": "w:gz"}[kind]) as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def check(dataset):
    assert dataset.attributes == NAMES and len(dataset) == 3
    assert dataset.labels.dtype == torch.float32 and dataset.labels.shape == (3, 4)
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        image, vector = dataset[index]
        assert dataset.name(index).endswith(name) and image.dtype == torch.uint8
        assert vector.dtype == torch.float32 and vector.tolist() == EXPECTED[name]
        assert dataset.labels[index].equal(vector)


def test_columns_of_numbers_and_of_words(folder):
    dataset = open_images(folder(), size=4, attributes=["glasses", "age", "hair"])
    check(dataset)
    assert dataset.spec["attributes"] == list(NAMES)
    assert open_images(dataset.spec["path"], attributes=dataset.spec["attributes"]).labels.equal(dataset.labels)
    check(pickle.loads(pickle.dumps(dataset)))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("inside", ["", "set/faces/"])
def test_archives(tmp_path, kind, inside):
    path = packed(kind, tmp_path / f"faces.{kind}", members(inside=inside))
    check(open_images(path, attributes=["glasses", "age", "hair"]))


def test_a_column_of_words_can_be_given_word_by_word(folder):
    """As a model's attributes are: in its order, and with words that a small set lacks."""
    dataset = open_images(folder(), attributes=["hair=red", "hair=green", "glasses"])
    assert dataset.attributes == ("hair=red", "hair=green", "glasses")
    assert dataset.labels.tolist() == [[0, 0, 0], [1, 0, 1], [1, 0, 1]]


def test_without_attributes_the_table_is_passed_over(folder):
    dataset = open_images(folder("not, a\ntable"))
    assert dataset.attributes == () and dataset.labels.tolist() == [0, 0, 0] and dataset.classes == ("faces",)
    assert dataset[0][1] == 0 and "attributes" not in dataset.spec


def test_rows_of_subfolders_and_rows_without_a_picture(tmp_path):
    for name in ("x/1.png", "y/1.png"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(png(1))
    (tmp_path / "attributes.csv").write_text("hair,file\nred,y/1.png\nblack,./x/1.png\ngreen,gone.png\n")
    dataset = open_images(tmp_path, attributes=["hair"])
    assert dataset.attributes == ("hair=black", "hair=green", "hair=red") and dataset.classes == ("x", "y")
    assert dataset.labels.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_one_picture_of_a_folder(folder):
    dataset = open_images(folder() / "b.png", attributes=["age", "hair=red"])
    assert dataset[0][1].tolist() == [30, 1]


def test_crops_share_their_pictures_vector(folder):
    dataset = open_images(folder(), size=2, resize="random_crop", crops_per_image=2, attributes=["age"])
    assert dataset.labels.flatten().tolist() == [1.5, 1.5, 30, 30, -2, -2]


def test_batches_of_workers(folder):
    dataset = open_images(folder(), attributes=["glasses", "age", "hair"])
    batches = [labels for _, labels in DataLoader(dataset, batch_size=2, num_workers=1)]
    assert torch.cat(batches).equal(dataset.labels)


def test_quoted_cells_byte_order_mark_and_windows_lines(folder):
    table = '\ufefffile,hair\r\na.png,"long, red"\r\nb.png,short\r\nc.png,short\r\n'
    dataset = open_images(folder(table), attributes=["hair"])
    assert dataset.attributes == ("hair=long, red", "hair=short")


@pytest.mark.parametrize(
    ("table", "asked", "message"),
    [
        (TABLE, ["beard"], "no column 'beard'.*glasses, age, hair"),
        (TABLE, ["beard=yes"], "no column 'beard' for attribute 'beard=yes'"),
        (TABLE, ["file"], "no column 'file'"),
        (TABLE, ["age=30"], "'age' holds numbers"),
        (TABLE.replace("c.png", "d.png"), ["age"], r"no row for c\.png"),
        (TABLE.replace("c.png", "a.png"), ["age"], r"one row for a\.png, got rows 2 and 3"),
        (TABLE.replace("1.5", "old"), ["age"], "row 2: expected a finite number in column 'age', got 'old'"),
        (TABLE.replace("1.5", ""), ["age"], "row 2: expected a finite number in column 'age', got ''"),
        (TABLE.replace("1.5", "nan"), ["age"], "row 2: expected a finite number in column 'age', got 'nan'"),
        (TABLE.replace("black", "7"), ["hair"], "row 2: expected a word in column 'hair', got '7'"),
        (TABLE.replace("black", ""), ["hair=red"], "row 2: expected a word in column 'hair', got ''"),
        (TABLE.replace(",black", ""), ["hair"], "row 2: expected 4 values, got 3"),
        (TABLE.replace("file", "name"), ["hair"], "expected a first line of names"),
        (TABLE.replace("age", "hair"), ["hair"], "expected a first line of names"),
        ("", ["hair"], "expected a first line of names"),
        ('file,hair\na.png,"red\n\0', ["hair"], "attributes.csv"),
    ],
)
def test_refusals_name_the_table(folder, table, asked, message):
    with pytest.raises(DataError, match=message) as caught:
        open_images(folder(table), attributes=asked)
    assert "attributes.csv" in str(caught.value)


def test_wrong_arguments(folder):
    root = folder()
    for attributes, error in (("hair", TypeError), ([1], TypeError), ([""], TypeError), ([], ValueError)):
        with pytest.raises(error, match="attributes: expected"):
            open_images(root, attributes=attributes)
    with pytest.raises(ValueError, match="'hair=red' is asked for twice"):
        open_images(root, attributes=["hair", "hair=red"])
    (root / "attributes.csv").unlink()
    with pytest.raises(DataError, match=r"expected attributes\.csv beside the pictures"):
        open_images(root, attributes=["hair"])
