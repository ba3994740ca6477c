"""Bytes of the n-th picture in a folder, a zip, a tar or a spool; and the source that decodes them."""

from __future__ import annotations

import os
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lapcore.data.attributes import Table
from lapcore.data.images import decode
from lapcore.errors import DataError

_PROCESSES = Path("/proc")


class Reader(Protocol):
    def name(self, index: int) -> str: ...

    def read(self, index: int) -> bytes: ...


class EncodedSource:
    """Pictures kept as PNG, JPEG and so on, decoded at access."""

    def __init__(
        self,
        reader: Reader,
        labels: Sequence[int],
        classes: tuple[str, ...],
        *,
        channels: int,
        convert: bool,
        table: Table | None = None,
    ) -> None:
        self.labels = np.asarray(labels, np.int64)
        self.classes = classes
        self.table = table
        self.name = reader.name
        self._reader, self._channels, self._convert = reader, channels, convert

    def image(self, index: int) -> NDArray[np.uint8]:
        return decode(self._reader.read(index), self.name(index), self._channels, convert=self._convert)


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


class FileReader:
    """One picture per file."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def name(self, index: int) -> str:
        return str(self._root / self._names[index])

    def read(self, index: int) -> bytes:
        return read_file(self._root / self._names[index])


class ZipReader:
    """Members of a zip. Each process opens the file for itself: a shared file position would mix their reads."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._names = path, names
        self._open: tuple[int, zipfile.ZipFile] | None = None

    def name(self, index: int) -> str:
        return f"{self._path}:{self._names[index]}"

    def read(self, index: int) -> bytes:
        try:
            return self._archive().read(self._names[index])
        except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error}") from error

    def _archive(self) -> zipfile.ZipFile:
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class SpanReader:
    """Stretches of bytes of one or more files. A read opens its file; `keep` holds spools in use."""

    def __init__(
        self,
        paths: Sequence[Path],
        files: Sequence[int],
        offsets: Sequence[int],
        sizes: Sequence[int],
        names: Sequence[str],
        keep: Sequence[Spool | None] = (),
    ) -> None:
        self._paths, self._names, self._keep = paths, names, keep
        self._spans = np.array([files, offsets, sizes], np.int64).reshape(3, -1)

    def name(self, index: int) -> str:
        return self._names[index]

    def read(self, index: int) -> bytes:
        file, offset, size = self._spans[:, index].tolist()
        try:
            with open(self._paths[file], "rb", buffering=0) as stream:
                stream.seek(offset)
                data = stream.read(size)
        except OSError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise DataError(f"{self.name(index)}: expected {size} bytes, got {len(data)}; the file has been cut short")
        return data


class Spool:
    """A temporary file, in `tempfile.gettempdir()`, that lends its bytes random access; gone with this object.

    Where the system has /proc, the file has no name from the start, so that nothing is left of a process however it
    ends; other processes of the same user reach it as an open file of its owner.
    """

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="lapcore-")
        self.path, self.folder = Path(name), Path(name).parent
        self.file = os.fdopen(descriptor, "wb")
        nameless = _PROCESSES / f"{os.getpid()}/fd/{descriptor}"
        if nameless.exists():
            self.path.unlink()
            self.path = nameless
            weakref.finalize(self, self.file.close)
        else:
            weakref.finalize(self, _remove, self.path, os.getpid())

    def append(self, data: bytes) -> int:
        """Writes `data` and returns its offset."""
        offset = self.file.tell()
        self.file.write(data)
        return offset

    def finish(self) -> None:
        """Ends the writing; reads come after it."""
        self.file.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


def _remove(path: Path, owner: int) -> None:
    """Deletes a spool, but never from a forked worker that merely inherited the object."""
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
