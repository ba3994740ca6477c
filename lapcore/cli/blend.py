"""`lapcore blend`: one picture of the regions of several, without seams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lapcore.cli import arguments as types
from lapcore.cli.images import add_convert
from lapcore.cli.output import check_new_file
from lapcore.errors import DataError, LapcoreError

if TYPE_CHECKING:
    from torch import Tensor


def run(arguments: list[str]) -> None:
    parser = types.command_parser(
        "blend",
        "Take regions of several pictures, say the eyes of one sample and the mouth of another, over a first one. Each "
        "detail passes from one to the other over a width of its own size, so that no seam shows.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="what shows where no region is taken")
    meaning = "another picture of that size, and a grey one, white where to take it; again for more, later ones on top"
    parser.add_argument(
        "--region", type=Path, nargs=2, action="append", required=True, metavar=("IMAGE", "MASK"), help=meaning
    )
    meaning = "how many times sizes halve: details of up to 2^L pixels have transitions of their own (3)"
    parser.add_argument("--levels", type=types.positive, default=3, metavar="L", help=meaning)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PNG to write")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="1 for grey, 3 for colour (3)")
    add_convert(parser)
    types.add_overwrite(parser)
    options = parser.parse_args(arguments)

    import torch

    import lapcore
    from lapcore.data import read_image, write_png

    if options.out.suffix.lower() != ".png":
        raise LapcoreError(f"--out {options.out}: expected a name that ends in .png")
    check_new_file(options.out, "--out", options.overwrite)
    base = read_image(options.image, options.channels, convert=options.convert)
    most = (max(base.shape[1:]) - 1).bit_length()
    if options.levels > most:
        raise LapcoreError(f"--levels {options.levels}: expected 1 to {most}, after which one pixel is left")
    regions = []
    for image, mask in options.region:
        taken = read_image(image, options.channels, convert=options.convert)
        weight = read_image(mask, 1, convert=options.convert)
        for path, picture in ((image, taken), (mask, weight)):
            _check_size(path, picture, base)
        regions.append((taken.float(), weight.float() / 255))
    blended = base.float()
    for taken, weight in regions:
        blended = lapcore.blend(taken, blended, weight, options.levels)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_png(options.out, blended.round().clamp(0, 255).to(torch.uint8))
    print(f"{options.out}: {options.image} with {len(regions)} region{'s' * (len(regions) > 1)} of others")


def _check_size(path: Path, picture: Tensor, base: Tensor) -> None:
    expected, got = ("x".join(map(str, image.shape[1:])) for image in (base, picture))
    if expected != got:
        raise DataError(f"{path}: expected {expected}, like the first picture, got {got} (rows x columns)")
