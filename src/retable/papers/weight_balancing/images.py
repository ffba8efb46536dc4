"""Balanced image sets from which a long tail is taken, and their preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths
from retable.data.image_sets import SETS, ImageSetName
from retable.data.modules import GeneratedImages, ImageData
from retable.papers.weight_balancing.long_tail import LongTail


@dataclass(frozen=True)
class Normalise:
    """Average pooling, then channels less their mean by their deviation; for ``data.preprocess``.

    Attributes:
        mean: of the channels.
        std: of the channels.
        pool: side of the squares that become one pixel.
    """

    mean: Sequence[float]
    std: Sequence[float]
    pool: Annotated[int, Field(ge=1)] = 1

    def __call__(self, pool: Tensor, _train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        """Training and validation images, and test images, ``(N, C, H, W)``."""
        return self._one(pool), self._one(test)

    def _one(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(list(v))[:, None, None] for v in (self.mean, self.std))
        return (F.avg_pool2d(images, self.pool) - mean) / std


class LongTailed(ImageData):
    """An image set of which :class:`LongTail` takes the training images (``data.split``).

    Args:
        seed: the run's seed; the order of training images follows from it, the split does not.
        paths: mirror and cache, given by the harness.
        dataset: short name of the balanced set.
        checksum: of its decoded arrays.
        batch_size: training images of a batch; a last one that is not full is kept.
        n_validation: images that are set aside, as many of every class.
        split: a :class:`LongTail`.
        preprocess: as for :class:`~retable.data.modules.ImageData`.
        augment: as there.
        n_test: test images of every class, the first; all where left out.
        eval_batch_size: images of a batch of validation and test.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        dataset: ImageSetName,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        batch_size: Annotated[int, Field(ge=1)],
        n_validation: Annotated[int, Field(ge=0)],
        split: Callable[..., Any],
        preprocess: Literal["none", "center_train"] | Callable[..., Any] = "none",
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        n_test: Annotated[int, Field(ge=1)] | None = None,
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset=dataset,
            checksum=checksum,
            batch_size=batch_size,
            n_validation=n_validation,
            split=split,
            preprocess=preprocess,
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=False,
        )
        self.n_test = n_test

    @property
    def n_per_class(self) -> list[int] | None:
        """Training images of every class, known before any is read; None with another split."""
        sizes = SETS[self.dataset].sizes
        n = sum(size for name, size in sizes.items() if name != "test")
        return self.split.sizes(n, self.n_validation) if isinstance(self.split, LongTail) else None

    def arrays(self) -> dict[str, Tensor]:
        """Images and labels by split; of the test images the first of every class."""
        arrays = super().arrays()
        if self.n_test is not None:
            labels = arrays["test/labels"]
            n_classes = int(labels.max()) + 1
            kept, _ = LongTail(n_classes, self.n_test, 1.0)(labels, 0, 0)
            kept = kept.sort().values
            arrays = {n: a[kept] if n.startswith("test/") else a for n, a in arrays.items()}
        return arrays


class GeneratedLongTail(GeneratedImages):
    """A generated set of 10 classes with a long tail, for smoke runs.

    Args:
        seed: as for :class:`LongTailed`, like all that follow but the sizes.
        paths: not used.
        split: as there.
        batch_size: as there.
        n_validation: as there.
        preprocess: as there.
        augment: as there.
        shape: height, width and channels.
        n_pool: images from which the tail and validation are taken.
        n_test: test images.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        split: Callable[..., Any],
        batch_size: Annotated[int, Field(ge=1)] = 32,
        n_validation: Annotated[int, Field(ge=0)] = 50,
        preprocess: Literal["none", "center_train"] | Callable[..., Any] = "none",
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        shape: tuple[int, int, int] = (8, 8, 3),
        n_pool: Annotated[int, Field(ge=10)] = 600,
        n_test: Annotated[int, Field(ge=10)] = 100,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            shape=shape,
            n_pool=n_pool,
            n_test=n_test,
            batch_size=batch_size,
            n_validation=n_validation,
            split=split,
            preprocess=preprocess,
            augment=augment,
            drop_last=False,
        )
