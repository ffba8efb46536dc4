"""The process that tells W&B of a run: ``python -m retable.tracking.follower ATTEMPT``.

It reads what the attempt's files say and nothing else, so nothing that happens to it can happen to
the run. The job tells it on its standard input when to look again: first one line of JSON
(:class:`Orders`), then a line for each word. Once that input is closed it has bounded time to end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retable.runs import history, records
from retable.runs.records import Status
from retable.tracking import ledger, naming, tags, wandb_run
from retable.tracking.ledger import Ledger
from retable.tracking.wandb_run import Opening

EPOCH = "epoch"
ENDED = "ended"
"""Words of the job: there may be new rows; there is a record."""

LOOK_S = 1.0
"""Shortest time between two looks at the history: short epochs are handed over together."""

_PARENT_S = 2.0
_MARGIN_S = 2.0  # by then the job has ended it, if it is still there


@dataclass(frozen=True)
class Orders:
    """Instructions that a follower gets at its start.

    Attributes:
        mode: ``online``, ``offline``, or ``auto``, which it decides itself.
        resumed: folder of the attempt that this one goes on from; None where it starts anew.
        limit_s: seconds that it has to end once its job has ended, or has told it to.
        key: of the run.
        fingerprint: of its code.
        paper: of the run.
        opening: fields of :class:`Opening` but id and tags.
    """

    mode: str
    resumed: str | None
    limit_s: float
    key: str
    fingerprint: str
    paper: str
    opening: dict[str, Any]

    def line(self) -> str:
        """As the job writes it."""
        return json.dumps(self.__dict__) + "\n"


class Channel:
    """Messages from the job, read by a thread of its own: W&B may keep the other one waiting."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor, self._parent = descriptor, os.getppid()
        self._buffer = b""
        self._news = threading.Event()
        self._over = threading.Event()
        self.told = False  # that it has ended; else it is just gone
        self.limit_s = 10.0

    def orders(self) -> Orders | None:
        """The first line; None where the job has ended before it wrote it."""
        while b"\n" not in self._buffer:
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        orders = Orders(**json.loads(line))
        self.limit_s = orders.limit_s
        threading.Thread(target=self._listen, daemon=True).start()
        return orders

    @property
    def over(self) -> bool:
        """Whether the job has said that it has ended, or has ended."""
        return self._over.is_set()

    def wait(self) -> None:
        """Until there is something to look at."""
        begin = time.monotonic()
        self._news.wait()
        self._over.wait(max(0.0, begin + LOOK_S - time.monotonic()))
        self._news.clear()

    def _listen(self) -> None:
        while not self._has_ended() and self._hears():
            pass
        self._over.set()
        self._news.set()
        end_in(self.limit_s + _MARGIN_S)

    def _has_ended(self) -> bool:
        """Take the lines read so far; with the orders, all of a short job may have come."""
        *lines, self._buffer = self._buffer.split(b"\n")
        self.told = ENDED.encode() in lines
        if lines:
            self._news.set()
        return self.told

    def _hears(self) -> bool:
        """Read what there is, waiting for it; False once the job is gone."""
        while not select.select([self._descriptor], [], [], _PARENT_S)[0]:
            if os.getppid() != self._parent:  # another process may hold the pipe open
                return False
        chunk = os.read(self._descriptor, 65536)
        self._buffer += chunk
        return bool(chunk)


def end_in(seconds: float) -> None:
    """End this process after some seconds, whatever W&B does then; does not wait."""

    def end() -> None:
        time.sleep(seconds)
        _note(f"not ready after {seconds:g} s; ended")
        kill_children(os.getpid())
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def kill_children(pid: int) -> None:
    """End W&B's service of a follower, which may not notice by itself that nobody needs it."""
    with suppress(OSError, ValueError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                os.kill(int(child), signal.SIGKILL)


def follow(attempt: Path, orders: Orders, channel: Channel) -> None:
    """Tell W&B of an attempt until it ends.

    Args:
        attempt: its folder.
        orders: from its job.
        channel: on which the job says that there is news.
    """
    run_folder = attempt.parents[1]
    runs = run_folder.parents[1]
    previous = [p for p in records.attempts(run_folder) if int(p.name) < int(attempt.name)]
    resumed = None if orders.resumed is None else Path(orders.resumed)
    told = ledger.begin(orders.key, orders.fingerprint, previous, resumed, orders.mode)
    opening = Opening(id=told.id, tags=tags.read(runs, orders.paper, orders.key), **orders.opening)
    if _is_superseded(attempt):
        return
    run, mode = _start(opening, naming.folder(runs), orders)
    # Of a run that goes on, W&B may know more than the ledgers here.
    told = replace(
        told,
        mode=mode,
        segment=Path(run.settings.sync_dir).name,
        upto=max(told.upto, run.starting_step),
    )
    told.write(attempt)
    try:
        while True:
            over = channel.over  # asked first: what was written before is seen below
            told = _hand_over(run, attempt, told)
            if over:
                break
            channel.wait()
        record = ledger.record_of(attempt, _note)
        if record is None and mode == "online" and _is_superseded(attempt):
            os._exit(0)  # unfinished: how the run ends there is the newer attempt's to say
        without = Status.FAILED.value if channel.told else wandb_run.KILLED
        wandb_run.end(run, record, without)
    except BaseException:
        traceback.print_exc()
        end_in(min(10.0, orders.limit_s))  # W&B's service may have gone, and not answer any more
        run.finish(exit_code=1)
        raise
    has_result = record is not None and record.status not in wandb_run.PREEMPTED
    if has_result and _has_room(Path(run.settings.sync_dir)):
        replace(told, finished=True).write(attempt)


def _has_room(folder: Path) -> bool:
    """Whether a disk takes anything; W&B does not say that it could not write."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _note(f"{folder}: {error.strerror}")
        return False
    return True


def _start(opening: Opening, folder: Path, orders: Orders) -> tuple[Any, str]:
    """Begin the run of W&B, offline where online does not work; returns it and its mode.

    Raises:
        SystemExit: where W&B's own settings say that nothing is to be followed.
    """
    from retable.tracking import wandb_mode

    mode: str | None = orders.mode
    if mode == "auto":
        decision = wandb_mode.decide(mode, wandb_mode.look())
        mode = decision.mode
        _note(f"{mode or 'not followed'}: {decision.why}")
    if mode is None:
        raise SystemExit(0)
    if mode == "online" and not wandb_mode.answers():
        _note("offline: the server cannot be reached")
    elif mode == "online":
        try:
            return wandb_run.start(opening, folder, mode, finish_s=0.9 * orders.limit_s), mode
        except Exception as error:
            _note(f"offline: {type(error).__name__}: {error}")
            wandb_run.end_service()
    return wandb_run.start(opening, folder, "offline"), "offline"


def _note(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _hand_over(run: Any, attempt: Path, told: Ledger) -> Ledger:
    """Log the rows of the history that W&B was not told of."""
    rows = [row for row in history.read(attempt) if int(row["epoch"]) >= told.upto]
    if not rows or _is_superseded(attempt):
        return told
    # First: of a follower that is killed now, an epoch may be missing in W&B, never there twice.
    told = replace(told, upto=int(rows[-1]["epoch"]) + 1)
    told.write(attempt)
    for row in rows:
        wandb_run.log(run, row)
    return told


def _is_superseded(attempt: Path) -> bool:
    """Whether there is a newer attempt: its follower has read the ledgers, and tells the rest."""
    return records.attempts(attempt.parents[1])[0] != attempt


def main() -> None:
    """Follow the attempt named on the command line."""
    channel = Channel()
    with suppress(OSError):
        os.nice(10)  # the runs come first
    code = 0
    try:
        orders = channel.orders()
        if orders is not None:
            follow(Path(sys.argv[1]), orders, channel)
    except SystemExit:
        pass
    except ImportError as error:
        code = 1
        _note(f"the package wandb cannot be imported: {error}")
    except BaseException:
        code = 1
        traceback.print_exc()
    if code:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)  # leaving in order could take as long as W&B likes


if __name__ == "__main__":
    main()
