"""The main job: every quick table, run here and printed beside the reported numbers."""

from __future__ import annotations

from collections.abc import Callable

from retable.config.compose_cache import planning
from retable.data.fetch import DataUnavailable
from retable.launch.prepare import prepare
from retable.report.reproduced import Reproduced, agreement, summary
from retable.report.terminal import shown
from retable.tables import collect, grid, spec
from retable.tables.aggregate import build
from retable.tables.grid import Grid
from retable.tables.spec_parts import Quick
from retable.tables.verdicts.judge import judge
from retable.util import paths
from retable.util.errors import UserError

FROM_RESULTS = (
    "Not run here: the data can be had neither from a mirror nor from its source."
    " Printed from the records published with the project."
)
NOWHERE = (
    "Not run here: the data can be had neither from a mirror nor from its source, and no records"
    " are published with the project."
)


def reproduce(
    launch: Callable[[list[Grid]], tuple[bool, list[Grid]]],
    echo: Callable[[str], None],
    say: Callable[[str], None],
    *,
    name: str | None = None,
    full: bool = False,
) -> bool:
    """Run and print all tables declared quick, and at the end what came out of them.

    Args:
        launch: runs what the planned tables still need; says whether all went well, and gives the
            tables with settings that were chosen on the way.
        echo: prints a table, and the summary.
        say: tells what cannot be had.
        name: only this table, or those of this paper.
        full: all of the tables instead of what they declare quick.

    Returns:
        Whether every run went well.

    Raises:
        UserError: where the name is not known, or of no quick table.
    """
    grids = [collect.decided_by_runs(one) for one in planned(name, full=full)]
    here: list[Grid] = []
    for one in grids:
        try:
            prepare(one.runs(), lambda _: None)
        except DataUnavailable as error:
            say(f"{one.name}: {error}")
        else:
            here.append(one)
    ok, launched = launch(here)
    ended = {one.name: one for one in launched}
    done: list[Reproduced] = []
    for one in grids:
        if one.name in ended:
            one = ended[one.name]
            found = collect.from_runs(one, say)
            table = judge(build(one, found, collect.artifacts_of_runs(one)))
            done.append(Reproduced(one, table, len(found), agreement(one, found)))
            echo(shown(table))
        else:
            one = collect.decided_by_results(one)
            published = collect.from_results(one)
            ok = ok and bool(published)
            table = judge(build(one, published, collect.artifacts_of_results(one)))
            done.append(Reproduced(one, table, len(published), None))
            echo(shown(table, note=FROM_RESULTS if published else NOWHERE))
    echo(summary(done))
    return ok


def planned(name: str | None = None, *, full: bool) -> list[Grid]:
    """All quick tables: what they declare quick, or all of that protocol.

    Args:
        name: only this table, or those of this paper.
        full: all of the protocol.

    Raises:
        UserError: where the name is not known, or of no quick table.
    """
    names = paths.config_names("table") if name is None else grid.expand_names(name)
    quick = {one: part for one in names if (part := spec.load(one).quick)}
    if name is not None and not quick:
        raise UserError(f"{name}: no table of it is quick; retable run {name} runs it")
    with planning():
        return [_planned(one, part, full) for one, part in quick.items()]


def _planned(name: str, quick: Quick, full: bool) -> Grid:
    if full:
        return grid.plan(name, quick.protocol)
    return grid.plan(
        name,
        quick.protocol,
        rows=quick.rows or (),
        columns=quick.columns or (),
        n_seeds=quick.seeds,
    )
