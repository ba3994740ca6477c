"""Files and folders that appear whole or not at all, and names that several parts know."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
SHEET = "sheet.png"
SAMPLING, RECONSTRUCTION = "sampling.json", "reconstruction.json"
"""Records of commands that write a contact sheet beside their pictures; where one lies, the sheet is no picture."""


def temporary_sibling(path: Path) -> Path:
    """A fresh hidden name in the folder of `path`, so that a rename to `path` stays inside one file system."""
    return path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write; it becomes `path`, durably, when the block ends well; when it raises, nothing does."""
    path = Path(path)
    temporary = temporary_sibling(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to fill; it becomes `path`, durably, when the block ends well, and is removed when the block raises.

    `path` must not exist, or be an empty folder, when the block ends.
    """
    path = Path(path)
    temporary = temporary_sibling(path)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            sync_folder(file)
        sync_folder(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync_folder(path: Path) -> None:
    """Asks the system to put a file or a folder's list of names on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
