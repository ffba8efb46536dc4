"""ConvergeSmooth: a training loss that leaves the band around the epoch before's is pulled back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.papers.converge_smooth.checks import refuse_other


@dataclass(frozen=True)
class Smoothing:
    """The term of the authors' code, with its ambiguities as options.

    Attributes:
        weight: of the term (w2); 0: no term, and no further pass through the network.
        band: half of the band's largest width (gamma_max), in units of the loss.
        ratio: largest width by least; at 1 the width never changes.
        change: what widens the band: the ``signed`` change of the epochs' mean loss, as in the
            code (only a rising loss widens it), or its size, ``abs``, as a summary of the paper
            has it.
        margin: epochs at both ends of a phase without the term.
        phases: epochs at which the learning rate changes, with 0 and the number of epochs.
        on: images whose loss it is: ``clean`` ones, those that the attack starts from (``start``:
            a pass of its own, as in the code for FGSM-RS), or these without a further pass
            (``initial``).
        level: the ``batch`` mean is compared, as in the code; or each ``example``, an
            interpretation of the paper's E variant.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    band: Annotated[float, Field(ge=0)] = 0.03
    ratio: Annotated[float, Field(ge=1)] = 1.0
    change: Literal["signed", "abs"] = "signed"
    margin: Annotated[int, Field(ge=0)] = 1
    phases: Sequence[int] = (0, 100, 105, 110)
    on: Literal["clean", "start", "initial"] = "clean"
    level: Literal["batch", "example"] = "batch"

    def __post_init__(self) -> None:
        """Refuse phases that are none, and from Python what a config cannot say.

        Raises:
            ValueError: for the first of these.
        """
        phases = [*self.phases]
        if len(phases) < 2 or phases[0] != 0 or any(a >= b for a, b in pairwise(phases)):
            raise ValueError(
                f"smoothing.phases: {phases}; has to begin with 0, rise, and end with the number of"
                " epochs, such as [0, 100, 105, 110]"
            )
        least = {"weight": 0, "band": 0, "ratio": 1, "margin": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"smoothing.{name}: {getattr(self, name)}; at least {bound}")
        refuse_other("smoothing.change", self.change, ("signed", "abs"))
        refuse_other("smoothing.on", self.on, ("clean", "start", "initial"))
        refuse_other("smoothing.level", self.level, ("batch", "example"))

    def width(self, change: float) -> float:
        """Half of the band for the last change of the mean loss (gamma_t)."""
        change = abs(change) if self.change == "abs" else change
        return min(max(self.band / self.ratio, change), self.band)

    def active(self, epoch: int) -> bool:
        """Whether the term is there: ``start + margin < epoch < end - margin`` of a phase."""
        return any(a + self.margin < epoch < b - self.margin for a, b in pairwise(self.phases))

    def term(self, losses: Tensor, previous: float, width: float) -> tuple[Tensor, Tensor]:
        """The term, and on which side of the band the losses are: -1, 0 or 1.

        The derivative is ``weight`` above the band, ``-weight`` below it (there the loss is raised)
        and 0 within: the comparison has no gradient.

        Args:
            losses: of each item, ``(B,)``.
            previous: mean loss of the epoch before.
            width: half of the band.

        Raises:
            ValueError: for losses that are no vector.
        """
        if losses.ndim != 1:
            raise ValueError(f"losses: shape {tuple(losses.shape)}; one of each item, (B,)")
        compared = losses.mean()[None] if self.level == "batch" else losses
        distance = compared.detach() - previous
        side = torch.where(distance.abs() > width, distance.sign(), 0.0)
        return self.weight * (side * compared).mean(), side


@dataclass
class MeanLoss:
    """Mean of a loss over the epochs, weighted by images: the last one, and how it changed.

    Attributes:
        previous: mean of the last epoch that has ended; 0 before.
        change: that less the one before.
    """

    previous: float = 0.0
    change: float = 0.0
    _parts: list[tuple[Tensor, int]] = field(default_factory=list[tuple[Tensor, int]], init=False)

    def add(self, losses: Tensor) -> None:
        """Losses of a batch, ``(B,)``; read at the end of the epoch, when the device has them."""
        self._parts.append((losses.detach().double().sum(), len(losses)))

    def state(self) -> list[float]:
        """What makes it again at the end of an epoch."""
        return [self.previous, self.change]

    def close(self) -> None:
        """The epoch has ended."""
        if self._parts:
            total = float(torch.stack([part for part, _ in self._parts]).sum())
            mean = total / sum(count for _, count in self._parts)
            self.previous, self.change = mean, mean - self.previous
        self._parts = []


class Centre:
    """Mean of the weights at the ends of earlier epochs of a phase (weight centralisation).

    An interpretation: the authors' code does not have it, and its formula is known at second hand.
    """

    def __init__(self) -> None:
        self.mean: list[Tensor] = []
        self.count = 0

    def add(self, weights: Sequence[Tensor]) -> None:
        """Weights at the end of an epoch."""
        self.count += 1
        if self.count == 1:
            self.mean = [w.detach().clone() for w in weights]
        else:
            for mean, weight in zip(self.mean, weights, strict=True):
                mean += (weight.detach() - mean) / self.count

    def distance(self, weights: Sequence[Tensor]) -> Tensor:
        """L2 norm of the weights less their mean, one norm for all."""
        parts = [(w - m).square().sum() for w, m in zip(weights, self.mean, strict=True)]
        # At the mean itself the norm has no derivative; the square's, 0, is taken.
        return (torch.stack(parts).sum() + 1e-24).sqrt()
