"""Adult census income: 109 inputs, label income above 50,000, group gender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retable.papers.superhuman_fairness.tabular import (
    Rows,
    codes,
    numbers,
    one_hot,
    read_rows,
    standardized,
)
from retable.papers.superhuman_fairness.units import Units
from retable.util.errors import UserError

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status"),
    *("occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"),
    *("hours-per-week", "native-country", "income"),
)
"""Fields of a line of the files, which have no header."""

CONTINUOUS = (
    *("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"),
)

CATEGORIES: dict[str, tuple[str, ...]] = {
    "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
    "workclass": (
        *("?", "Federal-gov", "Local-gov", "Never-worked", "Private", "Self-emp-inc"),
        *("Self-emp-not-inc", "State-gov", "Without-pay"),
    ),
    "education": (
        *("10th", "11th", "12th", "1st-4th", "5th-6th", "7th-8th", "9th", "Assoc-acdm"),
        *("Assoc-voc", "Bachelors", "Doctorate", "HS-grad", "Masters", "Preschool"),
        *("Prof-school", "Some-college"),
    ),
    "marital-status": (
        *("Divorced", "Married-AF-spouse", "Married-civ-spouse", "Married-spouse-absent"),
        *("Never-married", "Separated", "Widowed"),
    ),
    "occupation": (
        *("?", "Adm-clerical", "Armed-Forces", "Craft-repair", "Exec-managerial"),
        *("Farming-fishing", "Handlers-cleaners", "Machine-op-inspct", "Other-service"),
        *("Priv-house-serv", "Prof-specialty", "Protective-serv", "Sales", "Tech-support"),
        "Transport-moving",
    ),
    "relationship": (
        *("Husband", "Not-in-family", "Other-relative", "Own-child", "Unmarried", "Wife"),
    ),
    "native-country": (
        *("?", "Cambodia", "Canada", "China", "Columbia", "Cuba", "Dominican-Republic"),
        *("Ecuador", "El-Salvador", "England", "France", "Germany", "Greece", "Guatemala"),
        *("Haiti", "Holand-Netherlands", "Honduras", "Hong", "Hungary", "India", "Iran"),
        *("Ireland", "Italy", "Jamaica", "Japan", "Laos", "Mexico", "Nicaragua"),
        *("Outlying-US(Guam-USVI-etc)", "Peru", "Philippines", "Poland", "Portugal"),
        *("Puerto-Rico", "Scotland", "South", "Taiwan", "Thailand", "Trinadad&Tobago"),
        *("United-States", "Vietnam", "Yugoslavia"),
    ),
}
"""Values of each one-hot column, in the order of the inputs; ``?`` is the category of unknown."""

_GENDERS = ("Male", "Female")  # 1 and 2 as an input, 0 and 1 as the group
_LABELS = ("<=50K", ">50K")
_OVER = 25


def encode_adult(paths: Sequence[Path]) -> Units:
    """Encode the files together; continuous columns are standardised over all rows.

    Columns: the six of :data:`CONTINUOUS`, the one-hot ones of :data:`CATEGORIES`, whether the
    age is below 25 and whether it is not, gender as 1 (male) or 2 (female).

    Args:
        paths: ``adult.data`` and ``adult.test``; the labels of the latter may end in a full stop,
            and its first line may be a comment.

    Returns:
        ``x (n, 109)``, ``y`` 1 above 50,000, ``a`` 1 for women.

    Raises:
        UserError: naming file, line and column of what cannot be read.
    """
    parts = [_columns(path) for path in paths]
    column = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    age = column["age"]
    x = np.column_stack(
        [
            *(standardized(column[name]) for name in CONTINUOUS),
            *(one_hot(column[name].astype(np.int64), len(CATEGORIES[name])) for name in CATEGORIES),
            (age < _OVER).astype(np.float64),
            (age >= _OVER).astype(np.float64),
            column["sex"] + 1,
        ]
    )
    return Units(x, column["income"].astype(np.int8), column["sex"].astype(np.int8))


def _columns(path: Path) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    rows: Rows = [(line, row) for line, row in read_rows(path) if not row[0].startswith("|")]
    for line, row in rows:
        if len(row) != len(COLUMNS):
            raise UserError(f"{path}, line {line}: has {len(row)} fields, expected {len(COLUMNS)}")
        row[-1] = row[-1].removesuffix(".")
    choices = {**CATEGORIES, "sex": _GENDERS, "income": _LABELS}
    return {
        name: (
            codes(rows, k, name, path, choices[name]).astype(np.float64)
            if name in choices
            else numbers(rows, k, name, path)
        )
        for k, name in enumerate(COLUMNS)
    }
