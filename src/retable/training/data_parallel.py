"""One run in several processes, each with a device: every batch is split over them.

All of them go through the same batches in the same order, and each computes on its part, so that
data, order and augmentation are those of one process. Losses are means over a batch's items; a
process's own is weighted by its part of them. What is added up over a batch, an epoch or a norm's
statistics is added up over all processes. The numbers are those of one process but for rounding,
and for what is drawn for each item on the way (dropout).

Without several processes nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import (
    _BatchNorm,  # pyright: ignore[reportPrivateUsage]
)

from retable.training.seeds import derive_seed


@dataclass
class Ranks:
    """The processes of this run, as one of them sees them.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        items: of the batch at hand, how many are this process's own; where it has none it
            computes on an item that counts nothing, because all have to take part in every step.
        of: items of the whole batch.
    """

    rank: int
    size: int
    items: int = 1
    of: int = 1
    _common: dict[str, torch.Generator] = field(default_factory=dict[str, torch.Generator])
    _common_seed: int = 0

    @property
    def weight(self) -> float:
        """Weight of a mean over the own items in the mean of all processes."""
        return self.size * self.items / self.of

    def part(self, n: int) -> slice:
        """This process's part of ``n`` items: neighbours, as many as any other's or one more."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def take(self, batch: Any) -> Any:
        """This process's part of a batch.

        Args:
            batch: tensors ``(B, ...)``, alone or in tuples, lists and mappings.

        Raises:
            ValueError: where it holds anything else, or tensors of different B.
        """
        sizes = {len(tensor) if tensor.dim() else -1 for tensor in _tensors(batch)}
        if len(sizes) != 1 or min(sizes) < 1:
            raise ValueError("device.devices: a batch without one first axis cannot be split")
        (self.of,) = sizes
        own = self.part(self.of)
        self.items = own.stop - own.start
        return _narrowed(batch, own if self.items else slice(0, 1))

    def reseed(self, seed: int) -> None:
        """Begin the common stream of randomness anew."""
        self._common_seed = seed
        self._common.clear()

    def common(self, device: torch.device) -> torch.Generator:
        """The common stream of randomness on a device."""
        if str(device) not in self._common:
            generator = torch.Generator(device).manual_seed(self._common_seed)
            self._common[str(device)] = generator
        return self._common[str(device)]


_active: Ranks | None = None


def active() -> Ranks | None:
    """The processes of the run that this one does; None where it does the run alone."""
    return _active


@contextmanager
def use(ranks: Ranks | None) -> Generator[None]:
    """Do a run in several processes; torch's default process group connects them."""
    global _active
    _active = ranks
    try:
        yield
    finally:
        _active = None


@contextmanager
def alone() -> Generator[None]:
    """Do something in every process by itself, with whole batches, as if there were one only."""
    global _active
    ranks, _active = _active, None
    try:
        yield
    finally:
        _active = ranks


def axes() -> tuple[str | int, ...]:
    """Axes that distinguish a seed of this process; none for the first, nor for a lone one."""
    return ("rank", _active.rank) if _active is not None and _active.rank else ()


def writes() -> bool:
    """Whether this is the one process that writes."""
    return _active is None or _active.rank == 0


def anywhere(flag: bool) -> bool:
    """Whether it is so in any process; all have to ask at the same moment."""
    if _active is None:
        return flag
    total = torch.tensor(int(flag))
    dist.all_reduce(total)
    return bool(total)


def total(values: Tensor) -> Tensor:
    """Sums over all processes, the same bits in each."""
    if _active is not None:
        dist.all_reduce(values)
    return values


def common(device: torch.device) -> torch.Generator | None:
    """Generator for what is drawn once for a whole batch, such as a binary weight.

    All processes draw the same from it, anew in each epoch. None, which means the global
    generator, where a process does the run alone: it then draws the same too.
    """
    return None if _active is None else _active.common(device)


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, list | tuple):
        for item in cast("list[Any]", batch):
            yield from _tensors(item)
    elif isinstance(batch, dict):
        yield from _tensors(list(cast("dict[Any, Any]", batch).values()))
    else:
        kind = type(batch).__name__
        raise ValueError(f"device.devices: a batch that holds a {kind} cannot be split")


def _narrowed(batch: Any, own: slice) -> Any:
    if isinstance(batch, Tensor):
        return batch[own]
    if isinstance(batch, dict):
        return {key: _narrowed(value, own) for key, value in cast("dict[Any, Any]", batch).items()}
    items = [_narrowed(item, own) for item in batch]
    return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)


class _Total(torch.autograd.Function):
    """Sum over all processes; so is its gradient, for every one uses the sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        return total(values.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        return total(grads[0].clone())


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of a whole batch by channel, with their gradient in every process.

    Args:
        x: own part of the batch, ``(B, C, ...)``.

    Returns:
        Mean ``(C,)``, variance ``(C,)`` with the count n of what they are taken over as divisor,
        and ``n / (n - 1)``, which makes that unbiased.
    """
    own = 1.0 if _active is None or _active.items else 0.0
    over = [0, *range(2, x.dim())]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    sums = torch.cat([own * x.sum(over), x.new_full((1,), own * x.numel() / x.shape[1])])
    sums = cast("Tensor", _Total.apply(sums))
    mean, n = sums[:-1] / sums[-1], sums[-1].detach()
    squares = (x - mean.view(shape)).square().sum(over)
    variance = cast("Tensor", _Total.apply(own * squares)) / n
    return mean, variance, n / (n - 1).clamp_min(1)


class WholeBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of the whole batch; takes the place of torch's."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Was that of the class whose place this takes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of the same shape."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        mean, variance, unbiased = moments(input)
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = self.momentum
            share = 1 / float(self.num_batches_tracked) if share is None else share
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * unbiased).to(self.running_var.dtype), share)
        shape = [1, -1, *[1] * (input.dim() - 2)]
        factor = (variance + self.eps).rsqrt()
        if self.affine:
            out = (input - mean.view(shape)) * (factor * self.weight).view(shape)
            return (out + self.bias.view(shape)).to(input.dtype)
        return ((input - mean.view(shape)) * factor.view(shape)).to(input.dtype)


def use_whole_batches(network: nn.Module) -> None:
    """Have torch's batch normalisations of a network take the statistics of whole batches."""
    for module in network.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = WholeBatchNorm


class Split(DDPStrategy):
    """Every batch split over the processes, each loss weighted by the part it is the mean of."""

    def setup(self, trainer: pl.Trainer) -> None:
        """Prepare the module and keep Lightning's own answer to SIGTERM away.

        It broadcasts from a signal's handler, which no other process waits for, and asks all
        processes before every batch; ours ask at an epoch's end.
        """
        assert self.lightning_module is not None
        use_whole_batches(self.lightning_module)
        connector = cast("Any", trainer)._signal_connector
        connector.register_signal_handlers = lambda: None
        cast("Any", trainer.fit_loop.epoch_loop)._broadcast_sigterm_tensor = lambda: None
        super().setup(trainer)

    def batch_to_device(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        """The own part of a batch, on the device."""
        ranks = active()
        assert ranks is not None
        return super().batch_to_device(ranks.take(batch), device, dataloader_idx)

    def backward(self, closure_loss: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Gradients of the own part; the mean of all processes' is that of the whole batch."""
        ranks = active()
        assert ranks is not None
        return super().backward(closure_loss * ranks.weight, *args, **kwargs)


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of an epoch for the global generators of this process; also begins the common one."""
    if _active is not None:
        _active.reseed(derive_seed(seed, "epoch", epoch))
    return derive_seed(seed, "epoch", epoch, *axes())
