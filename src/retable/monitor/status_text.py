"""Status of a table's runs, as text for people and plain values for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retable.monitor.run_progress import Epoch
from retable.monitor.run_states import Seen
from retable.monitor.state import OPEN, State
from retable.monitor.table_status import Run, TableStatus
from retable.tables.select import is_undecided
from retable.util.errors import brief

LISTED = 20
"""Runs that are named one by one of each state; --json names all."""

_LISTED = (State.FAILED, State.LOST, State.DIVERGED)


def table_text(table: TableStatus) -> str:
    """A line for the table, one per cell, then what failed and was lost."""
    name, protocol = table.grid.name, table.grid.protocol
    lines = [f"{name}, protocol {protocol}: {len(table.runs)} runs, {states_text(table.counts())}"]
    for places, keys in table.cells():
        counts = states_text(table.counts(keys))
        if is_undecided(table.grid.cells[places[0]]):
            counts = f"tuning runs: {counts}"
        telling = table.telling(keys)
        more = telling and _details(table, telling)
        lines.append(f"    {_cells_text(places)}: {counts}{f'; {more}' if more else ''}")
    for state in _LISTED:
        found = table.in_state(state)
        lines += [f"{state}: {run.label}: {_trouble(table, run)}" for run in found[:LISTED]]
        if len(found) > LISTED:
            lines.append(f"{state}: {len(found) - LISTED} more; --json names all")
    again = len(table.in_state(State.FAILED, State.LOST))
    if again:
        option = "" if protocol == "paper" else f" --protocol {protocol}"
        what = f"the {again} failed or lost runs" if again > 1 else "the failed or lost run"
        lines.append(f"retable retry {name}{option} does {what} again")
    return "\n".join([*lines, *table.notes])


def _details(table: TableStatus, key: str) -> str:
    run, seen = table.runs[key], table.seen[key]
    if seen.state in OPEN:
        return f"s{run.seed} {open_text(seen, table.epochs.get(key))}"
    return f"s{run.seed} {seen.state}: {brief(seen.why)}" if seen.why else ""


def _trouble(table: TableStatus, run: Run) -> str:
    return trouble(table.seen[run.key])


def trouble(seen: Seen) -> str:
    """Cause of a run's trouble, and where to read more."""
    job = f"job {seen.assigned.id}; " if seen.assigned and seen.assigned.id else ""
    traced = traceback_of(seen)
    where = f"traceback: {traced}" if traced else f"{job}retable logs {seen.folder.name[:8]}"
    return f"{brief(seen.why or seen.state)} ({where})"


def table_json(table: TableStatus) -> dict[str, Any]:
    """Plain values; ``details`` has every run that is neither done nor to do."""
    settled = (State.DONE, State.TODO)
    return {
        "table": table.grid.name,
        "protocol": table.grid.protocol,
        "runs": _plain(table.counts()),
        "cells": [
            {
                "row": row,
                "column": column,
                **_plain(table.counts(keys)),
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


def _plain(counts: Counter[State]) -> dict[str, int]:
    return {state.value: counts[state] for state in State}


def states_text(counts: Mapping[State, int]) -> str:
    """``3 done, 1 queued``."""
    return ", ".join(f"{counts[s]} {s}" for s in State if counts.get(s)) or "no runs"


def _cells_text(places: list[tuple[str, str]]) -> str:
    """Cells in few words: their rows where the column is one, and the other way round."""
    rows = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    if len(places) == 1:
        return f"{rows[0]}, {columns[0]}"
    if len(columns) == 1:
        return f"{columns[0]} [{', '.join(rows)}]"
    if len(rows) == 1:
        return f"{rows[0]} [{', '.join(columns)}]"
    return "; ".join(f"{row}, {column}" for row, column in places)


def open_text(seen: Seen, epoch: Epoch | None) -> str:
    """Progress and place of a run that is queued or running, as text."""
    queued, at = seen.facts.submitted and seen.facts.submitted.queued, seen.assigned
    job = f"job {at.id}" if at and at.id and queued else ""
    if seen.state is State.QUEUED:
        return f"queued: {seen.why}" + (f" ({job})" if job and job not in seen.why else "")
    parts = [seen.why or (epoch.text() if epoch and (epoch.of or epoch.done) else "running")]
    if seen.host or queued is None:
        parts += [f"on {seen.host}" if seen.host else ""]
    else:
        parts += [f"on {queued.node}" if queued.node else "", f"{queued.left} left", job]
    return ", ".join(part for part in parts if part)


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
