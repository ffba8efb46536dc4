"""Named splits of a data set's training images into training and validation.

Each is a function of the labels and, where it is random, of a seed; the test images are never part
of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retable.training.seeds import derive_seed

SVHN_SIZES = [73_257, 531_131]
"""Training and extra images of SVHN."""

Split = Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
"""``(labels (N,), number of validation images, seed) -> (training indices, validation indices)``"""


def last(labels: Tensor, n_validation: int, _seed: int = 0) -> tuple[Tensor, Tensor]:
    """The last images, whatever the seed; the usual split of MNIST in its original order."""
    indices = torch.arange(len(labels))
    return indices[: len(labels) - n_validation], indices[len(labels) - n_validation :]


def seeded(labels: Tensor, n_validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images drawn with the run's seed."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "split"))
    order = torch.randperm(len(labels), generator=generator)
    return order[n_validation:].sort().values, order[:n_validation].sort().values


def balanced(labels: Tensor, n_validation: int, _seed: int = 0) -> tuple[Tensor, Tensor]:
    """The last images of each class, as many of every one, whatever the seed.

    Raises:
        ValueError: where the number is not a multiple of the number of classes.
    """
    classes = labels.unique().tolist()
    each, rest = divmod(n_validation, len(classes))
    if rest:
        raise ValueError(f"{n_validation} validation images for {len(classes)} classes")
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in classes:
        members = torch.nonzero(labels == label).flatten()
        if len(members) < each:
            raise ValueError(f"class {label} has {len(members)} images, {each} are to be set aside")
        chosen[members[len(members) - each :]] = True
    return torch.nonzero(~chosen).flatten(), torch.nonzero(chosen).flatten()


def svhn(labels: Tensor, n_validation: int, _seed: int = 0) -> tuple[Tensor, Tensor]:
    """The usual split of SVHN: two thirds from the training images, the rest from the extra ones.

    As many of every class in both parts, the last ones of each; 400 and 200 per class for 6,000.
    """
    if len(labels) != sum(SVHN_SIZES):
        raise ValueError(f"data.split: 'svhn' splits {sum(SVHN_SIZES)} images, not {len(labels)}")
    parts = labels.split(SVHN_SIZES)
    first = 2 * n_validation // 3
    train, train_chosen = balanced(parts[0], first)
    extra, extra_chosen = balanced(parts[1], n_validation - first)
    offset = len(parts[0])
    return torch.cat([train, extra + offset]), torch.cat([train_chosen, extra_chosen + offset])


SPLITS: dict[str, Split] = {"last": last, "seeded": seeded, "balanced": balanced, "svhn": svhn}
"""Splits by the name that a config gives."""


def split(name: str, labels: Tensor, n_validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Training and validation indices, disjoint, together all.

    Raises:
        ValueError: for an unknown name, or more validation images than there are.
    """
    if name not in SPLITS:
        raise ValueError(f"data.split: no split '{name}'; there are {sorted(SPLITS)}")
    if not 0 <= n_validation < len(labels):
        raise ValueError(
            f"data.n_validation: {n_validation} of {len(labels)} images leaves none to train on"
        )
    return SPLITS[name](labels, n_validation, seed)
