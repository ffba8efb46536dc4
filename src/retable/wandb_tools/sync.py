"""Upload what lies here of runs in W&B, several at once; what is done is remembered."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from retable.runs import frozen
from retable.runs.lease import is_held
from retable.tracking import ledger, naming, wandb_mode
from retable.util.errors import UserError
from retable.wandb_tools import local_runs, sync_state
from retable.wandb_tools.api import WAITS_S, Refused, Server, Stopped, Unreachable, patiently
from retable.wandb_tools.local_runs import Local
from retable.wandb_tools.upload import upload


@dataclass
class Uploadable:
    """Runs to be uploaded, and those that are left out.

    Attributes:
        locals: runs of W&B.
        running: names of runs that go on, which are left alone.
        unfinished: how many have no record: they were killed, and another attempt may follow.
        broken: why runs cannot be read.
    """

    locals: list[Local] = field(default_factory=list[Local])
    running: list[str] = field(default_factory=list[str])
    unfinished: int = 0
    broken: list[str] = field(default_factory=list[str])


@dataclass
class Synced:
    """Outcome of a sync.

    Attributes:
        synced: uploaded now.
        already: were uploaded before, and nothing has changed.
        failed: names, each with the reason.
        lacking: names of what was uploaded, each with what W&B still lacks of it.
        left: how many were not done with when it ended early.
        stopped: whether it was told to stop before all was done.
        unreachable: whether it ended early since the server had gone away.
        where: addresses of the projects.
    """

    synced: int = 0
    already: int = 0
    failed: list[str] = field(default_factory=list[str])
    lacking: list[str] = field(default_factory=list[str])
    left: int = 0
    stopped: bool = False
    unreachable: bool = False
    where: list[str] = field(default_factory=list[str])

    def text(self) -> str:
        """In a line."""
        places = "; " + ", ".join(self.where) if self.where else ""
        return f"{self.synced} synced, {self.already} already, {len(self.failed)} not{places}"


def find(folders: Iterable[Path]) -> Uploadable:
    """Look at the files of some runs.

    Args:
        folders: of runs, whether W&B was told of them or not.
    """
    found = Uploadable()
    for folder in folders:
        told = ledger.of_run(folder)
        if not told:
            continue
        try:
            run = frozen.read(folder)
            if is_held(folder, run.config.launcher.lease_s):
                found.running.append(run.label)
                continue
            for one in local_runs.of_run(run, told):
                if isinstance(one, Local):
                    found.locals.append(one)
                else:
                    found.unfinished += 1
        except UserError as error:
            found.broken.append(str(error))
    return found


@dataclass(frozen=True)
class Target:
    """Where runs go.

    Attributes:
        server: W&B's.
        entity: instead of the runs' own; None to keep them.
        project: instead of the runs' own; None to keep them.
    """

    server: Server
    entity: str | None = None
    project: str | None = None

    def project_of(self, run: Local) -> str:
        """Where a run goes, as ``entity/project``."""
        logger = run.run.config.logger
        entity = self.server.owner(self.entity or logger.entity)
        return f"{entity}/{self.project or logger.project}"

    def where(self, run: Local) -> str:
        """Where a run goes, as it is remembered."""
        return f"{self.server.address}/{self.project_of(run)}"


def sync(
    runs: Sequence[Local],
    target: Target,
    *,
    workers: int = 4,
    forget: bool = False,
    waits: Sequence[float] = WAITS_S,
    say: Callable[[str], None],
    ended: Callable[[], None] = lambda: None,
) -> Synced:
    """Upload runs of W&B that have changed since they were.

    Where a run has failed for good because of the network and the server takes no connection
    either, the rest is left, since every one of them would wait for nothing.

    Args:
        runs: what there is here, all of one folder.
        target: where it goes.
        workers: uploads at once.
        forget: ask the server also about those that are remembered as done.
        waits: seconds before each new attempt where the network fails.
        say: told of pauses.
        ended: called for each run that is done with, whatever came of it.

    Raises:
        UserError: where another sync is going on.
    """
    flaws = {run.id: flaw for run in runs if (flaw := run.flaw())}
    whole = [run for run in runs if run.id not in flaws]
    todo = [run for run in whole if forget or not sync_state.is_current(run, target.where(run))]
    outcome = Synced(
        already=len(whole) - len(todo),
        failed=[f"{run.name}: {flaws[run.id]}" for run in runs if run.id in flaws],
        where=sorted({target.server.page(target.project_of(run)) for run in runs}),
    )
    for _ in range(len(runs) - len(todo)):
        ended()
    stop = threading.Event()

    def do(run: Local) -> int:
        def once() -> int:
            return upload(run, target.server, target.project_of(run), stop, lock)

        lacking = patiently(once, waits, lambda text: say(f"{run.name}: {text}"), stop)
        # At once: a kill loses no more than what is under way.
        sync_state.remember(run, target.where(run))
        return lacking

    pool = ThreadPoolExecutor(workers)
    lock = _lock(todo[0].runs) if todo else None
    futures: dict[Future[int], Local] = {pool.submit(do, run): run for run in todo}
    try:
        for future in as_completed(futures):
            reached = _count(outcome, futures.pop(future), future)
            ended()
            if futures and not reached and not wandb_mode.answers():
                outcome.unreachable = True
                break
    except KeyboardInterrupt:
        outcome.stopped = True
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        if lock is not None:
            os.close(lock)
    for future, run in futures.items():
        _count(outcome, run, future)
    return outcome


def _count(outcome: Synced, run: Local, future: Future[int]) -> bool:
    """Count a run that is done with; whether it was not the network that failed it."""
    try:
        lacking = future.result()
    except (Stopped, CancelledError):
        outcome.left += 1
    except (Refused, Unreachable, OSError) as error:
        outcome.failed.append(f"{run.name}: {error}")
        return not isinstance(error, Unreachable)
    else:
        outcome.synced += 1
        if lacking:
            outcome.lacking.append(f"{run.name}: {_lacks(lacking)}")
    return True


def _lacks(steps: int) -> str:
    return f"{steps} of its steps are not in W&B, which has later ones and takes no earlier ones"


def _lock(runs: Path) -> int:
    """One sync at a time, of all processes: two would append the same steps.

    The processes that upload have the lock too, and keep it until they end where this one is
    killed.
    """
    folder = naming.folder(runs)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "sync.lock", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"wandb sync: another one of {runs} is going on; wait for it") from None
    return descriptor
