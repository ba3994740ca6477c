"""Pictures in shards: parquet tables and webdataset tars."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lapcore.data.arrays import check_class_number
from lapcore.data.folders import Member, Tar, is_picture, member_reader
from lapcore.data.images import EXTENSIONS
from lapcore.data.readers import EncodedSource, SpanReader, Spool
from lapcore.errors import DataError, require

_IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png", "bytes")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "cls", "class")
_SIDECARS = ("cls", "json", "txt")


def open_parquet(paths: Sequence[Path], *, channels: int, convert: bool) -> EncodedSource:
    """Tables with an encoded picture per row, as raw bytes or as Hugging Face's struct of bytes and path.

    The pictures are copied to a spool once: rows of a compressed column cannot be reached out of order.
    """
    spool = Spool()
    offsets: list[int] = []
    sizes: list[int] = []
    names: list[str] = []
    labels: list[int | str | None] = []
    classes: tuple[str, ...] | None = None
    try:
        for path in paths:
            table = _open_table(path)
            classes = classes or _class_names(table.schema_arrow)
            for row, (data, label) in enumerate(_rows(table, path)):
                offsets.append(spool.append(data))
                sizes.append(len(data))
                names.append(f"{path}, row {row}")
                labels.append(label)
        spool.finish()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{paths[0]}: cannot copy its pictures to {spool.folder}: {reason}") from error
    if not names:
        raise DataError(f"{paths[0]}: expected images, found no rows")
    reader = SpanReader([spool.path], [0] * len(names), offsets, sizes, names, [spool])
    found, classes = to_labels(labels, names, classes) or ([0] * len(names), (paths[0].stem,))
    return EncodedSource(reader, found, classes, channels=channels, convert=convert)


def _open_table(path: Path) -> Any:
    try:
        return require("pyarrow.parquet", "data").ParquetFile(path)
    except (require("pyarrow", "data").ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable parquet file: {error}") from error


def _rows(table: Any, path: Path) -> Iterator[tuple[bytes, int | str | None]]:
    pyarrow = require("pyarrow", "data")
    image = _image_column(table.schema_arrow, path)
    label = next((name for name in _LABEL_COLUMNS if name in table.schema_arrow.names), None)
    columns = [image] if label is None else [image, label]
    try:
        for batch in table.iter_batches(batch_size=256, columns=columns):
            pictures = batch.column(image).to_pylist()
            labels = [None] * len(pictures) if label is None else batch.column(label).to_pylist()
            for picture, value in zip(pictures, labels, strict=True):
                data = picture.get("bytes") if isinstance(picture, dict) else picture
                if data is None:
                    raise DataError(f"{path}: column {image!r} has a row without the picture's bytes")
                if label is not None and value is None:
                    raise DataError(f"{path}: column {label!r} has an empty row")
                yield data, value
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: damaged: {error}") from error


def _image_column(schema: Any, path: Path) -> str:
    types = require("pyarrow", "data").types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    candidates = [field.name for field in schema if holds_bytes(field.type)]
    named = [name for name in _IMAGE_COLUMNS if name in candidates]
    if not named and len(candidates) != 1:
        raise DataError(f"{path}: expected a column 'image' of encoded pictures (bytes), got {', '.join(schema.names)}")
    return str((named or candidates)[0])


def _class_names(schema: Any) -> tuple[str, ...] | None:
    """The names that Hugging Face's datasets keep in the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        label = next(name for name in _LABEL_COLUMNS if name in schema.names)
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


def is_webdataset(tar: Tar) -> bool:
    """Whether some picture has a sidecar of the same key."""
    return _keying([tar]) is not None


def open_webdataset(tars: Sequence[Tar], *, channels: int, convert: bool) -> EncodedSource | None:
    """Samples of shards, in order: files that share a key, see `_keying`. None for one tar without labels."""
    key_of = _keying(tars) or _at_first_dot
    pictures: list[Member] = []
    labels: list[int | str | None] = []
    for tar in tars:
        for key, sample in _samples(tar, key_of).items():
            kinds = [kind for kind in sample if f".{kind}" in EXTENSIONS]
            if len(kinds) != 1:
                raise DataError(f"{tar.path}: sample {key}: expected one picture, got files {', '.join(sample)}")
            pictures.append(sample[kinds[0]])
            labels.append(_sample_label(sample))
    if not pictures:
        raise DataError(f"{tars[0].path}: expected images, found no samples")
    names = [picture.full_name for picture in pictures]
    found = to_labels(labels, names, None)
    if found is None and len(tars) == 1:
        return None
    numbers, classes = found or ([0] * len(names), (tars[0].path.parent.name,))
    reader = member_reader(pictures, [tar.spool for tar in tars])
    return EncodedSource(reader, numbers, classes, channels=channels, convert=convert)


_Keying = Callable[[str], tuple[str, str]]


def _keying(tars: Sequence[Tar]) -> _Keying | None:
    """Finds what parts names into the key of a sample and the kind of file: the first dot, as in webdataset, or the last.

    The last is for pictures with dots in their names, and None where pictures have sidecars in neither way.
    """
    names = [member.name for tar in tars for member in tar.members]
    for key_of in (_at_first_dot, _at_last_dot):
        pictures = {key_of(name)[0] for name in names if is_picture(name)}
        if any(kind in _SIDECARS and key in pictures for key, kind in map(key_of, names)):
            return key_of
    return None


def _at_first_dot(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, kind = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", kind.lower()


def _at_last_dot(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    return str(path.with_suffix("")), path.suffix.lower().removeprefix(".")


def _samples(tar: Tar, key_of: _Keying) -> dict[str, dict[str, Member]]:
    samples: dict[str, dict[str, Member]] = {}
    for member in tar.members:
        key, kind = key_of(member.name)
        if key:
            samples.setdefault(key, {})[kind] = member
    return samples


def _sample_label(sample: dict[str, Member]) -> int | str | None:
    if "cls" in sample:
        text = sample["cls"].read().decode("utf-8", "replace").strip()
        return int(text) if text.isdecimal() else text
    if "json" not in sample:
        return None
    try:
        content = json.loads(sample["json"].read())
    except ValueError as error:
        raise DataError(f"{sample['json'].full_name}: not JSON: {error}") from error
    content = content if isinstance(content, dict) else {}
    value = next((content[key] for key in _LABEL_COLUMNS if key in content), None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise DataError(f"{sample['json'].full_name}: expected an integer or a name as label, got {value!r}")
    return value


def to_labels(
    values: Sequence[int | str | None], names: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[list[int], tuple[str, ...]] | None:
    """Numbers stay, names are numbered in sorted order. None when no picture has a label; some is an error."""
    if all(value is None for value in values):
        return None
    numbers = [value for value in values if isinstance(value, int)]
    words = [value for value in values if isinstance(value, str)]
    if len(numbers) == len(values):
        if min(numbers) < 0:
            raise DataError(f"{names[numbers.index(min(numbers))]}: expected a label from 0, got {min(numbers)}")
        check_class_number(max(numbers), names[numbers.index(max(numbers))])
        if classes is None or max(numbers) >= len(classes):
            classes = tuple(str(number) for number in range(max(numbers) + 1))
        return numbers, classes
    if len(words) == len(values):
        order = sorted(set(words))
        return [order.index(word) for word in words], tuple(order)
    odd = next(index for index, value in enumerate(values) if type(value) is not type(values[0]))
    raise DataError(f"{names[odd]}: expected a label like the first picture's, {values[0]!r}, got {values[odd]!r}")


def expand(pattern: str) -> list[str]:
    """`a-{08..11}.tar` and `{x,y}.tar` as a shell would."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if bounds:
        width = len(bounds[1])
        options = [str(number).zfill(width) for number in range(int(bounds[1]), int(bounds[2]) + 1)]
    else:
        options = match[1].split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [path for option in options for path in expand(head + option + tail)]
