"""Reading CSV columns with errors that name file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retable.papers.superhuman_fairness.losses import Array
from retable.util.errors import UserError, brief, nearest

Rows = list[tuple[int, list[str]]]
"""Line number, from 1, and fields of each row."""


def read_rows(path: Path) -> Rows:
    """All rows of a file but blank lines; spaces after a comma are left out.

    Raises:
        UserError: where the file is no CSV text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            return [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV file ({brief(str(error))})") from None


def position(name: str, header: Sequence[str], path: Path) -> int:
    """Place of a column, the first where the name stands twice.

    Raises:
        UserError: where there is none of that name.
    """
    if name not in header:
        raise UserError(f"{path}: has no column '{name}'{nearest(name, header)}")
    return header.index(name)


def numbers(rows: Rows, column: int, name: str, path: Path) -> Array:
    """A column as float64, ``(n,)``.

    Raises:
        UserError: for a field that is no number.
    """
    out = np.empty(len(rows))
    for k, (line, row) in enumerate(rows):
        try:
            out[k] = float(row[column])
        except ValueError:
            raise UserError(
                f"{path}, line {line}: {name} is {brief(repr(row[column]))}, no number"
            ) from None
    if not np.isfinite(out).all():
        line = rows[int(np.flatnonzero(~np.isfinite(out))[0])][0]
        raise UserError(f"{path}, line {line}: {name} is not finite")
    return out


def codes(
    rows: Rows, column: int, name: str, path: Path, choices: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A column as indices into ``choices``, ``(n,)``.

    Raises:
        UserError: for a field that is none of them.
    """
    known = {choice: k for k, choice in enumerate(choices)}
    out = np.empty(len(rows), dtype=np.int64)
    for k, (line, row) in enumerate(rows):
        found = known.get(row[column])
        if found is None:
            raise UserError(
                f"{path}, line {line}: {name} is {brief(repr(row[column]))}, which is no known"
                f" value{nearest(row[column], choices)}"
            )
        out[k] = found
    return out


def one_hot(code: np.ndarray[tuple[int], np.dtype[np.int64]], count: int) -> Array:
    """Indicator columns, ``(n, count)``."""
    return (code[:, None] == np.arange(count)).astype(np.float64)


def standardized(values: Array) -> Array:
    """Mean 0 and standard deviation 1 (ddof 0); a constant column becomes 0."""
    spread = float(values.std())
    centred = values - values.mean()
    return centred / spread if spread > 0 else centred
