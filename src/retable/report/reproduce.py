"""The main job: every quick table, run here and printed beside the reported numbers."""

from __future__ import annotations

from collections.abc import Callable

from retable.data.fetch import DataUnavailable
from retable.launch.prepare import prepare
from retable.report import markdown
from retable.tables import collect, grid, spec
from retable.tables.aggregate import build
from retable.tables.grid import Grid
from retable.tables.verdicts.judge import judge
from retable.util import paths

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
) -> bool:
    """Run and print all tables declared quick; returns whether every run went well."""
    names = [name for name in paths.config_names("table") if spec.load(name).quick]
    grids = [collect.decided_by_runs(grid.plan(name)) for name in names]
    here: list[Grid] = []
    for planned in grids:
        try:
            prepare(planned.runs(), lambda _: None)
        except DataUnavailable as error:
            say(f"{planned.name}: {error}")
        else:
            here.append(planned)
    ok, launched = launch(here)
    ended = {planned.name: planned for planned in launched}
    for planned in grids:
        if planned.name in ended:
            planned = ended[planned.name]
            echo(markdown.render(judge(build(planned, collect.from_runs(planned, say)))))
        else:
            planned = collect.decided_by_results(planned)
            found = collect.from_results(planned)
            ok = ok and bool(found)
            note = FROM_RESULTS if found else NOWHERE
            echo(markdown.render(judge(build(planned, found)), note=note))
    return ok
