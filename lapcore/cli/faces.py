"""`lapcore faces`: draw labelled cartoon faces."""

from __future__ import annotations

from pathlib import Path

from lapcore.cli import arguments as types
from lapcore.cli.console import progress
from lapcore.cli.output import check_new_folder, new_folder

LARGEST_SIZE = 1024


def run(arguments: list[str]) -> None:
    parser = types.command_parser(
        "faces",
        "Draw cartoon faces: 00000000.png ..., and attributes.csv, which tells of each its glasses, beard, hair, ... "
        "Face i depends on --seed, --size and i alone. An interrupted command leaves nothing.",
    )
    parser.add_argument("--count", type=types.positive, required=True, help="how many")
    parser.add_argument("--size", type=types.positive, default=64, help="pixels on a side (64)")
    parser.add_argument("--seed", type=types.seed, default=0, help="other faces (0)")
    parser.add_argument("--workers", type=types.positive, default=1, help="processes that share the work (1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the faces, new or empty")
    options = parser.parse_args(arguments)
    if options.size > LARGEST_SIZE:
        parser.error(f"--size: expected at most {LARGEST_SIZE}, got {options.size}")

    from lapcore.data.faces import draw_faces
    from lapcore.errors import require

    for module in ("PIL", "python_avatars", "resvg_py"):
        require(module, "faces")
    check_new_folder(options.out, overwrite=False)
    with (
        new_folder(options.out, overwrite=False) as folder,
        progress("faces", options.count, "images") as advance,
    ):
        draw_faces(folder, options.count, options.size, seed=options.seed, workers=options.workers, on_images=advance)
    print(f"{options.out}: {options.count} faces of {options.size}x{options.size} and their attributes.csv")
