"""`lapcore pyramid`: take one picture apart, and prove that it collapses back."""

from __future__ import annotations

from pathlib import Path

from lapcore.cli import arguments as types
from lapcore.cli.console import table
from lapcore.cli.images import add_convert
from lapcore.cli.output import check_new_folder, new_folder
from lapcore.errors import LapcoreError


def run(arguments: list[str]) -> None:
    parser = types.command_parser(
        "pyramid",
        "Take one picture apart: band-K.png, the detail of level K around mid-grey (zero is 128, cut at 0 and 255); "
        "coarse-K.png, the picture at level K, ready for painting (see lapcore edit); collapsed.png, together again.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--levels", type=types.positive, default=4, help="how many times to halve it (4)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="1 for grey, 3 for colour (3)")
    add_convert(parser)
    types.add_overwrite(parser)
    options = parser.parse_args(arguments)

    import lapcore
    from lapcore.data import read_image, write_png

    check_new_folder(options.out, options.overwrite)
    image = read_image(options.image, options.channels, convert=options.convert)
    height, width = image.shape[-2:]
    most = (max(height, width) - 1).bit_length()
    if options.levels > most:
        raise LapcoreError(f"--levels {options.levels}: a {height}x{width} picture is down to one pixel after {most}")
    values = image.float()
    gaussians = lapcore.gaussian_pyramid(values, options.levels)
    bands = lapcore.laplacian_pyramid(values, options.levels)
    collapsed = lapcore.collapse(bands)
    restored = collapsed.round().clamp(0, 255).to(image.dtype)
    if not restored.equal(image):
        raise LapcoreError(f"{options.image}: the collapsed pyramid differs from the picture; please report this")
    with new_folder(options.out, options.overwrite) as folder:
        for level, band in enumerate(bands[:-1]):
            write_png(folder / f"band-{level}.png", (band + 128).round().clamp(0, 255).to(image.dtype))
        for level, coarse in enumerate(gaussians[1:], 1):
            write_png(folder / f"coarse-{level}.png", coarse.round().clamp(0, 255).to(image.dtype))
        write_png(folder / "collapsed.png", restored)
    rows = [("level", "pixels", "least", "greatest")]
    for level, band in enumerate(bands):
        name = str(level) if level < options.levels else f"{level} (low-pass)"
        rows.append((name, f"{band.shape[-2]}x{band.shape[-1]}", f"{band.min():.1f}", f"{band.max():.1f}"))
    error = (collapsed - values).abs().max()
    print(f"{table(rows)}\n{options.out}: collapses back: largest error {error:.2e} grey levels, exact as uint8")
