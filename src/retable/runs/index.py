"""Index of what a table's records said when they were last read, one file per table; derived.

A record is taken from here only where its file still has the size, the times and the inode that it
had when it was read; any other is read again. So the index can be deleted, or be overwritten with
anything, at any time: it costs time and never shows what the files do not say. It is no cache of
files that were written less than two seconds before they were read: the next change could leave
them with the same times. On a network file system a change made on another machine shows as soon
as that system's attribute cache lets `stat` see it, seconds in most cases.

The file is a checksum and the columns. They are NumPy's: a table needs NumPy in any case, and to
import a library of data frames besides costs each command a quarter of a second.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from retable.runs import columns as columns_module
from retable.runs import history_points, record_parts, records, scan, stretches
from retable.runs.columns import Columns, Ints, Place
from retable.util.atomic import beside, write_atomic

FOLDER = "_index"
"""Below the folder of all runs; no paper can have this name."""

_SETTLED_NS = 2_000_000_000
_FORMAT = 3
_HOUR = 3600.0
_KEY = 64  # letters
_HEAD = 65  # of a checksum and the end of its line


def file_of(runs: Path, table: str, protocol: str) -> Path:
    """The index of a table below the folder of all runs."""
    return runs / FOLDER / f"{table}-{protocol}.npz"


def load(file: Path, places: Sequence[Place] = ()) -> Columns | None:
    """Load an index; None where there is none that could be used.

    Args:
        file: the index.
        places: of numbers that have to be among those in it.
    """
    try:
        data = memoryview(file.read_bytes())
        if bytes(data[:_HEAD]) != _seal(data[_HEAD:]):
            return None
        columns = Columns.unpacked(data[_HEAD:])
    # With the right checksum it is as somebody wrote it; whoever that was, it is no index of ours.
    except (OSError, ValueError):
        return None
    return columns if set(places) <= set(columns.places) else None


def save(file: Path, columns: Columns) -> None:
    """Write an index, atomically.

    Raises:
        OSError: where it cannot be written.
    """
    data = columns.packed()
    write_atomic(file, _seal(data) + data)


def _seal(data: bytes | memoryview) -> bytes:
    """Checksum of what an index holds and of the code that decides how a record is read."""
    digest = hashlib.sha256(_code())
    digest.update(data)
    return digest.hexdigest().encode() + b"\n"


@cache
def _code() -> bytes:
    """Digest of the code that decides how a record is read; an index of other code is invalid."""
    import msgspec

    digest = hashlib.sha256(f"{_FORMAT} {msgspec.__version__}".encode())
    for module in (scan, columns_module, records, record_parts, history_points, stretches):
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.digest()


def clock(file: Path) -> int | None:
    """The time that the file system of an index has, in ns; None where none can be written there.

    Makes its folder, and clears away what writers left that were killed.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside(file) as probe:
            probe.touch()
            now = probe.stat().st_mtime_ns
        for left in file.parent.glob(f".{file.name}.*.tmp"):
            if now / 1e9 - left.stat().st_mtime > _HOUR:
                left.unlink(missing_ok=True)
    except OSError:
        return None
    return now


def settled(columns: Columns, now: int) -> Ints:
    """Numbers of the records that an index may hold: with a stamp, and not changed just before.

    Args:
        columns: what was read.
        now: what :func:`clock` said before anything was read.
    """
    ctime = columns.stamps[:, 2]
    good = (columns.slots >= 0) & (ctime > 0) & (ctime < now - _SETTLED_NS)
    return np.flatnonzero(good & np.array([len(key) == _KEY for key in columns.keys], dtype=bool))


def standing(columns: Columns, base: str, keys: Sequence[str]) -> tuple[Columns, list[str]]:
    """Records of an index that are still what their files say, and the keys of all other runs.

    Args:
        columns: of the index.
        base: folder that the runs' folders are in.
        keys: of the runs that are wanted.
    """
    there, numbers, stamps = _looked_at(columns, base, keys)
    found = np.array(numbers, dtype=np.int64)
    same = (columns.stamps[found] == _as_stamps(stamps)).all(axis=1)
    # The very strings that were asked for: they are looked up again and again.
    good = replace(columns.take(found[same]), keys=list(itertools.compress(there, same.tolist())))
    if len(good.keys) == len(keys):
        return good, []
    known = set(good.keys)
    return good, [key for key in keys if key not in known]


def _looked_at(
    columns: Columns, base: str, keys: Sequence[str]
) -> tuple[list[str], list[int], list[int]]:
    """Runs that are in the index, where they are, and four numbers each that their file has now."""
    where = dict(zip(columns.keys, range(len(columns.keys)), strict=True))
    slots, end = columns.slots.tolist(), f"/{records.RUN_RECORD}"
    there: list[str] = []
    numbers: list[int] = []
    stamps: list[int] = []
    stat = os.stat  # this loop is most of what a large table that is up to date costs
    for key in keys:
        number = where.get(key)
        if number is None:
            continue
        try:
            slot = slots[number]
            now = stat(f"{base}/{key}{end}") if slot == 0 else _attempt(base, key, slot)
        except OSError:
            continue
        if now is not None:
            there.append(key)
            numbers.append(number)
            stamps += (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)
    return there, numbers, stamps


def _as_stamps(flat: list[int]) -> Ints:
    try:
        return np.array(flat, dtype=np.int64).reshape(-1, 4)
    except OverflowError:
        return np.array([value & scan.MASK for value in flat], dtype=np.int64).reshape(-1, 4)


def _attempt(base: str, key: str, slot: int) -> os.stat_result | None:
    """Stat of the record in an attempt's folder, None where another record speaks for the run."""
    for number, file in scan.candidates(base, key):
        try:
            now = Path(file).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return now if number == slot else None
    return None
