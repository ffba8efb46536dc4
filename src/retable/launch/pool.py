"""Keep runs going, a few at a time, until none is left to do or somebody has asked to stop."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable

from retable.launch.forkserver_client import Ended, Forkserver
from retable.launch.postmortem import holds, newest
from retable.launch.worker import Exit
from retable.runs import records, starts
from retable.runs.attempts import Launched
from retable.runs.frozen import FrozenRun
from retable.runs.lease import is_held
from retable.runs.records import Record, Status

_WAIT_FOR_OTHERS_S = 2.0
_RECORDED: dict[int, tuple[Status, ...]] = {
    Exit.INTERRUPTED: (Status.INTERRUPTED, Status.TIMEOUT),
    Exit.DIVERGED: (Status.DIVERGED,),
}
"""Without such a record an exit code is not believed: any library may call ``_exit``."""


class Pool(ABC):
    """Runs that are done here: those to start, those that run, and those that others hold.

    What becomes of a run that has ended, and when to stop, a subclass says: a launch on this
    machine, or the supervisor of a job.

    Args:
        runs: to be done; with one launcher.
        launched: provenance, and runs at once.

    Attributes:
        todo: runs to be started, the next one first.
        waiting: runs that another runner holds.
        stopping: whether nothing more is started.
    """

    server: Forkserver

    def __init__(self, runs: Iterable[FrozenRun], launched: Launched) -> None:
        self.todo = deque(runs)
        self.waiting: deque[FrozenRun] = deque()
        self.launched = launched
        self.launcher = self.todo[0].config.launcher
        self.stopping = False

    def keep_going(self, server: Forkserver) -> None:
        """Do the runs, with a server that has started."""
        self.server = server
        look_again = 0.0
        while True:
            self._heed()
            if not self.stopping:
                while server.busy < self.launched.workers and (run := self._next()):
                    if self._may_start(run):
                        server.start(run, self.launched)
                idle = not self.todo or server.busy < self.launched.workers
                if idle and self.waiting and time.monotonic() >= look_again:
                    look_again = time.monotonic() + _WAIT_FOR_OTHERS_S
                    self._look_at_others()
            more = not self.stopping and (self.todo or self.waiting)
            if not (more or self._unsettled):
                return
            if server.busy:
                for ended in server.wait(0.5):
                    self._settle(ended)
            else:
                time.sleep(0.2)

    def _next(self) -> FrozenRun | None:
        """The next run that can be started; one whose chain has broken is seen to."""
        passed: list[FrozenRun] = []
        reasons: dict[str, str | None] = {}
        coming: set[str] | None = None
        found: FrozenRun | None = None
        while self.todo and found is None:
            run = self.todo.popleft()
            parent = run.parent
            if parent is None:
                found = run
                continue
            if coming is None:
                others = (passed, self.todo, self.waiting, self._under_way())
                coming = {run.key, *(other.key for some in others for other in some)}
            if any(above.key in coming for above in run.chain):
                passed.append(run)
                continue
            if parent.key not in reasons:
                reasons[parent.key] = starts.obstacle(run)
            if (reason := reasons[parent.key]) is None:
                found = run
            else:
                coming.discard(run.key)
                self._blocked(run, reason)
        self.todo.extendleft(reversed(passed))
        return found

    def stop(self, politely: signal.Signals, *, patient: bool) -> None:
        """Start nothing more; runs are told once, and killed when patience is over."""
        if not self.stopping:
            self.stopping = True
            self.server.signal_all(politely)
        if not patient:
            self.server.signal_all(signal.SIGKILL)

    def _settle(self, ended: Ended) -> None:
        """See to a run whose process has ended, by its exit code and what belongs to that."""
        run, code = ended.run, ended.code
        at_others = code == Exit.LEASED or (code == Exit.INTERRUPTED and ended.elsewhere)
        if code == Exit.DONE and (run.folder / records.RUN_RECORD).exists():
            self._done(run, elsewhere=ended.elsewhere)
        elif at_others and not holds(ended):
            self.waiting.append(run)
        else:
            self._ended(ended, newest(run, *_RECORDED.get(code, ())))

    def _look_at_others(self) -> None:
        """Runs held by another runner: done by now, free again, or still going."""
        for _ in range(len(self.waiting)):
            run = self.waiting.popleft()
            try:
                held = is_held(run.folder, self.launcher.lease_s)
                over = not held and self._is_over(run)
            except OSError as error:
                self._unreadable(run, error)
                continue
            if over:
                self._done(run, elsewhere=True)
            else:
                (self.waiting if held else self.todo).append(run)

    def _under_way(self) -> list[FrozenRun]:
        """Runs that have been started and whose end has not been judged."""
        return self.server.started

    @property
    def _unsettled(self) -> bool:
        """Whether a process runs, or its end is still to be judged."""
        return self.server.busy > 0

    def _unreadable(self, run: FrozenRun, error: OSError) -> None:
        """See to a run that another runner held, and of which nothing can be read now."""
        self.waiting.append(run)

    @abstractmethod
    def _heed(self) -> None:
        """Call :meth:`stop` where somebody has asked for it; asked every half a second."""

    @abstractmethod
    def _may_start(self, run: FrozenRun) -> bool:
        """Whether a run can be started now; where not, it has been seen to."""

    @abstractmethod
    def _is_over(self, run: FrozenRun) -> bool:
        """Whether a run that nobody holds any more has been done meanwhile."""

    @abstractmethod
    def _done(self, run: FrozenRun, *, elsewhere: bool) -> None:
        """See to a run that has its record; elsewhere: another runner has done it."""

    @abstractmethod
    def _blocked(self, run: FrozenRun, reason: str) -> None:
        """See to a run that cannot start, because of a run that it starts from."""

    @abstractmethod
    def _ended(self, ended: Ended, record: Record | None) -> None:
        """See to a run that has ended otherwise.

        Args:
            ended: its process.
            record: that it was interrupted or has diverged, where its exit code says so too.
        """
