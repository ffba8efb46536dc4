"""Catastrophic overfitting, found in the accuracies of the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

_BEFORE = 5
"""Epochs before a collapse whose changes of the loss are the usual ones."""


def collapse(robust: Sequence[float], fast: Sequence[float], *, chance: float = 0.1) -> int | None:
    """The first epoch of a collapse; None where there is none.

    Accuracy under PGD falls below half of its best so far, which was above chance, while accuracy
    under FGSM is higher within two more epochs than just before.

    Args:
        robust: accuracy under PGD-10 by epoch.
        fast: under FGSM.
        chance: accuracy of guessing.
    """
    for epoch in range(1, len(robust)):
        best = max(robust[:epoch])
        fell = best > chance and robust[epoch] < best / 2
        if fell and max(fast[epoch : epoch + 3]) > fast[epoch - 1]:
            return epoch
    return None


def jump(losses: Sequence[float], epoch: int) -> float | None:
    """Change of the training loss at an epoch, by the mean size of the changes before it.

    Args:
        losses: mean training loss by epoch.
        epoch: of the collapse.

    Returns:
        None at the first epoch, and where fewer than two changes are before it, or are none at all.
    """
    if epoch < 1:
        return None
    changes = [abs(b - a) for a, b in pairwise(losses)]
    before = changes[max(0, epoch - 1 - _BEFORE) : epoch - 1]
    usual = sum(before) / len(before) if len(before) > 1 else 0.0
    return changes[epoch - 1] / usual if usual else None


def summary(rows: Sequence[Mapping[str, float]], *, chance: float) -> dict[str, float]:
    """Whether and when a history collapsed, and the choice of the epoch by test images.

    Args:
        rows: one for each epoch, with ``val/pgd_10`` and ``val/fgsm``, and ``watched/pgd_10`` where
            test images were looked at.
        chance: accuracy of guessing.
    """
    found: dict[str, float] = {}
    robust = [row["val/pgd_10"] for row in rows if "val/pgd_10" in row]
    if len(robust) == len(rows) and max(robust, default=0) > 0:
        epoch = collapse(robust, [row["val/fgsm"] for row in rows], chance=chance)
        found["overfitting/collapsed"] = float(epoch is not None)
        found["overfitting/kept"] = robust[-1] / max(robust)
        found["overfitting/best"] = max(robust)
        found["overfitting/best_epoch"] = robust.index(max(robust))
        if epoch is not None:
            found["overfitting/epoch"] = epoch
            found["overfitting/share"] = (epoch + 1) / len(rows)
            change = jump([row["train/adversarial_loss"] for row in rows], epoch)
            found |= {} if change is None else {"overfitting/jump": change}
    watched = [(r["watched/pgd_10"], i) for i, r in enumerate(rows) if "watched/pgd_10" in r]
    if watched:
        best, index = max(watched)  # of equal ones the later
        found["watched/best_pgd_10"] = best
        found["watched/best_clean"] = rows[index]["watched/clean"]
        found["watched/best_epoch"] = index
    return found
