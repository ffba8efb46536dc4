"""Numbers and cells as text, the same in every output."""

from __future__ import annotations

from retable.tables.aggregate import Cell, Table
from retable.tables.spec import Metric, Reported

GRADE_MARK = {"primary": "", "secondhand": "†", "recalled": "‡", "derived": "§"}
GRADE_NOTE = {
    "secondhand": "† reported value as quoted by somebody else; not verified",
    "recalled": "‡ reported value from memory of the literature; not verified",
    "derived": "§ computed from reported values; not printed by the authors",
}


_NAMED = 4
"""Cells named one by one beside a mark; more are counted."""


def decimals_of(metric: Metric, reported: Reported | None) -> int:
    """Digits after the point: the metric's, else one more than printed, else three."""
    if metric.decimals is not None:
        return metric.decimals
    if reported is not None and "e" not in reported.value.lower():
        return len(reported.value.partition(".")[2]) + 1
    return 3


def number(value: float, metric: Metric, reported: Reported | None = None) -> str:
    """One number as printed."""
    if metric.scientific:
        return f"{value:.3e}"
    return f"{value:.{decimals_of(metric, reported)}f}"


def ours(cell: Cell, metric: Metric) -> str:
    """Our side of a cell: ``1.31 ± 0.05 (5)``, ``X`` where nothing was run."""
    if cell.mean is None:
        return "–" if cell.n_planned == 0 else "X"
    text = number(cell.mean, metric, cell.reported)
    if cell.std is not None:
        text += f" ± {number(cell.std, metric, cell.reported)}"
    if metric.deterministic:
        return text
    shown = f"{cell.n}" if cell.n == cell.n_planned else f"{cell.n}/{cell.n_planned}"
    return f"{text} ({shown})"


def theirs(reported: Reported | None) -> str:
    """The reported side of a cell, with the mark of its grade."""
    if reported is None:
        return ""
    spread = f" ± {reported.spread}" if reported.spread is not None else ""
    count = f" ({reported.n})" if reported.n is not None and reported.n > 1 else ""
    return f"{reported.value}{spread}{count}{GRADE_MARK[reported.grade]}"


def provenance(table: Table) -> str:
    """Commit, hardware and dates of the records, in one line."""
    records = list(table.records.values())
    if not records:
        return "no records"
    commits = sorted({(r.provenance.commit or "no commit")[:12] for r in records})
    dirty = " with local changes" if any(r.provenance.dirty for r in records) else ""
    cpus = sorted({r.provenance.cpu for r in records})
    gpus = sorted({r.provenance.accelerator or "?" for r in records if r.device == "cuda"})
    threads = sorted({r.threads for r in records})
    workers = sorted({r.workers for r in records})
    days = sorted({r.started[:10] for r in records})
    period = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    hours = sum(r.wall_s for r in records) / 3600
    many = len(records) != 1
    torch = ", ".join(sorted({r.provenance.torch for r in records}))
    return (
        f"{len(records)} run{'s' if many else ''}, {hours:.2f} h in all; "
        f"{', '.join(gpus + cpus)}, {_list(threads)} thread{'s' if threads != [1] else ''} a run, "
        f"{_list(workers)} at once; torch {torch}; "
        f"commit {', '.join(commits)}{dirty}; {period}"
    )


def _list(values: list[int]) -> str:
    return "/".join(map(str, values))


def footnotes(table: Table) -> list[str]:
    """Explanations of the marks that the table uses."""
    grades = {c.reported.grade for c in table.cells.values() if c.reported is not None}
    notes = [note for grade, note in GRADE_NOTE.items() if grade in grades]
    if any(c.mean is None and c.n_planned for c in table.cells.values()):
        notes.append("X: not run yet, or no run finished")
    if not table.spec.source.own:
        notes.append("This is not one of the paper's own tables.")
    for name, row in table.spec.rows.items():
        if row.quoted:
            notes.append(f"{row.title or name}: quoted by the paper from {row.quoted}")
        if row.note:
            notes.append(f"{row.title or name}: {row.note}")
    return notes + _chosen(table) + _mark_lines(table)


def _chosen(table: Table) -> list[str]:
    """How settings were chosen, each choice once with the cells it stands for."""
    places: dict[str, list[str]] = {}
    for cell in table.cells.values():
        if cell.selected is not None:
            places.setdefault(cell.selected, []).append(_place(table, cell))
    return [f"{'; '.join(cells)}: {choice}" for choice, cells in places.items()]


def _mark_lines(table: Table) -> list[str]:
    """The marks that need saying, each once, with the cells it stands for or their number."""
    places: dict[str, list[str]] = {}
    for cell in table.cells.values():
        marks = [m for m in cell.marks if not m.startswith("unverified") and m != "not run"]
        if marks:
            places.setdefault(", ".join(marks), []).append(_place(table, cell))
    return [
        f"{marks}: {'; '.join(cells) if len(cells) <= _NAMED else f'{len(cells)} cells'}"
        for marks, cells in places.items()
    ]


def _place(table: Table, cell: Cell) -> str:
    row = table.spec.rows[cell.row].title or cell.row
    column = table.spec.columns[cell.column].title or cell.column
    return f"{row}, {column}"
