"""Do the runs of a task on its node, until they have ended or the job has to leave."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from retable.launch.error_messages import line_of
from retable.launch.forkserver_client import Ended, Forkserver
from retable.launch.forkserver_server import TERMINATED, TIME_LIMIT
from retable.launch.pool import Pool
from retable.launch.postmortem import failure, first_line, give_up, holds, record_death
from retable.launch.slurm.signals import Told
from retable.launch.slurm.submission import Entry
from retable.launch.slurm.task_history import Past, Standing, barren, put_in_place, standing
from retable.launch.worker import Exit
from retable.runs.attempts import Launched
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Lease
from retable.runs.records import Record, RecordError, Status
from retable.util.errors import UserError

_SUSPENSE_S = 1.0
"""A process that ends before its time is not judged at once: the whole job may be ending."""

Say = Callable[..., None]
Works = Sequence[tuple[Entry, FrozenRun]]
"""Runs of a task, as they were frozen."""


class Supervisor(Pool):
    """Supervises the runs of a job: those that run, those that wait and those that have ended.

    Args:
        works: the runs to be done.
        runs: folder of all runs.
        launched: provenance, and runs at once.
        past: what earlier starts of the job have seen.
        told: what SLURM says to the job.
        say: writes an event.

    Attributes:
        left: runs that are still to be done, by key.
        ok: whether none of them failed, diverged or was refused.
    """

    def __init__(
        self, works: Works, runs: Path, launched: Launched, past: Past, told: Told, say: Say
    ) -> None:
        super().__init__([run for _, run in works], launched)
        self.left = {run.key: run for _, run in works}
        self.ok = True
        self._entries = {run.key: entry for entry, run in works}
        self._suspects: list[tuple[float, Ended]] = []
        self._runs, self._past, self._told, self._say = runs, past, told, say

    def go(self, source: Path | None) -> None:
        """Do the runs.

        Args:
            source: folder put first on the module path; the checkout's own where None.

        Raises:
            UserError: where the process that starts the runs cannot be started.
            TooEarly: where the job was told to leave before that.
        """
        targets = {target for run in self.left.values() for target in run.targets}
        self._told.look_at_clock()
        with ExitStack() as stack:
            with self._told.raising():  # nothing has begun that would have to be ended
                server = Forkserver(sorted(targets), source, supervised=True)
                stack.enter_context(server)
            self.keep_going(server)

    def _heed(self) -> None:
        self._told.look_at_clock()
        if self._told.why is not None:
            if not self.stopping:
                self._say("stopping", why=self._told.why)
            # The step's processes have it from SLURM already; whoever signals this one alone
            # means them too.
            limit = self._told.why == "time limit"
            patient = time.time() <= self._told.patience(self.launcher.grace_s)
            self.stop(TIME_LIMIT if limit else TERMINATED, patient=patient)
        self._judge()

    def _under_way(self) -> list[FrozenRun]:
        return [*super()._under_way(), *(ended.run for _, ended in self._suspects)]

    @property
    def _unsettled(self) -> bool:
        return super()._unsettled or bool(self._suspects)

    def _may_start(self, run: FrozenRun) -> bool:
        count = barren(self._runs, self._entries[run.key])
        if count >= self.launcher.max_attempts:
            self.give_up(run, f"{count} attempts in a row without a new epoch")
            return False
        return True

    def give_up(self, run: FrozenRun, reason: str) -> None:
        """Leave a run alone for good, with a record that says why."""
        with suppress(OSError, RecordError):
            give_up(run, reason, self.launched)
        self._end(run, "gave up", ok=False, error=reason)

    def _blocked(self, run: FrozenRun, reason: str) -> None:
        self._end(run, "blocked", ok=False, error=reason)

    def _ended(self, ended: Ended, record: Record | None) -> None:
        run = ended.run
        if record is not None and record.status is Status.DIVERGED:
            line = first_line(run, record)
            self._end(run, "ended", ok=False, status=Status.DIVERGED, error=line)
        elif ended.code == Exit.REFUSED:
            self._end(run, "refused", ok=False, error=ended.error or "the reason is above")
        else:
            if record is not None:
                self._say_interrupted(run, record.status, record.error)
            self._suspects.append((time.monotonic() + _SUSPENSE_S, ended))

    def _is_over(self, run: FrozenRun) -> bool:
        return self._standing(run) == "done"

    def _standing(self, run: FrozenRun) -> Standing:
        return standing(self._runs, self._entries[run.key], self._past)

    def _done(self, run: FrozenRun, *, elsewhere: bool) -> None:
        try:
            put_in_place(self._runs, self._entries[run.key])
        except (UserError, OSError) as error:
            line = str(error) if isinstance(error, UserError) else line_of(error, self._runs)
            self._end(run, "ended", ok=False, status=Status.FAILED, error=line)
        else:
            more = {"elsewhere": True} if elsewhere else {}
            self._end(run, "ended", status=Status.DONE, error=None, **more)

    def _fail(self, ended: Ended) -> None:
        line = failure(ended, self.launched)
        self._end(ended.run, "ended", ok=False, status=Status.FAILED, error=line)

    def _end(self, run: FrozenRun, event: str, *, ok: bool = True, **about: object) -> None:
        self.ok = self.ok and ok
        del self.left[run.key]
        self._say(event, run=self._entries[run.key].folder, **about)

    def _say_interrupted(self, run: FrozenRun, status: Status, error: str | None) -> None:
        self._say("ended", run=self._entries[run.key].folder, status=status, error=error)

    def _drop(self, ended: Ended) -> None:
        """The epoch that a killed run was in is lost; nothing else is."""
        limit = self._told.why == "time limit"
        status = Status.TIMEOUT if limit else Status.INTERRUPTED
        error = f"{'stopped before the time limit' if limit else 'terminated'} within an epoch"
        with suppress(OSError, RecordError):
            record_death(ended, error, self.launched, status)
            # Nobody on another node can see that its process is dead, and would have to wait.
            if holds(ended) and (lease := Lease.acquire(ended.run.folder, self.launcher.lease_s)):
                lease.release()
        self._say_interrupted(ended.run, status, error)

    def _judge(self) -> None:
        """Decide what becomes of runs that ended before their time, a moment later."""
        for suspect in [s for s in self._suspects if time.monotonic() > s[0]]:
            self._suspects.remove(suspect)
            ended = suspect[1]
            match ended.code:
                case code if code < 0 and self._standing(ended.run) == "done":
                    self._done(ended.run, elsewhere=False)
                case Exit.INTERRUPTED if self.stopping:
                    pass
                case Exit.INTERRUPTED:  # somebody has told this process alone
                    self.todo.append(ended.run)
                case code if code < 0 and self.stopping:
                    self._drop(ended)
                case code if code == -signal.SIGALRM:  # told alone too, and it took too long
                    self._drop(ended)
                    self.todo.append(ended.run)
                case code if code == -signal.SIGKILL:
                    self._killed(ended)
                case _:
                    self._fail(ended)

    def _killed(self, ended: Ended) -> None:
        folder = self._entries[ended.run.key].folder
        self._past.killed[folder] += 1
        self._say("killed", run=folder)
        if self._past.killed[folder] > 1:
            self._fail(ended)
        else:
            failure(ended, self.launched)
            self.todo.append(ended.run)
