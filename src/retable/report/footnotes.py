"""Text below a table: legend, footnotes, marks, runs that were lost, why numbers differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from retable.report import formatting, layout, over_columns_text
from retable.tables.aggregate import Cell, Table
from retable.tables.results import DIFFERENT, JUDGED
from retable.util.errors import brief

_NAMED = 4
"""Cells named one by one beside a mark; more are counted."""

_LISTED = 20
"""Lost runs listed one by one; more are counted."""

_COUNTED = ("partial", "diverged", "failed", "timeout", "interrupted")
"""Marks with numbers in them; the cell shows them itself, so that they need no letter."""

_MEANING = {
    "equal spread assumed": "both sides are taken to vary alike",
    "n assumed": "runs behind the reported value: 3 assumed where a spread is given, else 1",
    "stale": "computed by an older state of the code",
    "partly stale": "some runs are of an older state of the code: the mean mixes two",
    "selection stale": "chosen by an older state of the code",
    "heavy tails": "a few runs far from the rest move the mean; the median is shown too",
    "mixed devices": "runs on several types of devices",
    "not alone": "others ran beside some runs, which makes times longer and less even",
    "begun elsewhere": "some runs went on on another machine or the like: a time mixes both",
    "not recorded": "runs are finished and have not left this number",
    "settled": "final since that look, whose interval it is",
    "base not positive": "a relative change has no meaning there",
    "pulled": "some runs were made elsewhere; their records come from W&B",
}


@dataclass(frozen=True)
class MarkNote:
    """A mark, explained once.

    Attributes:
        letter: that stands in the cells; empty where the note names or counts them itself.
        text: the mark and what it means.
        cells: that have it.
    """

    letter: str
    text: str
    cells: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def marks(cell: Cell) -> list[str]:
    """Everything that must be known beside a cell."""
    return cell.marks if cell.judged is None else cell.judged.marks


def mark_notes(table: Table) -> list[MarkNote]:
    """Marks of a table: with letters, unless all cells that could have a mark have it."""
    places: dict[str, list[tuple[str, str]]] = {}
    for place, cell in table.cells.items():
        for mark in marks(cell):
            if not mark.startswith("unverified") and mark != "not run":
                places.setdefault(mark, []).append(place)
    run = [place for place, cell in table.cells.items() if cell.n]
    compared = [p for p, c in table.cells.items() if c.judged and c.judged.kind in JUDGED]
    notes: list[MarkNote] = []
    letters = _letters()
    for mark, cells in places.items():
        meaning = next((f": {m}" for name, m in _MEANING.items() if mark.startswith(name)), "")
        if mark.startswith(_COUNTED):
            named = "; ".join(formatting.title(table, *place) for place in cells)
            where = named if len(cells) <= _NAMED else f"{len(cells)} cells"
            notes.append(MarkNote("", f"{formatting.worded(mark)}: {where}", cells))
        elif len(cells) > 1 and cells in (compared, run):
            which = "all cells that are compared" if cells == compared else "all cells"
            notes.append(MarkNote("", f"{mark} in {which}{meaning}", cells))
        else:
            notes.append(MarkNote(next(letters), f"{mark}{meaning}", cells))
    return sorted(notes, key=lambda note: not note.letter)


def _letters() -> Iterator[str]:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    yield from alphabet
    yield from (first + second for first in alphabet for second in alphabet)


def letters_of(notes: list[MarkNote]) -> dict[tuple[str, str], str]:
    """Letters by cell, such as ``a,c``."""
    found: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        for place in note.cells if note.letter else []:
            found.setdefault(place, []).append(note.letter)
    return {place: ",".join(letters) for place, letters in found.items()}


def legend(table: Table) -> str:
    """Units, how a cell is laid out, and the signs that the table uses."""
    spec = table.spec
    cells = list(table.cells.values())
    single = all(c.n <= 1 or spec.metrics[c.metric].deterministic for c in cells)
    ours = "ours" if single else "ours, mean ± standard deviation (seeds)"
    kinds = {c.judged.kind for c in cells if c.judged is not None and formatting.sign(c)}
    used = [
        f"{formatting.SIGN[k]} {formatting.SIGN_NOTE[k]}" for k in formatting.SIGN if k in kinds
    ]
    reported = any(c.reported is not None for c in cells)
    said = f"{_units(table)}. Each cell: {ours}"
    said += "; below it the reported value (n)" if reported else ""
    said += f" and the verdict: {', '.join(used)}" if used else ""
    if any(c.judged is not None and c.judged.kind == "protocol" and c.reported for c in cells):
        said += f"; {table.protocol}: not compared, as it is not the paper's protocol"
    said += "."
    if any(c.judged is not None and c.judged.bold for c in cells):
        line = "line" if spec.transposed else "column"
        level = "5 %" if table.looked_at_once else "the level of its look"
        said += f" Bold: better than every other number of its {line}, each at {level}."
    return said + _margins(table)


def _units(table: Table) -> str:
    """What the numbers are, those of one unit together, which is said once."""
    used = {cell.metric for cell in table.cells.values()}
    by_unit: dict[str, list[str]] = {}
    for name, metric in table.spec.metrics.items():
        if name in used:
            by_unit.setdefault(metric.unit, []).append(metric.title or name)
    groups: list[str] = []
    for unit in sorted(by_unit, key=lambda unit: (not unit, unit)):  # ends with those of no unit
        titles = sorted(dict.fromkeys(by_unit[unit]))
        several = {1: "", 2: "both "}.get(len(titles), "all ")
        # A title may have commas of its own.
        joint = "; " if not unit or any("," in title for title in titles) else ", "
        groups.append(joint.join(titles) + (f" ({several}in {unit})" if unit else ""))
    return "; ".join(groups)


def _margins(table: Table) -> str:
    """The differences that would not matter, which a verdict depends on."""
    found: dict[str, list[float]] = {}
    for cell in table.cells.values():
        judged = cell.judged
        if judged is None or judged.margin is None or judged.kind not in JUDGED:
            continue
        found.setdefault(judged.margin.origin, []).append(judged.margin.value)
    said: list[str] = []
    for origin, values in found.items():
        low, high = min(values), max(values)
        size = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
        where = f"given for {origin}" if origin.startswith("the ") else origin
        said.append(f"±{size} ({where})")
    return f" Differences that would not matter: {'; '.join(said)}." if said else ""


def footnotes(table: Table) -> list[str]:
    """Remarks, grades, quoted rows, rows' notes, choices of settings, runs that were lost."""
    cells = table.cells.values()
    grades = {c.reported.grade for c in cells if c.reported is not None}
    notes = [*table.remarks, *over_columns_text.notes(table)]
    notes += (n for grade, n in formatting.GRADE_NOTE.items() if grade in grades)
    if any(c.mean is None and c.n_planned and not c.n_done for c in cells):
        notes.append("X: not run yet, or no run finished")
    if not table.spec.source.own:
        notes.append("This is not one of the paper's own tables.")
    if others := table.spec.counted_in:
        notes.append(
            f"Its reported numbers are those of {' and '.join(others)}, where they count among the"
            " paper's; here they ask how those came about."
        )
    shown = {row for row, _ in table.cells}
    for name, row in table.spec.rows.items():
        if name not in shown:
            continue
        if row.quoted:
            notes.append(f"{row.title or name}: quoted by the paper from {row.quoted}")
        if row.note:
            notes.append(f"{row.title or name}: {row.note}")
    return notes + _chosen(table) + _lost(table) + layout.left_out(table)


def _chosen(table: Table) -> list[str]:
    """Choices of settings, each once with the cells it stands for; a row alike in all by itself."""
    rows: dict[str, dict[str, str]] = {}
    for (row, column), cell in table.cells.items():
        if cell.selected is not None:
            rows.setdefault(row, {})[column] = cell.selected
    places: dict[str, list[str]] = {}
    for row, choices in rows.items():
        first = next(iter(choices.values()))
        if len(choices) > 1 and set(choices.values()) == {first}:
            places.setdefault(first, []).append(table.spec.rows[row].title or row)
            continue
        columns: dict[str, list[str]] = {}
        for column, choice in choices.items():
            columns.setdefault(choice, []).append(column)
        for choice, own in columns.items():
            named = own if len(own) <= _NAMED else own[:1]
            titles = [formatting.title(table, row, column) for column in named]
            if len(own) > len(named):
                titles = [f"{titles[0]} and {len(own) - 1} more cells of its {_line(table)}"]
            places.setdefault(choice, []).extend(titles)
    return [f"{'; '.join(cells)}: {choice}" for choice, cells in places.items()]


def _line(table: Table) -> str:
    """What a row of the table file is on the page."""
    return "column" if table.spec.transposed else "row"


def _lost(table: Table) -> list[str]:
    """Runs that ended otherwise than done, one by one; nothing stands for their numbers."""
    rows: dict[str, str] = {}
    for cell in table.cells.values():
        for key in cell.lost_keys:
            rows.setdefault(key, table.spec.rows[cell.row].title or cell.row)
    tuned = any(table.spec.selects(row) for row in table.spec.rows)
    lines: list[str] = []
    for key in islice(table.lost, _LISTED):  # each is read from its file
        record = table.lost[key]
        reason = record.error.splitlines()[0] if record.error else ""
        other = "a tuning run" if tuned else f"{record.experiment}, which others start from"
        lines.append(
            f"{record.status.value}: {rows.get(key, other)}, seed {record.seed}, run"
            f" {key[:12]}{f' ({brief(reason)})' if reason else ''}"
        )
    if len(table.lost) > _LISTED:
        lines.append(f"and {len(table.lost) - _LISTED} more runs that ended otherwise than done")
    return lines


def reasons(table: Table) -> list[str]:
    """Cells that differ from the paper, by verdict, row and cause, each with its difference."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for cell in table.cells.values():
        if cell.judged is None or cell.judged.kind not in DIFFERENT:
            continue
        said = table.spec.columns[cell.column].title or cell.column
        if cell.judged.difference is not None:
            said += f" ({formatting.difference(cell.judged.difference)})"
        row = table.spec.rows[cell.row].title or cell.row
        found.setdefault((cell.judged.kind, row, cause(cell.judged.why)), []).append(said)
    return [
        " ".join([f"{row} is {kind}: {'; '.join(said)}.", *([f"{why}."] if why else [])])
        for (kind, row, why), said in found.items()
    ]


def cause(why: str | None) -> str:
    """``Cause: not known``, or the cause with what tests it; nothing where none is asked for."""
    if why is None:
        return ""
    why = why.rstrip(". ")
    return why if why.lower().startswith("cause") else f"Cause: {why}"


def source(table: Table) -> str:
    """Where the paper's table stands."""
    place = table.spec.source
    arxiv = f"arXiv {place.arxiv}" if place.arxiv else None
    return ", ".join(part for part in (place.paper_ref, arxiv, place.code) if part)
