"""How images are perturbed in training, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from retable.papers.converge_smooth.attacks import (
    Loss,
    Net,
    Perturbed,
    several_steps,
    single_step,
)
from retable.papers.converge_smooth.checks import refuse_other
from retable.papers.converge_smooth.priors import Prior
from retable.papers.converge_smooth.smoothing import Smoothing

_READ: dict[str, tuple[str, ...]] = {
    "single": ("noise", "project", "quantile", "starts"),
    "pgd": ("steps",),
    "batch": ("reset",),
    "epoch": ("reset",),
    "momentum": ("decay", "reset"),
}
"""Options that each kind reads besides ``step`` and ``labels``."""


@dataclass(frozen=True)
class Attack:
    """What images are perturbed by in training; sizes in units of the budget.

    Attributes:
        kind: ``single`` step, several of them (``pgd``), or one from a prior: the previous
            ``batch``, the image's previous ``epoch``, or its ``momentum``.
        noise: of a single step; 0: it starts at the image.
        step: size of a step.
        project: whether a single step ends within the budget.
        steps: of ``pgd``.
        quantile: of an image's gradient entries that are left out (ZeroGrad).
        starts: gradients that have to agree (MultiGrad).
        labels: of the loss that is raised: ``hard``, or ``soft`` as in training.
        decay: of the momentum.
        reset: epochs after which priors begin anew.
    """

    kind: Literal["single", "pgd", "batch", "epoch", "momentum"] = "single"
    noise: Annotated[float, Field(ge=0)] = 1.0
    step: Annotated[float, Field(gt=0)] = 1.0
    project: bool = False
    steps: Annotated[int, Field(ge=1)] = 10
    quantile: Annotated[float, Field(ge=0, lt=1)] = 0.0
    starts: Annotated[int, Field(ge=1)] = 1
    labels: Literal["hard", "soft"] = "hard"
    decay: Annotated[float, Field(ge=0)] = 0.3
    reset: Annotated[int, Field(ge=1)] = 40

    def __post_init__(self) -> None:
        """Refuse what the kind does not read: two rows of a table would be the same run.

        Raises:
            ValueError: for the first such option.
        """
        refuse_other("attack.kind", self.kind, _READ)
        refuse_other("attack.labels", self.labels, ("hard", "soft"))
        for option in fields(self):
            given, read = getattr(self, option.name), ["step", "labels", *_READ[self.kind]]
            if option.name not in {"kind", *read} and given != option.default:
                raise ValueError(
                    f"attack.{option.name}: {given} has no effect with kind={self.kind}, which"
                    f" reads {', '.join(read)}; leave it out"
                )

    def prior(self, budget: float) -> Prior | None:
        """Where the kind has one, its state, still empty."""
        if self.kind in {"single", "pgd"}:
            return None
        return Prior(cast("Any", self.kind), budget, self.step * budget, self.decay)

    def __call__(
        self,
        net: Net,
        images: Tensor,
        loss: Loss,
        generator: torch.Generator,
        *,
        budget: float,
        keep: bool = False,
    ) -> Perturbed:
        """Images perturbed from a start without a prior.

        Args:
            net: the network.
            images: in [0, 1].
            loss: of each item, which is raised.
            generator: of the start, on the CPU.
            budget: L-infinity radius.
            keep: whether the logits at the start keep their graph.
        """
        step = self.step * budget
        if self.kind == "pgd":
            return several_steps(
                net, images, loss, generator,
                budget=budget, step=step, steps=self.steps, keep=keep,
            )  # fmt: skip
        return single_step(
            net, images, loss, generator,
            budget=budget, start=self.noise * budget, step=step, project=self.project,
            quantile=self.quantile, starts=self.starts, keep=keep,
        )  # fmt: skip


def refuse_other_kinds(attack: object, smoothing: object) -> None:
    """Refuse what is neither an attack nor a term.

    Raises:
        ValueError: for the first.
    """
    for name, given, kind in (("attack", attack, Attack), ("smoothing", smoothing, Smoothing)):
        if not isinstance(given, kind):
            found = type(given).__name__
            raise ValueError(f"model.{name}: expected {kind.__name__}, not a {found}")


def refuse_beside_replays(attack: Attack, match: float, smoothing: Smoothing) -> None:
    """Refuse what replays on a batch (Free-AT) would not do.

    A replay's perturbation is moved by the gradient of the training loss itself: it has one signed
    step, and neither a start nor logits there.

    Raises:
        ValueError: for the first option that is not possible.
    """
    refused = {
        f"attack.kind: {attack.kind}": attack.kind != "single",
        f"attack.quantile: {attack.quantile}": attack.quantile > 0,
        f"attack.starts: {attack.starts}": attack.starts > 1,
        f"match: {match}": match > 0,
        "smoothing.on: initial": smoothing.weight > 0 and smoothing.on == "initial",
    }
    for option, is_given in refused.items():
        if is_given:
            raise ValueError(
                f"model.{option} is not possible with model.replays above 1 (Free-AT), whose"
                " perturbation goes on from the last step's; leave it out, or set replays=1"
            )
