"""Segmentation, depth and surface normals of scenes on one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import MetricCollection

from retable.nets.mtan import MTAN
from retable.nets.segnet import FILTERS, SegNet, Task
from retable.papers.base import Stage, StepOutput
from retable.papers.igb.metrics_nyuv2 import (
    LARGER_IS_BETTER,
    confusion,
    delta_m,
    depth_errors,
    has_normal,
    metrics_of,
    normal_errors,
)
from retable.papers.igb.module import MultiTask
from retable.util.errors import nearest


class SceneNet(nn.Module):
    """SegNet or MTAN with what balancing asks for.

    What is in neither's ``pred`` is shared, MTAN's attention too, though each mask is of one task;
    as in the authors' code.

    Args:
        tasks: channels by task: the classes of ``segmentation``, 1 of ``depth``, 3 of ``normals``.
        kind: which network.
        filters: channels per level, from the image down.
    """

    def __init__(
        self,
        *,
        tasks: dict[str, Annotated[int, Field(ge=1)]],
        kind: Literal["segnet", "mtan"] = "segnet",
        filters: Sequence[Annotated[int, Field(ge=1)]] = FILTERS,
    ) -> None:
        super().__init__()
        names, n_classes = cast("list[Task]", list(tasks)), tasks.get("segmentation", 1)
        network = SegNet if kind == "segnet" else MTAN
        self.net = network(names, n_classes=n_classes, filters=filters)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps of all tasks, the segmentation's as log-probabilities."""
        return self.net(x)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters of all but the heads."""
        named = self.net.named_parameters()
        return [p for name, p in named if not name.startswith("pred.")]

    def task_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of the heads, by task."""
        return {task: list(head.parameters()) for task, head in self.net.pred.heads.items()}


class Scenes(MultiTask):
    """The three tasks of NYUv2, or some of them.

    Logged are, by stage, ``segmentation/miou``, ``segmentation/pixel_accuracy``,
    ``depth/abs_error``, ``depth/rel_error``, ``normals/mean``, ``normals/median`` (degrees),
    ``normals/within_11``, ``.../within_22``, ``.../within_30`` and, over the metrics of the tasks
    that there are, ``delta_m``; losses and weights as in
    :class:`~retable.papers.igb.module.MultiTask`.

    Args:
        tasks: channels by task: 13 of ``segmentation``, 1 of ``depth``, 3 of ``normals``.
        base: metrics of single-task learning by name, ``segmentation/miou`` and so on.
        **options: of :class:`~retable.papers.igb.module.MultiTask`.

    Raises:
        ValueError: for another task or number of channels, or a metric that ``base`` lacks or has
            too many.
    """

    def __init__(
        self,
        *,
        tasks: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)],
        base: dict[str, Annotated[float, Field(gt=0)]],
        **options: Any,
    ) -> None:
        for task, n in tasks.items():
            if task not in LARGER_IS_BETTER:
                raise ValueError(f"model.tasks: no task '{task}'{nearest(task, LARGER_IS_BETTER)}")
            if n != {"depth": 1, "normals": 3}.get(task, n):
                raise ValueError(f"model.tasks.{task}: {n}; depth has 1 channel, normals have 3")
        known = {
            f"{task}/{name}": task for task in LARGER_IS_BETTER for name in LARGER_IS_BETTER[task]
        }
        for name in base:
            if name not in known:
                raise ValueError(f"model.base: no metric '{name}'{nearest(name, known)}")
        wanted = [name for name, task in known.items() if task in tasks]
        if lacking := [name for name in wanted if name not in base]:
            raise ValueError(f"model.base: has no {', '.join(lacking)}")
        self.base = {name: base[name] for name in wanted}
        super().__init__(tasks=tasks, **options)

    def build_metrics(self) -> None:
        """Metrics by task; none share a state, which equal values of a first batch would make."""
        self.use_metrics(
            {
                task: MetricCollection(dict(metrics_of(task, n)), compute_groups=False)
                for task, n in self.tasks.items()
            }
        )

    def task_losses(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Losses of a batch ``(n,)``: means over the pixels that have a target."""
        return torch.stack([LOSSES[task](outputs[task], targets[task]) for task in self.tasks])

    def for_metrics(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What a batch gives, and of how many pixels."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for task, n in self.tasks.items():
            y, target = outputs[task].detach(), targets[task]
            if task == "segmentation":
                found[task] = confusion(y.argmax(1), target, n)
            else:
                found[task] = (depth_errors if task == "depth" else normal_errors)(y, target)
        return found

    def mean(self, pairs: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """No mean of errors in units of their own: `delta_m` is in its place."""
        return torch.zeros(())

    def shared_step(self, batch: Any) -> StepOutput:
        """Losses of the tasks; in training they are balanced too."""
        output = super().shared_step(batch)
        del output.logs["mean"]
        return output

    def _log_epoch(self, stage: Stage) -> None:
        """Log ``delta_m`` beside what the epoch has given."""
        values = self._meters[stage].close(self._metrics(stage))
        measured = {name: float(values[f"{stage}/{name}"]) for name in self.base}
        values["delta_m"] = torch.tensor(delta_m(measured, self.base))
        named = {name if "/" in name else f"{stage}/{name}": v for name, v in values.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=1)


def segmentation_loss(output: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of log-probabilities ``(B, C, H, W)``; pixels of -1 are left out.

    By rows of pixels: torch's loss of maps is refused where algorithms have to be deterministic.
    """
    rows, classes = output.movedim(1, -1).flatten(0, 2), target.flatten()
    return F.nll_loss(rows, classes, ignore_index=-1, reduction="sum") / _some(classes >= 0)


def depth_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over the pixels whose target ``(B, 1, H, W)`` is not 0."""
    valid = target != 0
    return ((output - target).abs() * valid).sum() / _some(valid)


def normal_loss(output: Tensor, target: Tensor) -> Tensor:
    """1 - the mean cosine over the pixels that have a normal, of unit vectors ``(B, 3, H, W)``.

    Not clamped here; what is balanced is.
    """
    valid = has_normal(target)
    return 1 - ((output * target).sum(1) * valid).sum() / _some(valid)


def _some(valid: Tensor) -> Tensor:
    """How many, and 1 for none, so that a batch without targets has no gradient."""
    return valid.sum().clamp_min(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "segmentation": segmentation_loss,
    "depth": depth_loss,
    "normals": normal_loss,
}
