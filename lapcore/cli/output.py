"""Results that appear whole or not at all, and never over other files unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lapcore.data.files import atomic_file, atomic_folder
from lapcore.errors import LapcoreError


def check_new_folder(out: Path, overwrite: bool) -> None:
    """Raises unless `out` can become a folder of results: absent, empty, or `overwrite`."""
    if out.exists() and not out.is_dir():
        raise LapcoreError(f"--out {out}: expected a folder, got a file")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise LapcoreError(f"--out {out}: the folder is not empty; choose another or add --overwrite")


def check_new_file(path: Path, option: str, overwrite: bool) -> None:
    """Raises unless `path` can become a file: absent, or `overwrite`."""
    if path.is_dir():
        raise LapcoreError(f"{option} {path}: expected a file, got a folder")
    if not overwrite and path.exists():
        raise LapcoreError(f"{option} {path}: the file exists; choose another or add --overwrite")


@contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A scratch folder whose files become `out`'s when the block succeeds, and vanish when it fails.

    A new `out` appears in one rename. With `overwrite`, files of the same names are replaced one by one and others
    stay.
    """
    check_new_folder(out, overwrite)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.is_dir() or not any(out.iterdir()):
        with atomic_folder(out) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out.parent) as scratch:
        yield Path(scratch)
        for path in sorted(Path(scratch).iterdir()):
            os.replace(path, out / path.name)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(text.encode())
