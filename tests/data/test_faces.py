"""Faces: a function of index, size and seed, and a table that says what is drawn."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest

from lapcore.data import faces, open_images
from lapcore.data.faces import COLUMNS, WORDS, YES_NO, attributes, draw_faces, face


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def changed(monkeypatch, index, **values):
    """Face `index` with other attributes."""
    row = attributes(index) | values
    monkeypatch.setattr(faces, "attributes", lambda index, seed: row)
    picture = np.asarray(face(index, 64), np.int16)
    monkeypatch.undo()
    return picture


def test_a_face_is_the_same_whatever_the_count_and_the_processes(tmp_path):
    for name, count, workers in (("few", 3, 1), ("more", 60, 1), ("shared", 60, 2)):
        (tmp_path / name).mkdir()
        draw_faces(tmp_path / name, count, 16, seed=5, workers=workers)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert more == contents(tmp_path / "shared") and len(more) == 61
    tables = few.pop("attributes.csv").splitlines(), more.pop("attributes.csv").splitlines()
    assert few.items() <= more.items() and tables[0] == tables[1][:4]


def test_other_seeds_are_other_faces():
    assert [attributes(i, 0) for i in range(9)] != [attributes(i, 1) for i in range(9)]
    assert len({str(attributes(i, 0)) for i in range(300)}) > 290
    assert attributes(2**63 - 1, 2**62).keys() == attributes(0).keys()


@pytest.mark.parametrize(
    ("index", "seed", "values"),
    [
        (0, 0, "0 0 0 0 0 pixie brown sad wink sad brown collar pink"),
        (1, 0, "0 0 0 0 1 long pink serious happy plain dark_brown crew_neck green"),
        (1, 7, "1 0 1 0 0 round brown smile happy flat light overall pink"),
        (1000000, 0, "1 0 0 0 1 long pink open closed raised brown overall sky"),
    ],
)
def test_choices_never_change(index, seed, values):
    """What was once drawn by a command that people know stays so."""
    assert " ".join(map(str, attributes(index, seed).values())) == values


def test_values_are_as_frequent_as_meant():
    rows = [attributes(index) for index in range(4000)]
    for name, share in (
        ("glasses", 0.3),
        ("sunglasses", 0.1),
        ("beard", 0.25),
        ("moustache", 0.1),
        ("lipstick", 0.195),
    ):
        assert abs(np.mean([row[name] for row in rows]) - share) < 0.03, name
    assert not any(row["glasses"] and row["sunglasses"] for row in rows)
    assert not any(row["lipstick"] and (row["beard"] or row["moustache"]) for row in rows)
    for name, kinds in (("hair", 13), ("mouth", 5), ("skin", 5), ("clothes", 5), ("clothes_color", 8)):
        counts = Counter(row[name] for row in rows)
        assert len(counts) == kinds and min(counts.values()) > 0.7 * 4000 / kinds, name
    both = np.mean([row["glasses"] and row["hair"] == "bob" for row in rows])
    assert abs(both - 0.3 / 13) < 0.01


def test_the_table_names_nothing_that_cannot_be_seen():
    for row in map(attributes, range(500)):
        unseen = row["hair"] == "bald" and not row["beard"] and not row["moustache"]
        assert (row["hair_color"] == "none") == unseen
        assert (row["eyes"] == "hidden") == bool(row["sunglasses"])


@pytest.mark.parametrize("name", YES_NO)
def test_what_the_table_says_is_drawn(monkeypatch, name):
    bare = dict.fromkeys(YES_NO, 0) | {"eyes": "open", "hair_color": "red"}
    for hair in ("bald", "bob", "fro", "long"):
        without = changed(monkeypatch, 3, **bare, hair=hair)
        difference = np.abs(changed(monkeypatch, 3, **bare | {name: 1}, hair=hair) - without).max(2) > 30
        assert 10 < difference.sum() < 0.2 * difference.size, hair


@pytest.mark.parametrize("name", WORDS)
def test_every_word_is_a_picture_of_its_own(monkeypatch, name):
    bare = dict.fromkeys(YES_NO, 0) | {"hair": "short", "hair_color": "brown", "eyes": "open", "eyebrows": "plain"}
    words = sorted({attributes(index)[name] for index in range(500)} - {"none", "hidden"})
    pictures = [changed(monkeypatch, 0, **bare | {name: word}) for word in words]
    for place, one in enumerate(pictures):
        for other in pictures[:place]:
            assert (np.abs(one - other).max(2) > 20).sum() > 5, words


def test_a_face_fills_the_square_on_white():
    for index in range(20):
        picture = np.asarray(face(index, 64))
        assert picture.shape == (64, 64, 3) and (picture[:2, :2] > 200).all()
        assert (picture != 255).any(2).mean() > 0.4
        assert (picture[-1] != 255).any(1).mean() > 0.4 and (picture[20:40, 32] < 250).any(1).all()


def test_a_larger_face_is_the_same_face():
    large = np.asarray(face(4, 96), np.float32).reshape(48, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(large - np.asarray(face(4, 48), np.float32)).mean() < 3


def test_the_folder_is_a_set_with_attributes(tmp_path):
    draw_faces(tmp_path, 30, 16)
    with open(tmp_path / "attributes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", *COLUMNS]
    dataset = open_images(tmp_path, size=16, attributes=["glasses", "hair_color", "skin=pale"])
    assert dataset.attributes[0] == "glasses" and dataset.attributes[-1] == "skin=pale"
    for index, row in enumerate(rows):
        image, vector = dataset[index]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(face(index, 16)))
        values = dict(zip(dataset.attributes, vector.tolist(), strict=True))
        assert values["glasses"] == float(row["glasses"]) and values["skin=pale"] == (row["skin"] == "pale")
        assert values[f"hair_color={row['hair_color']}"] == 1 and sum(values.values()) == (
            1 + values["glasses"] + values["skin=pale"]
        )
