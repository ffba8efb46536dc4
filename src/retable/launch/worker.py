"""One attempt at one run: lease, attempt folder, resume, execute, record.

``python -m retable.launch.worker DIR`` executes the frozen run in DIR.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

from msgspec.structs import replace

from retable.launch import multiprocess
from retable.launch.error_messages import line_of
from retable.launch.process_setup import (
    StopSign,
    log_to,
    resolved_device,
    set_threads,
    stop_on_sigterm,
    without_gpus,
)
from retable.runs import frozen, records, starts, stretches
from retable.runs.artifacts import write_artifacts
from retable.runs.attempts import Attempt, Launched, identity_of, new_attempt
from retable.runs.history import FILE as HISTORY
from retable.runs.history import history_text, validation
from retable.runs.identity import fingerprint
from retable.runs.lease import Lease
from retable.runs.records import Record, ResultRow, Status
from retable.tracking.tracker import Tracker
from retable.util.errors import UserError
from retable.util.log import log as to_stderr
from retable.util.redact import scrub


class Exit(IntEnum):
    """Exit code of a job's process; what the supervising parent reads."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    DIVERGED = 3
    INTERRUPTED = 4
    LEASED = 5


@dataclass(frozen=True)
class Ending:
    """End of a job, with what neither its exit code nor a record says.

    Attributes:
        code: the exit code.
        elsewhere: the run has been done, or is being done, by another runner.
        error: why there is no record, in one line.
    """

    code: Exit
    elsewhere: bool = False
    error: str | None = None


def refuse_changed_code(run: frozen.FrozenRun) -> None:
    """Refuse where the code differs from what the run was frozen for."""
    now = fingerprint(run.targets)
    if now != run.fingerprint:
        raise UserError(
            f"{run.folder}: the code changed since launch (fingerprint {run.fingerprint[:12]},"
            f" now {now[:12]}); launch it again, with launcher.snapshot=true"
            " to go on editing"
        )


def perform(folder: Path, launched: Launched, stop: threading.Event | None = None) -> Exit:
    """Attempt the frozen run in a folder; see :func:`attempt`."""
    ending = attempt(folder, launched, stop)
    if ending.error:
        print(f"error: {ending.error}", file=sys.stderr)
    return ending.code


def attempt(folder: Path, launched: Launched, stop: threading.Event | None = None) -> Ending:
    """Attempt the frozen run in a folder.

    Args:
        folder: the run's folder, with its ``config.yaml``.
        launched: provenance of the launch.
        stop: set when the run should leave at the end of its epoch.

    Raises:
        UserError: where config or code are not what was frozen.
    """
    run = frozen.read(folder)
    refuse_changed_code(run)
    if reason := starts.obstacle(run):
        raise UserError(reason)
    try:
        lease = Lease.acquire(folder, run.config.launcher.lease_s)
        if lease is None:
            return Ending(Exit.LEASED)
        try:
            if _published(folder):
                return Ending(Exit.DONE, elsewhere=True)
            return _attempt(folder, run, launched, lease, stop or threading.Event())
        finally:
            lease.release()
    except OSError as error:
        # Where a run cannot write, it cannot leave a record of that either.
        return Ending(Exit.FAILED, error=line_of(error, folder))


def republish(run: frozen.FrozenRun) -> None:
    """Publish the whole record of an attempt where the run's own is broken or missing."""
    lease = Lease.acquire(run.folder, run.config.launcher.lease_s)
    if lease is None:
        return
    try:
        _published(run.folder)
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


def _attempt(
    folder: Path,
    run: frozen.FrozenRun,
    launched: Launched,
    lease: Lease,
    stop: threading.Event,
) -> Ending:
    previous = records.attempts(folder)
    path = new_attempt(folder)
    attempt = Attempt(
        path,
        int(path.name),
        run,
        launched,
        datetime.now(UTC).isoformat(timespec="seconds"),
        time.monotonic(),
    )

    def should_stop() -> bool:
        if not (folder / frozen.FILE).exists():
            gone = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, gone, str(folder / frozen.FILE))
        return in_a_hurry()

    def in_a_hurry() -> bool:
        return stop.is_set() or lease.lost.is_set()

    with log_to(path / "log.txt"), Tracker(attempt, in_a_hurry) as tracker:
        record, exit_code = _execute(attempt, previous, should_stop, tracker)
        elsewhere = exit_code is Exit.INTERRUPTED and lease.lost.is_set()
        if elsewhere:
            error = f"{record.error}: another runner has taken the run over"
            record = replace(record, error=error)
        elif exit_code is Exit.INTERRUPTED and isinstance(stop, StopSign) and stop.time_limit:
            error = f"{record.error}, before the time limit"
            record = replace(record, status=Status.TIMEOUT, error=error)
        if exit_code is Exit.FAILED:
            _drop_halves(path)
        try:
            written = records.write_attempt(path, record)
        except records.RecordError as error:
            record, exit_code = attempt.record(Status.FAILED, str(error)), Exit.FAILED
            written = records.write_attempt(path, record)
        except OSError as error:
            if exit_code is not Exit.FAILED:
                raise
            log(line_of(error, folder))
            return Ending(exit_code, error=record.error)  # the first reason is the better one
        if record.error:
            log(record.error)
        if record.status is Status.DONE and not records.publish(written, folder):
            log("the run already has a record; this one stays with its attempt")
            elsewhere = True
        return Ending(exit_code, elsewhere)


def log(text: str) -> None:
    """A line for the attempt's log, as it may be shown to anybody."""
    to_stderr(scrub(text))


def _drop_halves(attempt: Path) -> None:
    """Remove what could not be written whole: on a full disk the record needs the space."""
    with suppress(OSError):
        for path in attempt.glob("checkpoints/*.tmp"):
            path.unlink()


def _seconds_of(attempt: Path) -> float:
    """What an attempt has recorded that it took; 0 where it was killed before it could."""
    try:
        record = records.read(attempt / records.RUN_RECORD)
    except records.RecordError:
        return 0.0
    return 0.0 if record is None else record.wall_s


def _execute(
    attempt: Attempt, previous: list[Path], should_stop: Callable[[], bool], tracker: Tracker
) -> tuple[Record, Exit]:
    # Late, so that a job that has nothing to do does not pay for torch.
    from retable.training import execute as runner
    from retable.training.checkpointing import find_resume

    run = attempt.run
    history = attempt.folder / HISTORY

    def on_epoch(rows: list[dict[str, float]], _checkpoint: Path, _epoch: int) -> None:
        records.write_atomic(history, history_text(rows))
        tracker.epoch()

    try:
        with multiprocess.Leader(attempt.folder, run.config.device.devices, should_stop) as leader:
            set_threads(run.config.device.threads)
            device = resolved_device(run.config.device.accelerator)
            begins = starts.read_start(run)
            identity: dict[str, object] = {**identity_of(run, device)}
            if begins is not None:
                # What another start has begun is not gone on with: the parent was done again.
                identity["start"] = [begins[1].weights_sha256, begins[1].artifacts]
            resume = find_resume(previous, identity, log)
            if resume is not None:
                attempt.resumed = resume.epoch
                attempt.before_s = _seconds_of(resume.path.parents[1])
                log(f"resuming after {resume.epoch} epochs from {resume.path}")
            elif any(list(folder.glob("checkpoints/*.ckpt")) for folder in previous):
                log("starting anew: no earlier checkpoint is whole and of this code and device")
            before = None if resume is None else resume.path.parents[1]
            attempt.earlier = stretches.begin(attempt.folder, attempt.stretch(), before)
            tracker.start(before)
            if begins is not None:
                log(f"starting from {begins[1].shown}")
            with leader.together(resume, device) as trainer:
                context = runner.Context(
                    attempt.folder,
                    identity,
                    resume,
                    leader.should_stop,
                    on_epoch,
                    trainer,
                    start=begins and begins[0],
                )
                with without_gpus(device):
                    outcome = runner.execute(run.config.model_dump(mode="json"), context)
        text = history_text(outcome.history)
        if outcome.history:
            records.write_atomic(history, text)
        artifacts = write_artifacts(attempt.folder, outcome.artifacts)
    except runner.Diverged as error:
        return attempt.record(Status.DIVERGED, str(error)), Exit.DIVERGED
    except runner.Interrupted as error:
        return attempt.record(Status.INTERRUPTED, str(error)), Exit.INTERRUPTED
    except multiprocess.Lost as error:
        return attempt.record(Status.FAILED, str(error)), Exit.FAILED
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and should_stop():
            # SIGTERM came while Lightning's own handler was in place, which ends the process.
            return attempt.record(Status.INTERRUPTED, "stopped"), Exit.INTERRUPTED
        text = scrub(traceback.format_exc())
        with suppress(OSError):
            (attempt.folder / "traceback.txt").write_text(text, encoding="utf-8")
        log(text)
        return attempt.record(Status.FAILED, line_of(error, run.folder)), Exit.FAILED
    return replace(
        attempt.record(Status.DONE),
        results=[
            ResultRow(result_row=r.row, metric=r.metric, step=r.step, value=r.value)
            for r in outcome.results
        ],
        timing_metrics=outcome.timing_metrics,
        weights_sha256=outcome.weights_sha256,
        history_sha256=records.text_sha256(text) if outcome.history else None,
        artifacts=artifacts,
        started_from=begins and begins[1],
        device=outcome.device,
        best_epoch=outcome.best_epoch,
        validation=validation(outcome.history, outcome.best_epoch),
    ), Exit.DONE


def main() -> int:
    """Execute the frozen run of the folder named on the command line."""
    from retable.runs import provenance

    if len(sys.argv) != 2:
        print("usage: python -m retable.launch.worker DIR", file=sys.stderr)
        return Exit.REFUSED
    folder = Path(sys.argv[1]).absolute()
    stop = stop_on_sigterm()

    def interrupt(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends it at once

    signal.signal(signal.SIGINT, interrupt)
    try:
        return perform(
            folder,
            Launched(provenance.collect(folder.parents[1], frozen.read(folder).targets)),
            stop,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return Exit.REFUSED
    except OSError as error:
        print(f"error: {line_of(error, folder)}", file=sys.stderr)
        return Exit.FAILED


if __name__ == "__main__":
    sys.exit(main())
