"""What tables need of very many records, as arrays: most agree in everything but their numbers."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retable.runs import stretches
from retable.runs.records import Record, Status, device_of

Place = tuple[str, str | None, int | str | None]
"""Where a number of a run stands: metric, result row, step. A row of None is none of the results:
the validation metrics of the epoch that was tested, and with a step the history at that epoch
(:mod:`retable.runs.history_points`)."""

Stamp = tuple[int, int, int, int]
"""Size, mtime, ctime (both in ns) and inode of a file: whatever changes it changes one of them."""

NO_STAMP: Stamp = (0, 0, 0, 0)
STATUSES = list(Status)

_ARRAYS = ("slots", "stamps", "statuses", "wall_s", "about", "left", "began", "values")
_SLOTS = 2**31  # an attempt's number in a folder's name may have any number of digits

Ints = NDArray[np.int64]


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
    alone: bool
    roots: str
    begun: str

    @classmethod
    def of(cls, record: Record) -> About:
        """That of one record."""
        where = record.provenance
        return cls(
            record.fingerprint,
            device_of(record),
            record.threads,
            record.workers,
            where.commit,
            bool(where.dirty),
            where.cpu,
            where.accelerator,
            where.torch,
            record.started[:10],
            record.pulled is not None,
            record.alone and all(one.alone for one in record.earlier),
            ", ".join(root.shown for root in where.roots),
            "; ".join(stretches.told(record)),
        )


class Entry(NamedTuple):
    """What is kept of one record.

    Attributes:
        key: of its run.
        slot: 0 for the run's own record, else the number of the attempt whose it is.
        stamp: of the file; :data:`NO_STAMP` where it has to be looked at again the next time,
            because it is unusual, or because another one was skipped.
        status: how the run ended.
        wall_s: seconds that it took.
        about: code and circumstances.
        left: :func:`bits_of` what the run has left for others to start from.
        began: the same of what it has started from itself; 0 for nothing.
        values: at the places that were asked for; NaN where the record has no number.
    """

    key: str
    slot: int
    stamp: Stamp
    status: Status
    wall_s: float
    about: About
    left: int
    began: int
    values: Sequence[float]

    @classmethod
    def of(
        cls, record: Record, values: Sequence[float], slot: int = 0, stamp: Stamp = NO_STAMP
    ) -> Entry:
        """That of one record."""
        began = record.started_from
        return cls(
            record.key,
            slot,
            stamp,
            record.status,
            record.wall_s,
            About.of(record),
            bits_of(record.weights_sha256, record.artifacts),
            0 if began is None else bits_of(began.weights_sha256, began.artifacts),
            values,
        )


def bits_of(weights_sha256: str | None, artifacts: Mapping[str, str]) -> int:
    """A number of 60 bits for weights and artefacts by their checksums."""
    text = f"{weights_sha256} {sorted(artifacts.items())}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


@dataclass(frozen=True)
class Columns:
    """Columns of any number of entries.

    Attributes:
        keys: of the runs.
        slots: of the entries, but -1 for one that is to be looked for.
        stamps: (n, 4).
        statuses: positions in :data:`STATUSES`.
        wall_s: seconds.
        about: positions in ``abouts``.
        left: as of the entries.
        began: as of the entries.
        values: (n, places); NaN where the record has no number.
        abouts: code and circumstances, each once.
        places: of the numbers in ``values``.
        warnings: of the records that were skipped while these were read.
    """

    keys: list[str]
    slots: Ints
    stamps: Ints
    statuses: Ints
    wall_s: NDArray[np.float64]
    about: Ints
    left: Ints
    began: Ints
    values: NDArray[np.float64]
    abouts: list[About]
    places: list[Place]
    warnings: list[str] = field(default_factory=list[str])

    @classmethod
    def of(
        cls, entries: Sequence[Entry], places: Sequence[Place], warnings: Sequence[str] = ()
    ) -> Columns:
        """Columns of some entries."""
        n = len(entries)
        known: dict[About, int] = {}
        numbers = {status: number for number, status in enumerate(STATUSES)}
        slots = [entry.slot if entry.slot < _SLOTS else -1 for entry in entries]
        return cls(
            keys=[entry.key for entry in entries],
            slots=np.array(slots, dtype=np.int64),
            stamps=np.array([entry.stamp for entry in entries], dtype=np.int64).reshape(n, 4),
            statuses=np.array([numbers[entry.status] for entry in entries], dtype=np.int64),
            wall_s=np.array([entry.wall_s for entry in entries], dtype=np.float64),
            about=np.array(
                [known.setdefault(entry.about, len(known)) for entry in entries], dtype=np.int64
            ),
            left=np.array([entry.left for entry in entries], dtype=np.int64),
            began=np.array([entry.began for entry in entries], dtype=np.int64),
            values=np.array([entry.values for entry in entries], dtype=np.float64).reshape(
                n, len(places)
            ),
            abouts=list(known),
            places=list(places),
            warnings=list(warnings),
        )

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
        warnings = [warning for part in parts for warning in part.warnings]
        return cls(
            keys=keys, abouts=list(known), places=parts[0].places, warnings=warnings, **arrays
        )

    def packed(self) -> bytes:
        """The columns in a line that says what they are, and NumPy's ``.npz``."""
        head = [self.places, self.abouts, self.warnings]
        body = io.BytesIO()
        body.write(json.dumps(head).encode() + b"\n")
        keys = np.frombuffer("\n".join(self.keys).encode(), dtype=np.uint8)
        np.savez(body, keys=keys, **self.arrays())
        return body.getvalue()

    @classmethod
    def unpacked(cls, data: bytes | memoryview) -> Columns:
        """The columns again that :meth:`packed` was called on.

        Raises:
            ValueError: for anything else.
        """
        try:
            body = io.BytesIO(data)
            places, abouts, warnings = json.loads(body.readline())
            with np.load(io.BytesIO(body.read()), allow_pickle=False) as stored:
                arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
                text = stored["keys"].tobytes().decode()
            return cls(
                keys=text.split("\n") if text else [],
                abouts=[About(*about) for about in abouts],
                places=[tuple(place) for place in places],
                warnings=warnings,
                **arrays,
            )
        except (EOFError, LookupError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(str(error)) from None
