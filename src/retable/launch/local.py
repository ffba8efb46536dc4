"""Runs of a launch, done on this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from retable.config.schema import PathsConfig
from retable.data.fetch import DataUnavailable
from retable.launch.checks import workers_of, written_into
from retable.launch.error_messages import line_of
from retable.launch.forkserver_client import Ended, Forkserver
from retable.launch.pool import Pool
from retable.launch.postmortem import failure
from retable.launch.progress import Progress
from retable.launch.summary import Summary, Tally, Watch, is_settled
from retable.launch.turns import turn
from retable.runs import frozen, provenance, records, snapshot
from retable.runs.attempts import Launched
from retable.runs.frozen import FrozenRun
from retable.runs.records import Provenance, Record, Status
from retable.tracking.wandb_mode import Followed
from retable.util.errors import UserError
from retable.util.text import counted


def launch(
    runs: Sequence[FrozenRun],
    summary: Summary,
    label: Callable[[FrozenRun], str],
    watch: Watch | None = None,
) -> None:
    """Do runs of one launch here, each in a process of its own; the summary is told how they end.

    Where the first records show that others would not hold what is asked of them, those are not
    started.

    Raises:
        UserError: before any has started, where they are refused.
    """
    config = runs[0].config
    folder = Path(config.paths.runs)
    targets = sorted({target for run in runs for target in run.targets})
    followed = Followed(runs)
    with ExitStack() as stack:
        source = about = None
        code = provenance.code(targets)
        if config.launcher.snapshot:
            with written_into(folder):
                source, about = snapshot.make(folder, targets), provenance.collect(folder, targets)
            provenance.refuse_changed(code, targets)
        progress = stack.enter_context(Progress(len(runs), shown=config.progress))
        # Ctrl-C before a run has started: leave.
        server = stack.enter_context(Forkserver(targets, source))
        if refused := server.refusal(runs):
            raise UserError(f"{label(refused[0])}: {refused[1]}")
        if about is None:
            with written_into(folder):
                about = provenance.collect(folder, targets)
            provenance.refuse_changed(code, targets)
        followed.settle(progress.say)
        tally = Tally(summary, progress, label)
        for part, launched in _parts(runs, about):
            if summary.stopped:
                break
            with _turn(config.paths, alone=launched.alone, say=progress.say):
                pool = Local(part, launched, tally, followed, watch)
                previous = signal.signal(signal.SIGINT, pool.interrupt)
                try:
                    pool.keep_going(server)
                finally:
                    signal.signal(signal.SIGINT, previous)
        if summary.unstarted:
            progress.say(
                f"not started: {counted(summary.unstarted, 'run')}, asked for nothing but that;"
                " what is finished is kept: correct the name, and run the same command again"
            )
        followed.report(progress.say)


def _parts(
    runs: Sequence[FrozenRun], about: Provenance
) -> Iterator[tuple[list[FrozenRun], Launched]]:
    """What runs side by side, then what measures time, one after another."""
    timed = {run.key for run in runs if run.config.launcher.alone}
    timed |= {run.key for run in runs if any(above.key in timed for above in run.chain)}
    if together := [run for run in runs if run.key not in timed]:
        yield together, Launched(about, min(workers_of(together[0]), len(together)))
    if timed:
        yield [run for run in runs if run.key in timed], Launched(about, 1, alone=True)


@contextmanager
def _turn(directories: PathsConfig, *, alone: bool, say: Callable[[str], None]) -> Generator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(turn(Path(directories.cache), alone=alone, say=say))
        except OSError as error:
            if alone:
                reason = line_of(error, Path(directories.cache).absolute())
                raise UserError(f"paths.cache: no launch can be alone here: {reason}") from None
        yield


_NO_DATA = f"{DataUnavailable.__name__}: "


class Local(Pool):
    """The runs of a launch; Ctrl-C stops it, and a second one ends its runs at once."""

    def __init__(
        self,
        runs: Sequence[FrozenRun],
        launched: Launched,
        tally: Tally,
        followed: Followed,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(runs, launched)
        self.tally, self.followed, self.watch = tally, followed, watch
        self.interrupts = 0
        self._stop_at = 0.0
        self._said: dict[str, str] = {}

    def interrupt(self, *_: object) -> None:
        """Handle Ctrl-C."""
        self.interrupts += 1

    def _heed(self) -> None:
        running = [self.tally.label(run) for run in self.server.running.values()]
        self.tally.progress.update(self.tally.summary, running, len(self.waiting))
        if not self.interrupts:
            return
        if not self.stopping:
            self.tally.summary.stopped = True
            grace = self.launcher.grace_s
            self.tally.progress.say(
                f"stopping: runs may finish their epoch for {grace:g} s; Ctrl-C again ends them now"
            )
            self._stop_at = time.monotonic() + grace
        patient = self.interrupts == 1 and time.monotonic() <= self._stop_at
        self.stop(signal.SIGTERM, patient=patient)

    def _may_start(self, run: FrozenRun) -> bool:
        watch, others = self.watch, chain(self.todo, self.waiting)
        if watch and (watch.is_in_vain(run) or watch.is_for_nothing(run, others)):
            self.tally.left_out()
            return False
        try:
            frozen.write(self.followed.frozen(run))
        except OSError as error:
            self._fail(run, f"{run.folder}: cannot be written ({error.strerror})")
            return False
        return True

    def _is_over(self, run: FrozenRun) -> bool:
        return is_settled(records.read_run(run.folder, lambda _: None))

    def _unreadable(self, run: FrozenRun, error: OSError) -> None:
        self._fail(run, line_of(error, run.folder))

    def _done(self, run: FrozenRun, *, elsewhere: bool) -> None:
        self.tally.done(elsewhere=elsewhere)
        for text in self.watch.told(run) if self.watch else ():
            self.tally.progress.say(text)

    def _blocked(self, run: FrozenRun, reason: str) -> None:
        if self.watch and self.watch.is_in_vain(run):
            self.tally.left_out()  # nor was what it starts from
        else:
            self.tally.blocked(run, reason)

    def _ended(self, ended: Ended, record: Record | None) -> None:
        if record is not None and record.status is Status.DIVERGED:
            self.tally.diverged(ended.run, record)
        elif record is not None or (self.stopping and ended.code < 0):
            self.tally.summary.interrupted += 1
        else:
            message = failure(ended, self.launched)
            self._fail(ended.run, message)
            if message.startswith(_NO_DATA):
                self._drop(ended.run, message)

    def _drop(self, failed: FrozenRun, message: str) -> None:
        """Do not start what reads the same data, which cannot be had."""
        reason = message.partition(f" ({failed.folder}")[0]
        for run in [run for run in self.todo if run.config.data == failed.config.data]:
            self.todo.remove(run)
            self._fail(run, reason)

    def _fail(self, run: FrozenRun, message: str) -> None:
        name, reason = self.tally.label(run), message.partition(f" ({run.folder}")[0]
        # What holds for every run of a table, such as a file that is not there, is said once.
        first = self._said.setdefault(reason, name)
        self.tally.failed(run, message, said=None if first == name else f"as {first}")
