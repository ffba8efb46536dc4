"""The only engine: give it frozen runs, and it does those that have no good record."""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from retable.launch.checks import check_together, workers_of, written_into
from retable.launch.error_messages import line_of
from retable.launch.forkserver_client import Ended, Forkserver
from retable.launch.postmortem import failure, first_line, holds, newest
from retable.launch.progress import Progress
from retable.launch.worker import Exit, republish
from retable.runs import frozen, provenance, records, snapshot
from retable.runs.attempts import Launched
from retable.runs.frozen import FrozenRun
from retable.runs.lease import is_held
from retable.runs.records import Record, Status
from retable.tracking.wandb_mode import Followed
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.launch.slurm.submit import Orders

_WAIT_FOR_OTHERS_S = 2.0


@dataclass
class Summary:
    """Outcome of a launch. ``failed`` holds each failed run with the first line of its error.

    On a cluster, ``queued`` were submitted now and ``already`` are being seen to by others.
    """

    done: int = 0
    skipped: int = 0
    diverged: int = 0
    failed: list[tuple[FrozenRun, str]] = field(default_factory=list[tuple[FrozenRun, str]])
    interrupted: int = 0
    elsewhere: int = 0
    stopped: bool = False
    queued: int = 0
    already: int = 0

    @classmethod
    def of(cls, parts: Sequence[Summary]) -> Summary:
        """One summary of several launches."""
        return cls(
            done=sum(p.done for p in parts),
            skipped=sum(p.skipped for p in parts),
            diverged=sum(p.diverged for p in parts),
            failed=[f for p in parts for f in p.failed],
            interrupted=sum(p.interrupted for p in parts),
            elsewhere=sum(p.elsewhere for p in parts),
            stopped=any(p.stopped for p in parts),
            queued=sum(p.queued for p in parts),
            already=sum(p.already for p in parts),
        )

    @property
    def ok(self) -> bool:
        """Whether nothing has gone wrong so far."""
        return not (self.failed or self.diverged or self.interrupted or self.stopped)

    @property
    def pending(self) -> bool:
        """Whether runs are left to a cluster, so that there are no results yet."""
        return bool(self.queued or self.already)


def is_settled(record: Record | None, *, retry_diverged: bool = False) -> bool:
    """Whether a run needs no further attempt: done, or diverged unless that is retried."""
    if record is None:
        return False
    return record.status is Status.DONE or (record.status is Status.DIVERGED and not retry_diverged)


def warn(text: str) -> None:
    """A warning, on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def launch(
    runs: Sequence[FrozenRun],
    *,
    retry_diverged: bool = False,
    label: Callable[[FrozenRun], str] = lambda run: run.label,
    orders: Orders | None = None,
    before: Callable[[], None] = lambda: None,
) -> Summary:
    """Do every run that has no good record; one that fails never stops the others.

    Ctrl-C tells the running ones to leave at the end of their epoch and waits ``grace_s``; a
    second one kills them. Both leave everything resumable. With ``launcher=slurm`` the runs are
    put into the queue of a cluster instead.

    Args:
        runs: frozen runs; the same key twice is done once.
        retry_diverged: start diverged runs again as well.
        label: what the progress display calls a run.
        orders: what a cluster's launcher is told besides.
        before: done once it is clear that there is something to do, before any of it is.

    Raises:
        UserError: before anything is written, where the runs cannot be launched together.
    """
    unique = list({run.key: run for run in runs}.values())
    if not unique:
        return Summary()
    check_together(unique)
    summary = Summary()
    todo: deque[FrozenRun] = deque()
    took: list[tuple[FrozenRun, float]] = []
    for run in unique:
        record, broken = None, list[str]()
        with suppress(OSError):  # what cannot be read will not be written either, and then fails
            record = records.read_run(run.folder, broken.append)
        for text in broken:
            warn(text)
        if not is_settled(record, retry_diverged=retry_diverged):
            todo.append(run)
            continue
        summary.skipped += 1
        assert record is not None
        if record.status is Status.DONE:
            took.append((run, record.wall_s))
        lost = broken or not (run.folder / records.RUN_RECORD).exists()
        if record.status is Status.DONE and lost:
            with suppress(OSError, UserError):  # what was found there has been said
                republish(run)
    if todo:
        before()
    if todo and todo[0].config.launcher.name == "slurm":
        from retable.launch.slurm import submit

        Followed(todo).settle(_say, on_nodes=True)
        submit.launch(list(todo), summary, _expected(took), label, orders or submit.Orders())
    elif todo:
        _Engine(todo, summary, label).go()
    return summary


def _expected(took: Sequence[tuple[FrozenRun, float]]) -> Callable[[FrozenRun], float | None]:
    """Seconds that a run takes, by those of its setting, else of the launch, that are done."""
    known: dict[str, list[float]] = {}
    for run, seconds in took:
        known.setdefault(run.keys([0])[0], []).append(seconds)
    means = {setting: fmean(seconds) for setting, seconds in known.items()}
    rest = fmean(seconds for _, seconds in took) if took else None
    return lambda run: means.get(run.keys([0])[0], rest)


class _Engine:
    def __init__(
        self, todo: deque[FrozenRun], summary: Summary, label: Callable[[FrozenRun], str]
    ) -> None:
        self.todo = todo
        self.summary = summary
        self.label = label
        self.config = todo[0].config
        self.workers = min(workers_of(todo[0]), len(todo))
        self.waiting: deque[FrozenRun] = deque()
        self.stop_at: float | None = None
        self.interrupts = 0
        self.followed = Followed(todo)
        self.said: dict[str, str] = {}

    def go(self) -> None:
        runs_folder = Path(self.config.paths.runs)
        targets = sorted({target for run in self.todo for target in run.targets})
        with ExitStack() as stack:
            source = None
            if self.config.launcher.snapshot:
                with written_into(runs_folder):
                    source = snapshot.make(runs_folder, targets)
            self.progress = stack.enter_context(
                Progress(len(self.todo), shown=self.config.progress)
            )
            # Ctrl-C before a run has started: leave.
            self.server = stack.enter_context(Forkserver(targets, source))
            if refused := self.server.refusal(list(self.todo)):
                raise UserError(f"{self.label(refused[0])}: {refused[1]}")
            with written_into(runs_folder):
                launched = Launched(provenance.collect(runs_folder), self.workers)
            self.followed.settle(self.progress.say)
            previous = signal.signal(signal.SIGINT, self._interrupt)
            try:
                self._loop(launched)
            finally:
                signal.signal(signal.SIGINT, previous)
            self.followed.report(self.progress.say)

    def _interrupt(self, *_: object) -> None:
        self.interrupts += 1

    def _loop(self, launched: Launched) -> None:
        look_again = 0.0
        while True:
            self._heed_interrupts()
            if self.stop_at is None:
                while self.todo and self.server.busy < self.workers:
                    self._start(self.todo.popleft(), launched)
                if not self.todo and self.waiting and time.monotonic() >= look_again:
                    look_again = time.monotonic() + _WAIT_FOR_OTHERS_S
                    self._look_at_others()
            if not self.server.busy and (
                self.stop_at is not None or not (self.todo or self.waiting)
            ):
                return
            if self.server.busy:
                for ended in self.server.wait(0.5):
                    self._settle(ended)
            else:
                time.sleep(0.2)
            self.progress.update(
                self.summary,
                [self.label(r) for r in self.server.running.values()],
                len(self.waiting),
            )

    def _start(self, run: FrozenRun, launched: Launched) -> None:
        try:
            frozen.write(self.followed.frozen(run))
        except OSError as error:
            self._fail(run, f"{run.folder}: cannot be written ({error.strerror})")
            return
        self.server.start(run, launched)

    def _heed_interrupts(self) -> None:
        if not self.interrupts:
            return
        if self.stop_at is None:
            self.summary.stopped = True
            grace = self.config.launcher.grace_s
            self.progress.say(
                f"stopping: runs may finish their epoch for {grace:g} s; Ctrl-C again ends them now"
            )
            self.stop_at = time.monotonic() + grace
            self.server.signal_all(signal.SIGTERM)
        if self.interrupts > 1 or time.monotonic() > self.stop_at:
            self.server.signal_all(signal.SIGKILL)

    def _settle(self, ended: Ended) -> None:
        summary, run = self.summary, ended.run
        match ended.code:
            case Exit.DONE if (run.folder / records.RUN_RECORD).exists():
                summary.done += not ended.elsewhere
                summary.elsewhere += ended.elsewhere
                self.progress.finished()
            case Exit.INTERRUPTED if ended.elsewhere and not holds(ended):
                self.waiting.append(run)
            case Exit.INTERRUPTED if newest(run, Status.INTERRUPTED):
                summary.interrupted += 1
            case Exit.LEASED if not holds(ended):
                self.waiting.append(run)
            case Exit.DIVERGED if record := newest(run, Status.DIVERGED):
                summary.diverged += 1
                self.progress.say(f"diverged: {self.label(run)}: {first_line(run, record)}")
                self.progress.finished()
            case _ if self.stop_at is not None and ended.code < 0:
                summary.interrupted += 1
            case _:
                self._fail(run, failure(ended, self.workers))

    def _fail(self, run: FrozenRun, message: str) -> None:
        self.summary.failed.append((run, message))
        name, reason = self.label(run), message.partition(f" ({run.folder}")[0]
        # What holds for every run of a table, such as a file that is not there, is said once.
        first = self.said.setdefault(reason, name)
        self.progress.say(f"failed: {name}: {message if first == name else f'as {first}'}")
        self.progress.finished()

    def _look_at_others(self) -> None:
        """Runs held by another runner: done by now, free again, or still going."""
        for _ in range(len(self.waiting)):
            run = self.waiting.popleft()
            try:
                held = is_held(run.folder, self.config.launcher.lease_s)
                record = None if held else records.read_run(run.folder, lambda _: None)
            except OSError as error:
                self._fail(run, line_of(error, run.folder))
                continue
            if held:
                self.waiting.append(run)
                continue
            if is_settled(record):
                self.summary.elsewhere += 1
                self.progress.finished()
            else:
                self.todo.append(run)
