"""Long-tailed subsets of balanced sets: how many images of which class, and which ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.util.errors import UserError

GROUPS = ("many", "medium", "few")
_LIMITS = {10: (1000, 200), 100: (100, 20)}
"""By number of classes: more images than the first are many, fewer than the second few."""


def counts(
    largest: int, n_classes: int, imbalance: float, rounding: Literal["nearest", "down"] = "nearest"
) -> list[int]:
    """Images per class, ``N_k = n_max imbalance^(k / (C - 1))`` in the order of the labels.

    Args:
        largest: n_max, images of the first class.
        n_classes: C.
        imbalance: the last class's share of the first one's, 0.01 for an imbalance factor of 100.
        rounding: ``nearest`` (half to even) as the paper's code does, or ``down`` as the code of
            Alshammari et al. does.
    """
    exact = (largest * imbalance ** (k / (n_classes - 1)) for k in range(n_classes))
    return [round(n) if rounding == "nearest" else int(n) for n in exact]


def groups(n_per_class: Sequence[int], limits: tuple[int, int] | None = None) -> list[Tensor]:
    """Classes of the groups many, medium and few.

    Args:
        n_per_class: training images.
        limits: a class is of many with more than the first, of few with fewer than the second; by
            the number of classes where left out.
    """
    above, below = limits or _LIMITS[len(n_per_class)]
    n = torch.tensor(list(n_per_class))
    many, few = n > above, n < below
    return [torch.nonzero(mask).flatten() for mask in (many, ~many & ~few, few)]


@dataclass(frozen=True)
class LongTail:
    """Split of a set's training images: of each class the first for training, the next validation.

    It does not depend on the seed. To be given as ``data.split``; ``data.n_validation`` is the
    number of all validation images.

    Attributes:
        n_classes: C.
        largest: images of the first class; as many as the balanced set has, less those set aside,
            where left out.
        imbalance: the last class's share of the first one's.
        rounding: of the numbers, see :func:`counts`.
    """

    n_classes: Annotated[int, Field(ge=2)] = 10
    largest: Annotated[int, Field(ge=1)] | None = None
    imbalance: Annotated[float, Field(gt=0, le=1)] = 0.01
    rounding: Literal["nearest", "down"] = "nearest"

    def sizes(self, n_images: int, n_validation: int) -> list[int]:
        """Training images of every class.

        Args:
            n_images: of the balanced set.
            n_validation: images that are set aside.

        Raises:
            UserError: where validation is not equal by class.
        """
        each, rest = divmod(n_validation, self.n_classes)
        if rest:
            raise UserError(
                f"data.n_validation: {n_validation} is no multiple of {self.n_classes} classes"
            )
        largest = self.largest or n_images // self.n_classes - each
        return counts(largest, self.n_classes, self.imbalance, self.rounding)

    def __call__(self, labels: Tensor, n_validation: int, _seed: int) -> tuple[Tensor, Tensor]:
        """Indices of training and of validation images, ``labels`` being those of all.

        Raises:
            UserError: where a class has too few images, or validation is not equal by class.
        """
        wanted, each = self.sizes(len(labels), n_validation), n_validation // self.n_classes
        train, validation = list[Tensor](), list[Tensor]()
        for label, n in enumerate(wanted):
            members = torch.nonzero(labels == label).flatten()
            if len(members) < n + each:
                raise UserError(
                    f"data.split.largest: class {label} has {len(members)} images, {n} are to be"
                    f" trained on and {each} set aside"
                )
            train.append(members[:n])
            validation.append(members[n : n + each])
        return torch.cat(train), torch.cat(validation)
