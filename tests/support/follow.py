"""Submissions made by hand, and what squeue and sacct say of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from retable.launch.slurm.submission import Array, Entry, Header, Submission, Tasks
from retable.runs import frozen
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Holder
from retable.runs.records import Status
from retable.tables.grid import Grid, plan
from support.fake_slurm import COMMANDS, FakeSlurm
from support.index import record_for
from support.records import leave

TABLE = """\
paper: digits
title: Fates
source: {{paper_ref: "Table 1"}}
metrics:
  accuracy: {{key: test/accuracy, unit: "%"}}
  loss: {{key: test/loss}}
seeds: {seeds}
columns:
  accuracy: {{metric: accuracy, experiment: digits/base}}
rows:
  slow: [model.optimizer.lr=0.01]
  fast: []
"""


def table_file(seeds: int = 3) -> Path:
    """A table ``digits/fates`` of two cells; to be removed in the end."""
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "fates.yaml"
    file.write_text(TABLE.format(seeds=seeds), encoding="utf-8")
    return file


@pytest.fixture
def grid() -> Iterable[Grid]:
    """The planned table."""
    file = table_file()
    try:
        yield plan("digits/fates")
    finally:
        file.unlink()


@pytest.fixture
def slurm(fake_slurm: FakeSlurm) -> FakeSlurm:
    """A cluster with nothing in its queue, whose accounting knows nothing."""
    path = fake_slurm.folder / "sacct"
    path.write_text((fake_slurm.folder / "squeue").read_text())
    path.chmod(0o755)
    assert COMMANDS.read_text() in path.read_text()
    queue(fake_slurm)
    fake_slurm.answer("sacct", "")
    return fake_slurm


NAME = "20260101T000000-aaaaaa"


def queue(slurm: FakeSlurm, *tasks: str, name: str = NAME) -> None:
    """Have squeue list tasks, such as ``12_0 RUNNING n1`` or ``12_1 PENDING Resources``."""
    lines: list[str] = []
    for task in tasks:
        id_, state, about = (*task.split(), "")[:3]
        job, _, number = id_.partition("_")
        node, reason = ("", about) if state == "PENDING" else (about, "None")
        lines.append(
            f"{job}|{number}|{state}|{node}|29:58|{reason or 'Priority'}|retable {name} 0\n"
        )
    slurm.answer("squeue", "".join(lines))


def submit(
    runs: Path,
    *tasks: Iterable[FrozenRun | Entry],
    job: str | None = "12",
    at_once: int = 1,
    name: str = NAME,
    label: str = "digits/fates",
    before: int = 0,
) -> Submission:
    """A submission of one array."""
    submission = Submission(runs / "_slurm" / name)
    for part in ("events", "log"):
        (submission.folder / part).mkdir(parents=True)
    array = Array(number=0, tasks=len(tasks), about="a core", job=job)
    submission.write(
        Header(
            label=label, created="2026-01-01T00:00:00+00:00", user="ada", host="login",
            cluster="dev", arrays=[array],
        )
    )  # fmt: skip
    entries: list[list[Entry]] = []
    for task in tasks:
        entries.append([])
        for run in task:
            if isinstance(run, FrozenRun):
                frozen.write(run)
                run = Entry(folder=folder_of(run), before=before)
            entries[-1].append(run)
    submission.write_tasks(0, Tasks(tasks=entries, at_once=at_once))
    return submission


def folder_of(run: FrozenRun) -> str:
    """As submissions name it."""
    return f"{run.config.paper}/{run.key}"


def ended(run: FrozenRun, status: Status = Status.DONE, **about) -> Path:
    """Leave a record; returns the run's folder."""
    return leave(Path(run.config.paths.runs), record_for(run, status=status, **about))


def begun(run: FrozenRun, *rows: dict, attempt: int = 1) -> Path:
    """Leave an attempt with a history; returns its folder."""
    folder = run.folder / "attempts" / str(attempt)
    folder.mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if rows:
        (folder / "history.jsonl").write_text(text)
    return folder


def hold(run_folder: Path, *, job: str | None = None, here: bool = True) -> None:
    """Leave a lease: of this process, or of one on another machine."""
    about = {**Holder.me().__dict__, "job": job}
    if not here:
        about |= {"host": "elsewhere", "boot": "other"}
    (run_folder / "lease.json").write_text(json.dumps(about))
