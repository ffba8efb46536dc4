"""Time of a training step by method: one run measures all of them on one batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, get_args

import torch
import torch.nn.functional as F
from pydantic import Field

from retable.papers.base import PaperModule
from retable.papers.igb.gaps import IGBv2
from retable.papers.igb.module import GradientName, LossName, balancer, gradient_method
from retable.papers.igb.networks import MultiHead
from retable.papers.igb.task_gradients import backward

COMBINED: list[tuple[LossName, GradientName]] = [
    *((loss, "none") for loss in get_args(LossName)),
    *((loss, method) for loss in ("ls", "igbv1") for method in get_args(GradientName)[1:]),
]
"""Methods that are timed: every loss balancing, every gradient balancing, IGBv1 with the latter."""


class StepTimes(PaperModule):
    """Steps of regression tasks with every method, in turns, each on a network of its own.

    The result ``test/step_ms`` of row ``<losses>`` or ``<losses>_<gradients>`` is the median over
    rounds of a step's time: forward, balancing, backward, update. One round takes `block` steps of
    every method, so that a change of the machine's load meets them all. The agent of IGBv2 is
    trained 25 times in 50 steps, as with an almost empty memory; with a full one it is 50 times.

    Args:
        seed: the run's seed.
        tasks: names.
        network: ``_partial_`` of a network, given ``tasks``.
        rounds: as said; an odd number.
        block: as said. IGBv2 trains its agent every 50 steps, so that 50 see one training.
        stacked: as of :class:`~retable.papers.igb.module.MultiTask`.
    """

    timing_metrics: ClassVar[frozenset[str]] = frozenset({"test/step_ms"})

    def __init__(
        self,
        *,
        seed: int,
        tasks: Annotated[list[str], Field(min_length=1)],
        network: Callable[..., Any],
        rounds: Annotated[int, Field(ge=1)] = 3,
        block: Annotated[int, Field(ge=1)] = 50,
        stacked: bool = False,
    ) -> None:
        self.tasks, self.network = tasks, network
        self.rounds, self.block, self.stacked = rounds, block, stacked
        super().__init__(seed=seed)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Time all methods on the first batch."""
        if batch_idx:
            return
        with torch.inference_mode(False), torch.enable_grad():
            x = batch[0].clone()
            targets = {task: batch[1][task].clone() for task in self.tasks}
            steps = [self.step(*names, x, targets) for names in COMBINED]
            seconds: list[list[float]] = [[] for _ in steps]
            for _ in range(self.rounds + 1):
                for step, times in zip(steps, seconds, strict=True):
                    begin = time.perf_counter()
                    for _ in range(self.block):
                        step()
                    times.append((time.perf_counter() - begin) / self.block)
        for (loss, method), times in zip(COMBINED, seconds, strict=True):
            # The first round warms up, and fills the memory of IGBv2's agent.
            middle = sorted(times[1:])[self.rounds // 2]
            row = loss if method == "none" else f"{loss}_{method}"
            self.add_result("test/step_ms", 1000 * middle, row)

    def step(
        self, loss: LossName, method: GradientName, x: torch.Tensor, targets: dict[str, Any]
    ) -> Callable[[], None]:
        """A step with one method: a function without arguments."""
        net: MultiHead = self.network(tasks=dict.fromkeys(self.tasks, 1))
        losses = balancer(loss, len(self.tasks), 0, "tanh")
        gradients = gradient_method(method, self.seed, 0.4, 1)
        shared = net.shared_parameters()
        own = [p for head in net.task_parameters().values() for p in head] + losses.learned()
        optimizer = torch.optim.Adam([*shared, *own], lr=1e-3, fused=True)

        def run() -> None:
            outputs = net(x)
            values = torch.stack([F.mse_loss(outputs[t], targets[t]) for t in self.tasks])
            backward(losses(values), gradients, shared, own, stacked=self.stacked)
            optimizer.step()

        run()
        losses.end_epoch(0)  # from here on IGB knows its base losses
        if isinstance(losses, IGBv2):
            # Its agent chooses the weights from now on.
            losses.step.fill_(losses.START * losses.steps_per_epoch)
        return run
