"""Counts of one training step at the full batch: FLOPs, peak memory and operations.

FLOPs are those of torch's ``FlopCounterMode``: products of matrices, convolutions and attention,
a multiplication and an addition as two; what is done element by element is not among them. Peak
memory is that of all live storages (weights, gradients, the optimiser's state, the batch and what
the step keeps for its backward pass), in the sizes that tensors have. Workspaces of kernels, the
rounding of an allocator and what a device's runtime takes come on top.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from retable.data.base import PaperDataModule
from retable.launch.rehearsal.equal import FEW, many_of, set_steps
from retable.papers.base import PaperModule


@dataclass(frozen=True)
class StepCount:
    """Counts of a training step, which is one batch.

    Attributes:
        flops: floating-point operations of products, convolutions and attention.
        peak_bytes: most bytes of live storages at any moment.
        operations: calls of torch, views left out: what a device is given to do one by one.
    """

    flops: int
    peak_bytes: int
    operations: int


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that are alive, and the most there have been; fake ones count as real.

    A storage counts once, however many tensors are views of it. FLOPs are counted beside them: a
    mode of torch's own would hear of every operation a second time.

    Args:
        tensors: that are alive from the beginning.
    """

    def __init__(self, tensors: Iterable[Any] = ()) -> None:
        super().__init__()
        self.now = self.peak = self.operations = self.flops = 0
        self._seen: set[int] = set()
        self._formulas: dict[Any, Any] = flop_counter().flop_registry
        for tensor in tensors:
            self._add(tensor)

    def _add(self, value: Any) -> bool:
        """Whether the value is a tensor whose storage was not known."""
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return False
        # Torch keeps a storage's Python object as long as the storage itself.
        storage = value.untyped_storage()
        number = id(storage)
        if number in self._seen:
            return False
        size = storage.nbytes()
        self._seen.add(number)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, number, size).atexit = False
        return True

    def _free(self, number: int, size: int) -> None:
        self._seen.discard(number)
        self.now -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do it, and look at what comes out."""
        kwargs = kwargs or {}
        if func is _DEVICE:  # asked at every operation without content
            return func(*args, **kwargs)
        if formula := self._formulas.get(func.overloadpacket):
            out = func(*args, **kwargs)
            self.flops += formula(*args, **kwargs, out_val=out)
        elif _of_others(func):
            with flop_counter() as counter:
                out = func(*args, **kwargs)
            self.flops += counter.get_total_flops()
        else:
            out = func(*args, **kwargs)
        new = [self._add(leaf) for leaf in tree_leaves(out)]
        self.operations += any(new) or func._schema.is_mutable
        return out


_DEVICE: Any = torch.ops.prim.device.default


@functools.cache
def _of_others(func: Any) -> bool:
    """Whether an operation is made of others, which torch sees without gradients only."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key  # pyright: ignore[reportPrivateUsage]
    return has_kernel(func.name(), "CompositeImplicitAutograd")


def _convolution_backward(grad: Any, x: Any, weight: Any, *options: Any, **_: Any) -> int:
    """FLOPs of the gradients that are asked for, as many each as of the convolution itself.

    Torch's own count leaves out for the weights that channels are in groups.
    """
    transposed, wanted = options[4], options[7]
    return conv_flop_count(x, weight, grad, transposed=transposed) * sum(wanted[:2])


def flop_counter() -> FlopCounterMode:
    """Torch's counter of FLOPs, with convolutions of groups put right."""
    backward: Any = torch.ops.aten.convolution_backward
    return FlopCounterMode(display=False, custom_mapping={backward: _convolution_backward})


class _Left(Exception):
    """Raised to leave a fit once enough of it is seen."""


class _Count(pl.Callback):
    """Counts batches of a fit at which the optimiser steps, from the second on, and leaves it.

    Args:
        cases: equal steps of the module, for each batch that is counted.
        every: batches after which the optimiser steps.
    """

    def __init__(self, cases: Sequence[dict[str, int]], every: int) -> None:
        self.cases, self.every = cases, every
        self.found: list[StepCount] = []
        self._stack = ExitStack()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx != self._next():
            return
        set_steps(pl_module, self.cases[len(self.found)])
        weights = [*pl_module.parameters(), *pl_module.buffers()]
        state = [tree_leaves(dict(optimizer.state)) for optimizer in trainer.optimizers]
        alive = [
            *weights,
            *(weight.grad for weight in weights),
            *(leaf for leaves in state for leaf in leaves),
            *tree_leaves(batch),
        ]
        self._live = self._stack.enter_context(LiveBytes(alive))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if batch_idx == self._next():
            self.close()
            live = self._live
            self.found.append(StepCount(live.flops, live.peak, live.operations))
            if len(self.found) == len(self.cases):
                raise _Left

    def _next(self) -> int:
        return (len(self.found) + 2) * self.every - 1

    def close(self) -> None:
        """Count no more."""
        self._stack.close()


class _Clock(pl.Callback):
    """Times the steps of a fit, and leaves it when there are enough.

    With one thread it is processor time, which what else the machine does makes no longer.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        self.begins: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.begins.append(self.now())
        if len(self.begins) > 2 and self.begins[-1] - self.begins[0] > self.seconds:
            raise _Left


class _Same:
    """A loader that gives one batch again and again."""

    def __init__(self, batch: Any, times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self.batch, self.times)


_STEP = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
_ENOUGH = 1000


def count_step(
    module: PaperModule, data: PaperDataModule, batch: Any, options: dict[str, Any]
) -> StepCount:
    """Count a step at which the optimiser's state is there: it steps for the second time.

    The fit is Lightning's, so that hooks, clipping, precision and optimisation by hand count. Under
    :func:`~retable.launch.rehearsal.fake.faked` nothing is computed. Of equal steps that the module
    names few are done (:mod:`~retable.launch.rehearsal.equal`); all of them, where with one more
    another peak is found than without.

    Args:
        module: built, under the same mode.
        data: the run's, of which no batch is taken.
        batch: given in every step.
        options: the config's ``trainer``.
    """
    many = many_of(module)
    few = dict.fromkeys(many, FEW)
    one_more = [{**few, name: FEW + 1} for name in many]
    base, *others = _counts(module, data, batch, options, [few, *one_more])
    if any(other.peak_bytes != base.peak_bytes for other in others):
        [base], others = _counts(module, data, batch, options, [many]), []
    flops, operations = base.flops, base.operations
    for steps, other in zip(many.values(), others, strict=False):
        flops += (steps - FEW) * (other.flops - base.flops)
        operations += (steps - FEW) * (other.operations - base.operations)
    return StepCount(flops, base.peak_bytes, operations)


def _counts(
    module: PaperModule,
    data: PaperDataModule,
    batch: Any,
    options: dict[str, Any],
    cases: Sequence[dict[str, int]],
) -> list[StepCount]:
    """Counts of steps, one for each number of equal steps; the module keeps those it had."""
    had = {name: getattr(module, name) for name in cases[0]}
    set_steps(module, cases[0])
    count = _Count(cases, options.get("accumulate_grad_batches") or 1)
    try:
        _fit(module, data, batch, options, count)
    finally:
        count.close()
        set_steps(module, had)
    return count.found


def time_step(
    module: PaperModule, data: PaperDataModule, batch: Any, options: dict[str, Any], seconds: float
) -> float:
    """Median seconds of a step here, with all that is around it; as :func:`count_step`.

    Args:
        module: built.
        data: as there, like all that follow.
        batch: as there.
        options: as there.
        seconds: to go on for, and two steps at least, the first of which is left out.
    """
    clock = _Clock(seconds)
    _fit(module, data, batch, options, clock)
    steps = [after - before for before, after in itertools.pairwise(clock.begins)]
    return median(steps[1:])


def _fit(
    module: PaperModule,
    data: PaperDataModule,
    batch: Any,
    options: dict[str, Any],
    callback: pl.Callback,
) -> None:
    data.train_dataloader = lambda: _Same(batch, _ENOUGH)  # so that no step is an epoch's last
    data.prepare_data = lambda: None
    data.setup = lambda stage: None  # noqa: ARG005 - by this name
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with contextlib.suppress(_Left), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run's own are its run's to say
        trainer = pl.Trainer(
            **{name: options[name] for name in _STEP if options.get(name) is not None},
            accelerator="cpu",
            devices=1,
            max_epochs=options.get("max_epochs", 1),
            limit_val_batches=0,
            num_sanity_val_steps=0,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
