"""`lapcore sample`: draw images from a trained model, one per seed."""

from __future__ import annotations

from pathlib import Path

from lapcore.cli import arguments as types
from lapcore.cli.console import progress


def run(arguments: list[str]) -> None:
    parser = types.command_parser(
        "sample", "Draw images from a trained model, one file (or row) per seed. Run again to go on."
    )
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a training run or of a saved model")
    parser.add_argument("--seeds", type=types.ranges, required=True, help="0-49999 or 1,5,7-9")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples")
    parser.add_argument(
        "--batch", type=types.positive, default=64, help="images at a time; part of what a sample is (64)"
    )
    parser.add_argument("--format", choices=("png", "npy", "tar", "parquet"), default="png")
    parser.add_argument("--labels", type=types.labels, help="3,5-7: seed s takes the (s mod n)-th of these n classes")
    parser.add_argument("--overwrite", action="store_true", help="remove samples that were made with other settings")
    types.add_device(parser)
    options = parser.parse_args(arguments)

    from lapcore.sampling import sample_to_folder

    model = types.open_model(options.model, options.device, "sample")
    total = sum(len(part) for part in options.seeds)
    with progress("sample", total, "images") as advance:
        computed = sample_to_folder(
            model,
            options.seeds,
            options.out,
            labels=options.labels,
            batch=options.batch,
            format=options.format,
            overwrite=options.overwrite,
            on_images=advance,
        )
    print(f"{options.out}: {total} samples, {computed} of them new")
