"""Training by equilibrium propagation, recurrent backpropagation or backpropagation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import PaperModule, StepOutput
from retable.papers.equilibrium_prop.activations import activate
from retable.papers.equilibrium_prop.alignment import Alignment
from retable.papers.equilibrium_prop.conv import ConvSystem
from retable.papers.equilibrium_prop.dense import lecun_normal
from retable.papers.equilibrium_prop.homeostasis import (
    angle,
    cosines,
    expected,
    homeostatic,
    symmetry,
)
from retable.papers.equilibrium_prop.phases import (
    Online,
    Readout,
    adjoint,
    nudged,
    online,
    relax,
    residual,
    tangent,
)
from retable.papers.equilibrium_prop.systems import Net, System
from retable.training.seeds import derive_seed

UNCONVERGED = 1e-3
"""Norm of the field above which a state counts as not converged."""


class ErrorRate(MulticlassAccuracy):
    """1 less the accuracy."""

    def compute(self) -> Tensor:
        """Share of images that are classified wrongly."""
        return 1 - super().compute()


class Equilibrium(PaperModule):
    """A network of which the fixed point is read out, and a rule for its gradient.

    The free phase is common to all rules. Every epoch and every test log the share of images that
    have not converged (``test/unconverged``) and the mean of log10 ||F|| (``test/log10_residual``).
    The last batch of an epoch gives ``train/cosine_l1`` and so on, between what EP and recurrent
    backpropagation find by layer (means over images); ``train/symmetry`` and ``train/angle`` are of
    the weights after the epoch. The same are results of the test, on its first ``n_cosines`` images
    (``cosine/l1``, ``weights/symmetry``, ``weights/angle``), with ``converged/l1`` over converged
    images alone, and ``cosine/zero``, how many vectors had no direction.

    Args:
        seed: the run's seed; weights and the draws of the homeostatic loss follow from it.
        net: the network.
        n_classes: labels.
        rule: ``ep``; ``rbp``, recurrent backpropagation; ``bp``, backpropagation through the last
            ``nudged_steps`` steps of the free dynamics.
        free_steps: T1.
        nudged_steps: T2, of a nudged phase, of the adjoint, or of backpropagation.
        points: N; 0 is the derivative in forward mode, 1 the one-sided difference.
        amplitude: |beta|; not used with N = 0.
        turns: of the nudge in the online variant, which trains without a free phase; 0: not online.
        homeostasis: coefficient of the homeostatic loss.
        draws: of its estimator for each image; 0 takes the expectation, where W alone gives it.
        stop: end a free phase once no number changes by more than this; null takes all steps.
        half_free: free phase of training in float16 (convolutions).
        n_cosines: test images of which cosines are taken.
        readout_rate: factor of the readout's learning rate.
        readout_decay: factor of its weight decay.
        optimizer: ``_partial_`` of an optimiser.
        scheduler: ``_partial_`` of a scheduler.
        scheduler_interval: when it is stepped.
    """

    def __init__(
        self,
        *,
        seed: int,
        net: nn.Module,
        n_classes: Annotated[int, Field(ge=2)] = 10,
        rule: Literal["ep", "rbp", "bp"] = "ep",
        free_steps: Annotated[int, Field(ge=1)] = 150,
        nudged_steps: Annotated[int, Field(ge=1)] = 20,
        points: Annotated[int, Field(ge=0)] = 0,
        amplitude: Annotated[float, Field(gt=0)] = 0.5,
        turns: Annotated[int, Field(ge=0)] = 0,
        homeostasis: Annotated[float, Field(ge=0)] = 0.0,
        draws: Annotated[int, Field(ge=0)] = 5,
        stop: Annotated[float, Field(ge=0)] | None = None,
        half_free: bool = False,
        n_cosines: Annotated[int, Field(ge=0)] = 500,
        readout_rate: Annotated[float, Field(gt=0)] = 1.0,
        readout_decay: Annotated[float, Field(ge=0)] = 1.0,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
    ) -> None:
        if not isinstance(net, Net):
            raise ValueError(f"model.net: expected a Net, not a {type(net).__name__}")
        if turns and (rule != "ep" or points < 2):
            raise ValueError("model.turns: the online variant is of rule ep, with points above 1")
        if homeostasis and not draws and net.jacobian() is None:
            raise ValueError("model.draws: 0 needs a network whose Jacobian is W alone")
        if half_free and not hasattr(net, "shapes"):
            raise ValueError("model.half_free: is for convolutions")
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.n_classes, self.rule, self.half_free = n_classes, rule, half_free
        self.free_steps, self.nudged_steps, self.stop = free_steps, nudged_steps, stop
        self.points, self.amplitude = points, amplitude
        self.online = Online(turns, points, amplitude) if turns else None
        self.homeostasis, self.draws, self.n_cosines = homeostasis, draws, n_cosines
        self.readout_rate, self.readout_decay = readout_rate, readout_decay
        self._alignment: Alignment | None = None
        self._last: dict[str, Tensor] = {}
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
        )

    @property
    def equal_steps(self) -> tuple[str, ...]:
        """Options of steps that follow one another without a gradient; a rehearsal counts few."""
        if self.online is not None:
            return ("nudged_steps",)
        return ("free_steps",) if self.rule == "bp" else ("free_steps", "nudged_steps")

    def build_model(self) -> None:
        """The network and its readout, drawn anew."""
        (self.net,) = self._given
        del self._given
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "weights"))
        self.net.draw(generator)
        self.readout = nn.Linear(self.net.n_out, self.n_classes)
        lecun_normal(self.readout.weight, self.net.n_out, generator)
        nn.init.zeros_(self.readout.bias)

    def build_metrics(self) -> None:
        """Accuracy and error over all images."""
        metrics: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(self.n_classes, average="micro"),
            "error": ErrorRate(self.n_classes, average="micro"),
        }
        if self.n_classes > 10:
            metrics["top5"] = MulticlassAccuracy(self.n_classes, average="micro", top_k=5)
        self.use_metrics(MetricCollection(metrics))

    def optimized(self) -> Iterable[Any]:
        """Parameters by their learning rate and decay, where these differ."""
        factors = {f"net.{name}": rate for name, rate in self.net.rates().items()}
        plain = not factors and self.readout_rate == self.readout_decay == 1
        if plain:
            return self.parameters()
        options: dict[str, Any] = self._optimizer.keywords
        lr, decay = options["lr"], options.get("weight_decay", 0.0)
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            own = name.startswith("readout.")
            rate = lr * (self.readout_rate if own else factors.get(name, 1.0))
            of_decay = decay * (self.readout_decay if own else 1.0)
            groups.setdefault((rate, of_decay), []).append(parameter)
        return [
            {"params": params, "lr": rate, "weight_decay": of_decay}
            for (rate, of_decay), params in groups.items()
        ]

    def readout_of(self, labels: Tensor) -> Readout:
        """The readout as it is, with the labels of a batch ``(B,)``."""
        weight, bias = self.readout.weight.detach(), self.readout.bias.detach()
        classes = torch.arange(self.n_classes, device=labels.device)
        target = (labels[:, None] == classes).to(weight.dtype)
        return Readout(weight, bias, target, self.net.layers["out"])

    def free(self, system: System) -> Tensor:
        """u* of a batch, ``(B, n)``, from u = 0."""
        if self.half_free and self.training and isinstance(system, ConvSystem):
            lower = system.to(torch.float16)
            return relax(lower, lower.zeros(), self.free_steps, stop=self.stop).float()
        return relax(system, system.zeros(), self.free_steps, stop=self.stop)

    def derivative(self, system: System, u: Tensor, readout: Readout) -> Tensor:
        """The vector s' at a free state, ``(B, n)``, with the run's N."""
        if self.rule != "ep" or self.points == 0 or self.online is not None:
            return tangent(system, u, self.nudged_steps, readout)
        return nudged(system, u, self.nudged_steps, readout, self.points, self.amplitude)

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Cross-entropy and logits at the free state of a batch ``(B, C, H, W), (B,)``.

        In training the loss has the rule's gradient: what is added to it has the value 0.
        """
        images, labels = batch
        if self.training:
            return self._train(images, labels)
        system = self.net.bind(images).detached()
        u = self.free(system)
        logits = self._logits(u)
        if self.trainer.testing:
            self._align(images, labels)
        loss = F.cross_entropy(logits, labels)
        return StepOutput(loss, logits, labels, logs=_convergence(system, u))

    def _logits(self, u: Tensor) -> Tensor:
        return self.readout(activate(self.net.activation, u[:, self.net.layers["out"]]))

    def _train(self, images: Tensor, labels: Tensor) -> StepOutput:
        system, readout = self.net.bind(images), self.readout_of(labels)
        held = system.detached()
        error: Tensor | None = None
        with torch.no_grad():
            if self.online is not None:
                u, error = online(held, self.nudged_steps, readout, self.online)
            else:
                u = self.free(held)
                if self.rule == "ep":
                    error = self.derivative(held, u, readout)
                elif self.rule == "rbp":
                    error = adjoint(held, u, self.nudged_steps, readout)
        s = activate(self.net.activation, u)
        if error is None:
            ended = u
            for _ in range(self.nudged_steps):
                ended = system.field(activate(self.net.activation, ended))
            logits = self._logits(ended)
            loss = F.cross_entropy(logits, labels)
        else:
            logits = self._logits(u)
            loss = F.cross_entropy(logits, labels)
            loss = _with_gradient_of(loss, (system.field(s) * error).sum() / len(labels))
        logs = _convergence(held, u)
        if self.homeostasis:
            penalty = self._penalty(system, s)
            logs["homeostasis"] = penalty
            loss = _with_gradient_of(loss, self.homeostasis * penalty.nan_to_num())
        if self.trainer.is_last_batch:
            with torch.no_grad():
                self._measure(held, u, readout, error if self.rule == "ep" else None)
        return StepOutput(loss, logits, labels, logs=logs)

    def _penalty(self, system: System, s: Tensor) -> Tensor:
        jacobian = None if self.draws else self.net.jacobian()
        if jacobian is not None:
            return expected(jacobian)
        generator = torch.Generator(s.device)
        generator.manual_seed(derive_seed(self.seed, "homeostasis", self.global_step))
        return homeostatic(system, s, self.draws, generator)

    def _measure(self, system: System, u: Tensor, readout: Readout, found: Tensor | None) -> None:
        """Cosines of a training batch, kept until the epoch is logged."""
        found = self.derivative(system, u, readout) if found is None else found
        exact = adjoint(system, u, self.nudged_steps, readout)
        for name, place in self.net.layers.items():
            values = cosines(found[:, place], exact[:, place])
            self._last[f"train/cosine_{name}"] = values.nanmean()

    def on_train_epoch_end(self) -> None:
        """Log cosines of the last batch, and what the weights say."""
        super().on_train_epoch_end()
        weights = {f"train/{name}": value for name, value in self._of_weights().items()}
        # Where no image's vector has a direction in a layer, there is no cosine to speak of.
        cosines = {name: value for name, value in self._last.items() if value.isfinite()}
        self.log_dict({**cosines, **weights}, batch_size=1)

    def _of_weights(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            jacobian, turned = self.net.jacobian(), angle(self.net)
        if jacobian is not None:
            found["symmetry"] = symmetry(jacobian)
        if turned is not None:
            found["angle"] = turned
        return found

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self._alignment = Alignment(self.net.layers)

    @torch.no_grad()
    def _align(self, images: Tensor, labels: Tensor) -> None:
        """Cosines of as many test images as are asked for, the first ones."""
        assert self._alignment is not None
        rest = self.n_cosines - self._alignment.n
        if rest <= 0:
            return
        system = self.net.bind(images[:rest]).detached()
        readout, u = self.readout_of(labels[:rest]), self.free(system)
        exact = adjoint(system, u, self.nudged_steps, readout)
        found = self.derivative(system, u, readout)
        self._alignment.add(found, exact, residual(system, u) <= UNCONVERGED)

    def on_test_epoch_end(self) -> None:
        """Record cosines, and what the weights say."""
        super().on_test_epoch_end()
        for name, value in self._of_weights().items():
            self.add_result(f"weights/{name}", float(value))
        if self._alignment is not None and self._alignment.n:
            for name, value in self._alignment.results().items():
                self.add_result(name, value)


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    return value + (other - other.detach())


@torch.no_grad()
def _convergence(system: System, u: Tensor) -> dict[str, Tensor]:
    norms = residual(system, u)
    unconverged = (norms > UNCONVERGED).float().mean()
    return {"unconverged": unconverged, "log10_residual": norms.clamp(min=1e-30).log10().mean()}
