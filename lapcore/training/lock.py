"""One training process, or one group of them, in a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lapcore.errors import CheckpointError

LOCK = ".lock"


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Holds the folder `out`, which is made if it is not there; CheckpointError when another process holds it.

    The system lets go of the lock when a process ends, however it ends. The file stays: one that is removed while a third
    process opens it would be held twice.
    """
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "another process is training in this folder; wait for it, or choose another"
            raise CheckpointError(f"{out}: {message}") from error
        yield
    finally:
        os.close(descriptor)
