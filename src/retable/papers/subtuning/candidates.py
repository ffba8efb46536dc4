"""Training of many sets of blocks from the same pretrained network, and how well each does.

What lies below the first tuned block is frozen, so that what it gives is computed once for all
images, not at every step; frozen blocks above it have their batch norm folded into the convolution
before it, which computes the same but for rounding. Order, augmentation and the first head of a
training depend on the seed alone: all sets are compared on the same ones, in whatever order.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from retable.papers.subtuning.networks import Blocks
from retable.papers.subtuning.search import Set
from retable.training.seeds import derive_seed


@runtime_checkable
class FixedCopies(Protocol):
    """Augmentation that chooses among a few copies of each image, such as its mirror image."""

    def copies(self, images: Tensor) -> Tensor:
        """``(N, ...)`` to ``(K, N, ...)``."""
        ...

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Which copy of each of ``n`` images, ``(n,)``."""
        ...


Augment = Callable[[Tensor, torch.Generator], Tensor]

BATCH = 500
"""Images that pass through a network at a time where nothing is trained."""


@dataclass(frozen=True)
class Recipe:
    """How a set is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of a step; a last batch that is not full counts.
        optimizer: called with the parameters.
        scheduler: called with the optimiser, stepped after every epoch; None: a constant rate.
        batch_norm: whether tuned blocks use and update the statistics of batches (the authors), or
            keep those of pretraining.
        head: ``new`` is drawn for every training, ``kept`` is the pretrained one; both are trained.
        augment: of training images; None: none.
        channels_last: memory format of activations and weights.
    """

    epochs: int
    batch_size: int
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None
    batch_norm: Literal["train", "eval"] = "train"
    head: Literal["new", "kept"] = "new"
    augment: Augment | FixedCopies | None = None
    channels_last: bool = False


class Images:
    """Images, and what a block of the pretrained network is given for them.

    Args:
        net: frozen.
        images: ``(N, C, H, W)``.
        kept: keep that for one block, for many trainings from it on; else it is computed batch by
            batch, as that of large images would not fit into memory.
    """

    def __init__(self, net: Blocks, images: Tensor, *, kept: bool) -> None:
        self.net, self.images, self.kept = net, images, kept
        self._at: tuple[int, Tensor] | None = None

    @torch.no_grad()
    def at(self, first: int, items: Tensor) -> Tensor:
        """Inputs ``(n, ...)`` of block ``first`` for some images; of L: what the tail is given."""
        if not self.kept:
            return self.net.before(self.images[items], first)
        if self._at is None or self._at[0] != first:
            parts = [self.net.before(part, first) for part in self.images.split(BATCH)]
            self._at = first, torch.cat(parts)
        return self._at[1][items]


class Trained:
    """A network with a set of blocks tuned, from the first of them on.

    Attributes:
        first: the first tuned block; L if there is none.
        part: copies of the blocks from there on, the tail and the head.
    """

    def __init__(self, net: Blocks, tuned: Set, recipe: Recipe, head: nn.Linear) -> None:
        self.first = min(tuned, default=len(net))
        blocks = [
            copy.deepcopy(block) if i in tuned else _folded(block)
            for i, block in enumerate(net.blocks)
            if i >= self.first
        ]
        self.part = Blocks(nn.Identity(), blocks, copy.deepcopy(net.tail), head)
        if recipe.channels_last:
            cast("Any", self.part).to(memory_format=torch.channels_last)
        self.tuned = [self.part.blocks[i - self.first] for i in tuned]
        self.part.eval().requires_grad_(False)
        for module in (*self.tuned, self.part.fc):
            module.requires_grad_(True)
        self._train = recipe.batch_norm == "train"

    def train(self, on: bool) -> None:
        """Put tuned blocks into the mode of training, or back."""
        for block in self.tuned:
            block.train(on and self._train)

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [p for p in self.part.parameters() if p.requires_grad]

    @torch.no_grad()
    def logits(self, images: Images, items: Tensor | None = None) -> Tensor:
        """Of some images, or all: ``(n, n_classes)``, in evaluation mode."""
        self.train(False)
        chosen = torch.arange(len(images.images)) if items is None else items
        return torch.cat([self.part(images.at(self.first, i)) for i in chosen.split(BATCH)])


def _folded(block: nn.Module) -> nn.Module:
    """A copy of a frozen block, its batch norms folded into the convolutions before them."""
    block = copy.deepcopy(block).eval()
    for module in list(block.modules()):
        children = list(module.named_children())
        # Residual blocks register each norm behind its convolution; so does a projection.
        for (name, conv), (other, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, other, nn.Identity())
    return block


class SetTrainer:
    """Trains sets of blocks on some of the same images.

    Args:
        net: the pretrained network; it is left as it is.
        images: ``(N, C, H, W)``, those of all trainings.
        labels: ``(N,)``.
        recipe: of every training.
        n_classes: of a new head.
        seed: of order, augmentation and new heads.
    """

    def __init__(
        self, net: Blocks, images: Tensor, labels: Tensor, recipe: Recipe, n_classes: int, seed: int
    ) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
            cast("Any", self.net).to(memory_format=torch.channels_last)
        self.labels, self.recipe, self.n_classes, self.seed = labels, recipe, n_classes, seed
        augment = recipe.augment
        # Where every step has images of its own, little of a training is saved by keeping others.
        self.kept = augment is None or isinstance(augment, FixedCopies)
        self.plain = Images(self.net, images, kept=self.kept)
        if isinstance(augment, FixedCopies):
            self.copies = Images(self.net, augment.copies(images).flatten(0, 1), kept=True)

    def _head(self, fold: int) -> nn.Linear:
        if self.recipe.head == "kept":
            return copy.deepcopy(self.net.fc)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "head", fold))
            return nn.Linear(self.net.fc.in_features, self.n_classes).to(self.labels.device)

    def _batch(self, first: int, items: Tensor, draws: torch.Generator) -> Tensor:
        """What block ``first`` is given for some images, augmented."""
        augment = self.recipe.augment
        if augment is None:
            return self.plain.at(first, items)
        if isinstance(augment, FixedCopies):
            which = augment.draw(len(items), draws).to(items.device)
            return self.copies.at(first, which * len(self.labels) + items)
        images = self.plain.images[items]
        with torch.no_grad():
            return self.net.before(augment(images, draws), first)

    def train(self, tuned: Sequence[int], chosen: Tensor, fold: int = 0) -> Trained:
        """Train a set from the pretrained weights.

        Args:
            tuned: blocks, from 0.
            chosen: indices of the images to train on, ``(n,)``.
            fold: tells trainings of the same seed apart.
        """
        recipe = self.recipe
        trained = Trained(self.net, tuple(tuned), recipe, self._head(fold))
        optimizer = recipe.optimizer(trained.parameters())
        scheduler = recipe.scheduler(optimizer) if recipe.scheduler else None
        for epoch in range(recipe.epochs):
            draws = torch.Generator().manual_seed(derive_seed(self.seed, "order", fold, epoch))
            order = chosen[torch.randperm(len(chosen), generator=draws).to(chosen.device)]
            trained.train(True)
            for items in order.split(recipe.batch_size):
                inputs = self._batch(trained.first, items, draws)
                loss = F.cross_entropy(trained.part(inputs), self.labels[items])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if scheduler is not None:
                scheduler.step()
        trained.train(False)
        return trained

    def validated(self, tuned: Sequence[int], images: Images, labels: Tensor) -> float:
        """Accuracy on other images of a training on all of one's own.

        Args:
            tuned: blocks, from 0.
            images: of `net`.
            labels: ``(M,)``.
        """
        trained = self.train(tuned, torch.arange(len(self.labels)))
        return accuracy(trained.logits(images), labels)

    def cross_validated(self, tuned: Sequence[int], folds: Sequence[Tensor]) -> float:
        """Mean accuracy over folds, of a training on the images of all the others each."""
        values = list[float]()
        for v, fold in enumerate(folds):
            others = torch.cat([other for w, other in enumerate(folds) if w != v])
            trained = self.train(tuned, others, v)
            values.append(accuracy(trained.logits(self.plain, fold), self.labels[fold]))
        return sum(values) / len(values)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of ``(N, n_classes)`` whose largest is the label."""
    return float((logits.argmax(1) == labels).float().mean())


def folds_of(n: int, k: int, seed: int) -> list[Tensor]:
    """A partition of n items into k folds whose sizes differ by one at most.

    Fixed for all sets of a search, and without regard to classes, as in the authors' code.
    """
    draws = torch.Generator().manual_seed(derive_seed(seed, "folds"))
    return list(torch.randperm(n, generator=draws).tensor_split(k))
