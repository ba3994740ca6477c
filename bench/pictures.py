"""Pictures of what the models of `bench.experiments` make: reconstructions, samples and edits, none of it selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lapcore.data import grid, open_images, to_model_range, to_uint8, write_png
from lapcore.models import load_model

GALLERY = (
    "cvae-faces",
    "hierarchical_vae-faces",
    "vaegan-faces",
    "vqvae-faces",
    "gan-faces",
    "dcgan-faces",
    "lapgan-faces",
)
PIXELCNNS = ("pixelcnn-faces", "gated_pixelcnn-faces", "pixelcnn_pp-faces")
"""Models, these of 16x16 faces, whose samples are shown beside those of the experiment "faces"."""

LIPSTICK = (0.6, -0.75, -0.5)
"""The colour of a brush, in [-1, 1]."""

DIFFERENCE, SHARE = 0.2, 0.1
"""A pixel counts as an attribute's from this mean difference on, in [-1, 1]; a coarse one is painted from this share of such."""


class Picture(NamedTuple):
    """configs: whose models of seed 0 `draw` makes rows of, (N, C, H, W) each; columns: of the grid; data: held-out images."""

    configs: Sequence[str]
    draw: Callable[[Sequence[Any], Path], Sequence[Tensor]]
    data: str
    columns: int = 16


def draw_pictures(data: Path, out: Path, images: Path) -> None:
    """Writes those of PICTURES whose models stand in `out`, `data` being the folder of the sets."""
    for name, picture in PICTURES.items():
        folders = [out / config / "seed0" for config in picture.configs]
        if all((folder / "model").exists() for folder in folders):
            rows = picture.draw([load_model(folder) for folder in folders], data / picture.data)
            _write(images / f"{name}.png", rows, picture.columns)


def _write(path: Path, rows: Sequence[Tensor], columns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = grid(to_uint8(torch.cat(list(rows)).clamp(-1, 1)), columns=columns)
    write_png(path, picture.repeat_interleave(2, 1).repeat_interleave(2, 2))


def _first(data: Path, model: Any, count: int) -> Tensor:
    """The first images of a set, in [-1, 1]."""
    held_out = open_images(data, size=model.image_size, channels=model.channels)
    return to_model_range(torch.stack([held_out[index][0] for index in range(count)]))


def _reconstructions(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """A row of images, and one of each model's reconstructions; then a row of each one's samples, seeds 0 to 15."""
    shown, seeds = _first(data, models[0], 16), torch.arange(16)
    return [shown, *(model.reconstruct(shown, seeds) for model in models), *(model.sample(seeds) for model in models)]


def _samples(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """Four rows of samples of each model, seeds 0 to 63; of a model with classes, a row of each class, seeds 0 to 15."""
    rows = []
    for model in models:
        labels = None if model.num_classes is None else torch.arange(model.num_classes).repeat_interleave(16)
        seeds = torch.arange(64) if labels is None else torch.arange(16).repeat(model.num_classes)
        rows.append(model.sample(seeds, labels))
    return rows


def _gallery(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """A row of samples of each model, seeds 0 to 15, with the attributes of the first images where it is told any."""
    rows = []
    for model in models:
        labels = None
        if model.attributes:
            labels = open_images(data, size=model.image_size, attributes=model.attributes).labels[:16]
        rows.append(model.sample(torch.arange(16), labels))
    return rows


def _codes(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """Images, what their codes decode to, and four rows of samples, seeds 0 to 63."""
    shown = _first(data, models[0], 16)
    return [shown, models[0].reconstruct(shown), models[0].sample(torch.arange(64))]


def _partial(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """Rows of an image and seven samples that keep its level: two images from level 1, the same from level 2."""
    (model,), shown = models, _first(data, models[0], 2)
    images = model.decompose(shown).images
    rows = []
    for level in range(1, model.top + 1):
        for image, coarse in zip(shown.split(1), images[level].split(1), strict=True):
            rows += [image, model.sample(torch.arange(7), coarse=coarse, from_level=level)]
    return rows


def _interpolation(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """Rows from one image to another, eight points each."""
    a, b = _first(data, models[0], 8).chunk(2)
    return list(models[0].interpolate(a, b, 8).transpose(0, 1))


def _painted(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """Faces with glasses, their level 1 with a brush of the cheeks' colour over them, and the edit; faces without lipstick, red
    brushed over their lips, and the edit. The brush goes over what the attribute changes on average, on a plain face."""
    (model,) = models
    faces, shaven = _Faces(data, model), {"beard": 0, "moustache": 0}
    glasses, lips = faces.find(8, glasses=1, **shaven), faces.find(8, lipstick=0, **shaven)
    brushed = _brush(glasses, model, faces.place("glasses", **shaven), None)
    red = _brush(lips, model, faces.place("lipstick", **shaven), torch.tensor(LIPSTICK))
    return [*_edited(model, glasses, brushed), *_edited(model, lips, red)]


def _brush(faces: Tensor, model: Any, place: Tensor, colour: Tensor | None) -> Tensor:
    """Level 1 of faces, painted at `place`, bool (H, W) of the face's size, with a colour, or with that of the cheeks."""
    coarse = model.decompose(faces).images[1].clone()
    side = coarse.shape[-1]
    brush = F.interpolate(place[None, None].float(), (side, side), mode="area")[0, 0] > SHARE
    cheeks = coarse[..., round(0.58 * side), [round(0.38 * side), round(0.62 * side)]].mean(-1)
    paint = cheeks if colour is None else colour.expand(len(faces), -1)
    return torch.where(brush, paint[..., None, None], coarse)


def _edited(model: Any, faces: Tensor, painted: Tensor) -> Sequence[Tensor]:
    edited = model.edit(faces, painted, None, 1, torch.arange(len(faces)), temperature=0.0)
    return [faces, F.interpolate(painted, faces.shape[-2:], mode="nearest"), edited]


def _arithmetic(models: Sequence[Any], data: Path) -> Sequence[Tensor]:
    """Faces with glasses, and less of them; blonde faces, and the same with red hair in place of blonde."""
    (model,) = models
    faces, trained = _Faces(data, model), _Faces(data.with_name(data.name.replace("test", "train")), model)
    glasses, blonde, red = (trained.vector(column) for column in ("glasses", "hair_color=blonde", "hair_color=red"))
    with_glasses, with_blonde = faces.find(8, glasses=1), faces.find(8, **{"hair_color=blonde": 1, "hair=bald": 0})
    return [
        with_glasses,
        model.shift(with_glasses, -1.2 * glasses),
        with_blonde,
        model.shift(with_blonde, 0.8 * (red - blonde)),
    ]


class _Faces:
    """A set of faces by their attributes."""

    columns = ("glasses", "lipstick", "beard", "moustache", "hair", "hair_color")

    def __init__(self, data: Path, model: Any) -> None:
        self.model = model
        self.set = open_images(data, size=model.image_size, attributes=self.columns)

    def values(self, column: str) -> Tensor:
        values: Tensor = self.set.labels[:, self.set.attributes.index(column)]
        return values

    def images(self, indices: Sequence[int]) -> Tensor:
        return to_model_range(torch.stack([self.set[index][0] for index in indices]))

    def find(self, count: int, **wanted: float) -> Tensor:
        """The first faces with these values."""
        return self.images(self._which(**wanted).nonzero()[:count, 0].tolist())

    def _which(self, **wanted: float) -> Tensor:
        return torch.stack([self.values(column) == value for column, value in wanted.items()]).all(0)

    def place(self, column: str, **wanted: float) -> Tensor:
        """Marks where faces with the attribute differ from those without, on average over faces with these values: bool (H, W)."""
        which = [self._which(**{column: value}, **wanted) for value in (0, 1)]
        without, having = (self.images(of.nonzero()[:, 0].tolist()).mean(0) for of in which)
        return (having - without).abs().amax(0) > DIFFERENCE

    def vector(self, column: str) -> Tensor:
        """The model's attribute vector, of the first 3,000 faces."""
        count = min(3000, len(self.set))
        found: Tensor = self.model.attribute_vector(self.images(range(count)), self.values(column)[:count] == 1)
        return found


PICTURES: Mapping[str, Picture] = {
    "reconstructions": Picture(("vae", "vaegan", "lapcvae"), _reconstructions, "colour-test.npz"),
    "adversarial": Picture(("gan", "lapgan"), _samples, "colour-test.npz"),
    "codes": Picture(("vqvae",), _codes, "colour-test.npz"),
    "classes": Picture(("gated_pixelcnn-classes",), _samples, "grey-test.npz"),
    "faces-samples": Picture(("vae-faces", "lapcvae-faces"), _samples, "faces32-test"),
    "faces-gallery": Picture(
        ("vae-faces", "lapcvae-faces", "lapcvae-pixels-faces", *GALLERY), _gallery, "faces32-test"
    ),
    "faces-pixelcnn": Picture(PIXELCNNS, _gallery, "faces16-test"),
    "faces64-samples": Picture(("lapcvae-faces64",), _samples, "faces64-test"),
    "faces64-partial": Picture(("lapcvae-faces64",), _partial, "faces64-test", 8),
    "faces64-interpolation": Picture(("lapcvae-faces64",), _interpolation, "faces64-test", 8),
    "faces64-painted": Picture(("lapcvae-faces64",), _painted, "faces64-test", 8),
    "faces64-arithmetic": Picture(("lapcvae-faces64",), _arithmetic, "faces64-test", 8),
}
