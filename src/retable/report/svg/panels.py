"""What pictures of arrays have in common: panels in words, and rows of cells as stretches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from itertools import groupby
from textwrap import wrap
from typing import TypeVar

from retable.tables.heat_maps import HeatMap

_T = TypeVar("_T")

STYLE = ".q{shape-rendering:crispEdges;fill:none}.n{fill:none;stroke:#818b98;stroke-dasharray:3 3}"
"""Classes of cells without seams (q), and of what is missing (n)."""


def described(
    what: str, found: Iterable[HeatMap], said: Callable[[HeatMap], str], protocol: str
) -> str:
    """What a picture shows, for who does not see it.

    Args:
        what: all panels show.
        found: the panels.
        said: on one that has something to show.
        protocol: of the table.
    """
    parts = [what]
    for one in found:
        shown = f"nothing, {one.why}" if one.mean is None else said(one)
        parts.append(f"{title_of(one)}: {shown}")
    return f"{'; '.join(parts)}; protocol {protocol}"


def title_of(one: HeatMap) -> str:
    """A panel's title, or else its cell."""
    return one.panel.title or f"{one.panel.row}, {one.panel.column}"


def empty(why: str, size: tuple[float, int], letters: int) -> list[str]:
    """A dashed frame with the reason why a panel has nothing to show.

    Args:
        why: in words.
        size: width and height.
        letters: that a line has room for.
    """
    width, height = size
    out = [f'<rect class="n" x=".5" y=".5" width="{width - 1:g}" height="{height - 1}"/>']
    for number, line in enumerate(wrap(f"Nothing to show: {why}", letters)[: (height - 10) // 15]):
        out.append(f'<text class="s" x="10" y="{20 + 15 * number}">{escape(line)}</text>')
    return out


def stretches(row: Iterable[_T]) -> Iterator[tuple[_T, int, int]]:
    """Neighbours that are equal: what they are, the first of them, and how many."""
    first = 0
    for value, group in groupby(row):
        count = sum(1 for _ in group)
        yield value, first, count
        first += count
