"""`lapcore join`: runs that trained different stages of one model, made one run."""

from __future__ import annotations

import shlex
from pathlib import Path

from lapcore.cli import arguments as types


def run(arguments: list[str]) -> None:
    description = "Make one run of finished runs of one model that each trained other stages (lapcore train --stage)."
    parser = types.command_parser("join", description)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs of the same settings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new run")
    options = parser.parse_args(arguments)

    from lapcore.training import join

    folder = join(options.runs, options.out)
    print(f"{folder}: joined; next: lapcore sample {shlex.quote(str(options.out))} --seeds 0-15 --out samples")
