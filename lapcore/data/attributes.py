"""`attributes.csv`: what is in each picture, as a table that lies beside them, and as vectors."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lapcore.errors import DataError

TABLE = "attributes.csv"
FILE = "file"


@dataclass(frozen=True)
class Table:
    """The table of a set of pictures.

    Attributes: `name`, for messages; `files`, the pictures as its column `file` gives them, in the set's order; `read`,
    its bytes.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[], bytes]


def find_table(names: Iterable[str], pictures: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """The deepest `attributes.csv` among `names` whose folder holds all `pictures`, and their paths from there."""
    tables = [PurePosixPath(name) for name in names if PurePosixPath(name).name == TABLE]
    for table in sorted(tables, key=lambda path: len(path.parts), reverse=True):
        folder = table.parent
        if all(PurePosixPath(picture).is_relative_to(folder) for picture in pictures):
            return str(table), tuple(str(PurePosixPath(picture).relative_to(folder)) for picture in pictures)
    return None


def vectors(table: Table, asked: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """The names of the values and the values (pictures, values) of the columns `asked` for.

    A column of numbers gives them as they are; one of words a 0 or 1 for each of its words in sorted order, named
    `column=word`. Such a name can be asked for alone, also if the table lacks the word. Raises DataError for what is
    missing or cannot be read, ValueError for a value asked for twice.
    """
    header, rows = _rows(table)
    order = _order(table, header, rows)
    names: list[str] = []
    columns: list[NDArray[np.float32]] = []
    for name in asked:
        column, _, word = (name, "", "") if name in header else name.partition("=")
        if column == FILE or column not in header:
            known = ", ".join(column for column in header if column != FILE)
            raise DataError(f"{table.name}: no column {column!r} for attribute {name!r}; its columns are {known}")
        found = _column(table, column, [row[header.index(column)] for row in rows], word)
        names += found
        columns += found.values()
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"attributes: {repeated!r} is asked for twice")
    return tuple(names), np.stack(columns, 1)[order]


def _rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """The header and the rows, all of its length."""
    try:
        lines = [line for line in csv.reader(io.StringIO(table.read().decode("utf-8-sig"), newline="")) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table.name}: not a readable table: {error}") from error
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    if FILE not in header or len(set(header)) != len(header):
        raise DataError(f"{table.name}: expected a first line of names that differ, {FILE!r} among them, got {header}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DataError(f"{table.name}, row {number}: expected {len(header)} values, got {len(row)}")
    return header, rows


def _order(table: Table, header: list[str], rows: list[list[str]]) -> list[int]:
    """The row of each picture; rows without a picture are passed over."""
    at = header.index(FILE)
    places: dict[str, int] = {}
    for number, row in enumerate(rows):
        name = str(PurePosixPath(row[at]))
        if name in places:
            raise DataError(f"{table.name}: expected one row for {name}, got rows {places[name] + 1} and {number + 1}")
        places[name] = number
    missing = [file for file in table.files if file not in places]
    if missing:
        raise DataError(f"{table.name}: no row for {missing[0]}, nor for {len(missing) - 1} other pictures")
    return [places[file] for file in table.files]


def _column(table: Table, column: str, cells: list[str], word: str) -> dict[str, NDArray[np.float32]]:
    """Returns by name what one column gives: itself, or a 0 or 1 for each of its words or for `word` alone."""
    of_words = _number(cells[0]) is None
    for row, cell in enumerate(cells, 1):
        number = _number(cell)
        if not (cell and number is None if of_words else number is not None and math.isfinite(number)):
            expected = "a word" if of_words else "a finite number"
            raise DataError(f"{table.name}, row {row}: expected {expected} in column {column!r}, got {cell!r}")
    if of_words:
        words = [word] if word else sorted(set(cells))
        return {f"{column}={each}": np.array([cell == each for cell in cells], np.float32) for each in words}
    if word:
        raise DataError(f"{table.name}: column {column!r} holds numbers, so there is no {column}={word}")
    return {column: np.array(cells, np.float32)}


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
