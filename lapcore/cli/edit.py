"""`lapcore edit`: paint over a coarse picture and draw the fine detail anew."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapcore.cli import arguments as types
from lapcore.cli.images import add_convert, open_data, to_pictures
from lapcore.cli.labels import add_label
from lapcore.cli.output import check_new_folder, new_folder
from lapcore.errors import DataError, LapcoreError

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = """Paint over a coarse picture and draw the fine detail anew, several times. Take coarse-K.png from
`lapcore pyramid IMAGE --levels K`, paint on it, and give it as --painted with --level K. A painted picture of IMAGE's own
size will do as well. What differs from the unpainted one is redrawn, or else what is white in --mask. Writes edit-0.png
and so on, mask.png, and reconstruction.png, the model's picture without the edit."""


def run(arguments: list[str]) -> None:
    parser = types.command_parser("edit", DESCRIPTION)
    parser.add_argument(
        "model", type=Path, metavar="RUN", help="folder of a LapCVAE's training run, or of the saved model"
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture of the model's size")
    parser.add_argument("--painted", type=Path, required=True, help="IMAGE at level --level, or whole, painted over")
    parser.add_argument(
        "--level", type=types.positive, default=2, help="the level that was painted; 1 is half size (2)"
    )
    parser.add_argument("--mask", type=Path, help="grey picture, white where to edit, of the size of either")
    parser.add_argument("--samples", type=types.positive, default=8, help="how many edits to draw (8)")
    add_label(parser, "the image", "a table beside it")
    parser.add_argument("--seed", type=types.seed, default=0, help="edit i is drawn from seed + i (0)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the edits")
    add_convert(parser)
    types.add_overwrite(parser)
    types.add_device(parser)
    options = parser.parse_args(arguments)

    import torch

    from lapcore.data import write_png

    check_new_folder(options.out, options.overwrite)
    model = types.open_model(options.model, options.device, "edit")
    if options.level > model.top:
        raise LapcoreError(f"--level {options.level}: expected 1 to {model.top}, the levels of this model")
    label = _label(options, model)
    image, painted, mask = (part.to(model.device) for part in _read(options, model))
    seeds = torch.arange(options.samples, device=model.device) + options.seed
    labels = None if label is None else label.expand(options.samples, *label.shape[1:])
    edits = to_pictures(model.edit(image, painted, mask, options.level, seeds, labels))
    plain = to_pictures(model.reconstruct(image, labels=label))
    with new_folder(options.out, options.overwrite) as folder:
        for number, edit in enumerate(edits):
            write_png(folder / f"edit-{number}.png", edit)
        write_png(folder / "mask.png", (mask[0] * 255).to(torch.uint8))
        write_png(folder / "reconstruction.png", plain[0])
    print(f"{options.out}: {len(edits)} edits of {100 * mask[0].mean():.1f}% of {options.image}")


def _label(options: Namespace, model: Any) -> Tensor | None:
    """The class (1,), or the attributes (1, A), of the image, for a model with such."""
    if model.num_classes is None and not model.attributes:
        if options.label is not None or options.attributes is not None:
            raise LapcoreError("--label, --attributes: the model has neither classes nor attributes; leave them out")
        return None
    if model.num_classes is not None and options.label is None:
        raise LapcoreError(f"--label: the model has {model.num_classes} classes; say which is the image's")
    reading = Namespace(**vars(options) | {"resize": "none"})
    return open_data(options.image, model, reading, model.image_size).labels.to(model.device)


def _read(options: Namespace, model: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The image (1, C, H, W) and its painted level (1, C, h, w) in [-1, 1], and the mask (1, 1, H, W) of 0 and 1."""
    import torch

    import lapcore
    from lapcore.data import read_image, to_model_range

    image = read_image(options.image, model.channels, convert=options.convert)
    _check_size(options.image, image, [(model.image_size, model.image_size)])
    coarse = lapcore.gaussian_pyramid(image.float(), options.level)[-1]
    sizes = [tuple(coarse.shape[1:]), tuple(image.shape[1:])]
    painted = read_image(options.painted, model.channels, convert=options.convert)
    _check_size(options.painted, painted, sizes)
    whole = painted.shape == image.shape
    # What was not painted keeps the coarse picture's exact values: coarse-K.png holds them rounded.
    differs = (painted != (image if whole else coarse.round().to(torch.uint8))).any(0)
    new = lapcore.gaussian_pyramid(painted.float(), options.level)[-1] if whole else painted.float()
    new = new if whole else torch.where(differs, new, coarse)
    if options.mask is not None:
        mask = read_image(options.mask, 1, convert=options.convert)
        _check_size(options.mask, mask, sizes)
        differs = mask[0] >= 128
    if not differs.any():
        what = "--mask has no white" if options.mask else f"--painted equals {options.image} at level {options.level}"
        raise LapcoreError(f"nothing to edit: {what}")
    mask = torch.nn.functional.interpolate(differs[None, None].float(), image.shape[1:], mode="nearest-exact")
    return to_model_range(image)[None], (new / 127.5 - 1)[None], mask


def _check_size(path: Path, picture: Tensor, sizes: list[tuple[int, ...]]) -> None:
    rows, columns = picture.shape[1:]
    if (rows, columns) not in sizes:
        expected = " or ".join(f"{size[0]}x{size[1]}" for size in dict.fromkeys(sizes))
        raise DataError(f"{path}: expected {expected}, got {rows}x{columns} (rows x columns)")
