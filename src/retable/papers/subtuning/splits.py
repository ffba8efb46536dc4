"""Which images of a pool are for training, validation and test: as many of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retable.training.seeds import derive_seed
from retable.util.errors import UserError


@dataclass(frozen=True)
class First:
    """The first images are for training, the next for validation; for ``split``."""

    n_train: int

    def __call__(self, labels: Tensor, n_validation: int, _seed: int) -> tuple[Tensor, Tensor]:
        """Indices of both."""
        return torch.arange(self.n_train), torch.arange(self.n_train, self.n_train + n_validation)


def drawn(
    labels: Tensor, n_train: int, n_validation: int, n_test: int | None, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Disjoint indices for training, validation and test, as many of every class in each.

    The images of each class are put in an order of the seed; the first are for training, the next
    for validation, the last for the test. So neither training nor validation images move with
    ``n_test``, and those of a larger ``n_train`` begin with those of a smaller one: one of each
    class in turn, in training and validation.

    Args:
        labels: ``(N,)``.
        n_train: images in all.
        n_validation: images in all.
        n_test: images in all; None for all that are left, in the order of the pool.
        seed: the run's seed.

    Raises:
        UserError: where a number is no multiple of the number of classes, or there are too few.
    """
    classes: list[int] = labels.unique().tolist()
    given = {"n_train": n_train, "n_validation": n_validation, "n_test": n_test or 0}
    train, validation, test = (_each(key, n, len(classes)) for key, n in given.items())
    orders: list[Tensor] = []
    for label in classes:
        members = torch.nonzero(labels == label).flatten()
        if train + validation + max(test, 1) > len(members):
            has = f"class {label} has {len(members)} images"
            wanted = ", ".join(f"{key}={n}" for key, n in given.items() if n)
            raise UserError(f"data.n_train: {has}, too few for {wanted} and a test")
        generator = torch.Generator().manual_seed(derive_seed(seed, "split", label))
        orders.append(members[torch.randperm(len(members), generator=generator)])
    both = train + validation
    left = torch.cat([order[both:] for order in orders]).sort().values
    return (
        in_turn([order[:train] for order in orders]),
        in_turn([order[train:both] for order in orders]),
        left if n_test is None else in_turn([order[len(order) - test :] for order in orders]),
    )


def first_of_each(labels: Tensor, key: str, n: int | None) -> Tensor:
    """Indices of the first ``n`` images in all, as many of every class; of all where it is None.

    Raises:
        UserError: where ``n``, the config's ``data.<key>``, is no multiple of the number of
            classes, or more than there are.
    """
    if n is None:
        return torch.arange(len(labels))
    classes: list[int] = labels.unique().tolist()
    each = _each(key, n, len(classes))
    found = [torch.nonzero(labels == label).flatten() for label in classes]
    fewest = min(len(members) for members in found)
    if each > fewest:
        raise UserError(f"data.{key}: {n} is {each} of every class, of one there are {fewest}")
    return in_turn([members[:each] for members in found])


def in_turn(members: Sequence[Tensor]) -> Tensor:
    """One index of each class in turn, of classes with equally many."""
    return torch.stack(list(members), 1).flatten()


def _each(key: str, n: int, n_classes: int) -> int:
    each, rest = divmod(n, n_classes)
    if rest:
        near = max(1, round(n / n_classes)) * n_classes
        raise UserError(
            f"data.{key}: {n} images of {n_classes} classes cannot be as many of each; {near} can"
        )
    return each
