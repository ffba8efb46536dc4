"""Tables, table files, runs and launches as people read them on a terminal."""

from __future__ import annotations

from itertools import chain, groupby
from typing import Any

from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.launch.dispatch import warn
from retable.launch.summary import Summary
from retable.report import formatting, over_columns_text
from retable.report.sweep_summary import value_text
from retable.runs import records
from retable.runs.frozen import FrozenRun
from retable.tables import paper_info
from retable.tables import spec as specs
from retable.tables.cell_map_spec import CellMap
from retable.tables.claim_spec import Claim
from retable.tables.figure_spec import AnyFigure, Scatter
from retable.tables.heat_spec import Heat, Image
from retable.tables.looks_spec import DeclaredLooks
from retable.tables.select import combinations, of_seeds
from retable.tables.spec import TableSpec
from retable.tables.spec_parts import Quick, Select
from retable.tables.validate import direction_of
from retable.util import paths
from retable.util.errors import UserError
from retable.util.text import counted

_MAX_STEPS = 12
"""Values of one metric that are listed one by one."""

_BETTER = {"max": ", larger is better", "min": ", smaller is better", "none": ""}


def tables() -> list[dict[str, Any]]:
    """Every table with its size, protocols and number of reported cells."""
    entries: list[dict[str, Any]] = []
    for name in paths.config_names("table"):
        spec = specs.load(name)
        entries.append(
            {
                "table": name,
                "paper": spec.paper,
                "title": spec.title,
                "rows": len(spec.rows),
                "columns": len(spec.columns),
                "reported": sum(len(cells) for cells in spec.reported.values()),
                "claims": len(spec.claims),
                "protocols": spec.protocols(),
                "quick": spec.quick is not None,
            }
        )
    return entries


def list_text(entries: list[dict[str, Any]]) -> str:
    """The list of tables and experiments."""
    lines: list[str] = ["quick: run by make reproduce"]
    paper = ""
    for entry in entries:
        if entry["paper"] != paper:
            paper = entry["paper"]
            lines += ["", paper_info.title_of(paper), ""]
        lines.append(f"{entry['table']}{'  (quick)' if entry['quick'] else ''}")
        lines.append(f"    {entry['title']}")
        lines.append(
            f"    {entry['rows']} rows x {entry['columns']} columns, {entry['reported']} reported,"
            f" {counted(entry['claims'], 'claim')}; protocols: {', '.join(entry['protocols'])}"
        )
    lines += ["", "experiments:"]
    lines += [f"    {name}" for name in paths.config_names("experiment")]
    return "\n".join(lines)


def show_text(name: str, spec: TableSpec) -> str:
    """A table file in words."""
    source = spec.source
    lines = [
        f"{name}: {spec.title}",
        f"source: {source.paper_ref}"
        + (f", arXiv {source.arxiv}" if source.arxiv else "")
        + (f", {source.code}" if source.code else "")
        + ("" if source.own else " (not one of the paper's own tables)"),
        "protocols: "
        + ", ".join(f"{p} ({counted(len(spec.seed_list(p)), 'seed')})" for p in spec.protocols()),
    ]
    if spec.quick is not None:
        lines.append(f"quick (make reproduce): {_quick(spec.quick)}")
    if spec.looks is not None:
        lines.append(f"looks: {_looks(spec.looks)}")
    if spec.figure is not None:
        lines.append(f"figure: {_figure(spec.figure)}")
    lines += [f"chain: {one}" for one in _chains(spec)]
    if spec.differs:
        lines.append(f"why it may differ: {spec.differs.strip()}")
    lines += ["", "rows:"]
    for key, row in spec.rows.items():
        rest = [_experiments(row.experiment)] if row.experiment is not None else []
        rest += [*row.overrides, *([f"result row {row.result_row}"] if row.result_row else [])]
        title = f" ({row.title})" if row.title else ""
        alone = f"; in {' and '.join(row.protocols)} alone" if row.protocols else ""
        lines.append(f"    {key}{title}: {', '.join(rest) or 'no overrides'}{alone}")
    lines.append("columns:")
    for key, column in spec.columns.items():
        named = _experiments(column.experiment)
        rest = [*column.overrides, *([f"step {column.step}"] if column.step is not None else [])]
        rest += [f"epoch {column.epoch} of the history"] if column.epoch is not None else []
        title = f" ({column.title})" if column.title else ""
        if column.over_columns is not None:
            lines.append(f"    {key}{title}: {over_columns_text.said(spec, key)}")
            continue
        lines.append(
            f"    {key}{title}: {column.metric} of {named}; {', '.join(rest) or 'no overrides'}"
        )
    lines.append("metrics:")
    for key, metric in spec.metrics.items():
        unit = f" in {metric.unit}" if metric.unit else ""
        margin = f", margin {metric.margin:g}" if metric.margin is not None else ""
        absent = f"; where a run has none: {metric.absent}" if metric.absent else ""
        lines.append(f"    {key}: {metric.key}{unit}{_BETTER[metric.direction]}{margin}{absent}")
    if spec.select is not None:
        lines += _select(spec, spec.select)
    if spec.reported:
        lines.append("reported:")
    for row_name, cells in spec.reported.items():
        for column_name, value in cells.items():
            note = f"; {value.note}" if value.note else ""
            lines.append(
                f"    {row_name}, {column_name}: {formatting.theirs(value)}"
                f" [{value.grade}] {value.where}{note}"
            )
    if spec.claims:
        lines.append("claims:")
        lines += [f"    {c.id} ({_test(c)}): {c.statement}" for c in spec.claims]
    if spec.notes:
        lines += ["notes:", *(f"    {note.strip()}" for note in spec.notes)]
    return "\n".join(lines)


def _select(spec: TableSpec, select: Select) -> list[str]:
    """What settings are chosen from, by what, and for which rows."""
    settings = counted(len(combinations(select)), "setting")
    seeds = of_seeds(select.seed_list())
    rows = "all rows" if select.rows is None else f"rows {', '.join(select.rows)}"
    best = {"max": "largest", "min": "smallest"}[direction_of(spec, select) or "min"]
    return [
        f"select, for {rows}: of {settings} the {best} {select.by}, {seeds}",
        *(
            f"    {key}: {', '.join(map(value_text, values))}"
            for key, values in select.over.items()
        ),
    ]


def _looks(looks: DeclaredLooks) -> str:
    """At how many seeds a table is judged, and judged again."""
    at = "; ".join(", then ".join(map(str, seeds)) for seeds in looks.at)
    return f"at {at} seeds, fixed on {looks.fixed.isoformat()}, protocol {looks.protocol}"


def _quick(quick: Quick) -> str:
    """What of a table make reproduce runs."""
    parts = [f"protocol {quick.protocol}"]
    parts += [counted(quick.seeds, "seed")] if quick.seeds is not None else []
    for what, names in (("rows", quick.rows), ("columns", quick.columns)):
        parts += [f"{what} {', '.join(names)}"] if names else []
    return ", ".join(parts)


def _test(claim: Claim) -> str:
    """Kind of a claim's test, its bound, and who vouches for the statement."""
    bounds = [
        f"{name.replace('_', ' ')} {value:g}"
        for name in ("margin", "at_least", "at_most", "about", "within")
        if (value := getattr(claim, name)) is not None
    ]
    return ", ".join([claim.kind, *bounds, *([] if claim.grade == "primary" else [claim.grade])])


def _figure(figure: AnyFigure) -> str:
    """Kind of a figure, what it shows, and its panels."""
    if isinstance(figure, Heat | Image):
        what = f"{figure.kind}, {figure.title} (artefact {figure.artifact})"
    elif isinstance(figure, CellMap):
        what = f"cells over {figure.y} and {figure.x}"
    elif isinstance(figure, Scatter):
        what = "scatter, " + "; ".join(f"{pair.y} over {pair.x}" for pair in figure.panels)
    else:
        what = f"curves over {figure.x}"
    titles = ", ".join(panel.title for panel in figure.panels if panel.title)
    return f"{what}; {counted(len(figure.panels), 'panel')}{f': {titles}' if titles else ''}"


def _chains(spec: TableSpec) -> list[str]:
    """What the experiments of a table start from; one that cannot be composed is left out."""
    named = [column.experiment for column in spec.columns.values()]
    named += [row.experiment for row in spec.rows.values() if row.experiment is not None]
    each = [[one] if isinstance(one, str) else one.values() for one in named]
    lines: list[str] = []
    with planning():
        for name in dict.fromkeys(chain.from_iterable(each)):
            try:
                start = compose([f"experiment={name}", "seed=0"]).start
            except UserError:  # `plan` says what is wrong with it
                continue
            above: list[str] = []
            while start is not None:
                run = start.run
                above.append(str(start.file) if run is None else run.experiment or run.paper)
                start = None if run is None else run.start
            if above:
                lines.append(f"{name} starts from {', which starts from '.join(above)}")
    return lines


def _experiments(named: str | dict[str, str]) -> str:
    return named if isinstance(named, str) else ", ".join(f"{p}: {e}" for p, e in named.items())


def run_text(run: FrozenRun, said: str = "") -> str:
    """Status, results and artifacts of a single run, as text.

    Args:
        run: that may have a record.
        said: behind its name.
    """
    record = records.read_run(run.folder, warn)
    lines = [f"{run.label}{said}", f"folder: {run.folder}"]
    if record is None:
        return "\n".join([*lines, "no record"])
    lines.append(f"status: {record.status.value} (attempt {record.attempt}, {record.wall_s:g} s)")
    if record.fingerprint != run.fingerprint:
        lines.append("stale: computed by other code than is here now")
    if record.started_from is not None:
        above = run.parent
        name = above.label if above is not None else record.started_from.shown
        lines.append(f"started from: {name}")
    if record.error:
        lines.append(f"error: {record.error.splitlines()[0]}")
    for (row, metric), group in groupby(record.results, lambda r: (r.result_row, r.metric)):
        name = f"    {row + ' ' if row else ''}{metric}"
        results = list(group)
        if len(results) > _MAX_STEPS:
            values = [r.value for r in results]
            steps = f"{results[0].step}..{results[-1].step}"
            lines.append(
                f"{name} [{steps}]: {len(values)} values, {min(values):g} to {max(values):g}"
            )
            continue
        for r in results:
            step = "" if r.step is None else f" [{r.step}]"
            lines.append(f"{name}{step} = {r.value:g}")
    for name in record.artifacts:
        lines.append(f"    {name}: attempts/{record.attempt}/artifacts/{name}.safetensors")
    return "\n".join(lines)


def summary_text(summary: Summary) -> str:
    """Summary of a launch as text; what failed was named when it did."""
    first = (summary.queued, "submitted") if summary.pending else (summary.done, "run")
    parts = [f"{count} {word}" for count, word in (first, (summary.skipped, "already done"))]
    for count, word in (
        (summary.already, "already queued or being done"),
        (summary.elsewhere, "done by another runner"),
        (summary.diverged, "diverged"),
        (len(summary.failed), "failed"),
        (len(summary.blocked), "blocked"),
        (summary.interrupted, "interrupted"),
    ):
        if count:
            parts.append(f"{count} {word}")
    lines = [", ".join(parts)]
    if summary.stale:
        lines.append(
            f"{summary.stale} of those already done {'is' if summary.stale == 1 else 'are'} stale:"
            " computed by other code than is here now; `retable refresh` tells whether it matters,"
            " `retable retry NAME --stale` does them again"
        )
    lines += [f"still stale: {text}" for text in summary.kept]
    if summary.stopped and not summary.pending:
        lines.append("stopped; the same command goes on from here")
    return "\n".join(lines)
