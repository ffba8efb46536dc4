"""Two digits in one picture: three tasks, with Optdigits and with MNIST.

Sabour, Frosst, Hinton: Dynamic Routing Between Capsules (NeurIPS 2017) overlay MNIST digits; as
tasks for multi-task learning, one digit in the top left of 36 x 36 pixels and one in the bottom
right: Sener, Koltun: Multi-Task Learning as Multi-Objective Optimization (NeurIPS 2018).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from retable.data import optdigits
from retable.data.image_cache import load
from retable.papers.igb.data import REGRESSION, Items, TaskData, classification
from retable.training.seeds import derive_seed

MNIST_SHA256 = "2f7d55d4bf6c13c06e96c77d2d53f5766b80e6b52f523c4216a29159b4b2b5a2"
"""Of the decoded arrays, :func:`retable.data.arrays.checksum`."""

VALIDATION_SHARE = 5
"""One in so many training images is kept for pairs of validation."""


class TwoDigits(TaskData):
    """Base: pairs of images, one in the top left and one in the bottom right of a larger canvas.

    Where they overlap the brighter pixel counts. Tasks: ``left`` and ``right``, classes of the two
    digits, and ``sum``, their sum scaled to [0, largest_sum]. Inputs ``(B, 1, H, W)`` in [0, 1];
    in memory they are bytes.

    Both images of a pair are drawn uniformly and independently: pairs of training and validation
    from two parts of the set's training images, by the run's seed as the parts themselves; pairs
    of the test from its test images, the same for every seed.

    Args:
        n_train: pairs of training.
        n_validation: of validation.
        n_test: of the test.
        largest_sum: the target of two nines. The larger, the more its squared error outweighs the
            cross-entropies of the classes where losses are added as they are.
        **options: of :class:`~retable.papers.igb.data.TaskData`.
    """

    shift: ClassVar[int]
    """Pixels from the corner of the left digit to that of the right one, down and across."""

    def __init__(
        self,
        *,
        n_train: Annotated[int, Field(ge=1)] = 20_000,
        n_validation: Annotated[int, Field(ge=1)] = 2_000,
        n_test: Annotated[int, Field(ge=1)] = 5_000,
        largest_sum: Annotated[float, Field(gt=0)] = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.n_train, self.n_validation, self.n_test = n_train, n_validation, n_test
        self.largest_sum = largest_sum

    def kinds(self) -> dict[str, str]:
        """``left``, ``right`` and ``sum``."""
        return {"left": classification(10), "right": classification(10), "sum": REGRESSION}

    def arrays(self) -> dict[str, Tensor]:
        """Images ``(N, h, w, 1)`` uint8 and labels ``(N,)`` int64 of ``train`` and ``test``."""
        raise NotImplementedError

    def as_inputs(self, x: Tensor) -> Tensor:
        """From bytes to [0, 1]."""
        return x.float() / 255

    def pairs(self, n_images: int) -> tuple[Tensor, Tensor]:
        """Pairs of training and of validation ``(n, 2)``, as indices of training images."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "images"))
        order = torch.randperm(n_images, generator=generator)
        held_out = n_images // VALIDATION_SHARE
        return (
            _drawn(order[held_out:], self.n_train, derive_seed(self.seed, "pairs")),
            _drawn(order[:held_out], self.n_validation, derive_seed(self.seed, "validation pairs")),
        )

    def items(self) -> tuple[Items, Items, Items]:
        """Draw pairs and put them together."""
        arrays = self.arrays()
        images, labels = arrays["train/images"], arrays["train/labels"]
        train, validation = self.pairs(len(images))
        n = len(arrays["test/labels"])
        test = _drawn(torch.arange(n), self.n_test, derive_seed(0, "test pairs"))
        return (
            self._items(images, labels, train),
            self._items(images, labels, validation),
            self._items(arrays["test/images"], arrays["test/labels"], test),
        )

    def _items(self, images: Tensor, labels: Tensor, pairs: Tensor) -> Items:
        left, right = pairs.T
        x = overlaid(images[left, ..., 0], images[right, ..., 0], self.shift)
        total = (labels[left] + labels[right]).float() * (self.largest_sum / 18)
        return x[:, None], {"left": labels[left], "right": labels[right], "sum": total}


class MultiDigits(TwoDigits):
    """Of the digits of 8 x 8 pixels that scikit-learn brings, on 12 x 12.

    Test images are those of :func:`retable.data.optdigits.arrays`. Arguments are those of
    :class:`TwoDigits`.
    """

    shift = 4

    def arrays(self) -> dict[str, Tensor]:
        """The digits."""
        return optdigits.arrays()


class MultiMnist(TwoDigits):
    """Of MNIST's digits of 28 x 28 pixels, on 36 x 36; arguments as for :class:`TwoDigits`."""

    shift = 8

    def arrays(self) -> dict[str, Tensor]:
        """MNIST, from the cache, which is filled first where needed."""
        return load("mnist", MNIST_SHA256, self.paths)

    def prepare_data(self) -> None:
        """Decode MNIST into the cache; what is there already is left alone."""
        self.arrays()


def overlaid(left: Tensor, right: Tensor, shift: int) -> Tensor:
    """Images ``(n, h, w)`` on canvases ``(n, h + shift, w + shift)``, by the larger pixel."""
    n, height, width = left.shape
    canvas = left.new_zeros(n, height + shift, width + shift)
    canvas[:, :height, :width] = left
    corner = canvas[:, shift:, shift:]
    torch.maximum(corner, right, out=corner)
    return canvas


def _drawn(images: Tensor, n: int, seed: int) -> Tensor:
    """``(n, 2)`` of the images, with replacement."""
    generator = torch.Generator().manual_seed(seed)
    return images[torch.randint(len(images), (n, 2), generator=generator)]
