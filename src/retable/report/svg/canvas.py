"""Common parts of drawn figures: page, colours, marks, legend."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import wrap

WIDTH = 860
MARGIN = 14
_LEGEND = 22
_LINE = 15

# Okabe and Ito's colours, told apart by people who confuse red and green; lighter on dark pages.
_COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9a4d"),
    ("#009e73", "#3fcf9f"),
    ("#b2568f", "#e69ac6"),
    ("#8a6d00", "#e0c23f"),
    ("#555555", "#b8b8b8"),
)
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 4")
_STYLE = (
    "text{{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#3d444d}}"
    ".h{{font-weight:600;fill:#1f2328}}.s{{font-size:11px}}"
    ".bg{{fill:#fff;stroke:#d1d9e0}}.g{{stroke:#e4e8ec}}.a{{stroke:#818b98}}"
    "polyline{{fill:none;stroke-width:1.8;stroke-linejoin:round}}.b{{stroke:none;opacity:.16}}"
    ".o{{fill:#fff;stroke-width:1.5}}{light}"
    "@media(prefers-color-scheme:dark){{text{{fill:#b7bdc8}}.h{{fill:#f0f6fc}}"
    ".bg{{fill:#0d1117;stroke:#3d444d}}.g{{stroke:#21262d}}.a{{stroke:#656c76}}.o{{fill:#0d1117}}"
    ".b{{opacity:.24}}{dark}}}"
)


def page(title: str, about: str, height: float, body: Sequence[str]) -> str:
    """A whole SVG file, readable on light and dark pages, with title and description."""
    light, dark = (
        "".join(f".c{i}{{stroke:{c[k]};color:{c[k]}}}" for i, c in enumerate(_COLOURS))
        for k in (0, 1)
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}"'
            f' width="{WIDTH}" height="{height:g}" role="img" aria-labelledby="t d">',
            f'<title id="t">{escape(title)}</title>',
            f'<desc id="d">{escape(about)}</desc>',
            f"<style>{_STYLE.format(light=light, dark=dark)}</style>",
            f'<rect class="bg" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:g}" rx="6"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def colour(index: int) -> int:
    """Number of the colour's class of the ``index``-th look."""
    return index % len(_COLOURS)


def dash(index: int) -> str:
    """The dashes of a look as an attribute; where colours begin again, each has the next one."""
    number = (index + index // len(_COLOURS)) % len(_DASHES)
    return f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""


def mark(index: int, x: float, y: float, size: float, *, filled: bool) -> str:
    """Circle, square, diamond, triangle, triangle downwards by line: not colour alone."""
    style = (
        f'class="c{colour(index)}" fill="currentColor"' if filled else f'class="o c{colour(index)}"'
    )
    s, d, t = size, 1.3 * size, 1.2 * size
    match index % 5:
        case 0:
            return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="{s:g}"/>'
        case 1:
            path = f"m{-s:g} {-s:g}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z"
        case 2:
            path = f"m0 {-d:g}l{d:g} {d:g}l{-d:g} {d:g}l{-d:g} {-d:g}z"
        case 3:
            path = f"m0 {-t:g}l{t:g} {1.75 * t:g}h{-2 * t:g}z"
        case _:
            path = f"m0 {t:g}l{t:g} {-1.75 * t:g}h{-2 * t:g}z"
    return f'<path {style} d="M{x:.1f} {y:.1f}{path}"/>'


def legend(entries: dict[int, str], about: str, *, lines: bool = True) -> tuple[list[str], int]:
    """Keys by number of the look, wrapped, with a line of text below, and their height in all."""
    out: list[str] = []
    x, y = float(MARGIN + 12), MARGIN + 12
    for index, title in sorted(entries.items()):
        needed = 44 + 6.2 * len(title)
        if x + needed > WIDTH - MARGIN and x > MARGIN + 12:
            x, y = float(MARGIN + 12), y + _LEGEND
        if lines:
            out.append(
                f'<polyline class="c{colour(index)}"{dash(index)}'
                f' points="{x:.1f},{y - 4} {x + 26:.1f},{y - 4}"/>'
            )
        out.append(mark(index, x + 13, y - 4, 2.8 if lines else 4.0, filled=True))
        out.append(f'<text x="{x + 32:.1f}" y="{y}">{escape(title)}</text>')
        x += needed + 10
    for number, line in enumerate(wrap(about, 140)):
        y += _LINE if number else _LEGEND
        out.append(f'<text class="s" x="{MARGIN + 12}" y="{y}">{escape(line)}</text>')
    return out, y + 8 - MARGIN
