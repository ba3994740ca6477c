"""Results that appear whole or not at all, and never over other files unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lapcore.data.files import TEMPORARY, atomic_file, atomic_folder
from lapcore.errors import LapcoreError


def check_new_folder(out: Path, overwrite: bool) -> None:
    """Raises unless `out` can become a folder of results: absent, empty but for what a killed command left, or `overwrite`."""
    if out.exists() and not out.is_dir():
        raise LapcoreError(f"--out {out}: expected a folder, got a file")
    if not overwrite and out.is_dir() and any(not entry.name.startswith(TEMPORARY) for entry in out.iterdir()):
        raise LapcoreError(f"--out {out}: the folder is not empty; choose another or add --overwrite")


def check_new_file(path: Path, option: str, overwrite: bool) -> None:
    """Raises unless `path` can become a file: absent, or `overwrite`, in a folder that is there or can be made."""
    if path.is_dir():
        raise LapcoreError(f"{option} {path}: expected a file, got a folder")
    if not overwrite and path.exists():
        raise LapcoreError(f"{option} {path}: the file exists; choose another or add --overwrite")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise LapcoreError(f"{option} {path}: {there} is not a folder that can be written in")


@contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A scratch folder whose files become `out`'s when the block succeeds, and vanish when it fails.

    A new `out` appears in one rename. In one that is there, files appear one after another, with `overwrite` in the
    place of those of the same names; others stay. It may be all of the disk that can be written to, so the scratch
    folder is in it.
    """
    check_new_folder(out, overwrite)
    out = out.resolve()
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=out) as scratch:
        yield Path(scratch)
        for path in sorted(Path(scratch).iterdir()):
            os.replace(path, out / path.name)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(text.encode())
