"""The perceptron that leaves the cosines between what it knows of its classes."""

from __future__ import annotations

import torch

from retable.papers.base import Arrays

# isort: split
from retable.papers.digits.module import Perceptron


class Cosines(Perceptron):
    """Arrays of one and of two dimensions, and such as no heat map can show."""

    def artifacts(self) -> dict[str, Arrays]:
        last = self.net[-1].weight
        unit = torch.nn.functional.normalize(last, dim=1)
        return {
            "cosines": {"all": unit @ unit.T, "half": (unit @ unit.T)[:, :5]},
            "others": {"norms": last.norm(dim=1), "all": torch.zeros(2, 2, 2)},
        }
