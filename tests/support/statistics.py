"""What the tests of the statistics share."""

from __future__ import annotations

from retable.tables.results import Difference, Reading, VerdictKind
from retable.tables.verdicts.cell import difference, verdict
from retable.tables.verdicts.contrast import Arm
from retable.tables.verdicts.reported import decimals_of


def reading(
    value: float, std: float | None = None, n: int = 1, h: float = 0.0, text: str = ""
) -> Reading:
    """A reported number as the formulas take it."""
    return Reading(value, std, n, False, h, text)


def near(found: float | None, text: str) -> bool:
    """Whether a number is the printed one, give or take one in its last digit."""
    assert found is not None
    return abs(found - float(text)) <= 10.0 ** -decimals_of(text) * (1 + 1e-9)


def by_seed(*values: float) -> dict[int, float]:
    """Values of seeds 0, 1, 2 ..."""
    return dict(enumerate(values))


R129 = reading(1.29, 0.08, 6, 0.005)
R827 = reading(8.27, None, 1, 0.005)
R9748 = reading(97.48, None, 50, 0.005)


def judged(
    mean: float,
    std: float | None,
    n: int,
    reported: Reading,
    margin: float,
    direction: str = "none",
    quantum: float | None = None,
    ideal: float | None = None,
) -> tuple[Difference, VerdictKind]:
    """Difference and verdict of a cell."""
    found = difference(mean, std, n, reported, quantum=quantum)
    kind = verdict(found, n, margin, direction, mean=mean, reported=reported.value, ideal=ideal)
    return found, kind


def two(a: dict[int, float], b: dict[int, float], factor: float = 1.0) -> list[Arm]:
    """The claim that a is above b, or above a multiple of it."""
    return [Arm(1.0, a), Arm(-factor, b)]
