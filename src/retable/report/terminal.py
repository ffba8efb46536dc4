"""A table for a terminal: aligned, verdicts in colour, folded to its width."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from retable.report import claims_text, footnotes, formatting, layout, markdown
from retable.tables.aggregate import Table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid
    from rich.text import Text

NARROW = 40
"""Columns of a terminal that at least are taken for granted."""

_COLOURS = {
    "reproduced": "green",
    "consistent": "green",
    "undecided": "yellow",
    "partial": "yellow",
    "better": "cyan",
    "worse": "red",
    "higher": "magenta",
    "lower": "magenta",
    "diverged": "red",
    "upheld": "green",
    "contradicted": "red",
}
"""Of verdicts on cells and on claims; the others have none."""

_MOST_COLUMNS = 30  # of numbers; the width decides
_GAP = 2  # blanks between columns
_HEADING = 14  # width that a heading may have though all numbers below are narrower
_CLAIM = (0, 1, 3, 4, 5, 7)  # of claims_text.HEADINGS; where it stands and Holm's p are on the page


def shown(table: Table, *, note: str | None = None) -> str:
    """Text of a table for stdout: of a terminal, or Markdown where it goes elsewhere."""
    return (text if sys.stdout.isatty() else markdown.render)(table, note=note)


def text(table: Table, *, note: str | None = None) -> str:
    """Text of a table as wide as the terminal, in colours if stdout is one."""
    width = shutil.get_terminal_size((100, 24)).columns
    return render(table, width=width, colour=sys.stdout.isatty(), note=note)


def render(table: Table, *, width: int, colour: bool = True, note: str | None = None) -> str:
    """Text of a table, with escape sequences for colours.

    Args:
        table: judged.
        width: of the terminal, in characters.
        colour: whether there are escape sequences at all; ``NO_COLOR`` takes colours alone away.
        note: a line under the title, such as where the records come from.
    """
    from rich.console import Console

    console = Console(
        width=max(width, NARROW),
        force_terminal=colour,
        color_system="auto" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as capture:
        for part in _parts(table, console.width, note):
            console.print(part)
    lines = capture.get().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _parts(table: Table, width: int, note: str | None) -> Iterator[RenderableType]:
    from rich.text import Text

    spec = table.spec
    yield Text(spec.title, "bold")
    source = footnotes.source(table)
    yield Text(f"{table.name} · {source} · protocol {table.protocol}", "dim")
    yield Text("")
    if note:
        yield Text(note, "yellow")
    if table.tally is not None:
        yield Text(" ".join(formatting.table_tally(table)))
    marks = footnotes.mark_notes(table)
    yield from _blocks(table, footnotes.letters_of(marks), width)
    yield Text("")
    yield Text(footnotes.legend(table), "dim")
    if spec.differs:
        yield Text(f"Why it may differ: {spec.differs}", "dim")
    below = [*spec.notes, *footnotes.footnotes(table)]
    below += [f"({m.letter}) {m.text}" if m.letter else m.text for m in marks]
    for item in below:
        yield _item(" ".join(item.split()), "dim")
    if reasons := footnotes.reasons(table):
        yield Text("")
        yield Text("Not the paper's number; ours less reported, with its interval:", "bold")
        for reason in reasons:
            yield _item(reason)
    if table.claims:
        yield Text("")
        yield from _claims(table)
    yield Text("")
    yield Text(formatting.provenance(table), "dim")


def _item(content: str, style: str = "") -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table as Grid
    from rich.text import Text

    line = Grid.grid(padding=(0, 1, 0, 0))
    line.add_row(Text("-", style), Text(content, style))
    return Padding(line, 0)


def _blocks(
    table: Table, letters: Mapping[tuple[str, str], str], width: int
) -> Iterator[RenderableType]:
    """Columns that fit side by side, under the same rows as often as it takes."""
    from rich.text import Text

    above = ""
    for block in layout.blocks(table, _MOST_COLUMNS):
        yield Text("")
        if block.title and block.title != above:
            yield Text(block.title, "bold")
        above = block.title
        cells: dict[str, list[Text]] = {}
        for second in block.across:
            places = [block.place(first, second) for first in block.down]
            cells[second] = [
                _content(table, place, letters.get(place, "")) if place else Text("")
                for place in places
            ]
        first_width = min(max(map(len, block.down.values())), max(12, width // 3))
        todo, more = list(block.across), False
        while todo:
            shown, left = list[tuple[str, int]](), width - first_width
            while todo:
                wide = _width(block.across[todo[0]], cells[todo[0]])
                wide = min(wide, width - first_width - _GAP)
                if shown and wide + _GAP > left:
                    break
                left -= wide + _GAP
                shown.append((todo.pop(0), wide))
            grid = _grid()
            grid.add_column("", width=first_width, overflow="fold")
            for name, wide in shown:
                grid.add_column(block.across[name], width=wide, justify="right", overflow="fold")
            for number, title in enumerate(block.down.values()):
                grid.add_row(Text(title), *(cells[name][number] for name, _ in shown))
            if more:
                yield Text("")
            yield grid
            more = True


def _width(heading: str, below: Sequence[Text]) -> int:
    lines = [line.cell_len for text in below for line in text.split("\n")]
    words = [len(word) for word in heading.split()]
    return max([*lines, *words, min(len(heading), _HEADING)])


def _grid() -> Grid:
    from rich import box
    from rich.table import Table as Grid

    return Grid(
        box=box.SIMPLE_HEAD,
        padding=(0, _GAP - 1, 0, 0),  # the box has one of its own
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )


def _content(table: Table, place: tuple[str, str], letters: str) -> Text:
    from rich.text import Text

    cell = table.cells.get(place)
    if cell is None:
        return Text("")
    metric = table.spec.metrics[cell.metric]
    lines = [Text(formatting.ours(cell, metric))]
    if cell.judged is not None and cell.judged.bold:
        lines[0].stylize("bold")
    if median := formatting.median(cell, metric):
        lines.append(Text(median))
    if reported := formatting.theirs(cell.reported):
        line = Text(reported, "dim")
        if (sign := formatting.sign(cell)) and cell.judged is not None:
            line.append(f" {sign}", f"not dim bold {_COLOURS.get(cell.judged.kind, '')}".strip())
        lines.append(line)
    if letters:
        lines[-1].append(f" ({letters})", "dim")
    return Text("\n").join(lines)


def _claims(table: Table) -> Iterator[RenderableType]:
    from rich.text import Text

    kept = [i for i in claims_text.columns(table.claims) if i in _CLAIM]
    grid = _grid()
    for i in kept:
        right = i in claims_text.NUMBERS
        whole = i not in (1, 4)
        grid.add_column(
            claims_text.HEADINGS[i],
            justify="right" if right else "left",
            no_wrap=whole,
            ratio=None if whole else 2 if i == 1 else 1,
            overflow="fold",
        )
    for claim in table.claims:
        shown = claims_text.cells(claim)
        verdict = Text(shown[3], _COLOURS.get(claim.verdict, ""))
        grid.add_row(*(verdict if i == 3 else Text(shown[i]) for i in kept))
    yield grid
    yield Text("")
    if legend := claims_text.legend(table.claims):
        yield Text(legend, "dim")
    for claim in table.claims:
        if details := claims_text.details(claim):
            yield _item(f"{claim.id}: {'. '.join(details)}", "dim")
