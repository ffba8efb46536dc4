"""All that is submitted and going on, as people and programs read it."""

from __future__ import annotations

from typing import Any

from retable.launch.slurm.client import Queued
from retable.monitor.overview import Local, Overview, Submitted
from retable.monitor.state import TROUBLE, State, states_json, states_text
from retable.monitor.status_text import held_text, open_text, trouble
from retable.util.text import short_key

LISTED = 5
"""Runs of a submission and state that are named."""


def overview_text(found: Overview) -> str:
    """A line per submission, with some of its runs below it, and one per run without a job."""
    lines: list[str] = []
    for one in found.submitted:
        lines += [_submitted(one), *_runs(one), *(f"    {line}" for line in held_text(one.seen))]
    lines += [_local(one) for one in found.local]
    if not lines:
        lines = [f"nothing is submitted and nothing runs below {found.runs}"]
    return "\n".join([*lines, *found.notes])


def _runs(one: Submitted) -> list[str]:
    """Lines on runs that are running or have gone wrong, by the keys that other commands take."""
    lines: list[str] = []
    for state in (State.RUNNING, *TROUBLE):
        found = [seen for seen in one.seen if seen.state is state]
        for seen in found[:LISTED]:
            about = open_text(seen, None) if state is State.RUNNING else trouble(seen)
            lines.append(f"    {state}: {short_key(seen.folder.name)}: {about}")
        if len(found) > LISTED:
            lines.append(f"    {state}: {len(found) - LISTED} more")
    return lines


def _submitted(one: Submitted) -> str:
    header = one.submission.header
    ids = [array.job for array in header.arrays if array.job]
    jobs = f"job{'s' * (len(ids) > 1)} {', '.join(ids)}" if ids else "no job yet"
    state = "open" if one.open else "over"
    chores = "".join(f"; {name}: {_chore(*about)}" for name, about in one.chores.items())
    return (
        f"{state}  {header.label}  {header.created[:16].replace('T', ' ')} by {header.user} on"
        f" {header.host}, cluster {header.cluster}: {sum(one.counts.values())} runs,"
        f" {states_text(one.counts)}; {jobs}{chores}"
    )


def _chore(job: str, queued: Queued | None) -> str:
    return f"job {job} {'over' if queued is None else queued.state}"


def _local(one: Local) -> str:
    how = f": {one.epoch.text()}" if one.epoch and (one.epoch.of or one.epoch.done) else ""
    return f"here  {one.name}{how}, on {one.host}, process {one.pid}"


def overview_json(found: Overview) -> dict[str, Any]:
    """Plain values."""
    return {
        "folder": str(found.runs),
        "submissions": [
            {
                "id": one.submission.folder.name,
                **one.submission.header.model_dump(include={"label", "created", "user", "host"}),
                "cluster": one.submission.header.cluster,
                "open": one.open,
                "runs": states_json(one.counts),
                "jobs": [array.job for array in one.submission.header.arrays if array.job],
                "chores": {
                    name: {"job": job, "state": queued.state if queued else None}
                    for name, (job, queued) in one.chores.items()
                },
            }
            for one in found.submitted
        ],
        "local": [
            {
                "folder": str(one.folder),
                "label": one.name,
                "host": one.host,
                "pid": one.pid,
                "epoch": one.epoch.done if one.epoch else None,
                "epochs": one.epoch.of if one.epoch else None,
            }
            for one in found.local
        ],
        "notes": found.notes,
    }
