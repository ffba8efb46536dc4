"""One attempt at one run: lease, attempt folder, resume, execute, record.

``python -m retable.launch.job DIR`` executes the frozen run in DIR.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from retable import records
from retable.errors import UserError
from retable.identity import fingerprint, targets_of
from retable.launch import frozen
from retable.launch.lease import Lease
from retable.records import Provenance, Record, ResultRow, Status


class Exit(IntEnum):
    """How a job's process ends; what the supervising parent reads."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    DIVERGED = 3
    INTERRUPTED = 4
    LEASED = 5


@dataclass(frozen=True)
class Launched:
    """What a launcher gives to all of its jobs."""

    provenance: Provenance
    workers: int = 1


@dataclass
class _Attempt:
    """What is known of an attempt while it goes on."""

    folder: Path
    number: int
    run: frozen.FrozenRun
    launched: Launched
    started: str
    wall: float
    resumed: int | None = None

    def record(self, status: Status, error: str | None = None) -> Record:
        """A record of this attempt with everything but results."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        config = self.run.config
        return Record(
            key=self.run.key,
            paper=config.paper,
            experiment=config.experiment,
            protocol=config.protocol,
            seed=config.seed,
            config=frozen.recorded(config),
            status=status,
            error=error and without_home(error)[:2000],
            attempt=self.number,
            resumed_from_epoch=self.resumed,
            started=self.started,
            wall_s=round(time.monotonic() - self.wall, 3),
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            peak_memory_mb=round(usage.ru_maxrss / 1024, 1),
            device=config.device.accelerator,
            threads=config.device.threads,
            workers=self.launched.workers,
            fingerprint=self.run.fingerprint,
            provenance=self.launched.provenance,
        )


def without_home(text: str) -> str:
    """A message as it may be published: without the name of somebody's home."""
    home = os.environ.get("HOME", "").rstrip("/")
    return text.replace(home, "~") if home else text


def verify_code(run: frozen.FrozenRun) -> None:
    """Refuse where the code differs from what the run was frozen for."""
    config = run.config
    now = fingerprint(targets_of([config.data, config.model, config.callbacks]))
    if now != run.fingerprint:
        raise UserError(
            f"{run.folder}: the code changed since launch (fingerprint {run.fingerprint[:12]},"
            f" now {now[:12]}); launch it again"
        )


def perform(folder: Path, launched: Launched, stop: threading.Event | None = None) -> Exit:
    """Attempt the frozen run in a folder.

    Args:
        folder: the run's folder, with its ``config.yaml``.
        launched: provenance of the launch.
        stop: set when the run should leave at the end of its epoch.

    Raises:
        UserError: where config or code are not what was frozen.
    """
    run = frozen.read(folder)
    verify_code(run)
    lease = Lease.acquire(folder, run.config.launcher.lease_s)
    if lease is None:
        return Exit.LEASED
    try:
        if _published(folder):
            return Exit.DONE
        return _attempt(folder, run, launched, lease, stop or threading.Event())
    finally:
        lease.release()


def _published(folder: Path) -> bool:
    """Whether the run has a record that can be read; a broken one is set aside.

    An attempt that was killed between writing its record and publishing it is published now.
    """
    path = folder / records.RUN_RECORD
    try:
        if records.read(path) is not None:
            return True
    except records.NewerRecord as error:
        raise UserError(str(error)) from None
    except records.RecordError as error:
        print(f"{error}; set aside", file=sys.stderr)
        path.rename(path.with_name(f"{path.name}.broken-{time.time_ns()}"))
    for attempt in records.attempts(folder):
        try:
            record = records.read(attempt / records.RUN_RECORD)
        except records.RecordError:
            continue
        if record is not None and record.status is Status.DONE:
            records.publish(attempt / records.RUN_RECORD, folder)
            return True
    return False


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


def _attempt(
    folder: Path,
    run: frozen.FrozenRun,
    launched: Launched,
    lease: Lease,
    stop: threading.Event,
) -> Exit:
    previous = records.attempts(folder)
    path = new_attempt(folder)
    attempt = _Attempt(
        path,
        int(path.name),
        run,
        launched,
        datetime.now(UTC).isoformat(timespec="seconds"),
        time.monotonic(),
    )
    with _log_to(path / "log.txt"):
        record, exit_code = _execute(
            attempt, previous, lambda: stop.is_set() or lease.lost.is_set()
        )
        try:
            written = records.write_attempt(path, record)
        except records.RecordError as error:
            record, exit_code = attempt.record(Status.FAILED, str(error)), Exit.FAILED
            written = records.write_attempt(path, record)
        if record.error:
            print(record.error, file=sys.stderr)
        if record.status is Status.DONE and not records.publish(written, folder):
            print("the run already has a record; this one stays with its attempt", file=sys.stderr)
        return exit_code


def _execute(
    attempt: _Attempt, previous: list[Path], should_stop: Callable[[], bool]
) -> tuple[Record, Exit]:
    # Late, so that a job that has nothing to do does not pay for torch.
    from retable import run as runner
    from retable.resume import find_resume

    run = attempt.run
    device = resolved_device(run.config.device.accelerator)
    identity = {"key": run.key, "fingerprint": run.fingerprint, "device": device}
    history = attempt.folder / "history.jsonl"

    def on_epoch(rows: list[dict[str, float]]) -> None:
        records.write_atomic(history, records.history_text(rows))

    try:
        set_threads(run.config.device.threads)
        resume = find_resume(previous, identity, lambda text: print(text, file=sys.stderr))
        if resume is not None:
            attempt.resumed = resume.epoch
            print(f"resuming after {resume.epoch} epochs from {resume.path}", file=sys.stderr)
        context = runner.Context(attempt.folder, identity, resume, should_stop, on_epoch)
        outcome = runner.execute(run.config.model_dump(mode="json"), context)
    except runner.Diverged as error:
        return attempt.record(Status.DIVERGED, str(error)), Exit.DIVERGED
    except runner.Interrupted as error:
        return attempt.record(Status.INTERRUPTED, str(error)), Exit.INTERRUPTED
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and should_stop():
            # SIGTERM came while Lightning's own handler was in place, which ends the process.
            return attempt.record(Status.INTERRUPTED, "stopped"), Exit.INTERRUPTED
        text = traceback.format_exc()
        (attempt.folder / "traceback.txt").write_text(text, encoding="utf-8")
        message = f"{type(error).__name__}: {error}".strip()
        print(text, file=sys.stderr)
        return attempt.record(Status.FAILED, message), Exit.FAILED
    text = records.history_text(outcome.history)
    if outcome.history:
        records.write_atomic(history, text)
    base = attempt.record(Status.DONE)
    return base.model_copy(
        update={
            "results": [
                ResultRow(result_row=r.row, metric=r.metric, step=r.step, value=r.value)
                for r in outcome.results
            ],
            "timing_metrics": outcome.timing_metrics,
            "weights_sha256": outcome.weights_sha256,
            "history_sha256": records.text_sha256(text) if outcome.history else None,
            "device": outcome.device,
            "best_epoch": outcome.best_epoch,
        }
    ), Exit.DONE


def resolved_device(accelerator: str) -> str:
    """Device type that Lightning will choose."""
    import torch

    if accelerator == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return "cuda"


def set_threads(threads: int) -> None:
    """Pin the threads of torch and of the BLAS libraries that are loaded."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


class _log_to:  # noqa: N801 - used as a function
    """Send everything the process prints, from C too, to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.saved = os.dup(1), os.dup(2)
        target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, number in zip(self.saved, (1, 2), strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def stop_on_sigterm(grace_s: float | None = None) -> threading.Event:
    """Event that SIGTERM sets: leave at the end of the epoch.

    Args:
        grace_s: seconds after which a process that has not left is ended; None: never.
    """
    stop = threading.Event()

    def handle(*_: object) -> None:
        if grace_s is not None and not stop.is_set():
            signal.setitimer(signal.ITIMER_REAL, grace_s)  # SIGALRM, which nobody handles
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    return stop


def main() -> int:
    """Execute the frozen run of the folder named on the command line."""
    from retable import provenance

    if len(sys.argv) != 2:
        print("usage: python -m retable.launch.job DIR", file=sys.stderr)
        return Exit.REFUSED
    folder = Path(sys.argv[1]).absolute()
    stop = stop_on_sigterm()

    def interrupt(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends it at once

    signal.signal(signal.SIGINT, interrupt)
    try:
        return perform(folder, Launched(provenance.collect(folder.parents[1])), stop)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return Exit.REFUSED


def launched_json(launched: Launched) -> str:
    """Text of a launch's facts, for another process."""
    return json.dumps({"provenance": launched.provenance.model_dump(), "workers": launched.workers})


def launched_from(text: str) -> Launched:
    """Facts of a launch from their text."""
    content = json.loads(text)
    return Launched(Provenance(**content["provenance"]), content["workers"])


if __name__ == "__main__":
    sys.exit(main())
