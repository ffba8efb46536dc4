"""Submissions to the cluster: a folder for each, ``<runs>/_slurm/<id>/``.

::

    submission.json       who, when, from which source; the arrays and their job ids
    array-<k>.json        the runs of every task of array k, which the job reads
    array-<k>.sbatch      the script as it was submitted
    log/                  what the jobs print
    events/<k>-<t>.jsonl  what happened to task t of array k; only its job writes it
    cancelled             tasks that a user has cancelled, a line ``<k> <t>`` each
    closed                empty; there once none of its jobs is in the queue any more
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from retable.util.atomic import write_atomic
from retable.util.errors import UserError, brief

FOLDER = "_slurm"
VERSION = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Entry(_Strict):
    """One run of a task; folders are relative to that of all runs.

    Attributes:
        folder: where it is done, ``<paper>/<key>``, or below a side folder.
        home: the run whose stale record the new one is to replace, where ``folder`` is at a side.
        before: attempts that it had at submission.
    """

    folder: str
    home: str | None = None
    before: int = 0


class Tasks(_Strict):
    """The tasks of one array: each job does one list of runs.

    Attributes:
        tasks: entries by task, in the order in which they are done.
        at_once: runs that a job keeps going at once.
        devices: processes of one run; above 1 a job has as many, started by ``srun``.
    """

    version: Literal[1] = VERSION
    tasks: list[list[Entry]]
    at_once: int = 1
    devices: int = 1


class Array(_Strict):
    """One job array.

    Attributes:
        number: the k of its files.
        tasks: how many it has, numbered from 0.
        about: what it asks for, in words.
        job: id that SLURM gave it; None until then.
    """

    number: int
    tasks: int
    about: str
    job: str | None = None


class Header(_Strict):
    """``submission.json``.

    Attributes:
        label: what was submitted, such as a table's name.
        source: folder of the snapshot the jobs run from; None: the checkout.
        signal_s: seconds before the time limit at which jobs are told.
        chores: job ids of what runs before and after, by name.
    """

    version: Literal[1] = VERSION
    label: str
    created: str
    user: str
    host: str
    cluster: str
    source: str | None = None
    signal_s: int = 90
    arrays: list[Array] = []
    chores: dict[str, str] = {}


class Submission:
    """A submission's folder, read when asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.folder.parents[1]

    @property
    def closed(self) -> bool:
        """Whether none of its jobs is in the queue any more."""
        return (self.folder / "closed").exists()

    def close(self) -> None:
        """Say that none of its jobs is in the queue any more."""
        (self.folder / "closed").touch()

    @cached_property
    def header(self) -> Header:
        """Who, when, what; the arrays.

        Raises:
            UserError: where the file is broken or of another version.
        """
        return _read(self.folder / "submission.json", Header)

    def write(self, header: Header) -> None:
        """Write ``submission.json`` anew, atomically."""
        write_atomic(self.folder / "submission.json", header.model_dump_json(indent=1) + "\n")
        self.__dict__["header"] = header

    def tasks(self, array: int) -> Tasks:
        """The runs of an array's tasks.

        Raises:
            UserError: where the file is broken or of another version.
        """
        return _read(self.folder / f"array-{array}.json", Tasks)

    def write_tasks(self, array: int, tasks: Tasks) -> None:
        """Write the runs of an array's tasks."""
        write_atomic(self.folder / f"array-{array}.json", tasks.model_dump_json() + "\n")

    def script(self, array: int) -> Path:
        """Its sbatch script."""
        return self.folder / f"array-{array}.sbatch"

    def events(self, array: int, task: int) -> list[dict[str, Any]]:
        """Events of a task, oldest first; a line cut off by a kill is left out."""
        path = self.folder / "events" / f"{array}-{task}.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    def cancelled(self) -> set[tuple[int, int]]:
        """Array and number of every task that a user has cancelled."""
        try:
            lines = (self.folder / "cancelled").read_text(encoding="utf-8").splitlines()
        except OSError:
            return set()
        found = (re.fullmatch(r"([0-9]{1,9}) ([0-9]{1,9})", line) for line in lines)
        return {(int(match[1]), int(match[2])) for match in found if match}

    def cancel(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Note that a user has cancelled some tasks."""
        text = "".join(f"{array} {task}\n" for array, task in tasks)
        with (self.folder / "cancelled").open("a", encoding="utf-8") as file:
            file.write(text)

    def say(self, array: int, task: int, event: str, **about: Any) -> None:
        """Append an event of a task; from its job only.

        Args:
            array: number of the array.
            task: number of the task.
            event: one of ``started`` (a job begins; ``job``, its own ``id``, ``restart``,
                ``node``), ``stopping`` (``why``: terminated | time limit), ``ended`` (``run``,
                ``status``, ``error``), ``killed`` (a run's process; ``run``), ``blocked`` (it
                could not start from another run; ``run``, ``error``), ``gave up`` (``run``,
                ``error``), ``refused`` (``run``, ``error``), ``requeued``, ``left`` (``code``).
            about: further facts, of JSON.
        """
        folder = self.folder / "events"
        folder.mkdir(exist_ok=True)
        line = json.dumps({"time": round(time.time(), 3), "event": event, **about}) + "\n"
        # One write of a short line: what a kill leaves is a line cut off, never two mixed.
        descriptor = os.open(
            folder / f"{array}-{task}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def all_of(runs: Path) -> Iterator[Submission]:
    """Submissions below a folder of runs, newest first."""
    base = runs / FOLDER
    if base.is_dir():
        for path in sorted(base.iterdir(), reverse=True):
            if (path / "submission.json").is_file():
                yield Submission(path)


_Kind = TypeVar("_Kind", bound=_Strict)


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise UserError(f"{path}: broken ({brief(where)}: {brief(first['msg'])})") from None
