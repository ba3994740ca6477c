"""`lapcore info`: this machine, its backends, why one is missing and how to get it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lapcore.cli.arguments import command_parser
from lapcore.cli.console import table

EXTRAS = {
    "triton": ("triton",),
    "hub": ("safetensors", "huggingface_hub"),
    "data": ("pillow", "pyarrow", "webdataset"),
    "train": ("accelerate", "tensorboard", "pyyaml", "rich", "jsonargparse"),
    "plot": ("matplotlib",),
}


def run(arguments: list[str]) -> None:
    command_parser("info", "This machine, its backends, why one is missing and how to get it.").parse_args(arguments)

    import numpy
    import torch

    import lapcore
    from lapcore import backends

    print(f"lapcore {lapcore.__version__} in {Path(lapcore.__file__).parent}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}")
    print(f"\nmachine\n{table(_machine())}")
    print(f"\nbackends\n{table([(name, _backend(name)) for name in backends.NAMES])}")
    print(f"\noptional libraries\n{table([(extra, _extra(extra, names)) for extra, names in EXTRAS.items()])}")


def _backend(name: str) -> str:
    from lapcore import backends, native

    if reason := backends.missing(name):
        return f"missing: {reason}"
    return f"ready ({native.isa()})" if name == "cpu" else "ready"


def _machine() -> list[tuple[str, str]]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("processor", f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads"),
    ]
    if not torch.cuda.is_available():
        return [*rows, ("GPU", "none that torch can use")]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        what = f"{card.name}, sm_{card.major}{card.minor}, {card.total_memory / 2**30:.0f} GiB"
        rows.append((f"GPU {index}", f"{what}, CUDA {torch.version.cuda}"))
    return rows


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _extra(extra: str, names: tuple[str, ...]) -> str:
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    have = ", ".join(found)
    if not missing:
        return have
    return f'{have}{"; " if have else ""}missing {", ".join(missing)}: pip install "lapcore[{extra}]"'
