"""Verdicts as bars, a line for each paper and protocol: what reproduces, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from retable.report.counts import Counts
from retable.report.svg.canvas import MARGIN, WIDTH, page

_HEAD, _PAPER, _LINE = 30, 24, 38
_LEFT = MARGIN + 12
_CELLS, _CLAIMS, _BAR = 130, 500, 330  # where the bars begin, and how long they are
_THICK = 10
_WRAP, _SMALL = 56, 13  # letters of a line below a bar, and how tall it is
_KEYS, _KEY = 3, 16  # words of the colours' key beside each other, and how tall a line of it is

Part = tuple[str, int, str]
"""Of a bar: verdict, how many, and how it looks."""


@dataclass(frozen=True)
class Line:
    """A paper under one protocol.

    Attributes:
        title: of the paper.
        about: who wrote it when, and its slug.
        protocol: of the tables.
        tally: verdicts of its published tables.
    """

    title: str
    about: str
    protocol: str
    tally: Counts


def render(title: str, lines: Sequence[Line]) -> str:
    """SVG of lines: cells at the left, claims at the right, with the counts below the bars.

    Those of a paper stand under its title, and are to follow each other.
    """
    of_cells, of_claims = (used([part(line.tally) for line in lines]) for part in (cells, claims))
    rows = max(-(-len(parts) // _KEYS) for parts in (of_cells, of_claims))
    y, above = MARGIN + _HEAD + _KEY * rows, None
    body = [
        f'<text class="h" x="{_CELLS}" y="{MARGIN + 12}">cells compared with the paper</text>',
        f'<text class="h" x="{_CLAIMS}" y="{MARGIN + 12}">claims</text>',
        *_key(_CELLS, of_cells),
        *_key(_CLAIMS, of_claims),
    ]
    for line in lines:
        if (line.title, line.about) != above:
            # As wide as letters of these sizes are at most on average.
            room = int((WIDTH - 2 * _LEFT - 6.0 * len(line.about)) / 7.2)
            short = line.title if len(line.title) <= room else f"{line.title[: room - 1]}…"
            body.append(
                f'<text class="h" x="{_LEFT}" y="{y + 12}">{escape(short)}'
                f'<tspan class="s" font-weight="400" dx="8">{escape(line.about)}</tspan></text>'
            )
            above, y = (line.title, line.about), y + _PAPER
        body += [
            f'<text x="{_LEFT}" y="{y + 10}">{escape(line.protocol)}</text>',
            *_labelled(_CELLS, y, cells(line.tally), _without(line)),
            *_labelled(_CLAIMS, y, claims(line.tally), "none"),
        ]
        below = max(len(_below(parts)) for parts in (cells(line.tally), claims(line.tally)))
        y += _LINE + _SMALL * (max(below, 1) - 1)
    about = "; ".join(
        f"{line.title}, protocol {line.protocol}: {said(cells(line.tally)) or 'no cell compared'};"
        f" claims: {said(claims(line.tally)) or 'none'}"
        for line in lines
    )
    return page(title, about, y + MARGIN, body)


def _without(line: Line) -> str:
    return "no number is reported" if line.protocol == "paper" else "not compared"


def cells(tally: Counts) -> list[Part]:
    """Parts of the bar of compared cells."""
    return [
        ("reproduced", tally.reproduced, _look(2)),
        ("consistent", tally.consistent, _look(2, 0.5)),
        ("undecided", tally.undecided, _look(5, 0.55)),
        ("better or worse", tally.different, _look(1)),
    ]


def claims(tally: Counts) -> list[Part]:
    """The same of claims."""
    return [
        ("upheld", tally.upheld, _look(2)),
        ("undecided", tally.claims_undecided, _look(5, 0.55)),
        ("incomplete", tally.claims_incomplete, _look(3, 0.7)),
        ("not run", tally.claims_not_run, _look(3, 0.3)),
        ("not judged", tally.not_judged, _look(5, 0.2)),
        ("contradicted", tally.contradicted, _look(1)),
    ]


def used(bars: Sequence[Sequence[Part]]) -> list[Part]:
    """Parts that some bar has, each once, in the order of the bars."""
    return [
        (name, sum(n for _, n, _ in same), look)
        for same in zip(*bars, strict=True)
        for name, _, look in same[:1]
        if any(n for _, n, _ in same)
    ]


def _key(x: float, parts: Sequence[Part]) -> list[str]:
    """What each colour says, below the heading."""
    out: list[str] = []
    for i, (name, _, look) in enumerate(parts):
        left, y = x + (i % _KEYS) * (_BAR / _KEYS), MARGIN + 22 + (i // _KEYS) * _KEY
        out.append(f'<rect {look} x="{left:.1f}" y="{y}" width="{_THICK}" height="{_THICK}"/>')
        out.append(f'<text class="s" x="{left + 15:.1f}" y="{y + 9}">{escape(name)}</text>')
    return out


def _look(colour: int, opacity: float = 1.0) -> str:
    faint = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
    return f'class="c{colour}" style="stroke:none" fill="currentColor"{faint}'


def bar(x: float, y: float, wide: float, thick: float, parts: Sequence[Part]) -> list[str]:
    """Rectangles beside each other, as wide as their shares of all."""
    total = sum(n for _, n, _ in parts)
    out: list[str] = []
    for name, n, look in parts:
        if n:
            part = wide * n / total
            out.append(
                f'<rect {look} x="{x:.1f}" y="{y:g}" width="{part:.1f}" height="{thick:g}">'
                f"<title>{n} {name}</title></rect>"
            )
            x += part
    return out


def _labelled(x: float, y: float, parts: Sequence[Part], without: str) -> list[str]:
    if not any(n for _, n, _ in parts):
        return [f'<text class="s" x="{x:g}" y="{y + 10:g}">{without}</text>']
    below = [
        f'<text class="s" x="{x:g}" y="{y + 25 + _SMALL * i:g}">{escape(line)}</text>'
        for i, line in enumerate(_below(parts))
    ]
    return [*bar(x, y, _BAR, _THICK, parts), *below]


def _below(parts: Sequence[Part]) -> list[str]:
    """What stands below a bar, in lines that are no longer than it."""
    space = "\N{NO-BREAK SPACE}"  # keeps a count beside its word
    whole = ", ".join(f"{n} {name}".replace(" ", space) for name, n, _ in parts if n)
    return [line.replace(space, " ") for line in wrap(whole, _WRAP)]


def said(parts: Sequence[Part]) -> str:
    """What a bar shows in words; empty where it shows nothing."""
    return ", ".join(f"{n} {name}" for name, n, _ in parts if n)
