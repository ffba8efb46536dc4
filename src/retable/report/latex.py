r"""A table as LaTeX: ``\usepackage{booktabs, graphicx, xcolor}`` is all that a document needs.

The text is plain ASCII, so that any input encoding and any engine takes it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from retable.report import (
    claims_text,
    counts,
    footnotes,
    formatting,
    latex_heat,
    latex_image,
    layout,
)
from retable.report.latex_escape import escape, url
from retable.tables.aggregate import Cell, Table
from retable.tables.heat_spec import Heat, Image
from retable.tables.results import CellId, JudgedClaim, VerdictKind

_NOTES_WIDTH, _NOTES_HEIGHT = 110, 0.8
"""Characters in a line of notes, and its height in lines of a claim's statement."""

_ROOM = 18
"""Lines that are left for notes below the longest part of a table."""

_LONG, _LINES = 16, 40
"""Rows of a table, and printed lines, beyond which it is printed in several parts."""

_WIDTH, _HEIGHT = 76, 33
"""Characters in a line of a claim's statement, and lines of claims on a page."""

_COLOUR: dict[VerdictKind, str] = {
    "reproduced": "teal",
    "consistent": "blue",
    "undecided": "darkgray",
    "better": "red",
    "worse": "red",
    "higher": "red",
    "lower": "red",
    "partial": "orange",
    "diverged": "orange",
}
"""Better and worse share one: neither is the paper's number."""

_CLAIM_COLOUR = {"upheld": "teal", "contradicted": "red", "undecided": "darkgray"}


def render(table: Table) -> str:
    """Floats with the table (in parts where it is long), notes, heat maps or images, claims."""
    spec = table.spec
    marks = footnotes.mark_notes(table)
    letters = footnotes.letters_of(marks)
    parts = [
        (block, rows)
        for block in layout.blocks(table, layout.MOST_COLUMNS)
        for rows in _parts([_row(table, block, name, letters) for name in block.down])
    ]
    lines = [
        f"% {escape(table.name)}, protocol {escape(table.protocol)}; written by retable.",
        r"% Needs \usepackage{booktabs,graphicx,xcolor}.",
    ]
    for index, (block, rows) in enumerate(parts):
        body = [line for row in rows for line in row]
        headings = [_heading(title) for title in block.across.values()]
        grid = _tabular(f"l{'r' * len(headings)}", headings, body)
        more = f" (part {index + 1} of {len(parts)})" if len(parts) > 1 else ""
        below = _notes(table, marks) if index == len(parts) - 1 else []
        label = _label(table) + (f"-{index + 1}" if index else "")
        title = ": ".join(filter(None, (spec.title, block.title)))
        lines += ["", *_float(f"{escape(title)}{more}", label, grid, below, again=index > 0)]
    if isinstance(spec.figure, Heat):
        lines += ["", *latex_heat.figure(table, spec.figure, f"\\label{{{_label(table)}-heat}}")]
    if isinstance(spec.figure, Image):
        lines += ["", *latex_image.figure(table, spec.figure, f"\\label{{{_label(table)}-image}}")]
    if table.claims:
        lines += ["", *_claims(table)]
    return "\n".join([*lines, ""])


def _row(table: Table, block: layout.Block, name: str, letters: Mapping[CellId, str]) -> list[str]:
    """Lines of a row: ours, medians and reported numbers below, each where there are any."""
    places = [block.place(name, other) for other in block.across]
    cells = [(table.cells.get(p), letters.get(p, "")) if p else (None, "") for p in places]
    first = _line(escape(block.down[name]), [_ours(table, cell) for cell, _ in cells])
    medians = [_median(table, cell) for cell, _ in cells]
    below = [_theirs(cell, letter) for cell, letter in cells]
    further = [_line("", line) for line in (medians, below) if any(line)]
    return [first, *further, *([r"\addlinespace"] if further else [])]


def _parts(rows: list[list[str]]) -> list[list[list[str]]]:
    count = max(-(-len(rows) // _LONG), -(-sum(map(len, rows)) // _LINES), 1)
    size = -(-len(rows) // count) or 1
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _label(table: Table) -> str:
    name = table.name if table.protocol == "paper" else f"{table.name}-{table.protocol}"
    return "tab:" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _line(first: str, others: list[str]) -> str:
    return f"{' & '.join([first, *others])} \\\\"


def _tabular(columns: str, headings: list[str], body: list[str]) -> list[str]:
    while body and body[-1] == r"\addlinespace":
        body = body[:-1]
    return [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        _line("", headings),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _float(
    caption: str,
    label: str,
    grid: list[str],
    below: list[str],
    *,
    room: float = _ROOM,
    again: bool = False,
) -> list[str]:
    """A float whose grid is made as narrow as the page where it is wider, and no wider.

    Notes that need more lines than there is ``room`` for stand behind it: a float breaks over no
    page, a paragraph does.
    """
    lines = [r"\begin{table}[tbp]", r"\centering"]
    lines += [r"\addtocounter{table}{-1}"] if again else []
    lines += [f"\\caption{{{caption}}}", f"\\label{{{label}}}"]
    lines += [r"\sbox0{\small", *(f"  {line}" for line in grid), "}"]
    lines.append(r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi")
    noted = [f"{line}\\par" for line in below]
    if sum(1 + len(line) // _NOTES_WIDTH for line in below) * _NOTES_HEIGHT > room:
        lead = rf"\noindent\emph{{{caption}}}:\par"
        return [*lines, r"\end{table}", "", rf"{{\scriptsize\raggedright {lead}", *noted, "}"]
    if below:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\scriptsize\raggedright"]
        lines += [*noted, r"\end{minipage}"]
    return [*lines, r"\end{table}"]


def _heading(title: str) -> str:
    """A heading in lines of few letters, so that it is no wider than the numbers below it."""
    lines = [escape(line) for line in textwrap.wrap(title, 18, break_long_words=False)]
    stacked = r"\\".join(f"{{{line}}}" for line in lines)
    return lines[0] if len(lines) == 1 else rf"\shortstack[r]{{{stacked}}}"


def _median(table: Table, cell: Cell | None) -> str:
    return "" if cell is None else escape(formatting.median(cell, table.spec.metrics[cell.metric]))


def _ours(table: Table, cell: Cell | None) -> str:
    if cell is None:
        return ""
    shown = escape(formatting.minus(formatting.ours(cell, table.spec.metrics[cell.metric])))
    return rf"\textbf{{{shown}}}" if cell.judged is not None and cell.judged.bold else shown


def _theirs(cell: Cell | None, letters: str) -> str:
    if cell is None:
        return ""
    mark = rf"\textsuperscript{{{letters}}}" if letters else ""
    sign = escape(formatting.sign(cell))
    if cell.judged is not None and cell.judged.kind in _COLOUR and sign:
        sign = rf"\textcolor{{{_COLOUR[cell.judged.kind]}}}{{{sign}}}"
    reported = escape(formatting.minus(formatting.theirs(cell.reported)))
    return " ".join(part for part in (reported, sign + mark) if part)


def _notes(table: Table, marks: list[footnotes.MarkNote]) -> list[str]:
    spec = table.spec
    said = [formatting.table_tally(table)] if table.tally is not None else []
    lines = [escape(" ".join(sentences)) for sentences in said]
    lines.append(
        f"{url(footnotes.source(table))}; protocol \\texttt{{{escape(table.protocol)}}}."
        f" {escape(footnotes.legend(table))}"
    )
    if spec.differs:
        lines.append(rf"\emph{{Why it may differ:}} {escape(spec.differs)}")
    lines += [url(note) for note in [*spec.notes, *footnotes.footnotes(table)]]
    lines += [
        (rf"\textsuperscript{{{m.letter}}}\," if m.letter else "") + escape(m.text) for m in marks
    ]
    if reasons := footnotes.reasons(table):
        level = r"95\,\% interval" if table.looked_at_once else "interval at the level of its look"
        lines.append(rf"\emph{{Not the paper's number}} (ours less reported, {level}):")
        lines += [escape(reason) for reason in reasons]
    return [*lines, rf"\emph{{{escape(formatting.provenance(table))}}}"]


def _claims(table: Table) -> list[str]:
    """Floats of claims, two lines a claim: the statement across the page, below it the numbers."""
    kept = [i for i in claims_text.columns(table.claims) if i >= 3]
    columns = "l" + "".join("r" if i in claims_text.NUMBERS else "l" for i in kept)
    headings = [escape(claims_text.HEADINGS[i]) for i in kept]
    said = formatting.claims_tally(counts.of(table)) if table.tally is not None else ""
    legends = (said, claims_text.legend(table.claims), claims_text.grades(table.claims))
    below = [escape(line) for line in legends if line]
    for claim in table.claims:
        if details := claims_text.details(claim):
            below.append(f"{escape(claim.id)}: {escape('. '.join(details))}")
    pages = _pages(table.claims)
    lines: list[str] = []
    for index, shown in enumerate(pages):
        more = f" (part {index + 1} of {len(pages)})" if len(pages) > 1 else ""
        caption = f"Claims: {escape(table.spec.title)}{more}"
        label = f"{_label(table)}-claims" + (f"-{index + 1}" if index else "")
        body = [line for claim in shown for line in _claim(claim, kept)]
        notes_below = below if index == len(pages) - 1 else []
        grid = _tabular(columns, headings, body)
        room = _HEIGHT - sum(map(_height, shown))
        lines += ["", *_float(caption, label, grid, notes_below, room=room, again=index > 0)]
    return lines[1:]


def _claim(claim: JudgedClaim, kept: list[int]) -> list[str]:
    cells = claims_text.cells(claim)
    where = f" ({escape(cells[2])})" if cells[2] else ""
    # What the number columns take is known to nobody before they are set, a page's width is.
    statement = rf"\parbox[t]{{0.85\linewidth}}{{\raggedright {escape(cells[1])}{where}}}"
    across = rf"\multicolumn{{{len(kept)}}}{{l@{{}}}}{{{statement}}}"
    colour = _CLAIM_COLOUR.get(claim.verdict, "orange")
    verdict = rf"\textcolor{{{colour}}}{{{escape(cells[3])}}}"
    numbers = [verdict, *(escape(cells[i]) for i in kept if i > 3)]
    above = [_line(escape(cells[0]), [across]), r"\addlinespace[2pt]"]
    return [*above, _line("", numbers), r"\addlinespace"]


def _height(claim: JudgedClaim) -> int:
    """Lines that a claim takes on its page."""
    cells = claims_text.cells(claim)
    return 2 + (len(cells[1]) + len(f" ({cells[2]})")) // _WIDTH


def _pages(shown: Sequence[JudgedClaim]) -> list[list[JudgedClaim]]:
    """Claims that fit a page each, by the lines that their statements take."""
    pages: list[list[JudgedClaim]] = [[]]
    filled = 0
    for claim in shown:
        needs = _height(claim)
        if pages[-1] and filled + needs > _HEIGHT:
            pages.append([])
            filled = 0
        pages[-1].append(claim)
        filled += needs
    return pages
