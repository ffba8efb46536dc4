"""Content of a table's dashboard: groups of columns, lines, curves, results, links.

Nothing here knows W&B's own library: :mod:`retable.wandb_tools.dashboard.spec` says it in its
types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from retable.report import markdown, paper_page
from retable.report.markdown import in_cell
from retable.report.site import labels
from retable.report.site.inputs import ShownTable
from retable.runs.config_keys import flatten, text_of, varying
from retable.runs.frozen import FrozenRun, recorded
from retable.runs.history import metrics_of
from retable.runs.records import ResultRow
from retable.tables import paper_info
from retable.tables.grid import CellPlan, Grid
from retable.tables.select import is_undecided
from retable.tracking import tags
from retable.tracking.naming import group as group_of
from retable.tracking.run_payload import name_of
from retable.util.redact import scrub
from retable.wandb_tools.table_tags import tags_of

EXPERIMENT = "experiment"
"""Stands among the keys of a group for the experiment, which is the runs' group in W&B."""


@dataclass(frozen=True)
class Group:
    """Columns whose numbers come from the same settings, and so share their curves.

    Attributes:
        columns: titles.
        tags: a run of theirs has one of these.
        experiments: that the runs are of.
        keys: what tells their settings apart: dotted keys of the config, or ``experiment``.
        lines: each setting as its keys' values, with the titles of its rows; of its columns where
            the rows are the same for all.
        curves: metrics by epoch.
        results: names in the summary, by the metric that they are numbers of.
        cells: title of the row and the column, and address on the site.
    """

    columns: list[str]
    tags: list[str]
    experiments: list[str]
    keys: list[str]
    lines: list[tuple[str, list[str]]]
    curves: list[str]
    results: dict[str, list[str]]
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class Content:
    """A dashboard.

    Attributes:
        table: name.
        protocol: of its runs.
        title: of the table.
        markdown: what paper it is of, and the table as it stands, with its claims.
        whole: all columns.
        groups: columns by their settings.
        guessed: whether no run has a history yet, so that the curves are those that the table's
            metrics suggest.
        tuned: whether some runs of the table only choose settings.
        links: title and address of pages of the site.
    """

    table: str
    protocol: str
    title: str
    markdown: str
    whole: Group
    groups: list[Group]
    guessed: bool
    tuned: bool
    links: list[tuple[str, str]]


def content_of(source: ShownTable, site: str | None = None) -> Content:
    """Content of the dashboard of a table.

    Args:
        source: the table with its records and histories.
        site: address of the site that ``retable site`` builds, where it can be read.
    """
    grid, spec = source.grid, source.table.spec
    page = f"{site.rstrip('/')}/tables/{source.stem}.html" if site else ""
    by_settings: dict[frozenset[str], list[str]] = {}
    for column in spec.columns:
        if found := frozenset(_settings(_cells_of(grid, [column]))):
            by_settings.setdefault(found, []).append(column)
    borne = tags_of(grid)
    groups = [_group(source, columns, borne, page) for columns in by_settings.values()]
    guessed = not any(group.curves for group in groups)
    if guessed:
        groups = [
            replace(group, curves=_suggested(grid, columns))
            for group, columns in zip(groups, by_settings.values(), strict=True)
        ]
    whole = _group(source, list(spec.columns), borne, page)
    shown = sorted({name for group in groups for name in group.curves})
    whole = replace(whole, curves=shown, tags=[tags.table_tag(grid.name)])
    links: list[tuple[str, str]] = []
    if site:
        top = site.rstrip("/")
        links = [("this table", page), ("all tables", f"{top}/index.html")]
        links += [("runs", f"{top}/runs.html")]
        if source.table.claims:
            links += [("claims of the paper", f"{top}/{labels.claims_page(spec.paper)}")]
    return Content(
        table=grid.name,
        protocol=grid.protocol,
        title=spec.title,
        markdown=scrub(_paper(spec.paper) + markdown.render(source.table)),
        whole=whole,
        groups=groups,
        guessed=guessed and bool(whole.curves),
        tuned=any(cell.selection for cell in grid.cells.values()),
        links=links,
    )


def _paper(name: str) -> str:
    info = paper_info.load(name)
    return f"**{in_cell(info.title)}.** {paper_page.byline(name)}\n\n" if info else ""


def _cells_of(grid: Grid, columns: Iterable[str]) -> list[CellPlan]:
    return [grid.cells[place] for column in columns for place in grid.cells if place[1] == column]


def _settings(planned: Iterable[CellPlan]) -> dict[str, FrozenRun]:
    return {cell.setting.with_seed(0).key: cell.setting for cell in planned}


def _group(
    source: ShownTable, columns: list[str], borne: Mapping[str, list[str]], page: str
) -> Group:
    grid, spec = source.grid, source.table.spec
    planned = _cells_of(grid, columns)
    keys, lines = _lines(source, planned)
    results: dict[str, list[str]] = {}
    for cell in planned:
        address = cell.address
        if address.epoch is not None:  # among the curves, and no result
            continue
        name = name_of(
            ResultRow(
                metric=address.metric, result_row=address.result_row, step=address.step, value=0.0
            )
        )
        known = results.setdefault(address.metric, [])
        known += [name] if name not in known else []
    return Group(
        columns=[spec.columns[column].title or column for column in columns],
        tags=_filter_tags(grid, planned, borne),
        experiments=sorted({group_of(cell.setting.config) for cell in planned}),
        keys=keys,
        lines=lines,
        curves=_recorded_curves(source, planned),
        results=results,
        cells=[
            (_cell_title(source, cell), f"{page}#{labels.cell_anchor(cell.row, cell.column)}")
            for cell in planned
            if page
        ],
    )


def _cell_title(source: ShownTable, cell: CellPlan) -> str:
    spec = source.table.spec
    row, column = spec.rows[cell.row], spec.columns[cell.column]
    return f"{row.title or cell.row}, {column.title or cell.column}"


def _filter_tags(
    grid: Grid, planned: Sequence[CellPlan], borne: Mapping[str, list[str]]
) -> list[str]:
    """Fewest tags that find every run of some cells: those of a column, of all, or the table's.

    A run bears the tags of its first cells only, where it stands behind very many.
    """
    keys = {key for cell in planned for key in grid.cell_keys(cell)}
    by_column: dict[str, list[str]] = {}
    for cell in planned:
        tag = tags.cell_tag(grid.name, cell.row, cell.column)
        by_column.setdefault(cell.column, []).append(tag)
    everything = [tag for some in by_column.values() for tag in some]
    for some in (*by_column.values(), everything):
        if all(set(some) & set(borne.get(key, [])) for key in keys):
            return list(dict.fromkeys(some))
    return [tags.table_tag(grid.name)]


# Lines: which keys tell the settings apart, and which rows each line is.


def _lines(
    source: ShownTable, planned: Sequence[CellPlan]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    spec = source.table.spec
    # A setting that is still to be chosen stands for others.
    decided = [cell for cell in planned if not is_undecided(cell)]
    runs = _settings(decided)
    values = {key: _values(run) for key, run in runs.items()}
    keys = _telling([value for value, _ in values.values()], _named(source, decided))
    rows = _titles(decided, {name: row.title or name for name, row in spec.rows.items()}, "row")
    if len(runs) > 1 and len({tuple(titles) for titles in rows.values()}) == 1:
        columns = {name: column.title or name for name, column in spec.columns.items()}
        rows = _titles(decided, columns, "column")
    lines = [
        (", ".join(f"{name} = {shown.get(name, 'not set')}" for name in keys), rows[key])
        for key, (_, shown) in values.items()
    ]
    return keys, lines if keys else [("all runs", row) for _, row in lines]


def _titles(
    planned: Sequence[CellPlan], titles: Mapping[str, str], what: str
) -> dict[str, list[str]]:
    """By setting, the titles of the rows or columns that it stands behind."""
    found: dict[str, list[str]] = {}
    for cell in planned:
        known = found.setdefault(cell.setting.with_seed(0).key, [])
        title = titles[cell.row if what == "row" else cell.column]
        known += [title] if title not in known else []
    return found


def _values(run: FrozenRun) -> tuple[dict[str, str], dict[str, str]]:
    """A setting's values by dotted key: as text to compare, and as W&B shows them."""
    flat: dict[str, Any] = {**flatten(recorded(run.config)), EXPERIMENT: run.config.experiment}
    shown = {k: v if isinstance(v, str) else json.dumps(v) for k, v in flat.items()}
    return {key: text_of(value) for key, value in flat.items()}, shown


def _named(source: ShownTable, planned: Sequence[CellPlan]) -> list[str]:
    """Keys that the table itself names as what differs; the experiment first."""
    spec = source.table.spec
    texts: list[str] = []
    for cell in planned:
        texts += [*spec.rows[cell.row].overrides, *spec.columns[cell.column].overrides]
    keys = [text.lstrip("+~").partition("=")[0] for text in texts]
    chosen = list(spec.select.over) if spec.select else []
    return list(dict.fromkeys([EXPERIMENT, *keys, *chosen]))


def _telling(texts: list[dict[str, str]], named: Sequence[str]) -> list[str]:
    """Few keys whose values tell settings apart: those that are named, then what is needed."""
    left = varying(texts)

    def told(keys: Sequence[str]) -> int:
        return len({tuple(text.get(key) for key in keys) for text in texts})

    keys: list[str] = []
    for name in named:
        # What is named may be a section, such as the optimiser.
        for key in [key for key in left if key == name or key.startswith(f"{name}.")]:
            if told([*keys, key]) > told(keys):
                keys.append(key)
    total = told(left)
    while told(keys) < total:
        keys.append(max(left, key=lambda key: told([*keys, key])))
    return keys


# Curves: those that runs have, or those that the table's metrics suggest.


def _recorded_curves(source: ShownTable, planned: Sequence[CellPlan]) -> list[str]:
    """Metrics of the histories of one run of each setting."""
    names: set[str] = set()
    seen: set[str] = set()
    for cell in planned:
        setting = cell.setting.with_seed(0).key
        for key in source.grid.cell_keys(cell):
            if setting in seen:
                break
            if found := metrics_of(source.history(key)):
                seen.add(setting)
                names.update(found)
    return sorted(names)


def _suggested(grid: Grid, columns: Iterable[str]) -> list[str]:
    names: set[str] = set()
    for cell in _cells_of(grid, columns):
        config = cell.setting.config
        if "fit" not in config.stages:
            continue
        if config.best_epoch is not None:
            names.add(config.best_epoch.monitor)
        if cell.selection is not None:
            names.add(cell.selection.by)
        if cell.address.metric.startswith("test/"):
            names.add(f"val/{cell.address.metric.removeprefix('test/')}")
        if cell.address.epoch is not None:
            names.add(cell.address.metric)
    return sorted(names)
