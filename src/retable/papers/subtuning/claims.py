"""The paper's own tests of claims: a number per seed, positive where the seed supports it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

Values = Mapping[tuple[str, str], Mapping[int, float]]
"""Of a table: values by row and column, by seed."""


def less_sensitive(values: Values) -> dict[int, float]:
    """The least standard deviation over the corruptions of another method, less SubTuning's.

    Positive where SubTuning's accuracy varies least with the corruption.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*values, strict=True))
    found: dict[int, float] = {}
    for seed in _seeds(values):
        spread = {
            row: statistics.stdev(values[row, column][seed] for column in columns) for row in rows
        }
        own = spread.pop("subtuning")
        found[seed] = min(spread.values()) - own
    return found


def mostly_b1(values: Values) -> dict[int, float]:
    """Share of corruptions whose second pick is B1, less that of the most frequent other block."""
    found: dict[int, float] = {}
    for seed in _seeds(values):
        picks = Counter(round(by_seed[seed]) for by_seed in values.values())
        first = picks.pop(1, 0)
        found[seed] = (first - max(picks.values(), default=0)) / len(values)
    return found


def _seeds(values: Values) -> list[int]:
    """Seeds that all cells have."""
    return sorted(set[int].intersection(*(set(by_seed) for by_seed in values.values())))
