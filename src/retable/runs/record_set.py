"""The records of some runs: as columns for what tables compute, one by one for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retable.runs import records, scan
from retable.runs.columns import STATUSES, About, Columns, Entry, Ints, Place
from retable.runs.frozen import FrozenRun
from retable.runs.history_points import Row, of_history
from retable.runs.records import Record, RecordError, Status
from retable.util.errors import UserError

_DONE = STATUSES.index(Status.DONE)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Circumstances:
    """Where some records come from, all together; each value once, in order.

    Attributes:
        runs: how many.
        wall_s: seconds that they took, summed.
        commits: None where a run was made outside of a repository.
        dirty: whether any was made with changes that were not committed.
        roots: code beside the project's, each with its state, in words.
        accelerators: of the runs on a CUDA device; None where its name is not known.
        threads: of one run.
        workers: runs at once.
        days: on which they started.
        begun: what was different where some of them began that went on elsewhere, in words.
    """

    runs: int
    wall_s: float
    commits: list[str | None]
    dirty: bool
    roots: list[str]
    cpus: list[str]
    accelerators: list[str | None]
    threads: list[int]
    workers: list[int]
    torch: list[str]
    days: list[str]
    begun: list[str]

    def joined(self, other: Circumstances) -> Circumstances:
        """Those of other runs as well."""
        both: dict[str, Any] = {
            name: sorted({*value, *getattr(other, name)}, key=lambda one: one or "")
            for name, value in asdict(self).items()
            if isinstance(value, list)
        }
        both |= {"runs": self.runs + other.runs, "wall_s": self.wall_s + other.wall_s}
        return replace(self, dirty=self.dirty or other.dirty, **both)


class Found(Mapping[str, Record]):
    """Records by the keys of their runs.

    One that was not kept in memory is read again when it is asked for, and refused where its file
    is not any more what the columns were read from.

    Attributes:
        columns: what is known of all records.
    """

    def __init__(
        self,
        columns: Columns,
        folders: Mapping[str, str],
        kept: Mapping[str, Record] | None = None,
    ) -> None:
        """Records as collected.

        Args:
            columns: what is known of all records.
            folders: by key, the folder that a run's own is in.
            kept: records that are in memory.
        """
        self.columns = columns
        self._folders = folders
        self._kept: Mapping[str, Record] = kept or {}
        self._numbers = dict(zip(columns.keys, range(len(columns.keys)), strict=True))

    @classmethod
    def of(
        cls,
        found: Mapping[str, Record],
        places: Sequence[Place] = (),
        history: Callable[[Record], Sequence[Row]] = lambda _: (),
    ) -> Found:
        """Any records with the numbers at some places; those that have them stay as they are.

        Args:
            found: the records.
            places: of the numbers.
            history: gives a run's history; asked only where some place is in it.
        """
        if isinstance(found, Found) and set(places) <= set(found.columns.places):
            return found
        asked = any(map(of_history, places))
        entries: list[Entry] = []
        for record in found.values():
            rows = history(record) if asked else ()
            entries.append(Entry.of(record, [scan.value_at(record, p, rows) for p in places]))
        return cls(replace(Columns.of(entries, places), keys=list(found)), {}, found)

    def numbers(self, keys: Iterable[str]) -> Ints:
        """Positions in the columns; -1 for a run that has no record."""
        known = self._numbers
        return np.array([known.get(key, -1) for key in keys], dtype=np.int64)

    def status_is(self, numbers: Ints, status: Status) -> Mask:
        """Which of some runs have a record that ended so."""
        return self._is(numbers, STATUSES.index(status))

    def done(self, numbers: Ints) -> Mask:
        """Which of some runs are finished."""
        return self._is(numbers, _DONE)

    def _is(self, numbers: Ints, status: int) -> Mask:
        if not self.columns.keys:
            return np.zeros(len(numbers), dtype=bool)
        return (numbers >= 0) & (self.columns.statuses[numbers] == status)

    def at(self, numbers: Ints, place: Place) -> NDArray[np.float64]:
        """Numbers of finished runs at a place; NaN elsewhere, and where there is none."""
        out = np.full(len(numbers), np.nan)
        done = self.done(numbers)
        out[done] = self.columns.values[numbers[done], self.columns.places.index(place)]
        return out

    def abouts(self, numbers: Ints) -> list[About]:
        """Code and circumstances of some runs that have a record, each once."""
        return [self.columns.abouts[n] for n in np.unique(self.columns.about[numbers])]

    def stale(self, setting: FrozenRun, seeds: Sequence[int], numbers: Ints | None = None) -> Mask:
        """Which of a setting's runs have a record that the present code might not give.

        It is of other code, or so is one up its chain, or the run that it starts from was done
        again and has left other bits than this one began with. Where there is no record of that
        run, nothing is said against it.

        Args:
            setting: frozen for the present code.
            seeds: of the runs.
            numbers: their positions, where they are known already.
        """
        if numbers is None:
            numbers = self.numbers(setting.keys(seeds))
        there = numbers >= 0
        out = np.zeros(len(numbers), dtype=bool)
        if not there.any():
            return out
        other = np.array([a.fingerprint != setting.fingerprint for a in self.columns.abouts])
        out[there] = other[self.columns.about[numbers[there]]]
        parent = setting.parent
        if parent is not None:
            out |= self.stale(parent, seeds)
            theirs = self.numbers(parent.keys(seeds))
            both = there & self.done(theirs)
            left, began = self.columns.left[theirs[both]], self.columns.began[numbers[both]]
            out[both] |= left != began
        return out & there

    def only(self, numbers: Ints) -> Found:
        """Some of the records, by their positions; each once, in order."""
        unique = np.unique(numbers)
        if len(unique) == len(self):
            return self
        return Found(self.columns.take(unique), self._folders, self._kept)

    def lost(self, numbers: Ints) -> Ints:
        """Positions of those of some runs that ended otherwise than done."""
        return numbers[(numbers >= 0) & ~self.done(numbers)]

    def circumstances(self) -> Circumstances:
        """Where all of them come from."""
        abouts = self.abouts(np.arange(len(self.columns.keys)))
        return Circumstances(
            runs=len(self.columns.keys),
            wall_s=float(sum(self.columns.wall_s.tolist())),
            commits=sorted({a.commit for a in abouts}, key=lambda commit: commit or ""),
            dirty=any(a.dirty for a in abouts),
            roots=sorted({a.roots for a in abouts} - {""}),
            cpus=sorted({a.cpu for a in abouts}),
            accelerators=sorted(
                {a.accelerator for a in abouts if a.device.startswith("cuda")},
                key=lambda name: name or "",
            ),
            threads=sorted({a.threads for a in abouts}),
            workers=sorted({a.workers for a in abouts}),
            torch=sorted({a.torch for a in abouts}),
            days=sorted({a.day for a in abouts}),
            begun=sorted({a.begun for a in abouts} - {""}),
        )

    def __getitem__(self, key: str) -> Record:
        number = self._numbers[key]
        return self._kept[key] if key in self._kept else self._read(key, number)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns.keys)

    def __len__(self) -> int:
        return len(self.columns.keys)

    def _read(self, key: str, number: int) -> Record:
        folder = Path(self._folders[key], key)
        slot, stamp = int(self.columns.slots[number]), self.columns.stamps[number]
        if slot < 0 or not stamp.any():  # an unusual one, to be looked for as always
            record = records.read_run(folder, lambda _: None)
        else:
            file = folder / "attempts" / str(slot) if slot else folder
            record = _unchanged(file / records.RUN_RECORD, tuple(stamp.tolist()))
        if record is None:
            raise UserError(f"{folder}: its record changed while it was collected; ask again")
        return record


def _unchanged(file: Path, stamp: tuple[int, ...]) -> Record | None:
    """A record, None where its file is not what it was."""
    try:
        found = records.read_with_stat(str(file))
    except RecordError:
        return None
    if found is None or found[1] is None or scan.stamp_of(found[1]) != stamp:
        return None
    return found[0]
