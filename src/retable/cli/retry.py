"""What `retry` does: find the runs, find out with which launcher, launch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from retable.cli import workflow
from retable.cli.options import STOPPED, say, warn
from retable.util.text import on_table

if TYPE_CHECKING:
    from retable.launch.summary import Summary
    from retable.monitor.table_status import TableStatus
    from retable.runs.frozen import FrozenRun


def retry_tables(
    name: str,
    protocol: str,
    part: dict[str, list[str] | None],
    overrides: Sequence[str],
    kinds: Collection[str],
    *,
    wait: bool,
) -> int:
    """Retry failed and lost runs of some tables, redo stale ones; returns the exit code.

    Args:
        name: as given on the command line.
        protocol: of the tables.
        part: rows and columns that are asked for.
        overrides: of settings that change no result.
        kinds: states of the runs: failed, lost, stale.
        wait: follow until they have ended, on a cluster.
    """
    from retable.cli.slurm_options import orders_of_tables
    from retable.launch.dispatch import launch
    from retable.launch.slurm.sacct import Accounting
    from retable.launch.summary import Summary
    from retable.monitor.table_status import statuses_of
    from retable.report import listing
    from retable.wandb_tools.table_tags import write_tags

    def planned(given: Sequence[str]) -> list[Any]:
        return workflow.plan(
            name, protocol, rows=part["row"], columns=part["column"], overrides=given
        )

    grids = planned(overrides)
    tables = statuses_of(grids, Accounting(), warn)
    for note in tables[0].notes:
        say(note)
    chosen = {
        key: (run, table.seen[key].state.value)
        for table in tables
        for key, run in table.runs.items()
        if table.seen[key].state.value in kinds
    }
    if "stale" in kinds:
        _tidy(tables)
    if not chosen:
        say(f"nothing is {' or '.join(sorted(kinds))}")
        return 0
    counts = {kind: sum(k == kind for _, k in chosen.values()) for kind in sorted(kinds)}
    say(", ".join(f"{count} {kind}" for kind, count in counts.items() if count) + ": again")
    if more := _launcher_before(tables, chosen, overrides):
        grids = planned([*more, *overrides])
    orders = orders_of_tables(
        name, protocol, grids, part=part, wait=wait, prepare=False, publish=False
    )
    settings = {run.key: run for grid in grids for run in _runs(grid) if run.key in chosen}
    names = {key: run.name for key, (run, _) in chosen.items()}

    def go(runs: list[FrozenRun], home: Path | None) -> Summary:
        from dataclasses import replace

        return launch(
            runs,
            label=lambda run: names[run.key],
            orders=replace(orders, runs=home) if orders else None,
            before=lambda: write_tags(grids, warn),
        )

    plain = [run for key, run in settings.items() if chosen[key][1] != "stale"]
    stale = [run for key, run in settings.items() if chosen[key][1] == "stale"]
    parts: list[Summary] = [go(plain, None)] if plain else []
    failed: list[str] = []
    if stale and not any(part.stopped for part in parts):
        from retable.launch.redo import redo

        summary, failed = redo(stale, go)
        parts.append(summary)
    summary = Summary.of(parts)
    typer.echo(listing.summary_text(summary), err=True)
    for text in failed:
        say(f"still stale: {text}")
    from retable.monitor.state import State

    if blocked := sum(table.counts()[State.BLOCKED] for table in tables):
        run = on_table("run", name, protocol)
        say(f"{blocked} blocked runs start from others: `{run}` does those that can")
    return STOPPED if summary.stopped else 0 if summary.ok and not failed else 1


def _runs(grid: Any) -> list[FrozenRun]:
    return [setting.with_seed(seed) for setting, seeds in grid.settings() for seed in seeds]


def _launcher_before(
    tables: list[TableStatus], chosen: Collection[str], overrides: Sequence[str]
) -> list[str]:
    """Overrides for the launcher that the runs had, where none is given; says so."""
    from retable.cli.last_submission import overrides_of

    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    if "launcher" in given:
        return []
    seen = [t.seen[key] for t in tables for key in t.runs if key in chosen]
    found = overrides_of(seen)
    if found is None:
        return []
    more = [text for text in found[0] if text.partition("=")[0] not in given]
    say(f"as before ({found[1]}): {' '.join(more)}")
    return more


def _tidy(tables: list[TableStatus]) -> None:
    from retable.launch.redo import tidy
    from retable.monitor.state import State

    done = [
        run.setting.with_seed(run.seed) for table in tables for run in table.in_state(State.DONE)
    ]
    if done:
        queue = tables[0].queue
        tidy(Path(done[0].config.paths.runs), done, lambda folder: queue.where(folder) is not None)
