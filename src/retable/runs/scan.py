"""Read and check records for tables, very many in as many processes as there are cores.

Every record passes the checks of :func:`retable.runs.records.parse`. What is kept of it afterwards
is one entry per column: most records of a table agree in everything but their numbers.
"""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from retable.runs import records
from retable.runs.record_check import accepted
from retable.runs.records import Record, RecordError

Place = tuple[str, str | None, int | None]
"""Where a number stands in a record: metric, result row, step. A row of None is none of the
results: the validation metrics of the epoch that was tested."""

Stamp = tuple[int, int, int, int]
"""Size, mtime, ctime (both in ns) and inode of a file: whatever changes it changes one of them."""

MASK = 2**63 - 1
"""Mask of the bits of a number that enter a stamp: inodes of some file systems use all 64."""

PARALLEL = 8000
"""Records from which on processes of their own are worth their start."""

_CHUNK = 500
_AT_ONCE = 1 << 16  # bytes; a record has fewer than 20,000


class About(NamedTuple):
    """Facts that very many records have in common: their code and circumstances."""

    fingerprint: str
    device: str
    threads: int
    workers: int
    commit: str | None
    dirty: bool
    cpu: str
    accelerator: str | None
    torch: str
    day: str
    pulled: bool

    @classmethod
    def of(cls, record: Record) -> About:
        """That of one record."""
        where = record.provenance
        return cls(
            record.fingerprint,
            records.device_of(record),
            record.threads,
            record.workers,
            where.commit,
            bool(where.dirty),
            where.cpu,
            where.accelerator,
            where.torch,
            record.started[:10],
            record.pulled is not None,
        )


@dataclass
class Rows:
    """Values read from the records that speak for some runs, an entry for each.

    Attributes:
        keys: of the runs that have a record.
        slots: 0 for the run's own record, else the number of the attempt whose it is.
        stamps: of the file; None where it has to be looked at again the next time, because it is
            unusual, or because another one was skipped.
        statuses: how the run ended.
        wall_s: seconds that it took.
        about: position in ``abouts``.
        abouts: code and circumstances, each once.
        values: at the places that were asked for; NaN where the record has no number.
        warnings: of the records that were skipped.
    """

    keys: list[str] = field(default_factory=list[str])
    slots: list[int] = field(default_factory=list[int])
    stamps: list[Stamp | None] = field(default_factory=list["Stamp | None"])
    statuses: list[str] = field(default_factory=list[str])
    wall_s: list[float] = field(default_factory=list[float])
    about: list[int] = field(default_factory=list[int])
    abouts: list[About] = field(default_factory=list[About])
    values: list[list[float]] = field(default_factory=list[list[float]])
    warnings: list[str] = field(default_factory=list[str])

    def add(
        self, key: str, record: Record, values: list[float], slot: int = 0, stamp: Any = None
    ) -> None:
        """Add what a record says."""
        about = About.of(record)
        # Of a chunk's records nearly all are as the last one.
        if about not in self.abouts[-1:]:
            self.abouts.append(about)
        self.keys.append(key)
        self.slots.append(slot)
        self.stamps.append(stamp)
        self.statuses.append(record.status.value)
        self.wall_s.append(record.wall_s)
        self.about.append(len(self.abouts) - 1)
        self.values.append(values)


def stamp_of(stat: os.stat_result) -> Stamp:
    """Stamp that tells a file from what it was before."""
    return (
        stat.st_size,
        stat.st_mtime_ns & MASK,
        stat.st_ctime_ns & MASK,
        stat.st_ino & MASK,
    )


def value_at(record: Record, place: Place) -> float:
    """A record's number at a place; NaN where there is none that is finite."""
    metric, row, step = place
    value = record.validation.get(metric) if row is None else record.value(metric, row, step)
    return math.nan if value is None or not math.isfinite(value) else value


def candidates(base: str, key: str) -> Iterator[tuple[int, str]]:
    """Slots and files in the order in which :func:`retable.runs.records.read_run` looks at them."""
    yield 0, f"{base}/{key}/{records.RUN_RECORD}"
    for folder in records.attempts(Path(base, key)):
        yield int(folder.name), str(folder / records.RUN_RECORD)


def read(base: str, keys: Sequence[str], places: Sequence[Place]) -> Rows:
    """Read the records that speak for some runs, as :func:`retable.runs.records.read_run` does.

    Args:
        base: folder that the runs' folders are in.
        keys: of the runs.
        places: of the numbers that are wanted.
    """
    rows, wanted = Rows(), _Wanted(places)
    for key in keys:
        before = len(rows.warnings)
        for slot, file in candidates(base, key):
            try:
                found = _fast(file, key, wanted) or _plainly(file, places)
            except RecordError as error:
                rows.warnings.append(f"{error}; skipped")
                continue
            if found is not None:
                record, values, stamp = found
                clean = len(rows.warnings) == before
                rows.add(key, record, values, slot, stamp if clean else None)
                break
    return rows


_Found = tuple[Record, list[float], Stamp | None]


def _plainly(file: str, places: Sequence[Place]) -> _Found | None:
    record = records.read(Path(file))
    if record is None:
        return None
    return record, [value_at(record, place) for place in places], None


def _fast(file: str, key: str, wanted: _Wanted) -> _Found | None:
    """A record as nearly all are; None for anything else, which is then looked at closely."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(handle, _AT_ONCE)
            # After reading: what changes the file later gives it another stamp.
            stamp = stamp_of(os.fstat(handle))
        finally:
            os.close(handle)
    except OSError:
        return None
    record = accepted(data)
    if record is None or record.key != key:
        return None
    return record, wanted.of(record), stamp if len(data) == stamp[0] else None


class _Wanted:
    """Finds the numbers at some places in one pass over a record's results."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places
        self.metrics = {metric for metric, row, _ in places if row is not None}
        self.numbers = {place: number for number, place in enumerate(places)}

    def of(self, record: Any) -> list[float]:
        """The numbers at the places, as :func:`value_at` gives them."""
        metrics, numbers = self.metrics, self.numbers
        values = [math.nan] * len(self.places)
        for result in [r for r in record.results if r.metric in metrics]:
            number = numbers.get((result.metric, result.result_row, result.step))
            if number is not None and math.isnan(values[number]):  # the first of its place counts
                values[number] = result.value
        for number, (metric, row, step) in enumerate(self.places):
            if math.isnan(values[number]) and (row is None or (row == "" and step is None)):
                values[number] = record.validation.get(metric, math.nan)
        return values


def read_all(
    base: str, keys: Sequence[str], places: Sequence[Place], tell: Callable[[int], None]
) -> Iterator[Rows]:
    """As :func:`read`, chunk by chunk; very many in processes of their own.

    Args:
        base: folder that the runs' folders are in.
        keys: of the runs.
        places: of the numbers that are wanted.
        tell: called with how many runs have been read.
    """
    chunks = [keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK)]
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or len(keys) < PARALLEL:
        for number, chunk in enumerate(chunks):
            tell(number * _CHUNK)
            yield read(base, chunk, places)
        return
    count = min(cores, len(chunks))
    with _helpers(count, base, places) as ask, ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(ask, chunk) for chunk in chunks]
        try:
            for number, future in enumerate(futures):
                tell(number * _CHUNK)
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _helpers(
    count: int, base: str, places: Sequence[Place]
) -> Generator[Callable[[Sequence[str]], Rows]]:
    """Processes that read records; where one fails, this one does its work."""
    command = [sys.executable, "-P", "-m", "retable.runs.scan"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
    started: list[subprocess.Popen[bytes]] = []

    def ask(keys: Sequence[str]) -> Rows:
        process = idle.get()
        try:
            rows = None if process is None else _ask(process, [base, places, keys])
            if rows is None:
                process = None
            return rows or read(base, keys, places)
        finally:
            idle.put(process)

    try:
        for _ in range(count):
            process = _start(command, environment)
            started += [process] if process else []
            idle.put(process)
        yield ask
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes] | None:
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        return subprocess.Popen(  # noqa: S603
            command, stdin=pipe, stdout=pipe, stderr=nothing, env=environment
        )
    except OSError:
        return None


def _ask(process: subprocess.Popen[bytes], question: list[Any]) -> Rows | None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        content = json.loads(process.stdout.readline())
        content["abouts"] = [About(*about) for about in content["abouts"]]
        content["stamps"] = [None if stamp is None else tuple(stamp) for stamp in content["stamps"]]
        return Rows(**content)
    except (OSError, ValueError, TypeError, KeyError):  # it died, or is something else
        return None


def serve() -> None:
    """Answer questions of :func:`read_all`, one a line, until there are no more."""
    for line in sys.stdin.buffer:
        base, places, keys = json.loads(line)
        rows = read(base, keys, [tuple(place) for place in places])
        sys.stdout.buffer.write(json.dumps(vars(rows)).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
