"""Metrics of segmentation, depth and surface normals, and what they are relative to a base.

As in the authors' code, classes are counted over a whole split, and everything else is a mean over
batches: a median is the mean of the medians of batches (of two scenes in the paper's protocol).
What a batch gives is computed at once, so that no map of pixels has to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from retable.papers.igb.metrics import Mean

LARGER_IS_BETTER: dict[str, dict[str, bool]] = {
    "segmentation": {"miou": True, "pixel_accuracy": True},
    "depth": {"abs_error": False, "rel_error": False},
    "normals": {
        "mean": False,
        "median": False,
        "within_11": True,
        "within_22": True,
        "within_30": True,
    },
}
"""By task and metric, in the order of columns."""
ANGLES = (11.25, 22.5, 30.0)
"""Degrees of the ``within_...``."""

OfBatch = tuple[Tensor, Tensor]
"""Values of a batch ``(1, ...)``, and the number of pixels ``(1,)`` they are of."""


def confusion(predicted: Tensor, target: Tensor, n_classes: int) -> OfBatch:
    """Pixels by target and predicted class ``(1, C, C)``, of classes ``(B, H, W)``.

    Those whose target is -1 count nowhere.
    """
    classes = torch.arange(n_classes, device=target.device)
    true, found = ((x.flatten()[:, None] == classes).double() for x in (target, predicted))
    matrix = (true.T @ found).long()[None]
    return matrix, matrix.sum((1, 2))


def depth_errors(predicted: Tensor, target: Tensor) -> OfBatch:
    """Mean absolute and relative error ``(1, 2)`` of the pixels whose target is not 0."""
    error = (predicted - target).abs()
    pair = torch.stack((error, error / target)).where(target != 0, torch.nan)
    return pair.flatten(1).nanmean(1)[None], (target != 0).sum()[None]


def normal_errors(predicted: Tensor, target: Tensor) -> OfBatch:
    """Mean and median angle in degrees and the shares within :data:`ANGLES`, ``(1, 5)``.

    Of the pixels that :func:`has_normal`.
    """
    valid = has_normal(target)
    angle = (predicted * target).sum(1).clamp(-1, 1).acos().rad2deg().where(valid, torch.nan)
    shares = [(angle < limit).sum() / valid.sum() for limit in ANGLES]
    # torch's own median is the lower of the two middle values
    values = (angle.nanmean(), angle.nanquantile(0.5), *shares)
    return torch.stack(values)[None], valid.sum()[None]


def has_normal(target: Tensor) -> Tensor:
    """Where ``(B, H, W)`` the components ``(B, 3, H, W)`` do not add up to 0, as coded."""
    return target.sum(1) != 0


class OfBatches(Mean):
    """Mean over batches of a column of what each gives; those without valid pixels are left out.

    Args:
        column: of the values ``(N, columns)``.
    """

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def value(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The column."""
        return predicted[:, self.column]

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add batches: their values, and their numbers of pixels."""
        valid = target > 0
        super().update(predicted[valid], target[valid])


class Shares(OfBatches):
    """Of shares of pixels, of which more is better."""

    higher_is_better = True


class PixelAccuracy(Metric):
    """Share of the pixels whose class is right, of confusion matrices ``(N, C, C)``."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    matrix: Tensor

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        zeros = torch.zeros(n_classes, n_classes, dtype=torch.long)
        self.add_state("matrix", zeros, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add the matrices of batches."""
        self.matrix += predicted.sum(0)

    def compute(self) -> Tensor:
        """Their diagonal."""
        return (self.matrix.diag().sum() / self.matrix.sum()).float()


class MeanIoU(PixelAccuracy):
    """Mean over classes of intersection by union; of those that are predicted or true anywhere."""

    def compute(self) -> Tensor:
        """Of the whole split."""
        hits = self.matrix.diag()
        union = self.matrix.sum(0) + self.matrix.sum(1) - hits
        return (hits / union)[union > 0].mean()


def metrics_of(task: str, n_classes: int) -> dict[str, Metric]:
    """Metrics of a task by name."""
    if task == "segmentation":
        return {"miou": MeanIoU(n_classes), "pixel_accuracy": PixelAccuracy(n_classes)}
    names = LARGER_IS_BETTER[task]
    return {name: (Shares if names[name] else OfBatches)(k) for k, name in enumerate(names)}


def delta_m(values: Mapping[str, float], base: Mapping[str, float]) -> float:
    """Mean relative change to the base in percent, of metrics ``<task>/<metric>``; lower is better.

    Maninis, Radosavovic, Kokkinos (CVPR 2019): where more is better, with a minus.
    """
    changes: list[float] = []
    for name, value in values.items():
        task, _, metric = name.partition("/")
        sign = -1 if LARGER_IS_BETTER[task][metric] else 1
        changes.append(sign * (value - base[name]) / base[name])
    return 100 * sum(changes) / len(changes)
