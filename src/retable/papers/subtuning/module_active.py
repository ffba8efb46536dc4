"""Active learning: labels are bought in turn, and the network is fine-tuned anew at each size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.papers.base import Start
from retable.papers.subtuning import networks
from retable.papers.subtuning.candidates import Images, Recipe, SetTrainer, accuracy
from retable.papers.subtuning.margin import BUDGETS, choose, random_choice
from retable.papers.subtuning.module_base import OnAllImages
from retable.papers.subtuning.networks import Name
from retable.papers.subtuning.weights import load_start
from retable.training.seeds import derive_seed


class ActiveLearning(OnAllImages):
    """Buys labels of the training images by budgets, and trains on all that are labelled.

    The first ones are drawn at random. An epoch is a budget: it buys, trains from the pretrained
    weights with a new head, and logs ``active/labels`` and ``active/accuracy``, that on the test
    images, which choose nothing. What is labelled is state, so that a kill costs one budget.

    Args:
        seed: the run's seed.
        network: see :data:`~retable.papers.subtuning.networks.Name`.
        n_classes: of the labels.
        size: side that images have for the network; others are resized to it.
        blocks: what is tuned, numbers from 1, or ``all``.
        choice: those of the smallest margin, or random ones.
        budgets: labels bought in turn.
        n_pool: training images, whose labels can be bought.
        epochs: of a training.
        batch_size: of a training.
        optimizer: ``_partial_``, for every training anew.
        scheduler: ``_partial_``, stepped after every epoch of a training.
        channels_last: memory format, for speed.
    """

    labelled: Tensor
    accuracies: Tensor

    def __init__(
        self,
        *,
        seed: int,
        network: Name,
        n_classes: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=8)] | None = None,
        blocks: Sequence[Annotated[int, Field(ge=1)]] | Literal["all"],
        choice: Literal["margin", "random"] = "margin",
        budgets: Sequence[Annotated[int, Field(ge=1)]] = BUDGETS,
        n_pool: Annotated[int, Field(ge=1)],
        epochs: Annotated[int, Field(ge=1)] = 50,
        batch_size: Annotated[int, Field(ge=1)] = 256,
        optimizer: Any = None,
        scheduler: Any = None,
        channels_last: bool = False,
    ) -> None:
        if sum(budgets) > n_pool:
            raise ValueError(f"model.budgets: {sum(budgets)} labels of model.n_pool={n_pool}")
        self.network: Name = network
        self.n_classes, self.size, self.blocks = n_classes, size, blocks
        self.choice, self.budgets, self.n_pool = choice, tuple(budgets), n_pool
        self.epochs, self.batch_size, self.channels_last = epochs, batch_size, channels_last
        self.scheduler = scheduler  # not the base's: that would be of the run
        super().__init__(seed=seed, optimizer=optimizer)

    def build_model(self) -> None:
        """The pretrained network, which stays as it is, and what is labelled."""
        self.net = networks.network(self.network, self.n_classes, self.size)
        self.tuned = networks.indices(self.blocks, self.network, len(self.net))
        self.register_buffer("labelled", torch.zeros(self.n_pool, dtype=torch.bool))
        done = torch.full((len(self.budgets),), torch.nan, dtype=torch.float64)
        self.register_buffer("accuracies", done)

    def take_start(self, start: Start) -> None:
        """Take pretrained weights of a file, or the network of another run."""
        load_start(self.net, start, self.network, "new")

    def on_fit_start(self) -> None:
        """Refuse data and epochs that do not fit the budgets."""
        data, trainer = self.data, self.trainer
        if len(data.train[0]) != self.n_pool:
            raise ValueError(
                f"model.n_pool: {self.n_pool}, but there are {len(data.train[0])} training images"
            )
        if trainer.max_epochs != len(self.budgets):
            raise ValueError(
                f"trainer.max_epochs: {trainer.max_epochs} for the {len(self.budgets)} of"
                " model.budgets; an epoch is one of them"
            )

    def work(self) -> dict[str, float]:
        """Train on what is labelled, then buy; the pool is all training images."""
        k, data = self.current_epoch, self.data
        images, labels = data.train[:2]
        if k == 0:
            draws = torch.Generator().manual_seed(derive_seed(self.seed, "first labels"))
            self.labelled[random_choice(self.labelled, self.budgets[0], draws)] = True
        chosen = self.labelled.nonzero()[:, 0]
        recipe = Recipe(
            self.epochs,
            self.batch_size,
            self._optimizer,
            self.scheduler,
            augment=self.augmentation(),
            channels_last=self.channels_last,
        )
        seed = derive_seed(self.seed, "budget", k)
        sets = SetTrainer(self.net, images[chosen], labels[chosen], recipe, self.n_classes, seed)
        trained = sets.train(self.tuned, torch.arange(len(chosen)))

        def logits(of: Tensor) -> Tensor:
            return trained.logits(Images(sets.net, of, kept=False))

        self.accuracies[k] = accuracy(logits(data.test[0]), data.test[1])
        if k + 1 < len(self.budgets):
            n = self.budgets[k + 1]
            if self.choice == "margin":
                bought = choose(logits(images).softmax(1), self.labelled, n)
            else:
                draws = torch.Generator().manual_seed(derive_seed(self.seed, "labels", k))
                bought = random_choice(self.labelled, n, draws)
            self.labelled[bought] = True
        return {"active/labels": float(len(chosen)), "active/accuracy": float(self.accuracies[k])}

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record ``active/accuracy`` with the number of labels as its step."""
        sizes = accumulate(self.budgets)
        for size, value in zip(sizes, self.accuracies.tolist(), strict=True):
            if not math.isnan(value):
                self.add_result("active/accuracy", value, step=size)
