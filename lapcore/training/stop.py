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
    """Inside the block the first SIGINT or SIGTERM is only noted; the second ends the process at once.

    Signals reach the main thread of Python alone: in another one nothing is noted.
    """

    def __enter__(self) -> Self:
        self._received = 0
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received, self._since = number, time.monotonic()
            if os.environ.get("RANK", "0") == "0":  # past the buffers, which the signal may have interrupted
                os.write(2, b"stopping after the step in progress; a second signal ends at once\n")
            if "WORLD_SIZE" not in os.environ:
                _leave_to_the_system()
        elif time.monotonic() - self._since > LAUNCHER_SECONDS:
            _leave_to_the_system()
            os.kill(os.getpid(), number)

    def number(self, accelerator: Any) -> int:
        """Returns the number of a signal that any of the processes has received, on which all agree; 0 for none."""
        if accelerator.num_processes == 1:
            return self._received
        received = torch.tensor(self._received, device=accelerator.device)
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
        return int(received.item())


def _leave_to_the_system() -> None:
    """It ends a process at once, where handlers in Python wait for a computation to return."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
