"""SIGINT and SIGTERM: training ends after the step in progress, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

import torch

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAUNCHER_SECONDS = 5.0
"""A launcher passes on what the terminal has sent to its processes already: for so long it is taken for the same signal."""


class Stopped(KeyboardInterrupt):
    """A signal ended training. str() says which step is kept and how to go on; `exit_code` is the shell's for the signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Stopping:
    """Inside the block the first SIGINT or SIGTERM is only noted; the second does what it did before, at once.

    Signals reach the main thread of Python alone: in another one nothing is noted.
    """

    def __enter__(self) -> Self:
        self._received = 0
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received, self._since = number, time.monotonic()
        elif "WORLD_SIZE" not in os.environ or time.monotonic() - self._since > LAUNCHER_SECONDS:
            self._give_back()
            os.kill(os.getpid(), number)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def number(self, accelerator: Any) -> int:
        """Of a signal that any of the processes has received, on which all agree; 0 for none."""
        if accelerator.num_processes == 1:
            return self._received
        received = torch.tensor(self._received, device=accelerator.device)
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
        return int(received.item())
