"""Accounting of jobs that are not in the queue any more, from ``sacct``; it may not be there.

Found with SLURM 24.11: a task of an array that is cancelled while it waits leaves no trace in the
accounting, unless the whole array is; a requeued job is one line, of its newest start, or several
with ``--duplicates``; what has just ended may still be said to run.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from retable.util.errors import brief

_TIMEOUT_S = 30.0
_UNKNOWN = "so nobody knows what became of jobs that are gone"
_FIELDS = "JobID,State,ExitCode,NodeList"
_ID = re.compile(r"(\d+)(?:_(\d+|\[[^\]]*\]))?", re.ASCII)
_LIVING = {"PENDING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED"}
_MOST_TASKS = 4_000_001
"""More than any SLURM allows in one array: a range that is longer is no answer of SLURM."""


@dataclass(frozen=True)
class Account:
    """State of a job in the accounting: how it ended, or that it has not.

    Attributes:
        state: such as ``OUT_OF_MEMORY``; without what follows, such as who cancelled it.
        exit_code: ``code:signal`` of the batch script.
        node: where it ran; "" where it never did.
    """

    state: str
    exit_code: str = "0:0"
    node: str = ""

    @property
    def over(self) -> bool:
        """Whether it will not change any more."""
        return self.state not in _LIVING

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self.state == "CANCELLED"

    def text(self) -> str:
        """The state with what tells more: ``FAILED (exit code 3) on n1``."""
        code, _, signal = self.exit_code.partition(":")
        more = ""
        if self.state == "FAILED" and signal not in {"", "0"}:
            more = f" (signal {signal})"
        elif self.state == "FAILED" and code not in {"", "0"}:
            more = f" (exit code {code})"
        return f"{self.state}{more}{f' on {self.node}' if self.node else ''}"


Task = tuple[str, int | None]
"""Id of an array's job and number of the task; None of a job that is no array."""


class Accounting:
    """``sacct``, asked once for all that is wanted; what is over is remembered.

    Attributes:
        missing: why there was no answer, in a line; None where none was missed.
    """

    def __init__(self) -> None:
        self.missing: str | None = None
        self._over: dict[Task, Account] = {}

    def ask(self, wanted: Collection[Task]) -> dict[Task, Account]:
        """Accounts of some tasks, and of others of the same jobs; at most one call.

        Args:
            wanted: those that are not in the queue any more.
        """
        self.missing = None
        jobs = sorted({task[0] for task in wanted if task not in self._over})
        if not jobs:
            return dict(self._over)
        try:
            found = dict(parse(_sacct(jobs)))
        except OSError as error:
            reason = "not found" if isinstance(error, FileNotFoundError) else str(error)
            self.missing = f"sacct: {brief(reason)}; {_UNKNOWN}"
            return dict(self._over)
        self._over |= {task: account for task, account in found.items() if account.over}
        return found | self._over


def _sacct(jobs: list[str]) -> str:
    """The answer; an OSError for whatever stands in its way."""
    command = ("sacct", "--allocations", "--array", "--noheader", "--parsable2")
    conf = os.environ.get("SLURM_CONF")
    if conf and not Path(conf).is_file():  # it would try for long
        raise OSError(f"SLURM_CONF={conf} is not a file")
    # Without what a surrounding job has set, and with ranges of tasks whole: SLURM cuts them.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SACCT_"))}
    environment |= {"SLURM_BITSTR_LEN": "0"} | ({"SLURM_CONF": conf} if conf else {})
    try:
        done = subprocess.run(  # noqa: S603
            (*command, f"--format={_FIELDS}", f"--jobs={','.join(jobs)}"),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"no answer in {_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit code {done.returncode}"
        raise OSError(said.removeprefix("sacct: ").removeprefix("error: "))
    return done.stdout


def parse(text: str) -> Iterator[tuple[Task, Account]]:
    """Tasks and what became of them, in the order in which they are said: the newest last.

    Args:
        text: of ``sacct --parsable2`` with the columns that this module asks for. Other lines,
            such as those of steps, are left out.
    """
    for line in text.splitlines():
        fields = line.split("|")
        match = _ID.fullmatch(fields[0])
        if match is None or len(fields) != len(_FIELDS.split(",")) or not fields[1].strip():
            continue
        state = fields[1].split()[0].rstrip("+")
        node = "" if fields[3] in {"", "None assigned"} else fields[3]
        account = Account(state, fields[2], node)
        for task in _tasks(match[2]):
            yield (match[1], task), account


def _tasks(text: str | None) -> Iterator[int | None]:
    """Numbers that the part of an id after the underline stands for: ``4``, ``[0,4-29,31%2]``."""
    if text is None:
        yield None
        return
    for part in text.strip("[]").partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part, re.ASCII)
        if match is None:
            continue
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if step and last - first < _MOST_TASKS:
            yield from range(first, last + 1, step)
