"""Which rows and columns of a table are shown, which of them go down, and in which parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from retable.tables.aggregate import Table
from retable.tables.figure_spec import Figure, Panel
from retable.tables.results import CellId
from retable.tables.spec_parts import Column, Row
from retable.util.text import counted

MOST_COLUMNS = 9
"""Columns of numbers beside each other on a page; what does not fit there is read by nobody."""

_NAMED = 4
"""Lines left out that are named; of more, some are, and how many there are besides."""


@dataclass(frozen=True)
class Block:
    """Part of a table under a heading.

    Attributes:
        title: the heading; empty where there is none.
        down: titles by name of what goes down.
        across: of what goes across.
        columns_down: whether it is the table's columns that go down.
        drawn: whether its cells are points of the figure.
        elsewhere: cells that another part shows.
    """

    title: str
    down: dict[str, str]
    across: dict[str, str]
    columns_down: bool
    drawn: bool = False
    elsewhere: frozenset[CellId] = frozenset()

    def place(self, down: str, across: str) -> CellId | None:
        """The cell, by row and column, at a place of the block; None for one shown elsewhere."""
        place = (across, down) if self.columns_down else (down, across)
        return None if place in self.elsewhere else place

    def turned(self) -> Block:
        """What went down goes across."""
        return replace(self, down=self.across, across=self.down, columns_down=not self.columns_down)

    def cells(self) -> Iterator[CellId]:
        """Its places, whether there is a cell or not."""
        places = (self.place(first, second) for first in self.down for second in self.across)
        return (place for place in places if place is not None)

    def of(self, cells: Collection[CellId]) -> Block:
        """The block without lines that have none of some cells."""
        used = {place for place in self.cells() if place in cells}
        rows, columns = {row for row, _ in used}, {column for _, column in used}
        down, across = (columns, rows) if self.columns_down else (rows, columns)
        return replace(
            self,
            down={name: title for name, title in self.down.items() if name in down},
            across={name: title for name, title in self.across.items() if name in across},
        )


def blocks(table: Table, most: int) -> list[Block]:
    """A table in parts of at most so many columns of numbers: first what no figure draws.

    Columns whose titles begin alike, up to a comma, are a part, where there are too many. The
    points of a figure of lines follow panel by panel, each under its panel's title, which their own
    titles do not repeat; where there are more of them than ``most``, they go down.
    """
    down, across = sides(table)
    whole = Block("", down, across, columns_down=table.spec.transposed)
    figure = table.spec.figure
    if not isinstance(figure, Figure):
        return _split(whole, most)
    drawn: set[CellId] = set()
    panels: list[Block] = []
    for panel in figure.panels:
        block = replace(_of_panel(whole, figure, panel), elsewhere=frozenset(drawn))
        drawn |= set(block.cells())
        block = block.of(table.cells)
        if block.down:
            turn = len(block.across) > most >= len(block.down)
            panels.append(block.turned() if turn else block)
    rest = replace(whole, elsewhere=frozenset(drawn)).of(table.cells)
    found = [rest, *panels] if rest.down else panels
    return [part for block in found for part in _split(block, most)] or [whole]


def _of_panel(whole: Block, figure: Figure, panel: Panel) -> Block:
    """Points and lines of a panel, as the whole table has them down and across."""
    points_down = whole.columns_down == (figure.lines == "rows")
    points, lines = (whole.down, whole.across) if points_down else (whole.across, whole.down)
    titles = {name: points[name] for name in panel.points if name in points}
    short = {name: title.removeprefix(panel.title) for name, title in titles.items()}
    if panel.title and all(short[n] != t and short[n].strip(" ,:") for n, t in titles.items()):
        titles = {name: title.strip(" ,:") for name, title in short.items()}
    own = {n: t for n, t in lines.items() if panel.only is None or n in panel.only}
    down, across = (titles, own) if points_down else (own, titles)
    return replace(whole, title=panel.title, down=down, across=across, drawn=True)


def _split(block: Block, most: int) -> list[Block]:
    """Narrow parts: by what titles have in common before a comma, else by number."""
    if len(block.across) <= most:
        return [block]
    groups: dict[str, dict[str, str]] = {}
    for name, title in block.across.items():
        group, _, own = title.rpartition(", ")
        groups.setdefault(group, {})[name] = own
    largest = max(map(len, groups.values()))
    if "" not in groups and 1 < largest <= most:
        return [
            replace(block, title=", ".join(filter(None, (block.title, group))), across=own)
            for group, own in groups.items()
        ]
    names = list(block.across)
    parts = -(-len(names) // most)
    each = -(-len(names) // parts)
    return [
        replace(block, across={name: block.across[name] for name in names[start : start + each]})
        for start in range(0, len(names), each)
    ]


def sides(table: Table) -> tuple[dict[str, str], dict[str, str]]:
    """Titles by name of what goes down and of what goes across.

    A row or column of which the protocol runs nothing and nothing is reported has no cell; it is
    left out, and :func:`left_out` says so.
    """
    rows, columns = _shown(table)
    return (columns, rows) if table.spec.transposed else (rows, columns)


def place(table: Table, down: str, across: str) -> CellId:
    """The cell, by row and column, at a place of the laid out table; and the other way round."""
    return (across, down) if table.spec.transposed else (down, across)


def left_out(table: Table) -> list[str]:
    """A sentence on rows and one on columns that are not shown, as they would be laid out."""
    rows, columns = _shown(table)
    spec, found = table.spec, list[str]()
    words = ("column", "row") if spec.transposed else ("row", "column")
    parts = ((spec.rows, rows), (spec.columns, columns))
    for what, (known, shown) in zip(words, parts, strict=True):
        gone = [part.title or name for name, part in known.items() if name not in shown]
        if gone:
            named = gone if len(gone) <= _NAMED else gone[: _NAMED - 1]
            more = f"; and {len(gone) - len(named)} more" if len(gone) > len(named) else ""
            listed = "; ".join(named)
            found.append(
                f"Protocol {table.protocol} does not run {counted(len(gone), what)} of the table:"
                f" {listed}{more}"
            )
    return found


def _shown(table: Table) -> tuple[dict[str, str], dict[str, str]]:
    spec = table.spec
    rows, columns = (
        _titles(parts, {place[side] for place in table.cells})
        for side, parts in enumerate((spec.rows, spec.columns))
    )
    return rows, columns


def _titles(parts: Mapping[str, Row] | Mapping[str, Column], used: Iterable[str]) -> dict[str, str]:
    titles = {name: part.title or name for name, part in parts.items()}
    return {name: title for name, title in titles.items() if name in used} or titles
