"""The sampling loop: fixed blocks, the same bytes whatever the split, resumption, refusal of foreign folders."""

from __future__ import annotations

import io
import json
import math
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import nn

import lapcore
from lapcore import native
from lapcore.data import grid, open_images, read_image, to_uint8
from lapcore.errors import LapcoreError
from lapcore.sampling import sample_blocks, sample_to_folder, write_sheet

SIZE = 8


class Noise(nn.Module):
    """Images that depend on seed and label and, as a network's last bits may, on batch shape and place in it."""

    channels = 3
    device = torch.device("cpu")

    def __init__(self, num_classes=None, weight=0.5, attributes=()):
        super().__init__()
        self.num_classes, self.attributes = num_classes, attributes
        self.config = {"num_classes": num_classes}
        self.weight = nn.Parameter(torch.tensor(weight))
        self.calls = []
        self.fail_after = None

    def sample(self, seeds, labels=None, *, scale=1.0, shade=None):
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise KeyboardInterrupt
        self.calls.append((seeds.tolist(), None if labels is None else labels.tolist()))
        noise = lapcore.random.uniform((len(seeds), self.channels, SIZE, SIZE), seeds) * self.weight
        place = torch.arange(len(seeds))[:, None, None, None] / len(seeds) / 2
        values = 0 if labels is None else labels if labels.dim() == 1 else labels.sum(1)
        shift = 0 if labels is None else values[:, None, None, None] / 100
        return noise * scale + place + shift + (0 if shade is None else shade) - 0.5


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_network_always_runs_on_whole_aligned_blocks(tmp_path):
    model = Noise()
    assert sample_to_folder(model, [range(3, 4), range(6, 10)], tmp_path / "a", batch=4) == 5
    assert model.calls == [([0, 1, 2, 3], None), ([4, 5, 6, 7], None), ([8, 9, 10, 11], None)]
    names = [f"{seed:08d}.png" for seed in (3, 6, 7, 8, 9)]
    assert sorted(contents(tmp_path / "a")) == [*names, "sampling.json"]


def test_a_png_holds_the_models_image(tmp_path):
    model = Noise()
    sample_to_folder(model, [range(2, 5)], tmp_path, batch=4)
    expected = to_uint8(model.sample(torch.arange(4, 8)).detach())[0]
    assert read_image(tmp_path / "00000004.png").equal(expected)


def test_the_bytes_do_not_depend_on_order_or_split(tmp_path):
    sample_to_folder(Noise(), [range(0, 11)], tmp_path / "whole", batch=4)
    for part in ([range(7, 11)], [range(0, 1), range(5, 6)], [range(1, 8)]):
        sample_to_folder(Noise(), part, tmp_path / "parts", batch=4)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_processes_that_begin_together_share_a_folder(tmp_path):
    """Another process claims the folder and writes into it while this one draws its first block."""

    class Slow(Noise):
        def sample(self, seeds, labels=None):
            if not self.calls:
                sample_to_folder(Noise(), [range(0, 2)], tmp_path / "out", batch=4)
            return super().sample(seeds, labels)

    assert sample_to_folder(Slow(), [range(2, 6)], tmp_path / "out", batch=4) == 4
    sample_to_folder(Noise(), [range(0, 6)], tmp_path / "whole", batch=4)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    class Other(Noise):
        def sample(self, seeds, labels=None):
            sample_to_folder(Noise(), [range(0, 2)], tmp_path / "other", batch=4)
            return super().sample(seeds, labels)

    with pytest.raises(LapcoreError, match="another batch"):
        sample_to_folder(Other(), [range(2, 6)], tmp_path / "other", batch=2)
    assert sorted(contents(tmp_path / "other")) == ["00000000.png", "00000001.png", "sampling.json"]


def test_blocks_give_what_files_hold(tmp_path):
    blocks = list(sample_blocks(Noise(), [range(2, 7)], batch=4))
    assert [seeds for seeds, _ in blocks] == [[2, 3], [4, 5, 6]]
    sample_to_folder(Noise(), [range(2, 7)], tmp_path, batch=4)
    for seeds, images in blocks:
        assert images.dtype == torch.uint8 and images.shape == (len(seeds), 3, SIZE, SIZE)
        for seed, image in zip(seeds, images, strict=True):
            assert read_image(tmp_path / f"{seed:08d}.png").equal(image)


@pytest.mark.parametrize("format", ["png", "npy", "tar", "parquet"])
def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(tmp_path, format):
    seeds = [range(0, 10)]
    sample_to_folder(Noise(), seeds, tmp_path / "whole", batch=4, format=format)
    stopped = Noise()
    stopped.fail_after = 1
    with pytest.raises(KeyboardInterrupt):
        sample_to_folder(stopped, seeds, tmp_path / "parts", batch=4, format=format)
    assert len(contents(tmp_path / "parts")) < len(contents(tmp_path / "whole"))
    resumed = Noise()
    assert sample_to_folder(resumed, seeds, tmp_path / "parts", batch=4, format=format) == 6
    assert [call[0][0] for call in resumed.calls] == [4, 8]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    again = Noise()
    assert sample_to_folder(again, seeds, tmp_path / "parts", batch=4, format=format) == 0
    assert again.calls == []


def test_every_format_holds_the_same_images(tmp_path):
    seeds = [range(1, 7)]
    labels = [2, 0, 1]
    images = torch.cat([block for _, block in sample_blocks(Noise(3), seeds, labels=labels, batch=4)])
    for format in ("npy", "tar", "parquet"):
        sample_to_folder(Noise(3), seeds, tmp_path / format, labels=labels, batch=4, format=format)
    arrays = [np.load(tmp_path / "npy" / f"{start:08d}.npy") for start in (0, 4)]
    assert np.array_equal(np.concatenate(arrays), images.permute(0, 2, 3, 1).numpy())

    found = {}
    for start in (0, 4):
        with tarfile.open(tmp_path / "tar" / f"{start:08d}.tar") as archive:
            found |= {member.name: archive.extractfile(member).read() for member in archive}
    tables = [parquet.read_table(tmp_path / "parquet" / f"{start:08d}.parquet").to_pylist() for start in (0, 4)]
    rows = [row for table in tables for row in table]
    for index, seed in enumerate(range(1, 7)):
        expected = images[index].permute(1, 2, 0).numpy()
        for picture in (found[f"{seed:08d}.png"], rows[index]["image"]["bytes"]):
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), expected)
        assert int(found[f"{seed:08d}.cls"]) == labels[seed % 3] == rows[index]["label"]
        assert rows[index]["seed"] == seed


@pytest.mark.parametrize("format", ["png", "tar", "parquet"])
def test_samples_can_be_read_as_data(tmp_path, format):
    sample_to_folder(Noise(2), [range(5)], tmp_path, labels=[1, 0], batch=4, format=format)
    write_sheet(tmp_path, 3)
    dataset = open_images(tmp_path, size=SIZE)
    assert len(dataset) == 5
    if format != "png":
        assert dataset.labels.tolist() == [1, 0, 1, 0, 1]


def test_grey_images(tmp_path):
    model = Noise()
    model.channels = 1
    sample_to_folder(model, [range(2)], tmp_path, batch=2)
    assert read_image(tmp_path / "00000001.png", 1).shape == (1, SIZE, SIZE)


def test_labels_belong_to_seeds(tmp_path):
    model = Noise(10)
    list(sample_blocks(model, [range(5, 7)], labels=[3, 5, 6], batch=4))
    assert model.calls == [([4, 5, 6, 7], [5, 6, 3, 5])]


def test_the_largest_seed(tmp_path):
    last = 2**63 - 1
    sample_to_folder(Noise(), [range(last, last + 1)], tmp_path, batch=3)
    assert (tmp_path / f"{last}.png").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": Noise(weight=0.25)}, "weights"),
        ({"batch": 2}, "batch"),
        ({"format": "npy"}, "format"),
        ({"labels": [1]}, "labels"),
        ({"options": {"scale": 0.5}}, "options"),
        ({"options": {"shade": torch.zeros(1, 3, 1, 1)}}, "options"),
    ],
)
def test_another_setting_in_the_same_folder_is_refused_and_overwrite_starts_anew(tmp_path, change, named):
    sample_to_folder(Noise(3), [range(6)], tmp_path, labels=[0], batch=4)
    write_sheet(tmp_path, 4)
    before = contents(tmp_path)
    settings = {"model": Noise(3), "batch": 4, "labels": [0]} | change
    model = settings.pop("model")
    if named == "weights":
        model.num_classes, model.config = 3, {"num_classes": 3}
    with pytest.raises(LapcoreError, match=named):
        sample_to_folder(model, [range(2)], tmp_path, **settings)
    assert model.calls == [] and contents(tmp_path) == before
    sample_to_folder(model, [range(2)], tmp_path, overwrite=True, **settings)
    suffix = settings.get("format", "png")
    expected = ["00000000.png", "00000001.png"] if suffix == "png" else ["00000000.npy"]
    assert sorted(contents(tmp_path)) == [*expected, "sampling.json"]


def test_other_seeds_in_a_folder_of_shards_are_refused(tmp_path):
    sample_to_folder(Noise(), [range(6)], tmp_path, batch=4, format="npy")
    with pytest.raises(LapcoreError, match="seeds"):
        sample_to_folder(Noise(), [range(7)], tmp_path, batch=4, format="npy")


def test_what_a_killed_process_was_writing_is_no_obstacle(tmp_path):
    (tmp_path / ".tmp-sampling.json-0123abcd").write_text("{")
    assert sample_to_folder(Noise(), [range(2)], tmp_path, batch=2) == 2


def test_a_folder_of_other_things_is_refused_and_overwrite_leaves_them(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LapcoreError, match="not empty"):
        sample_to_folder(Noise(), [range(2)], tmp_path)
    assert list(contents(tmp_path)) == ["notes.txt"]
    sample_to_folder(Noise(), [range(2)], tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '"x"', "{}", '{"format": "png"}'])
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "sampling.json").write_text(text)
    with pytest.raises(LapcoreError, match=r"sampling\.json"):
        sample_to_folder(Noise(), [range(2)], tmp_path)


def test_the_record_says_what_the_files_depend_on(tmp_path):
    sample_to_folder(Noise(), [range(2)], tmp_path, batch=7)
    record = json.loads((tmp_path / "sampling.json").read_text())
    assert record["batch"] == 7 and record["lapcore"] == lapcore.__version__ and len(record["weights"]) == 64
    assert record["isa"] == native.isa()


@pytest.mark.skipif(native.missing() is not None or native.isa() == "baseline", reason="needs a second instruction set")
def test_another_instruction_set_is_refused(tmp_path):
    """Since networks may draw other images there."""
    sample_to_folder(Noise(), [range(2)], tmp_path)
    before = native.isa()
    native.load().use_isa("baseline")
    try:
        with pytest.raises(LapcoreError, match="another isa"):
            sample_to_folder(Noise(), [range(4)], tmp_path)
    finally:
        native.load().use_isa(before)


def test_a_diverged_model_writes_no_picture(tmp_path):
    with pytest.raises(LapcoreError, match="NaN"):
        sample_to_folder(Noise(weight=math.nan), [range(2)], tmp_path)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": []}, "at least one range"),
        ({"seeds": [range(3, 3)]}, "non-empty"),
        ({"seeds": [range(-1, 3)]}, "within 0"),
        ({"seeds": [range(0, 9, 2)]}, "step"),
        ({"seeds": [range(5), range(4, 6)]}, "separate"),
        ({"seeds": [range(2**63, 2**63 + 1)]}, "within 0"),
        ({"batch": 0}, "batch"),
        ({"format": "jpg"}, "format"),
        ({"labels": [0]}, "without classes"),
        ({"options": {"temperature": 1}}, r"temperature: Noise\.sample does not take it"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, arguments, message):
    settings = {"seeds": [range(2)]} | arguments
    with pytest.raises(ValueError, match=message if message != "step" else "ascending"):
        sample_to_folder(Noise(), settings.pop("seeds"), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("labels", [[], [3], [-1], [0.5], [[1]], None])
def test_labels_out_of_range(tmp_path, labels):
    with pytest.raises(ValueError, match=r"0\.\.2"):
        sample_to_folder(Noise(3), [range(2)], tmp_path / "out", labels=labels)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("labels", [[], [1.0, 0.0], [[1.0]], [[1.0, math.nan]], None])
def test_vectors_that_do_not_fit_the_attributes(tmp_path, labels):
    with pytest.raises(ValueError, match="labels: "):
        sample_to_folder(Noise(attributes=("glasses", "beard")), [range(2)], tmp_path / "out", labels=labels)
    assert not (tmp_path / "out").exists()


def test_a_model_with_attributes_is_given_vectors(tmp_path):
    model = Noise(attributes=("glasses", "beard"))
    vectors = [[1.0, 0.0], [0.5, 2.0]]
    sample_to_folder(model, [range(5, 7)], tmp_path, labels=vectors, batch=4, format="parquet")
    assert model.calls == [([4, 5, 6, 7], [vectors[0], vectors[1]] * 2)]
    rows = parquet.read_table(tmp_path / "00000004.parquet").to_pylist()
    assert [row["attributes"] for row in rows] == [vectors[1], vectors[0]]
    assert json.loads((tmp_path / "sampling.json").read_text())["labels"] == vectors


def test_options_reach_the_model_and_the_record(tmp_path):
    shade = torch.full((1, 3, 1, 1), 0.1)
    options = {"scale": 0.5, "shade": shade}
    sample_to_folder(Noise(), [range(2)], tmp_path, batch=2, options=options)
    expected = to_uint8(Noise().sample(torch.arange(2), **options).detach())
    assert all(read_image(tmp_path / f"{seed:08d}.png").equal(expected[seed]) for seed in range(2))
    recorded = json.loads((tmp_path / "sampling.json").read_text())["options"]
    assert recorded["scale"] == 0.5 and len(recorded["shade"]) == 64
    assert sample_to_folder(Noise(), [range(2)], tmp_path, batch=2, options=options | {"shade": shade.clone()}) == 0
    with pytest.raises(LapcoreError, match="another options"):
        sample_to_folder(Noise(), [range(2)], tmp_path, batch=2, options=options | {"shade": shade + 0.1})


def test_nothing_is_written_when_the_model_refuses(tmp_path):
    class Refusing(Noise):
        def sample(self, seeds, labels=None):
            raise ValueError("not today")

    for overwrite in (False, True):
        with pytest.raises(ValueError, match="not today"):
            sample_to_folder(Refusing(), [range(2)], tmp_path / "out", overwrite=overwrite)
        assert not (tmp_path / "out").exists()
    sample_to_folder(Noise(), [range(2)], tmp_path, batch=2)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="not today"):
        sample_to_folder(Refusing(), [range(2)], tmp_path, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("format", ["png", "npy", "tar", "parquet"])
def test_the_sheet_shows_the_first_samples_by_seed(tmp_path, format):
    seeds = [range(3, 4), range(7, 12)]
    images = torch.cat([block for _, block in sample_blocks(Noise(), seeds, batch=4)])
    sample_to_folder(Noise(), seeds, tmp_path, batch=4, format=format)
    before = contents(tmp_path)
    for count, columns in ((5, 3), (99, 3), (1, 1)):
        path = write_sheet(tmp_path, count)
        assert path.name == "sheet.png" and read_image(path).equal(grid(images[:count], columns))
    assert contents(tmp_path).keys() - before.keys() == {"sheet.png"}
    assert sample_to_folder(Noise(), seeds, tmp_path, batch=4, format=format) == 0


def test_the_sheet_of_nothing(tmp_path):
    with pytest.raises(LapcoreError, match="found none"):
        write_sheet(tmp_path, 4)
    with pytest.raises(ValueError, match="count: expected at least 1"):
        write_sheet(tmp_path, 0)


def test_a_picture_called_sheet_is_data_where_no_command_made_one(tmp_path):
    for name in ("sheet.png", "x/sheet.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / name)
    assert len(open_images(tmp_path / "x")) == 1
    (tmp_path / "x" / "reconstruction.json").write_text("{}")
    with pytest.raises(LapcoreError, match="expected images"):
        open_images(tmp_path / "x")
