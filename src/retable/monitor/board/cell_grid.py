"""The cells of a table that fills in, in as much detail as a terminal has room for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from retable.monitor.board.state_bar import bar
from retable.monitor.board.view import View
from retable.monitor.state import OPEN, State
from retable.report import formatting as words
from retable.tables.aggregate import Cell
from retable.tables.results import CellId
from retable.tables.select import is_undecided
from retable.util.errors import brief

_BAR = 8
_SHORT_BAR = 4
_GAP = 2
_CORNER = "ours, reported"
_TITLE = 12
"""A column is at least so wide, where its title is."""


def fit(content: str | Text, width: int, style: str = "", *, right: bool = False) -> Text:
    """A text of exactly so many columns; what is too long ends in an ellipsis."""
    text = Text(content, style) if isinstance(content, str) else content.copy()
    text.truncate(width, overflow="ellipsis" if width else "crop")
    room = width - text.cell_len
    text.pad_left(room) if right else text.pad_right(room)
    return text


@dataclass(frozen=True)
class _Content:
    """Content of a cell: how many of its runs are done, the number, and the reported one."""

    bar: Text
    short: Text
    count: str
    number: str
    style: str
    reported: str

    def lines(self, layout: _Layout, widths: _Widths) -> list[Text]:
        """As many lines as the layout has."""
        space = Text(" " * _GAP)
        bar_ = fit(self.bar if layout.long else self.short, widths.bar)
        count = fit(self.count, widths.count, right=True)
        number = fit(self.number, widths.number, self.style, right=True)
        reported = fit(self.reported, widths.reported, "dim")
        first = Text(" ").join([part for part in (bar_, count) if part])
        second = space.join([part for part in (number, reported) if part])
        lines = [first, second]
        if layout.one_line:
            lines = [space.join([part for part in lines if part])]
        return [fit(line, widths.all) for line in lines]


_EMPTY = _Content(Text(), Text(), "", "", "", "")


@dataclass(frozen=True)
class _Layout:
    """Layout of a cell: how much of it is shown, and in how many lines."""

    one_line: bool
    reported: bool
    long: bool


_LAYOUTS = (_Layout(True, True, True), _Layout(False, True, True), _Layout(False, False, False))


@dataclass(frozen=True)
class _Widths:
    """Columns of the parts of the cells that stand below each other, and of all."""

    bar: int
    count: int
    number: int
    reported: int
    all: int

    @classmethod
    def of(cls, title: str, cells: Sequence[_Content], layout: _Layout) -> _Widths:
        """As wide as the widest of each part."""

        def most(part: Callable[[_Content], int]) -> int:
            return max((part(cell) for cell in cells), default=0)

        bar_ = most(lambda c: (c.bar if layout.long else c.short).cell_len)
        count, number = most(lambda c: len(c.count)), most(lambda c: len(c.number))
        reported = most(lambda c: len(c.reported)) if layout.reported else 0
        first, second = bar_ + 1 + count, number + reported + _GAP * bool(number and reported)
        first = first if count else 0  # of a column that is reported only
        whole = first + second + _GAP * bool(first and second)
        whole = whole if layout.one_line else max(first, second)
        return cls(bar_, count, number, reported, max(whole, min(len(title), _TITLE)))


def grid_lines(view: View, width: int, height: int | None) -> list[Text]:
    """The table's rows and columns; what has no room is said in a last line.

    Rows and columns with something going on come first where not all can be shown.

    Args:
        view: the table.
        width: columns of the terminal.
        height: lines that there are, at least three; None: as many as are needed.
    """
    spec = view.status.grid.spec
    rows = {name: brief(row.title or name, 60) for name, row in spec.rows.items()}
    columns = {name: brief(column.title or name, 60) for name, column in spec.columns.items()}
    down, across = (columns, rows) if spec.transposed else (rows, columns)
    place = (lambda d, a: (a, d)) if spec.transposed else (lambda d, a: (d, a))
    contents = {(d, a): _content(view, place(d, a)) for d in down for a in across}
    down = [d for d in down if any(contents[d, a] for a in across)]
    across = [a for a in across if any(contents[d, a] for d in down)]
    busy = {at for at in contents if _is_busy(view, place(*at))}
    titles = {**rows, **columns}
    longest = max((len(titles[d]) for d in down), default=0)
    corner = _CORNER if any(c and c.count and c.reported for c in contents.values()) else ""
    left = min(max(longest, len(corner)), max(_TITLE, width // 4))
    cells = {a: [contents[d, a] or _EMPTY for d in down] for a in across}
    busy_columns = {a for a in across if any((d, a) in busy for d in down)}
    layout, widths, room = _arranged(titles, cells, busy_columns, width - left)
    fitting = list(widths)
    left += min(max(longest - left, 0), room)
    rows_lines = {
        d: _row(
            titles[d], left, [(contents[d, a] or _EMPTY).lines(layout, widths[a]) for a in fitting]
        )
        for d in down
    }
    shown = down
    most = None if height is None else height - 1
    if (
        most is not None
        and sum(map(len, rows_lines.values())) + (len(fitting) < len(across)) > most
    ):
        first = sorted(down, key=lambda d: not any((d, a) in busy for a in across))
        ends = itertools.accumulate(len(rows_lines[d]) for d in first)
        shown = first[: max(sum(end < most for end in ends), 1)]
    lines = _row(
        corner if layout.reported else "",
        left,
        [[fit(titles[a], widths[a].all, "bold")] for a in fitting],
    )
    lines += [line for d in shown for line in rows_lines[d]]
    more = [_more(len(down) - len(shown), "row"), _more(len(across) - len(fitting), "column")]
    if any(more):
        lines.append(Text(f"and {' and '.join(filter(None, more))}", "dim"))
    return [fit(line, width) if line.cell_len > width else line for line in lines]


def _row(title: str, left: int, cells: Sequence[Sequence[Text]]) -> list[Text]:
    """The lines of a row; those below the first only where there is something in them."""
    space = Text(" " * _GAP)
    lines: list[Text] = []
    for number, parts in enumerate(zip(*cells, strict=True)):
        if number == 0 or any(part.plain.strip() for part in parts):
            start = fit(title if number == 0 else "", left)
            lines.append(Text.assemble(start, *(p for part in parts for p in (space, part))))
    return lines


def _more(n: int, what: str) -> str:
    return f"{n} more {what}{'s' if n > 1 else ''}" if n else ""


def _arranged(
    titles: Mapping[str, str], cells: Mapping[str, list[_Content]], busy: set[str], room: int
) -> tuple[_Layout, dict[str, _Widths], int]:
    """The fullest layout in which all columns have room, and what is left of that.

    Where they have room in none, the last one with as many columns as fit, busy ones first.
    """
    layout, widths, fitting = _LAYOUTS[-1], dict[str, _Widths](), list[str]()
    for layout in _LAYOUTS:
        widths = {a: _Widths.of(titles[a], some, layout) for a, some in cells.items()}
        fitting = _fitting(widths, busy, room)
        if len(fitting) == len(cells):
            break
    room = max(room - sum(widths[a].all + _GAP for a in fitting), 0)
    found: dict[str, _Widths] = {}
    for a in fitting:  # what is left goes to titles that were cut
        extra = min(max(len(titles[a]) - widths[a].all, 0), room)
        found[a], room = replace(widths[a], all=widths[a].all + extra), room - extra
    return layout, found, room


def _fitting(widths: Mapping[str, _Widths], busy: set[str], room: int) -> list[str]:
    """Columns that there is room for, in the table's order; at least one."""
    chosen: set[str] = set()
    for a in sorted(widths, key=lambda a: a not in busy):
        room -= widths[a].all + _GAP
        if room < 0 and chosen:
            break
        chosen.add(a)
    return [a for a in widths if a in chosen]


def _is_busy(view: View, place: CellId) -> bool:
    return any(view.counts.get(place, {}).get(state) for state in OPEN)


def _content(view: View, place: CellId) -> _Content | None:
    cell, plan = view.table.cells.get(place), view.status.grid.cells.get(place)
    if cell is None:
        return None
    reported = _reported(cell)
    if plan is None:
        return _Content(Text(), Text(), "", _number(view, cell), "", reported)
    counts = view.counts[place]
    total, done = sum(counts.values()), counts[State.DONE]
    number, style = _number(view, cell), "bold" if done == total else ""
    if is_undecided(plan):
        number, style = "tuning", "dim"
    return _Content(
        bar(counts, _BAR), bar(counts, _SHORT_BAR), f"{done}/{total}", number, style, reported
    )


def _number(view: View, cell: Cell) -> str:
    metric = view.table.spec.metrics[cell.metric]
    if cell.mean is None:
        return ""
    number = words.number(cell.mean, metric, cell.reported)
    if cell.std is None:
        return number
    return f"{number} ± {words.number(cell.std, metric, cell.reported)}"


def _reported(cell: Cell) -> str:
    if cell.reported is None:
        return ""
    spread = f" ± {cell.reported.spread}" if cell.reported.spread else ""
    return brief(f"{cell.reported.value}{spread}{words.GRADE_MARK[cell.reported.grade]}", 30)
