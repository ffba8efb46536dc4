"""A table as Markdown: ours above, reported and verdict below, in the paper's layout."""

from __future__ import annotations

import re

from retable.report import claims_text, footnotes, formatting, layout
from retable.report.layout import Block
from retable.report.svg import curves
from retable.tables.aggregate import Table
from retable.tables.cell_map_spec import CellMap
from retable.tables.figure_spec import Figure
from retable.tables.heat_spec import Heat, Image


def render(table: Table, *, note: str | None = None, picture: str | None = None) -> str:
    """Markdown of a table.

    Args:
        table: judged.
        note: a line under the title, such as where the records come from.
        picture: address of its figure.
    """
    spec = table.spec
    lines = [
        f"# {_plain(spec.title)}",
        "",
        f"`{table.name}` · {_plain(footnotes.source(table))} · protocol `{table.protocol}`",
        "",
    ]
    if note:
        lines += [f"**{note}**", ""]
    if table.tally is not None:
        lines += [_plain(" ".join(formatting.table_tally(table))), ""]
    if picture:
        lines += [f"![{_plain(spec.title)}: {_pictured(table)}]({picture})"]
        lines += [""]
    marks = footnotes.mark_notes(table)
    lines += _grids(table, footnotes.letters_of(marks), folded=picture is not None)
    lines += ["", _plain(footnotes.legend(table)), ""]
    if spec.differs:
        lines += [f"*Why it may differ:* {_plain(spec.differs)}", ""]
    below = [_plain(n) for n in [*spec.notes, *footnotes.footnotes(table)]]
    below += [f"{f'<sup>{m.letter}</sup> ' if m.letter else ''}{_plain(m.text)}" for m in marks]
    lines += [f"- {item}" for item in below]
    if reasons := footnotes.reasons(table):
        level = "95 % interval" if table.looked_at_once else "interval, at the level of its look"
        lines += ["", f"**Not the paper's number.** Ours less reported, with its {level}:", ""]
        lines += [f"- {_plain(reason)}" for reason in reasons]
    if table.claims:
        lines += ["", "## Claims", "", *_claims(table)]
    lines += ["", f"*{formatting.provenance(table)}*", ""]
    return "\n".join(lines)


def _pictured(table: Table) -> str:
    """What the picture shows, for who does not see it."""
    figure = table.spec.figure
    if isinstance(figure, CellMap | Heat | Image):
        # Brackets would end the text.
        return _plain(curves.described(table)).replace("[", "(").replace("]", ")")
    if isinstance(figure, Figure) and figure.runs:
        return "a line for each run of ours"
    return f"ours ± {figure.band_text}" if figure else "ours"


def _grids(table: Table, letters: dict[tuple[str, str], str], *, folded: bool) -> list[str]:
    """The cells, block by block; those that the picture shows, where there is one, below a fold."""
    blocks = layout.blocks(table, layout.MOST_COLUMNS)
    lines: list[str] = []
    above = ""
    fold = next((i for i, block in enumerate(blocks) if block.drawn), None) if folded else None
    for number, block in enumerate(blocks):
        if number == fold:
            points = {place for b in blocks if b.drawn for place in b.cells()} & set(table.cells)
            lines += _fold(f"Numbers of the figure ({len(points)} cells)")
        if block.title and block.title != above:
            lines += [f"**{_plain(block.title)}**", ""]
        above = block.title
        lines += [*_grid(table, block, letters), ""]
    return [*lines, "</details>"] if fold is not None else lines[:-1]


def _grid(table: Table, block: Block, letters: dict[tuple[str, str], str]) -> list[str]:
    lines = [
        f"| | {' | '.join(in_cell(title) for title in block.across.values())} |",
        f"| --- |{' ---: |' * len(block.across)}",
    ]
    for first, title in block.down.items():
        parts: list[str] = []
        for second in block.across:
            place = block.place(first, second)
            parts.append(_content(table, place, letters.get(place, "")) if place else "")
        lines.append(f"| {in_cell(title)} | {' | '.join(parts)} |")
    return lines


def _content(table: Table, place: tuple[str, str], letters: str) -> str:
    cell = table.cells.get(place)
    if cell is None:
        return ""
    metric = table.spec.metrics[cell.metric]
    ours = formatting.ours(cell, metric)
    if cell.judged is not None and cell.judged.bold:
        ours = f"**{ours}**"
    theirs = " ".join(
        part for part in (formatting.theirs(cell.reported), formatting.sign(cell)) if part
    )
    lines = [line for line in (ours, formatting.median(cell, metric), theirs) if line]
    return f"{'<br>'.join(lines)}{f' <sup>{letters}</sup>' if letters else ''}"


def _claims(table: Table) -> list[str]:
    kept = claims_text.columns(table.claims)
    aligned = ["---:" if i in claims_text.NUMBERS else "---" for i in kept]
    lines = [
        f"| {' | '.join(claims_text.HEADINGS[i] for i in kept)} |",
        f"| {' | '.join(aligned)} |",
    ]
    for claim in table.claims:
        shown = claims_text.cells(claim)
        lines.append(f"| {' | '.join(in_cell(shown[i]) for i in kept)} |")
    legend = " ".join(
        filter(None, (claims_text.legend(table.claims), claims_text.grades(table.claims)))
    )
    if legend:
        lines += ["", _plain(legend)]
    lines.append("")
    for claim in table.claims:
        if details := claims_text.details(claim):
            lines.append(f"- {_plain(claim.id)}: {_plain('. '.join(details))}")
    return [*lines, *_compared(table)]


def _compared(table: Table) -> list[str]:
    """What each claim was taken to say, below a fold."""
    heads = ("claim", *claims_text.COMPARED)
    rows = [(c.id, *one) for c in table.claims for one in claims_text.compared(c)]
    kept = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    if not rows:
        return []
    lines = [f"| {' | '.join(heads[i] for i in kept)} |", f"|{' --- |' * len(kept)}"]
    lines += [f"| {' | '.join(in_cell(row[i]) for i in kept)} |" for row in rows]
    return ["", *_fold("What was compared"), *lines, "", "</details>"]


def _fold(title: str) -> list[str]:
    return ["<details>", f"<summary>{title}</summary>", ""]


def in_cell(content: str) -> str:
    """Text inside a Markdown table: no bars, no line breaks, no HTML."""
    return _plain(content).replace("|", "\\|")


def _plain(content: str) -> str:
    """Text in one line that stays text: no HTML, no emphasis, no code, no links."""
    line = " ".join(content.replace("&", "&amp;").replace("<", "&lt;").split())
    line = re.sub(r"[*`]|(?<!\w)_|_(?!\w)", lambda found: f"\\{found[0]}", line)
    return line.replace("](", "]\\(")
