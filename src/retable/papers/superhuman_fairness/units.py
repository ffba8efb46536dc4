"""The items of a data set: features, label and group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retable.papers.superhuman_fairness.losses import Array

Binary = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Units:
    """Features ``x (n, d)`` float64, label ``y (n,)`` and group ``a (n,)``, int8 in {0, 1}."""

    x: Array
    y: Binary
    a: Binary

    def __post_init__(self) -> None:
        if not (self.x.ndim == 2 and self.y.shape == self.a.shape == (len(self.x),)):
            raise ValueError(f"x {self.x.shape}, y {self.y.shape}, a {self.a.shape}: shapes differ")
        for name, values in (("y", self.y), ("a", self.a)):
            if not np.isin(values, (0, 1)).all():
                raise ValueError(f"{name}: a value is neither 0 nor 1")

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: npt.NDArray[Any]) -> Units:
        """The chosen items, by index or mask."""
        return Units(self.x[index], self.y[index], self.a[index])
