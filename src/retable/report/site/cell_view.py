"""Details of one cell, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retable.report import candidates, footnotes, formatting, over_columns_text
from retable.report.site import labels
from retable.report.site.inputs import ShownTable
from retable.report.site.strip_plot import Strip, strip
from retable.runs.records import Record, Status
from retable.tables.aggregate import Cell
from retable.tables.results import CellId


@dataclass(frozen=True)
class Seed:
    """A planned run of a cell: its value, or what became of it."""

    seed: int
    key: str
    value: float | None
    status: str
    recorded: bool

    @property
    def said(self) -> str:
        """What became of it, where it gave no value."""
        return self.status if self.value is None else ""


@dataclass(frozen=True)
class CellView:
    """A cell as the pages show it.

    Attributes:
        anchor: address within its table's page.
        data: name of the file with what is behind it.
        ours: our side, such as ``1.31 ± 0.05 (5)``.
        theirs: reported side, with the mark of its grade.
        letters: of the marks that the notes below the table explain.
    """

    cell: Cell
    row_title: str
    column_title: str
    metric: str
    unit: str
    anchor: str
    data: str
    ours: str
    theirs: str
    chip: labels.Chip | None
    bold: bool
    letters: str


def views(source: ShownTable) -> dict[CellId, CellView]:
    """Every cell of a table, by place."""
    spec = source.table.spec
    rows, columns = list(spec.rows), list(spec.columns)
    letters = footnotes.letters_of(footnotes.mark_notes(source.table))
    found: dict[CellId, CellView] = {}
    for (row, column), cell in source.table.cells.items():
        metric = spec.metrics[cell.metric]
        # Files are numbered: names that differ in case only are one on some file systems.
        number = f"r{rows.index(row)}c{columns.index(column)}"
        found[row, column] = CellView(
            cell=cell,
            row_title=spec.rows[row].title or row,
            column_title=spec.columns[column].title or column,
            metric=metric.title or cell.metric,
            unit=metric.unit,
            anchor=labels.cell_anchor(row, column),
            data=f"cells/{source.stem}/{number}.js",
            ours=formatting.ours(cell, metric),
            theirs=formatting.theirs(cell.reported),
            chip=labels.cell_chip(cell),
            bold=cell.judged is not None and cell.judged.bold,
            letters=letters.get((row, column), ""),
        )
    return found


def seeds(source: ShownTable, place: CellId) -> list[Seed]:
    """Planned runs of a cell in the order of their seeds, with what became of each."""
    plan = source.grid.cells.get(place)
    if plan is None:
        return []
    cell = source.table.cells[place]
    values = {seed: cell.raw.get(seed, value) for seed, value in cell.values.items()}
    found: list[Seed] = []
    # No keys as long as its setting is not chosen; none of a look that is not taken.
    asked = source.grid.cell_seeds(plan)[: cell.n_asked]
    for seed, key in zip(asked, source.grid.cell_keys(plan), strict=False):
        record = source.records.get(key)
        status = _status(record, seed in values)
        found.append(Seed(seed, key, values.get(seed), status, record is not None))
    return found


def _status(record: Record | None, has_value: bool) -> str:
    if record is None:
        return "not run"
    if record.status is Status.DONE and not has_value:
        return "done, without this number"
    return record.status.value


def details(source: ShownTable, view: CellView) -> dict[str, Any]:
    """Values for the template of a cell."""
    cell = view.cell
    plan = source.grid.cells.get((cell.row, cell.column))
    drawn: Strip | None = strip(cell)
    return {
        "view": view,
        "cell": cell,
        "judged": cell.judged,
        "marks": footnotes.marks(cell),
        "reported": cell.reported,
        "strip": drawn,
        "address": plan.address if plan else None,
        "candidates": candidates.of(cell),
        "made_of": list(over_columns_text.steps(source.table, cell)),
        "median": formatting.median(cell, source.table.spec.metrics[cell.metric]),
        "grade": labels.GRADES[cell.reported.grade] if cell.reported else "",
    }


def setting_of(source: ShownTable, place: CellId) -> str | None:
    """Short name of the setting behind a cell, the seed left aside; None where nothing is run."""
    plan = source.grid.cells.get(place)
    cell = source.table.cells.get(place)
    if plan is None or cell is None or not cell.run_keys:
        return None
    return plan.setting.setting_key[:16]


def settings(source: ShownTable, known: Mapping[CellId, CellView]) -> dict[str, list[CellId]]:
    """Cells by the setting they come from."""
    found: dict[str, list[CellId]] = {}
    for place in known:
        name = setting_of(source, place)
        if name is not None:
            found.setdefault(name, []).append(place)
    return found
