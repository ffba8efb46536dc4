"""`--wait`: follow submitted runs until each has ended, as a local launch would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep

from retable.launch.postmortem import first_line
from retable.launch.progress import Progress
from retable.launch.slurm.client import Unreachable
from retable.launch.slurm.open_jobs import Queue, QueuedTask, queue_of
from retable.launch.slurm.transaction import name_of
from retable.launch.summary import Summary, Tally
from retable.runs import records, starts
from retable.runs.frozen import FrozenRun
from retable.runs.lease import FILE as LEASE
from retable.runs.lease import is_held
from retable.runs.records import Record, Status

_FIRST_S = 1.0
_MOST_S = 15.0
_REASONS = ("gave up", "refused")


def wait(
    own: Sequence[FrozenRun],
    others: Sequence[FrozenRun],
    folder: Path,
    summary: Summary,
    label: Callable[[FrozenRun], str],
) -> None:
    """Wait until nobody is going to do any of the runs any more; Ctrl-C leaves the jobs alone.

    Args:
        own: submitted just now.
        others: in the queue already, or held by another runner.
        folder: of all runs.
        summary: told how they have ended.
        label: what a run is called.
    """
    runs = [*own, *others]
    if not runs:
        return
    with Progress(len(runs), shown=runs[0].config.progress) as progress:
        try:
            tally = Tally(summary, progress, label)
            _Wait({run.key for run in own}, folder, tally).go(runs)
        except KeyboardInterrupt:
            summary.stopped = True
            progress.say("no longer waiting; the jobs go on: `retable status` shows them")
            return
    summary.queued = summary.already = 0


class _Wait:
    def __init__(self, own: set[str], folder: Path, tally: Tally) -> None:
        self.own, self.folder, self.tally = own, folder, tally
        self.progress = tally.progress
        self.places: dict[str, QueuedTask] = {}  # where a run was seen last

    def go(self, runs: Sequence[FrozenRun]) -> None:
        left = {run.key: run for run in runs}
        pause, silent = _FIRST_S, False
        while True:
            try:
                queue = queue_of(self.folder)
            except Unreachable as error:  # it is restarted now and then, and the jobs go on
                if not silent:
                    self.progress.say(f"warning: {error}; waiting for it")
                silent = True
            else:
                silent = False
                # The records after the queue: a run may end in between.
                for run in [run for run in left.values() if self._has_ended(run, queue)]:
                    self._settle(left.pop(run.key))
                self.progress.update(self.tally.summary, self._running(left), 0)
            if not left:
                return
            sleep(pause)
            pause = min(pause * 1.3, _MOST_S)

    def _running(self, left: dict[str, FrozenRun]) -> list[str]:
        states = {key: self.places[key].queued.state for key in left if key in self.places}
        return [self.tally.label(left[key]) for key, state in states.items() if state == "RUNNING"]

    def _has_ended(self, run: FrozenRun, queue: Queue) -> bool:
        place = queue.where(name_of(run, self.folder))
        if place is not None:
            self.places[run.key] = place
        if (run.folder / records.RUN_RECORD).exists():
            return True  # its job may have others to do yet
        if place is not None:
            return False
        held = (run.folder / LEASE).exists() and is_held(run.folder, run.config.launcher.lease_s)
        return not held

    def _settle(self, run: FrozenRun) -> None:
        record = records.read_run(run.folder, self.progress.say)
        if record is not None and record.attempt <= self._before(run):
            record = None  # of an earlier launch: this one has come to nothing
        match record.status if record else None:
            case Status.DONE:
                self.tally.done(elsewhere=run.key not in self.own)
            case Status.DIVERGED:
                assert record is not None
                self.tally.diverged(run, record)
            case Status.INTERRUPTED | Status.TIMEOUT:
                self.tally.summary.interrupted += 1
                self.progress.finished()
            case None if reason := starts.obstacle(run):
                self.tally.blocked(run, reason)
            case _:
                self.tally.failed(run, self._reason(run, record))

    def _before(self, run: FrozenRun) -> int:
        """Attempts that the run had when it was submitted."""
        place = self.places.get(run.key)
        if place is None:
            return 0
        entries = place.submission.tasks(place.array).tasks[place.task]
        name = name_of(run, self.folder)
        return next((entry.before for entry in entries if entry.folder == name), 0)

    def _reason(self, run: FrozenRun, record: Record | None) -> str:
        """Why a run has failed, as far as its record or its job says."""
        if record is not None:
            return first_line(run, record)
        place = self.places.get(run.key)
        if place is None:
            return "its job left no record; `retable status` may know more"
        submission, name = place.submission, name_of(run, self.folder)
        for event in reversed(submission.events(place.array, place.task)):
            if event.get("run") == name and event.get("event") in _REASONS:
                return str(event.get("error") or event["event"])
        if (place.array, place.task) in submission.cancelled():
            return "cancelled"
        log = submission.folder / "log" / f"{place.array}-{place.task}.txt"
        return f"its job left no record ({log})"
