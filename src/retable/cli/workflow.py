"""From a table's name to its runs and its verdicts: what the commands do, for Python too.

The layers below know either of runs or of tables; here they are joined. The names that a notebook
needs are in :mod:`retable` itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retable.util.errors import UserError, nearest

if TYPE_CHECKING:
    import polars as pl

    from retable.launch.slurm.submit import Orders
    from retable.runs.records import Record
    from retable.tables.aggregate import Table
    from retable.tables.grid import Grid

SOURCES = ("runs", "results")
"""Where records come from: the run folders here, or what is published in ``results/``."""


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def plan(
    name: str,
    protocol: str = "paper",
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    seeds: int | None = None,
    overrides: Sequence[str] | None = None,
    source: str = "runs",
) -> list[Grid]:
    """Plan a table, or all tables of a paper that have the protocol; starts nothing.

    Settings that are to be chosen are, as far as the tuning runs of the source allow.

    Args:
        name: ``paper/table``, or a paper.
        protocol: ``paper``, or another that the table declares.
        rows: only these; all where none is given.
        columns: only these.
        seeds: only the first so many of the table's.
        overrides: Hydra's, of what is not part of a run's identity, such as ``logger=none``.
        source: of the tuning runs.

    Raises:
        UserError: for a name, protocol, row, column, override or source that is not known, and for
            rows and columns that have no cell under the protocol.
    """
    from retable.tables.planned import plan_tables

    if source not in SOURCES:
        raise UserError(f"source '{source}': not known{nearest(source, SOURCES)}")
    part = {"rows": rows, "columns": columns, "overrides": overrides}
    return plan_tables(_named(name, protocol), protocol, seeds=seeds, source=source, **part)


def _named(name: str, protocol: str) -> list[str]:
    """A table, or a paper's tables, with the protocol."""
    from retable.tables import grid, spec

    names = grid.expand_names(name)
    if found := [n for n in names if protocol in spec.load(n).protocols()]:
        return found
    known = {p for n in names for p in spec.load(n).protocols()}
    hint = nearest(protocol, known)
    if protocol == "paper" and len(known) == 1:  # the default, of who has not thought of it
        hint = f"; what there is is --protocol {known.pop()}"
    raise UserError(f"{name}: no protocol '{protocol}'{hint}")


@dataclass(frozen=True)
class Collected:
    """A planned table with the records that there are of it.

    Attributes:
        grid: the plan.
        records: of its runs, by key.
        table: its cells; not judged yet.
    """

    grid: Grid
    records: Mapping[str, Record]
    table: Table


def collect(grids: Sequence[Grid], source: str = "runs") -> list[Collected]:
    """Read the records of planned tables and make their cells.

    Raises:
        UserError: where a table is to come from results and is not published.
    """
    from retable.tables import collect as records_of
    from retable.tables.aggregate import build
    from retable.tables.unrecorded import unrecorded

    if source == "results":
        from retable.report.publish import refuse_unpublished

        refuse_unpublished(list(grids))
    found: list[Collected] = []
    for grid in grids:
        if source == "results":
            records = records_of.from_results(grid, _warn)
            files = records_of.artifacts_of_results(grid)
            history = records_of.history_of_results(grid)
        else:
            records = records_of.from_runs(grid, _warn)
            files = records_of.artifacts_of_runs(grid)
            history = records_of.history_of_runs(grid)
        table = build(grid, records, files)
        for missing in unrecorded(grid, table, records, history):
            _warn(f"{grid.name}: {missing.text}")
        found.append(Collected(grid, records, table))
    return found


def judge(name: str, tables: Sequence[Table]) -> list[Table]:
    """Tables with their verdicts.

    Args:
        name: what they were asked for by. p of the claims is adjusted (Holm) over the tables only
            where it is a whole paper.
        tables: of :func:`collect`.
    """
    from retable.tables.verdicts import judge as verdicts

    return [verdicts.judge(t) for t in tables] if "/" in name else verdicts.judge_all(tables)


def load_tables(name: str, protocol: str = "paper", *, source: str = "results") -> list[Table]:
    """A table, or all tables of a paper, with verdicts; starts nothing.

    Args:
        name: ``paper/table``, or a paper. p of the claims is adjusted (Holm) only for a paper.
        protocol: ``paper``, or another that the table declares.
        source: ``results``, what is published; or ``runs``, what has been run here.

    Raises:
        UserError: for a name or protocol that is not known, and for what is not published.
    """
    collected = collect(plan(name, protocol, source=source), source)
    return judge(name, [one.table for one in collected])


def load_table(name: str, protocol: str = "paper", *, source: str = "results") -> Table:
    """One table with verdicts; starts nothing.

    Args:
        name: ``paper/table``, or a paper that has only one.
        protocol: ``paper``, or another that the table declares.
        source: ``results``, what is published; or ``runs``, what has been run here.

    Raises:
        UserError: as :func:`load_tables`; and for a paper with several tables.
    """
    names = _named(name, protocol)
    if len(names) > 1:
        said = f"has {len(names)} tables; name one ({', '.join(names)}) or load_tables"
        raise UserError(f"{name}: {said}")
    return load_tables(name, protocol, source=source)[0]


def cells(*tables: Table) -> pl.DataFrame:
    """Every cell of some tables as a row: ours, the reported number, interval and verdict.

    The columns are those of ``retable table --format csv``; ``docs/outputs.md`` says what each
    holds and in which unit.

    Args:
        tables: of :func:`load_table`, :func:`load_tables` or :func:`run_table`.
    """
    import polars as pl

    from retable.report import json_csv

    lines = [json_csv.line(table, cell) for table in tables for cell in table.cells.values()]
    return pl.DataFrame(lines, schema=json_csv.CSV_TYPES)


def claims(*tables: Table) -> pl.DataFrame:
    """Every claim of some tables as a row: statement, verdict, effect, one-sided bounds and p.

    ``theta`` is the effect in ``unit``, oriented so that positive supports the claim; ``p_holm`` is
    null unless all tables of the paper were loaded together.

    Args:
        tables: as for :func:`cells`.
    """
    import polars as pl

    from retable.report import claims_text, json_csv

    lines = [
        json_csv.finite(claims_text.line(table, claim))
        for table in tables
        for claim in table.claims
    ]
    return pl.DataFrame(lines, schema=claims_text.CLAIM_TYPES)


@dataclass(frozen=True)
class LaunchedTables:
    """How a launch of tables went.

    Attributes:
        grids: the tables, with the settings that were chosen meanwhile.
        ok: whether every run has ended well and none is left.
        stopped: whether Ctrl-C has ended it.
        pending: whether runs are left to a cluster, so that there are no results yet.
    """

    grids: list[Grid]
    ok: bool
    stopped: bool = False
    pending: bool = False

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to do now."""
        return self.stopped or self.pending


def launch(
    grids: Sequence[Grid],
    *,
    retry_diverged: bool = False,
    orders: Orders | None = None,
    say: Callable[[str], None] = _say,
) -> LaunchedTables:
    """Do all runs of some tables that have no good record yet.

    Where settings are chosen by tuning runs, the runs of the chosen ones follow.

    Args:
        grids: of :func:`plan`.
        retry_diverged: retry diverged runs as well.
        orders: what a cluster's launcher is told besides.
        say: prints a line about how it goes.

    Raises:
        UserError: before anything is written, where the runs cannot be launched together.
    """
    from retable.tables import collect as records_of
    from retable.tables.select import is_undecided

    planned = list(grids)
    waiting = sum(is_undecided(cell) for grid in planned for cell in grid.cells.values())
    first = orders
    if waiting and orders is not None and orders.publish:
        if not orders.wait:
            raise UserError("--publish: settings are to be chosen first; it needs --wait here")
        first = replace(orders, publish=False)
    outcome = launch_once(planned, retry_diverged=retry_diverged, orders=first, say=say)
    if outcome.ended or not waiting:
        return outcome
    planned = [records_of.decided_by_runs(grid) for grid in planned]
    left = sum(is_undecided(cell) for grid in planned for cell in grid.cells.values())
    say(f"settings of {waiting - left} of {waiting} cells are chosen")
    ok = outcome.ok
    if left < waiting:
        later = orders and replace(orders, prepare=None)  # the data is there by now
        outcome = launch_once(planned, retry_diverged=retry_diverged, orders=later, say=say)
        ok = outcome.ok and ok
    return replace(outcome, grids=planned, ok=ok and not left)


def launch_once(
    grids: Sequence[Grid],
    *,
    retry_diverged: bool = False,
    orders: Orders | None = None,
    say: Callable[[str], None] = _say,
) -> LaunchedTables:
    """Do the runs of some tables whose settings are known now; as :func:`launch`."""
    from retable.launch import dispatch
    from retable.monitor.table_status import runs_of
    from retable.report import listing
    from retable.tables.asked import Asked
    from retable.tables.select import is_undecided
    from retable.wandb_tools.table_tags import write_tags

    planned = list(grids)
    names = {key: run.name for grid in planned for key, run in runs_of(grid).items()}
    summary = dispatch.launch(
        [run for grid in planned for run in grid.runs()],
        retry_diverged=retry_diverged,
        label=lambda run: names[run.key],
        orders=orders,
        before=lambda: write_tags(planned, _warn),
        watch=Asked(planned),
    )
    say(listing.summary_text(summary))
    undecided = any(is_undecided(cell) for grid in planned for cell in grid.cells.values())
    if summary.pending and undecided:
        say("some settings are chosen by these runs: run the same command again when they are done")
    return LaunchedTables(planned, summary.ok, summary.stopped, summary.pending)


def run_table(
    name: str,
    protocol: str = "paper",
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    seeds: int | None = None,
    overrides: Sequence[str] | None = None,
) -> list[Table]:
    """Do what a table, or a paper's tables, still need, and return them with verdicts.

    Runs that are done are never repeated. Cells without their runs stay empty.

    Args:
        name: ``paper/table``, or a paper.
        protocol: ``paper``, or another that the table declares.
        rows: do only these; what is returned is whole all the same.
        columns: do only these.
        seeds: do only the first so many, and judge with them.
        overrides: Hydra's, such as ``launcher.workers=2``.

    Raises:
        UserError: before anything is started, for what is not known or cannot be launched.
    """
    part = plan(name, protocol, rows=rows, columns=columns, seeds=seeds, overrides=overrides)
    outcome = launch(part)
    whole = plan(name, protocol, seeds=seeds) if rows or columns or seeds else outcome.grids
    return judge(name, [one.table for one in collect(whole)])
