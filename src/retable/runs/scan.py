"""Read records for tables, very many in as many processes as there are cores."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from retable.runs import history_points, records
from retable.runs.columns import NO_STAMP, Columns, Entry, Place, Stamp
from retable.runs.records import Record, RecordError

MASK = 2**63 - 1
"""Mask of the bits of a number that enter a stamp: inodes of some file systems use all 64."""

PARALLEL = 8000
"""Records from which on processes of their own are worth their start."""

_CHUNKS = 2
"""Parts of the work for each core: so many are started one after another, and told of."""


def stamp_of(stat: os.stat_result) -> Stamp:
    """Stamp that tells a file from what it was before."""
    return (
        stat.st_size,
        stat.st_mtime_ns & MASK,
        stat.st_ctime_ns & MASK,
        stat.st_ino & MASK,
    )


def value_at(record: Record, place: Place, history: Sequence[history_points.Row] = ()) -> float:
    """A run's number at a place; NaN where there is none that is finite."""
    metric, row, step = place
    if history_points.of_history(place):
        value = history_points.value_in(history, place)
    elif row is None or isinstance(step, str):
        value = record.validation.get(metric)
    else:
        value = record.value(metric, row, step)
    return math.nan if value is None or not math.isfinite(value) else value


def candidates(base: str, key: str) -> Iterator[tuple[int, str]]:
    """Slots and files in the order in which :func:`retable.runs.records.read_run` looks at them."""
    yield 0, f"{base}/{key}/{records.RUN_RECORD}"
    for folder in records.attempts(Path(base, key)):
        yield int(folder.name), str(folder / records.RUN_RECORD)


def read(base: str, keys: Sequence[str], places: Sequence[Place]) -> Columns:
    """Read the records that speak for some runs, as :func:`retable.runs.records.read_run` does.

    Args:
        base: folder that the runs' folders are in.
        keys: of the runs.
        places: of the numbers that are wanted.
    """
    entries: list[Entry] = []
    warnings: list[str] = []
    wanted = _Wanted(places)
    for key in keys:
        before = len(warnings)
        for slot, file in candidates(base, key):
            try:
                found = records.read_with_stat(file)
            except RecordError as error:
                warnings.append(f"{error}; skipped")
                continue
            if found is not None:
                record, stat = found
                clean = len(warnings) == before
                stamp = stamp_of(stat) if stat and clean else NO_STAMP
                asked = bool(wanted.history)
                rows = history_points.rows_of_run(Path(base, key), record) if asked else ()
                values = wanted.of(record, rows)
                entries.append(Entry.of(record, values, slot, stamp))
                break
    return Columns.of(entries, places, warnings)


class _Wanted:
    """Finds the numbers at some places in one pass over a record's results, and the history."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places
        self.metrics = {metric for metric, row, _ in places if row is not None}
        self.numbers = {place: number for number, place in enumerate(places)}
        self.history = [place for place in places if history_points.of_history(place)]

    def of(self, record: Record, history: Sequence[history_points.Row] = ()) -> list[float]:
        """The numbers at the places, as :func:`value_at` gives them."""
        metrics, numbers = self.metrics, self.numbers
        values = [math.nan] * len(self.places)
        for result in [r for r in record.results if r.metric in metrics]:
            number = numbers.get((result.metric, result.result_row, result.step))
            if number is not None and math.isnan(values[number]):  # the first of its place counts
                values[number] = result.value
        for number, (metric, row, step) in enumerate(self.places):
            if math.isnan(values[number]) and step is None and not row:
                values[number] = record.validation.get(metric, math.nan)
        for place in self.history:
            values[numbers[place]] = value_at(record, place, history)
        return values


def read_all(
    base: str, keys: Sequence[str], places: Sequence[Place], tell: Callable[[int], None]
) -> Columns:
    """As :func:`read`; very many in processes of their own.

    Those are started by hand because `multiprocessing` imports the caller's script in each, which
    may launch runs.

    Args:
        base: folder that the runs' folders are in.
        keys: of the runs.
        places: of the numbers that are wanted.
        tell: called with how many runs have been read.
    """
    cores = len(os.sched_getaffinity(0))
    alone = cores == 1 or len(keys) < PARALLEL
    ask = partial(read if alone else _ask, base, places=places)
    size = -(-max(len(keys), 1) // (_CHUNKS * cores))
    chunks = [keys[i : i + size] for i in range(0, len(keys), size)]
    parts = [Columns.of([], places)]
    with ThreadPoolExecutor(1 if alone else cores) as pool:
        try:
            for part in pool.map(ask, chunks):
                parts.append(part)
                tell(min(size * len(parts[1:]), len(keys)))
        finally:
            pool.shutdown(cancel_futures=True)
    return Columns.joined(parts)


def _ask(base: str, keys: Sequence[str], places: Sequence[Place]) -> Columns:
    """As :func:`read`, in another process; where that fails, here."""
    command = [sys.executable, "-P", "-m", "retable.runs.scan"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    question = json.dumps([base, keys, places]).encode()
    try:
        answer = subprocess.run(  # noqa: S603
            command, input=question, capture_output=True, env=environment, check=True
        )
        return Columns.unpacked(answer.stdout)
    except subprocess.CalledProcessError as error:
        if error.returncode == -signal.SIGINT:  # Ctrl-C reaches it too: nothing more is wanted
            raise KeyboardInterrupt from None
    except (OSError, ValueError):
        pass
    return read(base, keys, places)


def main() -> None:
    """Answer the question of :func:`_ask` on stdin."""
    base, keys, places = json.load(sys.stdin.buffer)
    columns = read(base, keys, [tuple(place) for place in places])
    sys.stdout.buffer.write(columns.packed())


if __name__ == "__main__":
    main()
