"""COMPAS recidivism within two years: 8 inputs, label rearrest, group race."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retable.papers.superhuman_fairness.tabular import (
    codes,
    numbers,
    one_hot,
    position,
    read_rows,
    standardized,
)
from retable.papers.superhuman_fairness.units import Units
from retable.util.errors import UserError

_AGES = ("25 - 45", "Greater than 45", "Less than 25")
_RACES = ("African-American", "Caucasian")
_SEXES = ("Female", "Male")
_DEGREES = ("F", "M")
_LABELS = ("0", "1")
_DAYS = 30  # between arrest and screening


def encode_compas(path: Path) -> Units:
    """Encode the rows that ProPublica's own analysis keeps, of the two groups.

    Kept: at most 30 days between arrest and screening, a known outcome, a charge that is no
    ordinary traffic offence, a score. Columns: 1, age group (three, one-hot), race, sex,
    number of prior offences (standardised over the kept rows), degree of the charge.

    Args:
        path: ``compas-scores-two-years.csv``.

    Returns:
        ``x (n, 8)``, ``y`` 1 for rearrest within two years, ``a`` 1 for Caucasians.

    Raises:
        UserError: naming file, line and column of what cannot be read.
    """
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path}: is empty")
    (_, header), rows = rows[0], rows[1:]
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{path}, line {line}: has {len(row)} fields, expected {len(header)}")
    at = {
        name: position(name, header, path)
        for name in (
            *("days_b_screening_arrest", "is_recid", "c_charge_degree", "score_text", "race"),
            *("age_cat", "sex", "priors_count", "two_year_recid"),
        )
    }
    days = at["days_b_screening_arrest"]
    rows = [(line, row) for line, row in rows if row[days] != ""]
    near = np.abs(numbers(rows, days, "days_b_screening_arrest", path)) <= _DAYS
    rows = [
        (line, row)
        for (line, row), close in zip(rows, near.tolist(), strict=True)
        if close
        and row[at["is_recid"]] != "-1"
        and row[at["c_charge_degree"]] != "O"
        and row[at["score_text"]] != "N/A"
        and row[at["race"]] in _RACES
    ]

    def code(name: str, choices: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return codes(rows, at[name], name, path, choices)

    race = code("race", _RACES)
    x = np.column_stack(
        [
            np.ones(len(rows)),
            one_hot(code("age_cat", _AGES), len(_AGES)),
            race.astype(np.float64),
            code("sex", _SEXES).astype(np.float64),
            standardized(numbers(rows, at["priors_count"], "priors_count", path)),
            code("c_charge_degree", _DEGREES).astype(np.float64),
        ]
    )
    return Units(x, code("two_year_recid", _LABELS).astype(np.int8), race.astype(np.int8))
