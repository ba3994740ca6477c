from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lapcore.data import grid, open_images, read_image, to_model_range, to_uint8, write_png
from lapcore.errors import DataError


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(3, 5, 9), (1, 4, 4), (7, 3)])
def test_png_round_trip(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = noise(*shape)
    write_png(tmp_path / "a.png", image)
    again = read_image(tmp_path / "a.png", channels=3 if shape[0] == 3 else 1)
    assert torch.equal(again, image.view(again.shape))
    assert os.listdir(tmp_path) == ["a.png"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = noise(3, 4, 4)
    write_png(tmp_path / "a.png", old)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_png(tmp_path / "a.png", noise(3, 4, 4))
    assert torch.equal(read_image(tmp_path / "a.png"), old) and os.listdir(tmp_path) == ["a.png"]


def test_ranges_invert_each_other() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    scaled = to_model_range(values)
    assert scaled.dtype == torch.float32 and scaled[0] == -1 and scaled[255] == 1
    assert torch.equal(to_uint8(scaled), values)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([float("nan")]))
    with pytest.raises(TypeError, match="uint8"):
        to_model_range(scaled)


def test_grid() -> None:
    images = noise(3, 1, 2, 3)
    sheet = grid(images, columns=2, gap=1, background=9)
    assert sheet.shape == (1, 5, 7)
    assert torch.equal(sheet[:, :2, :3], images[0]) and torch.equal(sheet[:, :2, 4:], images[1])
    assert torch.equal(sheet[:, 3:, :3], images[2]) and (sheet[:, 3:, 4:] == 9).all() and (sheet[:, 2] == 9).all()


def test_modes(tmp_path: Path) -> None:
    """Lossless changes are made, others only on demand."""
    colour = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    opaque = np.dstack([colour, np.full((6, 6), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    assert np.array_equal(read_image(tmp_path / "opaque.png").permute(1, 2, 0).numpy(), colour)

    palette = Image.fromarray(colour).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(
        read_image(tmp_path / "palette.png").permute(1, 2, 0).numpy(), np.asarray(palette.convert("RGB"))
    )

    opaque[0, 0, 3] = 0
    Image.fromarray(opaque).save(tmp_path / "glass.png")
    with pytest.raises(DataError, match="mode RGBA"):
        read_image(tmp_path / "glass.png")
    assert read_image(tmp_path / "glass.png", convert=True)[:, 0, 0].tolist() == [0, 0, 0]

    with pytest.raises(DataError, match="expected 1 channel "):
        read_image(tmp_path / "opaque.png", channels=1)
    grey = read_image(tmp_path / "opaque.png", channels=1, convert=True)
    luma = colour.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(grey[0].numpy() - luma).max() < 1

    Image.fromarray(colour).save(tmp_path / "two.gif", save_all=True, append_images=[Image.fromarray(255 - colour)])
    with pytest.raises(DataError, match="2 frames"):
        read_image(tmp_path / "two.gif")


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(noise(4, 8, 3).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png").shape == (3, 8, 4)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for index, shape in enumerate([(40, 60), (50, 33)]):
        write_png(tmp_path / f"{index}.png", noise(3, *shape))
    return tmp_path


def test_crop_is_the_central_square_antialiased(tmp_path: Path) -> None:
    image = torch.zeros(3, 64, 128, dtype=torch.uint8)
    image[:, :, 32:96:2] = 255  # stripes one pixel wide average to grey
    write_png(tmp_path / "a.png", image)
    small = open_images(tmp_path, size=16, resize="crop")[0][0]
    assert small.shape == (3, 16, 16) and (small[:, :, 2:-2].int() - 128).abs().max() <= 8


def test_fit_keeps_everything_on_black(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.full((3, 20, 40), 200, dtype=torch.uint8))
    image = open_images(tmp_path, size=16, resize="fit")[0][0]
    assert (image[:, 4:12] == 200).all() and (image[:, :4] == 0).all() and (image[:, 12:] == 0).all()


def test_random_crops(photographs: Path) -> None:
    dataset = open_images(photographs, size=32, resize="random_crop", crops_per_image=50, seed=3)
    assert len(dataset) == 100 and len(dataset.labels) == 100
    again = open_images(photographs, size=32, resize="random_crop", crops_per_image=50, seed=3)
    other = open_images(photographs, size=32, resize="random_crop", crops_per_image=50, seed=4)
    crops = [dataset[index][0] for index in range(100)]
    assert all(torch.equal(again[index][0], crops[index]) for index in (99, 0, 50, 49))  # in any order
    assert not all(torch.equal(other[index][0], crops[index]) for index in range(4))
    sources = [read_image(photographs / f"{name}.png") for name in (0, 1)]
    places = set()
    for index in range(100):
        windows = sources[index // 50].unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
        found = (windows == crops[index]).flatten(2).all(2).nonzero()
        assert len(found) == 1
        places.add((index // 50, *found[0].tolist()))
    assert len({place[2] for place in places if place[0] == 1}) == 2  # both of the two columns that fit
    assert len(places) > 60


def test_too_small_for_a_crop(photographs: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png: expected at least 34x34 .* got 50x33"):
        open_images(photographs, size=34, resize="random_crop", verify=True)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(channels: int, kind: int) -> bytes:
    """16 bits per channel, which Pillow reads and does not write."""
    rows = np.arange(2 * 2 * channels, dtype=">u2").reshape(2, -1) * 4000
    header = struct.pack(">IIBBBBB", 2, 2, 16, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def deep_tiff() -> bytes:
    """2x2 pixels of three channels of 16 bits."""
    values = {256: (3, 2), 257: (3, 2), 258: (3, 16), 259: (3, 1), 262: (3, 2), 273: (4, 0), 277: (3, 3), 279: (4, 24)}
    pixels_at = 8 + 2 + 12 * len(values) + 4
    fields = []
    for tag, (kind, value) in values.items():
        value = pixels_at + 6 if tag == 273 else pixels_at if tag == 258 else value
        fields.append(struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, value))
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + b"".join(fields) + bytes(4)
    return head + struct.pack("<3H", 16, 16, 16) + bytes(range(24))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rgb.png", deep_png(3, 2)),
        ("rgba.png", deep_png(4, 6)),
        ("grey_alpha.png", deep_png(2, 4)),
        ("grey.png", deep_png(1, 0)),
        ("raw.ppm", b"P6\n2 2\n65535\n" + bytes(24)),
        ("raw_10_bits.ppm", b"P6\n2 2\n1023\n" + bytes(24)),
        ("plain.ppm", b"P3\n1 1\n65535\n1 2 3\n"),
        ("colour.tif", deep_tiff()),
    ],
)
def test_more_than_8_bits_per_channel_is_an_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with Image.open(tmp_path / name) as whole:
        whole.load()
    for convert in (False, True):
        with pytest.raises(DataError, match=rf"{name}: expected 8 bits per channel"):
            read_image(tmp_path / name, convert=convert)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.ppm", "a.tif", "a.gif"])
def test_kinds_of_files(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / name)
    red = read_image(tmp_path / name)
    assert red.shape == (3, 2, 3) and (red.float() - torch.tensor([255.0, 0, 0])[:, None, None]).abs().max() < 5


def test_a_ppm_of_fewer_values_is_spread(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6\n1 1\n100\n" + bytes([100, 50, 0]))
    assert read_image(tmp_path / "a.ppm").flatten().tolist() == [255, 128, 0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_orientation_mark_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", image := noise(3, 4, 6))
    data = (tmp_path / "a.png").read_bytes()
    for exif in (b"\0\x08\0\x02\x01\x12\0\x03", b"", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        (tmp_path / "b.png").write_bytes(data[:33] + chunk(b"eXIf", exif) + data[33:])
        assert read_image(tmp_path / "b.png").equal(image)


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript, by whatever name, to Ghostscript."""
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(ghostscript.parent), prepend=os.pathsep)
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n")
    with pytest.raises(DataError, match="no known format"):
        read_image(tmp_path / "x.png")
    assert not (tmp_path / "ran").exists()


def test_seeds_of_crops_all_differ(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", noise(3, 64, 64))
    crops = []
    for seed in (0, 1, 2**53, 2**53 + 1, 2**63, 2**63 + 1, 2**64 - 1):
        dataset = open_images(tmp_path / "a.png", size=8, resize="random_crop", crops_per_image=8, seed=seed)
        crops.append(torch.stack([dataset[index][0] for index in range(8)]))
    assert all(not crops[i].equal(crops[j]) for i in range(len(crops)) for j in range(i))
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed: expected 0 to"):
            open_images(tmp_path / "a.png", seed=seed)
