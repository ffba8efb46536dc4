"""Status of a table's runs, as text for people and plain values for programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retable.monitor.run_progress import Epoch
from retable.monitor.run_states import Seen
from retable.monitor.state import OPEN, TROUBLE, State, states_json, states_text
from retable.monitor.table_status import Run, TableStatus
from retable.tables.grid import Grid
from retable.tables.select import is_undecided
from retable.util.errors import brief
from retable.util.text import few, on_table, short_key

LISTED = 20
"""Runs that are named one by one of each state; --json names all."""


def table_text(table: TableStatus) -> str:
    """A line for the table, one per cell, then what failed and was lost."""
    name, protocol = table.grid.name, table.grid.protocol
    lines = [f"{name}, protocol {protocol}: {len(table.runs)} runs, {states_text(table.counts())}"]
    for experiment, keys in table.grid.only_started_from().items():
        counts, telling = states_text(table.counts(keys)), table.telling(keys)
        more = telling and _details(table, telling)
        lines.append(
            f"    {experiment}, which others start from: {counts}{f'; {more}' if more else ''}"
        )
    for places, keys in table.cells():
        counts = states_text(table.counts(keys))
        if is_undecided(table.grid.cells[places[0]]):
            counts = f"tuning runs: {counts}"
        telling = table.telling(keys)
        more = telling and _details(table, telling)
        lines.append(f"    {_cells_text(places)}: {counts}{f'; {more}' if more else ''}")
    for state in TROUBLE:
        found = table.in_state(state)
        lines += [f"{state}: {run.label}: {trouble(table.seen[run.key])}" for run in found[:LISTED]]
        if len(found) > LISTED:
            lines.append(f"{state}: {len(found) - LISTED} more; --json names all")
    again = len(table.in_state(State.FAILED, State.LOST))
    if again:
        what = f"the {again} failed or lost runs" if again > 1 else "the failed or lost run"
        lines.append(f"{retry_command(table.grid)} does {what} again")
    if blocked := len(table.in_state(State.BLOCKED)):
        run = on_table("run", table.grid.name, table.grid.protocol)
        lines.append(f"blocked: {blocked}; {run} does them when what they start from is done")
    lines += held_text(table.seen.values())
    return "\n".join([*lines, *table.notes])


def held_text(seen: Iterable[Seen]) -> list[str]:
    """A line on jobs that do not start by themselves, with what lets them go; none without any."""
    waiting = [one.facts.submitted for one in seen if one.state is State.QUEUED]
    held = [one.queued for one in waiting if one and one.queued and one.queued.held]
    ids = list(dict.fromkeys(one.id for one in held))
    if len(ids) > LISTED:  # an array's id stands for all its tasks
        ids = list(dict.fromkeys(one.job for one in held))
    return [f"held by SLURM, until somebody does: scontrol release {' '.join(ids)}"] if ids else []


def _details(table: TableStatus, key: str) -> str:
    run, seen = table.runs[key], table.seen[key]
    if seen.state in OPEN:
        return f"s{run.seed} {open_text(seen, table.epochs.get(key))}"
    return f"s{run.seed} {seen.state}: {brief(seen.why)}" if seen.why else ""


def retry_command(grid: Grid) -> str:
    """Command that does again what has failed or was lost."""
    return on_table("retry", grid.name, grid.protocol)


def trouble(seen: Seen) -> str:
    """Cause of a run's trouble, and where to read more."""
    job = f"job {seen.assigned.id}; " if seen.assigned and seen.assigned.id else ""
    traced = traceback_of(seen)
    where = f"traceback: {traced}" if traced else f"{job}{logs_command(seen)}"
    return f"{brief(seen.why or seen.state)} ({where})"


def logs_command(seen: Seen) -> str:
    """Command that shows what a run has printed."""
    return f"retable logs {short_key(seen.folder.name)}"


def table_json(table: TableStatus) -> dict[str, Any]:
    """Plain values; ``details`` has every run that is neither done nor to do."""
    settled = (State.DONE, State.TODO)
    return {
        "table": table.grid.name,
        "protocol": table.grid.protocol,
        "runs": states_json(table.counts()),
        "cells": [
            {
                "row": row,
                "column": column,
                **states_json(table.counts(keys)),
                "telling": table.telling(keys),
            }
            for places, keys in table.cells()
            for row, column in places
        ],
        "details": [
            _run_json(table, run)
            for key, run in table.runs.items()
            if table.seen[key].state not in settled
        ],
        "notes": table.notes,
    }


def _run_json(table: TableStatus, run: Run) -> dict[str, Any]:
    seen = table.seen[run.key]
    traced = traceback_of(seen)
    about = {"key": run.key, "label": run.name, "seed": run.seed}
    found = run_json(seen, table.epochs.get(run.key))
    return {**about, **found, "traceback": str(traced) if traced else None}


def _cells_text(places: list[tuple[str, str]]) -> str:
    """Cells in few words: their rows where the column is one, and the other way round."""
    rows = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    if len(places) == 1:
        return f"{rows[0]}, {columns[0]}"
    if len(columns) == 1:
        return f"{columns[0]} [{', '.join(rows)}]"
    if len(rows) == 1:
        return f"{rows[0]} [{few(columns)}]"
    return "; ".join(f"{row}, {column}" for row, column in places)


def open_text(seen: Seen, epoch: Epoch | None) -> str:
    """Progress and place of a run that is queued or running, as text."""
    where, *about = place_of(seen)
    job = about[-1] if about else ""
    if seen.state is State.QUEUED:
        return f"queued: {seen.why}" + (f" ({job})" if job and job not in seen.why else "")
    parts = [seen.why or (epoch.text() if epoch and (epoch.of or epoch.done) else "running")]
    parts += [f"on {where}" if where else "", *about]
    return ", ".join(part for part in parts if part)


def place_of(seen: Seen) -> list[str]:
    """Where a run is done: the host of another runner, or the job's node, time left and id."""
    submitted, at = seen.facts.submitted, seen.assigned
    if seen.host or submitted is None or submitted.queued is None:
        return [seen.host]
    queued = submitted.queued
    return [queued.node, f"{queued.left} left", f"job {at.id}" if at and at.id else ""]


def traceback_of(seen: Seen) -> Path | None:
    """File with the traceback of a run that failed; None where there is none."""
    if seen.state is not State.FAILED or seen.record is None:
        return None
    path = seen.folder / "attempts" / str(seen.record.attempt) / "traceback.txt"
    return path if path.is_file() else None


def run_json(seen: Seen, epoch: Epoch | None) -> dict[str, Any]:
    """Plain values of a run as it was seen."""
    queued, at = seen.facts.submitted and seen.facts.submitted.queued, seen.assigned
    node = queued.node if queued and seen.state is State.RUNNING else ""
    return {
        "state": seen.state.value,
        "why": seen.why,
        "folder": str(seen.folder),
        "submission": at.submission.folder.name if at else None,
        "job": at.id or None if at else None,
        "node": seen.host or node or None,
        "left": queued.left if queued and node else None,
        "epoch": epoch.done if epoch else None,
        "epochs": epoch.of if epoch else None,
        "metric": epoch.metric or None if epoch else None,
        "value": epoch.value if epoch and epoch.metric else None,
    }
