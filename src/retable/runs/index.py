"""Index of what a table's records said when they were last read, one file per table; derived.

A record is taken from here only where its file still has the size, the times and the inode that it
had when it was read; any other is read again. So the index can be deleted, or be overwritten with
anything, at any time: it costs time and never shows what the files do not say. It is no cache of
files that were written less than two seconds before they were read: the next change could leave
them with the same times. On a network file system a change made on another machine shows as soon
as that system's attribute cache lets `stat` see it, seconds in most cases.

The file is a checksum, a line that says what it is, and the columns as NumPy's ``.npz``.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import secrets
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retable.runs import record_check, records, scan
from retable.runs.records import Status
from retable.runs.scan import About, Place, Rows
from retable.util.atomic import write_atomic

FOLDER = "_index"
"""Below the folder of all runs; no paper can have this name."""

STATUSES = list(Status)
_SETTLED_NS = 2_000_000_000
_FORMAT = 1
_SLOTS = 2**31  # an attempt's number in a folder's name may have any number of digits
_ARRAYS = ("slots", "stamps", "statuses", "wall_s", "about", "values")
_HOUR = 3600.0
_KEY = 64  # letters

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """:class:`retable.runs.scan.Rows` of any number of records, as arrays.

    Attributes:
        keys: of the runs.
        slots: 0 for the run's own record, the attempt's number, or -1 where it is to be looked for.
        stamps: (n, 4); zeros where there is none.
        statuses: positions in :data:`STATUSES`.
        wall_s: seconds.
        about: positions in ``abouts``.
        values: (n, places); NaN where the record has no number.
        abouts: code and circumstances.
        places: of the numbers in ``values``.
    """

    keys: list[str]
    slots: Ints
    stamps: Ints
    statuses: Ints
    wall_s: NDArray[np.float64]
    about: Ints
    values: NDArray[np.float64]
    abouts: list[About]
    places: list[Place]

    @classmethod
    def of(cls, rows: Rows, places: Sequence[Place]) -> Columns:
        """Columns of the rows that were read."""
        n = len(rows.keys)
        known = {status.value: number for number, status in enumerate(STATUSES)}
        nothing = (0, 0, 0, 0)
        return cls(
            keys=rows.keys,
            slots=np.array([slot if slot < _SLOTS else -1 for slot in rows.slots], dtype=np.int64),
            stamps=np.array([s or nothing for s in rows.stamps], dtype=np.int64).reshape(n, 4),
            statuses=np.array([known[status] for status in rows.statuses], dtype=np.int64),
            wall_s=np.array(rows.wall_s, dtype=np.float64),
            about=np.array(rows.about, dtype=np.int64),
            values=np.array(rows.values, dtype=np.float64).reshape(n, len(places)),
            abouts=rows.abouts,
            places=list(places),
        )

    @classmethod
    def empty(cls, places: Sequence[Place]) -> Columns:
        """Of no record."""
        return cls.of(Rows(), places)

    def arrays(self) -> dict[str, Any]:
        """The columns that are arrays, by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def take(self, numbers: Ints) -> Columns:
        """Some of the records."""
        keys = [self.keys[number] for number in numbers.tolist()]
        arrays = {name: array[numbers] for name, array in self.arrays().items()}
        return Columns(keys=keys, abouts=self.abouts, places=self.places, **arrays)

    def at(self, places: Sequence[Place]) -> Columns:
        """With some of the numbers only."""
        numbers = [self.places.index(place) for place in places]
        return replace(self, values=self.values[:, numbers], places=list(places))

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """All records of several, of the same places."""
        known: dict[About, int] = {}
        about: list[Ints] = []
        for part in parts:
            numbers = [known.setdefault(a, len(known)) for a in part.abouts]
            about.append(np.array(numbers, dtype=np.int64)[part.about])
        arrays: dict[str, Any] = {
            name: np.concatenate([part.arrays()[name] for part in parts]) for name in _ARRAYS
        }
        arrays["about"] = np.concatenate(about)
        keys = [key for part in parts for key in part.keys]
        return cls(keys=keys, abouts=list(known), places=parts[0].places, **arrays)


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
        if bytes(data[:65]) != _seal(data[65:]):
            return None
        body = io.BytesIO(data[65:])
        head = json.loads(body.readline())
        known = [tuple(place) for place in head["places"]]
        if head["code"] != _code() or not set(places) <= set(known):
            return None
        with np.load(io.BytesIO(body.read()), allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
            text = stored["keys"].tobytes().decode("ascii")
        keys = [text[i : i + _KEY] for i in range(0, len(text), _KEY)]
        abouts = [About(*about) for about in head["abouts"]]
        return Columns(keys=keys, abouts=abouts, places=known, **arrays)
    # With the right checksum it is as somebody wrote it; whoever that was, it is no index of ours.
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ):
        return None


def save(file: Path, columns: Columns) -> None:
    """Write an index, atomically.

    Raises:
        OSError: where it cannot be written.
    """
    head = {"code": _code(), "places": columns.places, "abouts": columns.abouts}
    body = io.BytesIO()
    body.write(json.dumps(head).encode() + b"\n")
    keys = np.frombuffer("".join(columns.keys).encode("ascii"), dtype=np.uint8)
    np.savez(body, keys=keys, **columns.arrays())
    data = body.getvalue()
    write_atomic(file, _seal(data) + data)


def _seal(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"\n"


@cache
def _code() -> str:
    """Digest of the code that decides how a record is read; an index of other code is invalid."""
    import msgspec
    import pydantic

    digest = hashlib.sha256(f"{_FORMAT} {pydantic.VERSION} {msgspec.__version__}".encode())
    for module in (scan, record_check, records):
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


def clock(file: Path) -> int | None:
    """The time that the file system of an index has, in ns; None where none can be written there.

    Makes its folder, and clears away what writers left that were killed.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        probe = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
        probe.touch()
        now = probe.stat().st_mtime_ns
        probe.unlink()
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
