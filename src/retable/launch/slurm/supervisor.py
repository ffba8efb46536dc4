"""Keep the runs of a task going, a few at a time, until they have ended or the job has to leave."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from retable.launch.error_messages import line_of
from retable.launch.forkserver_client import Ended, Forkserver
from retable.launch.forkserver_server import TERMINATED, TIME_LIMIT
from retable.launch.postmortem import failure, first_line, give_up, holds, newest, record_death
from retable.launch.slurm.signals import Told
from retable.launch.slurm.submission import Entry
from retable.launch.slurm.task_history import Past, barren, put_in_place, standing
from retable.launch.worker import Exit
from retable.runs import records
from retable.runs.attempts import Launched
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Lease, is_held
from retable.runs.records import RecordError, Status
from retable.util.errors import UserError

_WAIT_FOR_OTHERS_S = 2.0
_SUSPENSE_S = 1.0
"""A process that ends before its time is not judged at once: the whole job may be ending."""

Say = Callable[..., None]


@dataclass(frozen=True)
class Work:
    """A run of the task, as it was frozen."""

    entry: Entry
    run: FrozenRun


class Supervisor:
    """Supervises the runs of a job: those that run, those that wait and those that have ended.

    Args:
        works: the runs to be done.
        runs: folder of all runs.
        launched: provenance, and runs at once.
        past: what earlier starts of the job have seen.
        told: what SLURM says to the job.
        say: writes an event.

    Attributes:
        left: runs that are still to be done.
        ok: whether none of them failed, diverged or was refused.
    """

    def __init__(
        self,
        works: Sequence[Work],
        runs: Path,
        launched: Launched,
        past: Past,
        told: Told,
        say: Say,
    ) -> None:
        self.left = {str(work.run.folder.absolute()): work for work in works}
        self.ok = True
        self._todo = deque(works)
        self._waiting: deque[Work] = deque()
        self._suspects: list[tuple[float, Work, Ended]] = []
        self._runs, self._launched, self._past, self._say = runs, launched, past, say
        self._told = told
        self._launcher = works[0].run.config.launcher
        self._stopping = False
        self._look_again = 0.0

    def go(self, source: Path | None) -> None:
        """Do the runs.

        Args:
            source: folder put first on the module path; the checkout's own where None.

        Raises:
            UserError: where the process that starts the runs cannot be started.
            TooEarly: where the job was told to leave before that.
        """
        targets = {target for work in self.left.values() for target in work.run.targets}
        self._told.look_at_clock()
        with ExitStack() as stack:
            with self._told.raising():  # nothing has begun that would have to be ended
                server = Forkserver(sorted(targets), source, supervised=True)
                self._server = stack.enter_context(server)
            while self._go_on():
                if self._server.busy:
                    for ended in self._server.wait(0.5):
                        self._settle(self.left[str(ended.run.folder.absolute())], ended)
                else:
                    time.sleep(0.2)

    def _go_on(self) -> bool:
        self._told.look_at_clock()
        if self._told.why is not None:
            self._stop()
        self._judge()
        if not self._stopping:
            while self._todo and self._server.busy < self._launched.workers:
                self._start(self._todo.popleft())
            if not self._todo and self._waiting and time.monotonic() >= self._look_again:
                self._look_again = time.monotonic() + _WAIT_FOR_OTHERS_S
                self._look_at_others()
        more = not self._stopping and bool(self._todo or self._waiting)
        return bool(self._server.busy or self._suspects) or more

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._say("stopping", why=self._told.why)
            # The step's processes have it from SLURM already; whoever signals this one alone
            # means them too.
            limit = self._told.why == "time limit"
            self._server.signal_all(TIME_LIMIT if limit else TERMINATED)
        if time.time() > self._told.patience(self._launcher.grace_s):
            self._server.signal_all(signal.SIGKILL)

    def _start(self, work: Work) -> None:
        count = barren(self._runs, work.entry)
        if count >= self._launcher.max_attempts:
            self.give_up(work, f"{count} attempts in a row without a new epoch")
        else:
            self._server.start(work.run, self._launched)

    def give_up(self, work: Work, reason: str) -> None:
        """Leave a run alone for good, with a record that says why."""
        with suppress(OSError, RecordError):
            give_up(work.run, reason, self._launched)
        self._end(work, "gave up", ok=False, error=reason)

    def _settle(self, work: Work, ended: Ended) -> None:
        run = work.run
        match ended.code:
            case Exit.DONE if (run.folder / records.RUN_RECORD).exists():
                self._done(work, elsewhere=ended.elsewhere)
            case Exit.INTERRUPTED if ended.elsewhere and not holds(ended):
                self._waiting.append(work)
            case Exit.LEASED if not holds(ended):
                self._waiting.append(work)
            case Exit.INTERRUPTED if record := (
                newest(run, Status.INTERRUPTED) or newest(run, Status.TIMEOUT)
            ):
                self._interrupted(work, record.status, record.error)
                self._suspect(work, ended)
            case Exit.DIVERGED if record := newest(run, Status.DIVERGED):
                line = first_line(run, record)
                self._end(work, "ended", ok=False, status=Status.DIVERGED, error=line)
            case Exit.REFUSED:
                self._end(work, "refused", ok=False, error=ended.error or "the reason is above")
            case _:
                self._suspect(work, ended)

    def _done(self, work: Work, *, elsewhere: bool) -> None:
        try:
            put_in_place(self._runs, work.entry)
        except (UserError, OSError) as error:
            line = str(error) if isinstance(error, UserError) else line_of(error, self._runs)
            self._end(work, "ended", ok=False, status=Status.FAILED, error=line)
        else:
            more = {"elsewhere": True} if elsewhere else {}
            self._end(work, "ended", status=Status.DONE, error=None, **more)

    def _fail(self, work: Work, ended: Ended) -> None:
        line = failure(ended, self._launched.workers, self._launched.provenance)
        self._end(work, "ended", ok=False, status=Status.FAILED, error=line)

    def _end(self, work: Work, event: str, *, ok: bool = True, **about: object) -> None:
        self.ok = self.ok and ok
        del self.left[str(work.run.folder.absolute())]
        self._say(event, run=work.entry.folder, **about)

    def _interrupted(self, work: Work, status: Status, error: str | None) -> None:
        self._say("ended", run=work.entry.folder, status=status, error=error)

    def _drop(self, work: Work, ended: Ended) -> None:
        """The epoch that a killed run was in is lost; nothing else is."""
        limit = self._told.why == "time limit"
        status = Status.TIMEOUT if limit else Status.INTERRUPTED
        error = f"{'stopped before the time limit' if limit else 'terminated'} within an epoch"
        launched = self._launched
        with suppress(OSError, RecordError):
            record_death(ended, error, launched.workers, launched.provenance, status)
            # Nobody on another node can see that its process is dead, and would have to wait.
            if holds(ended) and (lease := Lease.acquire(work.run.folder, self._launcher.lease_s)):
                lease.release()
        self._interrupted(work, status, error)

    def _suspect(self, work: Work, ended: Ended) -> None:
        self._suspects.append((time.monotonic() + _SUSPENSE_S, work, ended))

    def _judge(self) -> None:
        """Decide what becomes of runs that ended before their time, a moment later."""
        for suspect in [s for s in self._suspects if time.monotonic() > s[0]]:
            self._suspects.remove(suspect)
            _, work, ended = suspect
            match ended.code:
                case code if code < 0 and standing(self._runs, work.entry, self._past) == "done":
                    self._done(work, elsewhere=False)
                case Exit.INTERRUPTED if self._stopping:
                    pass
                case Exit.INTERRUPTED:  # somebody has told this process alone
                    self._todo.append(work)
                case code if code < 0 and self._stopping:
                    self._drop(work, ended)
                case code if code == -signal.SIGALRM:  # told alone too, and it took too long
                    self._drop(work, ended)
                    self._todo.append(work)
                case code if code == -signal.SIGKILL:
                    self._killed(work, ended)
                case _:
                    self._fail(work, ended)

    def _killed(self, work: Work, ended: Ended) -> None:
        folder = work.entry.folder
        self._past.killed[folder] += 1
        self._say("killed", run=folder)
        if self._past.killed[folder] > 1:
            self._fail(work, ended)
        else:
            failure(ended, self._launched.workers, self._launched.provenance)
            self._todo.append(work)

    def _look_at_others(self) -> None:
        """Runs held by another runner: done by now, free again, or still going."""
        for _ in range(len(self._waiting)):
            work = self._waiting.popleft()
            held = True
            with suppress(OSError):
                held = is_held(work.run.folder, self._launcher.lease_s)
            if held:
                self._waiting.append(work)
            elif standing(self._runs, work.entry, self._past) == "done":
                self._done(work, elsewhere=True)
            else:
                self._todo.append(work)
