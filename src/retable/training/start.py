"""Start of a run from where another one ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

Arrays = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """State that another run has left.

    Attributes:
        weights: state of the network that it has tested, as its module names it.
        artifacts: arrays that it declared (``PaperModule.artifacts``), by name.
        history: one mapping per epoch, ``{"epoch": k, "train/loss": ...}``.
    """

    weights: dict[str, Tensor]
    artifacts: dict[str, Arrays] = field(default_factory=dict[str, Arrays])
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
