"""Base of the data sets: every item has a target for each of several tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths
from retable.data.tensor_loader import TensorLoader
from retable.data.tensor_splits import Tensors, TensorSplits
from retable.util.errors import UserError, nearest

REGRESSION = "regression"
Items = tuple[Tensor, dict[str, Tensor]]
"""Inputs ``(N, ...)`` and the target ``(N,)`` of each task: int64 classes, or float32."""


def classification(n_classes: int) -> str:
    """The kind of a task whose targets are classes."""
    return f"classification:{n_classes}"


class TaskData(TensorSplits):
    """Base: three splits in memory; a batch is ``(x, targets)``, as :data:`Items`.

    The order of training items is a function of (seed, epoch).

    Args:
        seed: the run's seed.
        paths: mirror and cache, given by the harness.
        tasks: names of those whose targets a batch has; all where left out.
        batch_size: training items of a batch; a last one that is not full is kept.
        eval_batch_size: items of a batch of validation and test.

    Attributes:
        tasks: kind by task, ``classification:<classes>`` or ``regression``.

    Raises:
        UserError: for a task that the set does not have.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        tasks: Annotated[list[str], Field(min_length=1)] | None = None,
        batch_size: Annotated[int, Field(ge=1)] = 256,
        eval_batch_size: Annotated[int, Field(ge=1)] = 2000,
    ) -> None:
        super().__init__(
            seed=seed, paths=paths, batch_size=batch_size, eval_batch_size=eval_batch_size
        )
        kinds = self.kinds()
        for task in tasks or ():
            if task not in kinds:
                raise UserError(f"data.tasks: there is no task '{task}'{nearest(task, kinds)}")
        self.tasks = {task: kinds[task] for task in tasks or kinds}

    def kinds(self) -> dict[str, str]:
        """All tasks of the set with their kinds."""
        raise NotImplementedError

    def items(self) -> tuple[Items, Items, Items]:
        """Training, validation and test, with the targets of all tasks, on the CPU."""
        raise NotImplementedError

    def as_inputs(self, x: Tensor) -> Tensor:
        """What the network is given of a batch ``(B, ...)`` as it is in memory, float32."""
        return x

    @property
    def scales(self) -> dict[str, float]:
        """Standard deviation of each task's training targets; 1 of classes. After ``setup``."""
        assert self.train is not None
        return {
            task: float(targets.std(correction=0)) if kind == REGRESSION else 1.0
            for (task, kind), targets in zip(self.tasks.items(), self.train[1:], strict=True)
        }

    def splits(self) -> tuple[Tensors, Tensors, Tensors]:
        """Inputs, then the targets of the chosen tasks in their order."""
        train, validation, test = (
            (x, *(targets[task] for task in self.tasks)) for x, targets in self.items()
        )
        return train, validation, test

    def _batches(self, loader: TensorLoader) -> TaskBatches:
        return TaskBatches(loader, tuple(self.tasks), self.as_inputs)

    def train_dataloader(self) -> Any:
        """Training batches, in the order of the epoch that is about to run."""
        return self._batches(super().train_dataloader())

    def val_dataloader(self) -> Any:
        """Validation batches in fixed order."""
        return self._batches(super().val_dataloader())

    def test_dataloader(self) -> Any:
        """Test batches in fixed order."""
        return self._batches(super().test_dataloader())


class TaskBatches:
    """Batches of a loader with the names of tasks at their targets.

    Args:
        loader: gives inputs and then a target for each task.
        tasks: names in that order.
        convert: applied to the inputs of a batch.
    """

    def __init__(
        self, loader: TensorLoader, tasks: tuple[str, ...], convert: Callable[[Tensor], Tensor]
    ) -> None:
        self.loader, self.tasks, self.convert = loader, tasks, convert

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Items]:
        for x, *targets in self.loader:
            yield self.convert(x), dict(zip(self.tasks, targets, strict=True))
