"""What `retry` does: find the runs, find out with which launcher, launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from retable.cli import workflow
from retable.cli.options import STOPPED, say, warn
from retable.util.errors import UserError
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
        chosen |= _lacking(tables)
    if not chosen:
        say(f"nothing is {' or '.join(sorted(kinds))}")
        return 0
    counts = Counter(kind for _, kind in chosen.values())
    say(", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts)) + ": again")
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

    old = {"stale", _OLDER}
    plain = [run for key, run in settings.items() if chosen[key][1] not in old]
    stale = [run for key, run in settings.items() if chosen[key][1] in old]
    parts: list[Summary] = [go(plain, None)] if plain else []
    if stale and not any(part.stopped for part in parts):
        from retable.launch.redo import redo

        parts.append(redo(stale, go))
    summary = Summary.of(parts)
    typer.echo(listing.summary_text(summary), err=True)
    from retable.monitor.state import State

    if blocked := sum(table.counts()[State.BLOCKED] for table in tables):
        run = on_table("run", name, protocol)
        say(f"{blocked} blocked runs start from others: `{run}` does those that can")
    return STOPPED if summary.stopped else 0 if summary.ok else 1


def retry_runs(name: str, kinds: Collection[str]) -> int:
    """Retry failed runs of an experiment, or one alone, and redo stale ones; the exit code.

    They go where they were launched before.

    Args:
        name: as given on the command line.
        kinds: states of the runs: failed, lost, stale.
    """
    from retable.cli.named_runs import runs_named
    from retable.launch.dispatch import launch
    from retable.launch.hydra_sweep import orders_of
    from retable.launch.redo import launch_anew, stale_among
    from retable.launch.summary import is_settled
    from retable.report import listing
    from retable.runs import records

    if "lost" in kinds:
        raise UserError("--lost: is for tables, whose jobs are known; `retable train` goes on")
    runs, _ = runs_named(name, None, None, None)
    asked = {run.key for run in runs}
    stale = [run for run in stale_among(runs) if run.key in asked] if "stale" in kinds else []
    broken = [
        run
        for run in (runs if "failed" in kinds else [])
        if not is_settled(records.read_run(run.folder, warn))
    ]
    if not (stale or broken):
        say(f"nothing is {' or '.join(sorted(kinds))}")
        return 0
    counts = {"failed": len(broken), "stale": len(stale)}
    say(", ".join(f"{count} {kind}" for kind, count in counts.items() if count) + ": again")
    again = [*broken, *stale]
    start = launch_anew if stale else launch
    summary = start(again, orders=orders_of(again, wait=False))
    typer.echo(listing.summary_text(summary), err=True)
    return STOPPED if summary.stopped else 0 if summary.ok else 1


def _runs(grid: Any) -> list[FrozenRun]:
    return [setting.with_seed(seed) for setting, seeds in grid.settings() for seed in seeds]


_OLDER = "without a metric that is recorded now"


def _lacking(tables: list[TableStatus]) -> dict[str, tuple[Any, str]]:
    """Confirmed runs without a metric of the table that the present code records."""
    from retable.monitor.state import State
    from retable.runs import records
    from retable.runs.equality import lacks

    found: dict[str, tuple[Any, str]] = {}
    for table in tables:
        for run in table.in_state(State.DONE):
            record = records.read_run(run.setting.with_seed(run.seed).folder, warn)
            if record is not None and any(lacks(record, metric) for metric in run.metrics):
                found[run.key] = run, _OLDER
    return found


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
