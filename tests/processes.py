"""Two processes that meet: forked from one that has imported what they need, and has started no threads."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from pathlib import Path

import torch

set_forkserver_preload(["pytest", "hypothesis", "lapcore.nn"])


def in_two(work: Callable[[int, str], None], folder: Path) -> None:
    """Calls work(rank, folder) in both."""
    torch.multiprocessing.start_processes(work, (str(folder),), nprocs=2, start_method="forkserver")
