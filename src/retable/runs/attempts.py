"""Inputs and facts of an attempt: launch, folder, number, times."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from retable.runs import records
from retable.runs.frozen import FrozenRun, recorded
from retable.runs.record_parts import Stretch
from retable.runs.records import Provenance, Record, Status
from retable.util.redact import scrub


@dataclass(frozen=True)
class Launched:
    """Facts that a launcher passes to all of its jobs.

    Attributes:
        workers: runs at once.
        alone: the launcher sees to it that nothing runs beside a run.
    """

    provenance: Provenance
    workers: int = 1
    alone: bool = False


def launched_json(launched: Launched) -> str:
    """Text of a launch's facts, for another process."""
    return msgspec.json.encode(launched).decode()


def launched_from(text: str) -> Launched:
    """Facts of a launch from their text."""
    return msgspec.json.decode(text, type=Launched)


@dataclass
class Attempt:
    """Facts of an attempt while it goes on.

    Attributes:
        wall: clock at its start, in seconds.
        resumed: epochs that were done before it, where it goes on from another attempt.
        before_s: seconds that these attempts took, as far as they have left a record.
        earlier: what they were made under, where it was something else.
    """

    folder: Path
    number: int
    run: FrozenRun
    launched: Launched
    started: str
    wall: float
    resumed: int | None = None
    before_s: float = 0.0
    earlier: Sequence[Stretch] = ()

    def stretch(self) -> Stretch:
        """What its own epochs are computed under."""
        return Stretch(
            provenance=self.launched.provenance,
            threads=self.run.config.device.threads,
            workers=self.launched.workers,
            alone=self.launched.alone,
        )

    def record(self, status: Status, error: str | None = None) -> Record:
        """A record of this attempt with everything but results."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return bare_record(
            self.run,
            self.launched,
            self.number,
            status,
            started=self.started,
            error=error,
            resumed_from_epoch=self.resumed,
            earlier=self.earlier,
            wall_s=round(self.before_s + time.monotonic() - self.wall, 3),
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            peak_memory_mb=round(usage.ru_maxrss / 1024, 1),
        )


def bare_record(
    run: FrozenRun,
    launched: Launched,
    number: int,
    status: Status,
    *,
    started: str,
    error: str | None = None,
    resumed_from_epoch: int | None = None,
    earlier: Sequence[Stretch] = (),
    wall_s: float = 0,
    cpu_s: float = 0,
    peak_memory_mb: float = 0,
) -> Record:
    """Record of an attempt, living or dead, before any result; see :class:`Record`."""
    config = run.config
    return Record(
        key=run.key,
        paper=config.paper,
        experiment=config.experiment,
        protocol=config.protocol,
        seed=config.seed,
        config=recorded(config),
        status=status,
        error=error and scrub(error)[:2000],
        attempt=number,
        resumed_from_epoch=resumed_from_epoch,
        earlier=list(earlier),
        started=started,
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_memory_mb=peak_memory_mb,
        device=config.device.accelerator,
        threads=config.device.threads,
        devices=config.device.devices,
        workers=launched.workers,
        alone=launched.alone,
        fingerprint=run.fingerprint,
        provenance=launched.provenance,
    )


def identity_of(run: FrozenRun, device: str) -> dict[str, str]:
    """Identity that a checkpoint has to carry for a run to resume from it bit for bit.

    Args:
        run: the run.
        device: type of the device that it is done on now.
    """
    where = records.several(device, run.config.device.devices)
    return {"key": run.key, "fingerprint": run.fingerprint, "device": where}


def new_attempt(folder: Path) -> Path:
    """Make the folder of the next attempt."""
    base = folder / "attempts"
    base.mkdir(exist_ok=True)
    number = max((int(p.name) for p in records.attempts(folder)), default=0) + 1
    while True:
        path = base / str(number)
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return path
