"""Several tasks on one network: any loss balancing with any gradient balancing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torchmetrics import MetricCollection

from retable.papers.base import PaperModule, StepOutput
from retable.papers.igb.gaps import IGBv1, IGBv2
from retable.papers.igb.gradients import IMTLG, MGDA, CAGrad, GradientMethod, NashMTL, PCGrad
from retable.papers.igb.losses import (
    Balancer,
    DynamicWeightAverage,
    RandomWeights,
    Uncertainty,
)
from retable.papers.igb.metrics import Error, Unexplained
from retable.papers.igb.networks import MultiHead
from retable.papers.igb.task_gradients import backward

LossName = Literal["ls", "si", "rlw", "rlw_si", "dwa", "dwa_si", "uw", "uw_si", "igbv1", "igbv2"]
GradientName = Literal["none", "mgda", "pcgrad", "cagrad", "imtl_g", "nash"]

PLAIN: dict[str, type[Balancer]] = {
    "ls": Balancer,
    "rlw": RandomWeights,
    "dwa": DynamicWeightAverage,
    "uw": Uncertainty,
}


class MultiTask(PaperModule):
    """Tasks that share a trunk, each with a loss, a head and metrics of its own.

    A batch is inputs and a target for each task. Losses are cross-entropy and mean squared error.
    Logged are, by stage, ``<task>/error`` (of classes) or ``<task>/unexplained`` (mean squared
    error by the training targets' variance), ``mean`` of these over tasks, ``loss_<task>``, and in
    training ``weight_<task>``.

    Args:
        seed: the run's seed.
        tasks: outputs by task: the number of classes, 1 for regression.
        network: ``_partial_`` of a network of `retable.papers.igb.networks`, given ``tasks``.
        losses: loss balancing; ``si`` and ``..._si`` take logarithms of losses.
        gradients: gradient balancing of the balanced losses; ``none`` sums them.
        single: a network for each task, nothing shared (STL).
        base_epoch: epoch whose mean losses are IGB's base, counted from 0.
        density: of actions in the agent of IGBv2, see there.
        reward: of that agent: ``constant``, or times the first rate by the present one (``rate``).
        loss_rate: learning rate of the parameters that a loss balancing learns (UW).
        cagrad_c: how far CAGrad's direction is from the mean gradient, in units of its length.
        nash_every: steps between two solutions of Nash-MTL.
        stacked: task gradients by one backward pass batched over tasks, not one for each.
        **options: of :class:`~retable.papers.base.PaperModule`.

    Raises:
        ValueError: where separate networks are to be balanced.
    """

    def __init__(
        self,
        *,
        seed: int,
        tasks: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(min_length=1)],
        network: Callable[..., Any],
        losses: LossName = "ls",
        gradients: GradientName = "none",
        single: bool = False,
        base_epoch: Annotated[int, Field(ge=0)] = 1,
        density: Literal["tanh", "gaussian"] = "tanh",
        reward: Literal["constant", "rate"] = "constant",
        loss_rate: Annotated[float, Field(gt=0)] = 0.025,
        cagrad_c: Annotated[float, Field(ge=0, lt=1)] = 0.4,
        nash_every: Annotated[int, Field(ge=1)] = 1,
        stacked: bool = False,
        **options: Any,
    ) -> None:
        if single and (losses, gradients) != ("ls", "none"):
            raise ValueError(
                "model.single: separate networks share nothing to balance; leave losses and"
                " gradients as they are (ls, none)"
            )
        self._automatic_optimization = False
        self.tasks, self.network, self.single = dict(tasks), network, single
        self.loss_name: LossName = losses
        self.gradient_name: GradientName = gradients
        self.base_epoch, self.reward = base_epoch, reward
        self.density: Literal["tanh", "gaussian"] = density
        self.loss_rate, self.cagrad_c, self.nash_every = loss_rate, cagrad_c, nash_every
        self.stacked = stacked
        self.scales = dict.fromkeys(self.tasks, 1.0)
        super().__init__(seed=seed, **options)

    def build_model(self) -> None:
        """The network, or one for each task."""
        groups = [{task: n} for task, n in self.tasks.items()] if self.single else [self.tasks]
        self.nets = nn.ModuleList(self.network(tasks=group) for group in groups)

    def build_losses(self) -> None:
        """Loss and gradient balancing."""
        n = len(self.tasks)
        self.balancer = balancer(self.loss_name, n, self.base_epoch, self.density)
        self.gradients = gradient_method(
            self.gradient_name, self.seed, self.cagrad_c, self.nash_every
        )

    def build_metrics(self) -> None:
        """Error of classes, unexplained variance of numbers."""
        self.use_metrics(
            {
                task: MetricCollection(
                    {"unexplained": Unexplained()} if outputs == 1 else {"error": Error()}
                )
                for task, outputs in self.tasks.items()
            }
        )

    def setup(self, stage: str) -> None:
        """Take the standard deviation of each task's targets from the data."""
        data: Any = cast(Any, self.trainer).datamodule
        self.scales = dict(data.scales)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs of all tasks."""
        return {task: y for net in self.nets for task, y in net(x).items()}

    def task_losses(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Losses of a batch ``(n,)``: cross-entropy of classes, mean squared error of numbers."""
        pairs = [(outputs[task], targets[task]) for task in self.tasks]
        return torch.stack(
            [F.cross_entropy(y, t) if y.ndim > 1 else F.mse_loss(y, t) for y, t in pairs]
        )

    def for_metrics(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What each task's metrics are given: classes, or numbers in units of their deviation."""
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for task, n in self.tasks.items():
            y, target, scale = outputs[task].detach(), targets[task], self.scales[task]
            pairs[task] = (y / scale, target / scale) if n == 1 else (y.argmax(1), target)
        return pairs

    def mean(self, pairs: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Mean over tasks of a batch's error and unexplained variance."""
        values = [
            (y - target).square().mean() if self.tasks[task] == 1 else (y != target).float().mean()
            for task, (y, target) in pairs.items()
        ]
        return torch.stack(values).mean()

    def shared_step(self, batch: Any) -> StepOutput:
        """Losses of the tasks; in training they are balanced too."""
        x, targets = batch
        outputs = self(x)
        losses = self.task_losses(outputs, targets)
        logs = {f"loss_{task}": losses[i].detach() for i, task in enumerate(self.tasks)}
        if self.training:
            losses = self.balanced = self.balancer(losses)
            logs |= {
                f"weight_{task}": self.balancer.weights[i] for i, task in enumerate(self.tasks)
            }
        pairs = self.for_metrics(outputs, targets)
        logs["mean"] = self.mean(pairs)
        return StepOutput(losses.sum(), logs=logs, tasks=pairs, items=len(x))

    def on_fit_start(self) -> None:
        """List the parameters that are shared, and those that are not."""
        nets = cast(Sequence[MultiHead], self.nets)
        self._shared = [p for net in nets for p in net.shared_parameters()]
        self._own = [
            p for net in nets for head in net.task_parameters().values() for p in head
        ] + self.balancer.learned()

    def on_train_epoch_start(self) -> None:
        """Tell the agent how long an epoch is, and what its reward is multiplied by."""
        if isinstance(self.balancer, IGBv2):
            self.balancer.steps_per_epoch = int(self.trainer.num_training_batches)
            group = cast(Any, self.optimizers()).param_groups[0]
            if self.reward == "rate":
                self.balancer.reward_scale = group.get("initial_lr", group["lr"]) / group["lr"]

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """One step of the optimiser on the balanced gradients."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        loss = super().training_step(batch, batch_idx)
        backward(self.balanced, self.gradients, self._shared, self._own, stacked=self.stacked)
        optimizer.step()
        if self.trainer.is_last_batch:
            self.balancer.end_epoch(self.current_epoch)
        return cast(Tensor, loss).detach()

    def optimized(self) -> list[dict[str, Any]]:
        """The networks, and what the loss balancing learns, at a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": list(self.nets.parameters())}]
        if self.balancer.learned():
            groups.append({"params": self.balancer.learned(), "lr": self.loss_rate})
        return groups

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is in no ``state_dict``."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["igb_balancer"] = self.balancer.private_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it."""
        super().on_load_checkpoint(checkpoint)
        self.balancer.load_private_state(checkpoint["igb_balancer"])


def balancer(
    name: LossName, n_tasks: int, base_epoch: int, density: Literal["tanh", "gaussian"]
) -> Balancer:
    """A loss balancing by name."""
    if name == "igbv1":
        return IGBv1(n_tasks, base_epoch=base_epoch)
    if name == "igbv2":
        return IGBv2(n_tasks, base_epoch=base_epoch, density=density)
    if name == "si":
        return Balancer(n_tasks, scale_invariant=True)
    return PLAIN[name.removesuffix("_si")](n_tasks, scale_invariant=name.endswith("_si"))


def gradient_method(
    name: GradientName, seed: int, cagrad_c: float, nash_every: int
) -> GradientMethod | None:
    """A gradient balancing by name."""
    methods: dict[str, Callable[[], GradientMethod]] = {
        "mgda": MGDA,
        "pcgrad": lambda: PCGrad(seed=seed),
        "cagrad": lambda: CAGrad(c=cagrad_c),
        "imtl_g": IMTLG,
        "nash": lambda: NashMTL(update_every=nash_every),
    }
    return None if name == "none" else methods[name]()
