"""The values of a cell on a line, with the reported one: a small drawing without any script."""

from __future__ import annotations

from dataclasses import dataclass

from retable.tables.aggregate import Cell

WIDTH, HEIGHT, _EDGE = 480, 84, 16
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Strip:
    """Coordinates of the drawing, in its own units.

    Attributes:
        dots: a value each; moved up and down so that equal ones show.
        mean: x of our mean.
        ours: x from and to of mean +- standard deviation; None where there is none.
        reported: x of the reported value; None where there is none.
        theirs: x from and to of the reported spread.
        low: smallest number that the axis shows, at ``x0``.
        high: largest, at ``x1``.
    """

    dots: list[tuple[float, float]]
    mean: float
    ours: tuple[float, float] | None
    reported: float | None
    theirs: tuple[float, float] | None
    low: float
    high: float
    x0: float = _EDGE
    x1: float = WIDTH - _EDGE


def strip(cell: Cell) -> Strip | None:
    """The drawing of a cell; None where all its numbers are one."""
    if cell.mean is None:
        return None
    reported = None if cell.reported is None else float(cell.reported.value)
    spread = cell.reported.spread if cell.reported else None
    theirs = None if spread is None or reported is None else _around(reported, float(spread))
    ours = None if cell.std is None else _around(cell.mean, cell.std)
    values = _shown(cell, cell.mean)
    numbers = [*values, *(ours or ()), *(theirs or ())]
    numbers += [] if reported is None else [reported]
    low, high = min(numbers), max(numbers)
    if not low < high:
        return None

    def x(value: float) -> float:
        return round(_EDGE + (WIDTH - 2 * _EDGE) * (value - low) / (high - low), 2)

    return Strip(
        dots=[
            (x(value), round(30 + 16 * (i * _GOLDEN % 1 - 0.5), 2))
            for i, value in enumerate(values)
        ],
        mean=x(cell.mean),
        ours=None if ours is None else (x(ours[0]), x(ours[1])),
        reported=None if reported is None else x(reported),
        theirs=None if theirs is None else (x(theirs[0]), x(theirs[1])),
        low=low,
        high=high,
    )


def _shown(cell: Cell, mean: float) -> list[float]:
    """The values; of a cell relative to another row each recorded one over that row's mean."""
    if not cell.raw:
        return list(cell.values.values())
    recorded = [cell.raw[seed] for seed in cell.values if seed in cell.raw]
    total = sum(recorded)
    return [value * mean * len(recorded) / total for value in recorded] if total else recorded


def _around(middle: float, spread: float) -> tuple[float, float]:
    return middle - spread, middle + spread
