"""A new last layer on the hidden one of another run."""

from __future__ import annotations

from typing import Any

from retable.papers.base import Start

# isort: split
from retable.papers.digits.module import Perceptron


class Tuned(Perceptron):
    """The hidden layer and its norm are taken as they are; only the last layer is trained."""

    def take_start(self, start: Start) -> None:
        hidden = {k: v for k, v in start.weights.items() if k.startswith(("net.0.", "net.1."))}
        self.load_state_dict({**self.state_dict(), **hidden})
        self.net[:2].requires_grad_(False)
        self.epochs_before = len(start.history)

    def optimized(self) -> Any:
        return self.net[4].parameters()

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.log("train/epochs_before", float(self.epochs_before))
