"""Pictures in folders, zips and tars, whose subfolders are classes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lapcore.data.attributes import TABLE, Table, find_table
from lapcore.data.files import RECONSTRUCTION, SAMPLING, SHEET
from lapcore.data.images import EXTENSIONS
from lapcore.data.readers import EncodedSource, FileReader, SpanReader, Spool, ZipReader, read_file
from lapcore.errors import DataError

_COMPRESSED: dict[str, Callable[[Path, str], Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".xz": lzma.open,
    ".txz": lzma.open,
    ".bz2": bz2.open,
    ".tbz2": bz2.open,
}


def open_folder(path: Path, *, channels: int, convert: bool) -> EncodedSource:
    files = walk(path)
    names, labels, classes = arrange(files, str(path))
    found = find_table(files, names)
    table = found and Table(str(path / found[0]), found[1], partial(read_file, path / found[0]))
    return EncodedSource(FileReader(path, names), labels, classes, channels=channels, convert=convert, table=table)


def open_picture(path: Path, *, channels: int, convert: bool) -> EncodedSource:
    """One file, of the class that its folder names, with its row of the table there."""
    folder, name = path.parent, path.name
    at = folder / TABLE
    table = Table(str(at), (name,), partial(read_file, at)) if at.exists() else None
    reader = FileReader(folder, [name])
    return EncodedSource(reader, [0], (folder.name,), channels=channels, convert=convert, table=table)


def open_zip(path: Path, *, channels: int, convert: bool) -> EncodedSource:
    try:
        with zipfile.ZipFile(path) as archive:
            stored = [member.filename for member in archive.infolist() if not member.is_dir()]
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable zip: {error}") from error
    # Some programs of Windows part folders by its own sign, against the format.
    members = {name.replace("\\", "/"): name for name in stored}
    names, labels, classes = arrange(members, str(path))
    found = find_table(members, names)
    table = found and Table(f"{path}:{found[0]}", found[1], partial(ZipReader(path, [members[found[0]]]).read, 0))
    return EncodedSource(
        ZipReader(path, [members[name] for name in names]),
        labels,
        classes,
        channels=channels,
        convert=convert,
        table=table,
    )


def is_picture(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name.lower().endswith(EXTENSIONS) and not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def walk(path: Path) -> list[str]:
    """Every file below `path`, relative to it, links followed; OSError when a folder cannot be listed."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    found, seen = [], set()
    for folder, folders, files in os.walk(path, followlinks=True, onerror=fail):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        relative = Path(folder).relative_to(path)
        found += [(relative / file).as_posix() for file in files]
    return found


def arrange(names: Iterable[str], where: str) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Pictures among `names`, sorted, with labels and class names; contact sheets are not among them.

    Folders that all pictures share are left out; then the first folder is the class. Pictures without one are all of
    one class.
    """
    names = list(names)
    pictures = _pictures(names)
    if not pictures:
        other = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in names)
        seen = ", ".join(f"{count} x {suffix}" for suffix, count in other.most_common(4)) or "nothing"
        raise DataError(f"{where}: expected images ({' '.join(EXTENSIONS)}), found {seen}")
    folders = [PurePosixPath(name).parts[:-1] for name in pictures]
    shared = _shared(folders)
    owners = [parts[len(shared)] if len(parts) > len(shared) else None for parts in folders]
    if all(owner is None for owner in owners):
        return pictures, [0] * len(pictures), (shared[-1] if shared else PurePosixPath(where).name,)
    if None in owners:
        loose = pictures[owners.index(None)]
        raise DataError(f"{where}: subfolders are classes, but {loose} lies beside them; move it into one")
    classes = sorted({owner for owner in owners if owner is not None})
    label = {name: index for index, name in enumerate(classes)}
    return pictures, [label[owner] for owner in owners if owner is not None], tuple(classes)


def has_pictures(names: Sequence[str]) -> bool:
    return bool(_pictures(names))


def _pictures(names: Sequence[str]) -> list[str]:
    records = (PurePosixPath(name) for name in names if PurePosixPath(name).name in (SAMPLING, RECONSTRUCTION))
    sheets = {str(record.with_name(SHEET)) for record in records}
    return sorted(name for name in names if is_picture(name) and name not in sheets)


def _shared(folders: list[tuple[str, ...]]) -> list[str]:
    shared = []
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return shared


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name and where its bytes are in `path`; `archive` is what the user gave."""

    archive: Path
    path: Path
    name: str
    offset: int
    size: int

    @property
    def full_name(self) -> str:
        return f"{self.archive}:{self.name}"

    def read(self) -> bytes:
        return member_reader([self]).read(0)


class Tar:
    """The members of a tar. A compressed one is unpacked to a spool first: its bytes cannot be reached out of order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = _unpacked(path) if path.suffix.lower() in _COMPRESSED else None
        self.members = _scan(path, self.spool.path if self.spool else path)


def open_tar(tar: Tar, *, channels: int, convert: bool) -> EncodedSource:
    by_name = {member.name: member for member in tar.members}
    names, labels, classes = arrange(by_name, str(tar.path))
    reader = member_reader([by_name[name] for name in names], [tar.spool])
    found = find_table(by_name, names)
    table = found and Table(by_name[found[0]].full_name, found[1], by_name[found[0]].read)
    return EncodedSource(reader, labels, classes, channels=channels, convert=convert, table=table)


def member_reader(members: list[Member], keep: Sequence[Spool | None] = ()) -> SpanReader:
    paths = list(dict.fromkeys(member.path for member in members))
    number = {path: index for index, path in enumerate(paths)}
    return SpanReader(
        paths,
        [number[member.path] for member in members],
        [member.offset for member in members],
        [member.size for member in members],
        [member.full_name for member in members],
        keep,
    )


def _unpacked(path: Path) -> Spool:
    spool = Spool()
    try:
        with _COMPRESSED[path.suffix.lower()](path, "rb") as packed:
            shutil.copyfileobj(packed, spool.file, 1 << 20)
        spool.finish()
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be unpacked to {spool.folder}: {error.strerror or error}") from error
    return spool


def _scan(archive: Path, path: Path) -> list[Member]:
    members = []
    end = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                end = max(end, info.offset_data + (info.size if info.isreg() else 0))
                if (info.islnk() or info.issym()) and is_picture(info.name):
                    advice = "pack with tar --dereference --hard-dereference"
                    raise DataError(f"{archive}:{info.name}: expected a picture, got a link; {advice}")
                if info.isreg():
                    name = str(PurePosixPath(info.name))
                    members.append(Member(archive, path, name, info.offset_data, info.size))
        with open(path, "rb") as file:
            file.seek(-(-end // 512) * 512)
            marker = file.read(1024)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive}: not a readable tar: {error}") from error
    if marker != bytes(1024):  # tarfile takes a broken header for the end
        raise DataError(f"{archive}: damaged or cut short: no end-of-archive mark after {len(members)} files")
    return members
