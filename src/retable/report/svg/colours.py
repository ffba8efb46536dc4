"""A scale of colours for numbers: viridis, perceptually uniform, readable to the colour-blind."""

from __future__ import annotations

LEVELS = 256
"""Colours that are told apart in a picture."""

ANCHORS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e",
    "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
"""Viridis (S. van der Walt and N. Smith, for matplotlib) at ten equal steps, linear between."""


def level(share: float) -> int:
    """Which of the levels a number has, by its place between the ends of the scale, 0 to 1."""
    return round(min(max(share, 0.0), 1.0) * (LEVELS - 1))


def colour(level: int) -> str:
    """Colour of a level, as ``#rrggbb``."""
    return "#" + "".join(f"{part:02x}" for part in _rgb(level))


def is_dark(level: int) -> bool:
    """Whether white is easier to read than black on a level's colour (contrast of WCAG 2)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in _rgb(level))
    ]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05


def _rgb(level: int) -> list[int]:
    place = level / (LEVELS - 1) * (len(ANCHORS) - 1)
    first = min(int(place), len(ANCHORS) - 2)
    low, high = (
        [int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in ANCHORS[first : first + 2]
    )
    return [round(a + (place - first) * (b - a)) for a, b in zip(low, high, strict=True)]
