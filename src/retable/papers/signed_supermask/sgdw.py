"""SGD whose weight decay is not multiplied by the learning rate, and its schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class SGDW(Optimizer):
    """Loshchilov & Hutter (ICLR 2019), with momentum as Keras has it: TensorFlow Addons' SGDW.

    ``M -= wd M``, then ``v = momentum v - lr g`` and ``M += momentum v - lr g`` (Nesterov). Torch's
    optimisers multiply the decay by the learning rate, with which hardly anything is pruned.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        weight_decay: wd, of every step.
        momentum: of v.
        nesterov: else ``M += v``.
        times_lr: multiply the decay by the learning rate, as torch does.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Annotated[float, Field(gt=0)],
        weight_decay: Annotated[float, Field(ge=0)] = 0.0,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        nesterov: bool = True,
        times_lr: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "times_lr": times_lr,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Decay, then the step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            decay = group["weight_decay"] * (lr if group["times_lr"] else 1.0)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(p)
                velocity = state["velocity"].mul_(momentum).add_(p.grad, alpha=-lr)
                p.mul_(1 - decay)
                if group["nesterov"]:
                    p.add_(velocity, alpha=momentum).add_(p.grad, alpha=-lr)
                else:
                    p.add_(velocity)
        return loss


class ExponentialDecay(LRScheduler):
    """Learning rate and weight decay times ``rate^(t / (steps_per_epoch every))`` at step t.

    Args:
        optimizer: what it begins with is at t = 0.
        steps_per_epoch: steps of the optimiser; None: as many as there are, set before training.
        rate: after ``every`` epochs.
        every: D.
        staircase: round the exponent down.
        decays: of the weight decay too, as TensorFlow Addons wants it; else of the rate alone.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps_per_epoch: Annotated[int, Field(ge=1)] | None = None,
        rate: Annotated[float, Field(gt=0, le=1)] = 0.9,
        every: Annotated[float, Field(gt=0)] = 10.0,
        staircase: bool = False,
        decays: bool = True,
    ) -> None:
        self.steps_per_epoch, self.every = steps_per_epoch, every
        self.rate, self.staircase, self.decaying = rate, staircase, decays
        self.decays = [group["weight_decay"] for group in optimizer.param_groups]
        super().__init__(optimizer)

    def _factor(self) -> float:
        if not self.last_epoch:
            return 1.0
        if self.steps_per_epoch is None:
            raise ValueError("steps_per_epoch is None: it is to be set before the first step")
        exponent = self.last_epoch / (self.steps_per_epoch * self.every)
        return self.rate ** (int(exponent) if self.staircase else exponent)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates of the groups."""
        return [rate * self._factor() for rate in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Rates, then decays."""
        super().step(epoch)
        if not self.decaying:
            return
        for group, decay in zip(self.optimizer.param_groups, self.decays, strict=True):
            group["weight_decay"] = decay * self._factor()


class Plateau(ReduceLROnPlateau):
    """Reduction of learning rate and weight decay where the loss stays, as in the authors' code.

    From epoch ``begin`` on the loss is compared with the least of the ``patience`` epochs before.
    Where it is not less by ``delta``, an epoch has been waited; where more than ``patience`` have,
    both are reduced, and nothing is compared for ``cooldown`` epochs. What was waited is never
    forgotten: after the first reduction one epoch without progress is enough for the next.

    Args:
        optimizer: of which all groups are reduced.
        factor: of a reduction.
        patience: epochs.
        delta: progress that counts.
        begin: first epoch that is compared, from 0.
        cooldown: epochs after a reduction.
        reductions: after so many `done` is true, and the fit ends.
        passes: an epoch of the authors, with the mean of their losses, is so many of ours.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        patience: Annotated[int, Field(ge=1)] = 15,
        delta: Annotated[float, Field(ge=0)] = 1e-4,
        begin: Annotated[int, Field(ge=1)] = 10,
        cooldown: Annotated[int, Field(ge=0)] = 10,
        reductions: Annotated[int, Field(ge=1)] = 5,
        passes: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        mode: Literal["abs"] = "abs"
        super().__init__(optimizer, "min", factor, patience, delta, mode, cooldown)
        self.begin, self.reductions, self.passes = begin, reductions, passes
        self.waited = self.reduced = 0
        self.resting = 0
        self.losses: list[float] = []
        self.begun: list[float] = []

    @property
    def done(self) -> bool:
        """Whether the last reduction was made."""
        return self.reduced >= self.reductions

    def step(self, metrics: Any, epoch: int | None = None) -> None:
        """Take the loss of a pass that has ended."""
        self.begun.append(float(metrics))
        if len(self.begun) < self.passes:
            return
        loss, before = sum(self.begun) / self.passes, self.losses[-self.patience :]
        self.begun = []
        self.losses.append(loss)
        if self.resting:
            self.resting -= 1
            return
        if len(self.losses) <= self.begin or loss < min(before) - self.threshold:
            return
        self.waited += 1
        if self.waited > self.patience and not self.done:
            self.reduced += 1
            self.resting = self.cooldown
            for group in self.optimizer.param_groups:
                group["lr"] *= self.factor
                group["weight_decay"] *= self.factor
