"""Digits of 8 x 8 pixels for the reduced protocol, and ImageNet at 32 x 32."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths
from retable.data.own_data import agree, in_mirror
from retable.data.tensor_loader import TensorLoader
from retable.data.tensor_splits import Tensors, TensorSplits
from retable.papers.equilibrium_prop.images import CropFlip, Normalise
from retable.util.errors import UserError

DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of pixels and labels as bytes, in scikit-learn's order."""


class Digits(TensorSplits):
    """The 1,797 digits that scikit-learn brings, pixels in [0, 1]; no validation images.

    Args:
        seed: the run's seed; the order of training images follows from it, the split does not.
        paths: not used.
        batch_size: training images of a batch; a last one that is not full is kept.
        n_test: test images, of every class in proportion.
        eval_batch_size: test images of a batch.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        batch_size: Annotated[int, Field(ge=1)] = 50,
        n_test: Annotated[int, Field(ge=10)] = 360,
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
    ) -> None:
        super().__init__(
            seed=seed, paths=paths, batch_size=batch_size, eval_batch_size=eval_batch_size
        )
        self.n_test = n_test

    def splits(self) -> tuple[Tensors, Tensors, Tensors]:
        """Images ``(N, 1, 8, 8)`` and labels, by split."""
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError:
            raise UserError(
                "the digits come with scikit-learn: install the extra 'equilibrium-prop'"
            ) from None
        raw: Any = load_digits()
        images, labels = np.asarray(raw.images), np.asarray(raw.target)
        found = hashlib.sha256(
            images.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
        )
        agree("digits", Path("scikit-learn"), found.hexdigest(), DIGITS_SHA256)
        parts: Any = train_test_split(
            np.arange(len(labels)), test_size=self.n_test, random_state=0, stratify=labels
        )
        train, test = (torch.as_tensor(np.sort(part)) for part in parts)
        x = torch.as_tensor(images, dtype=torch.float32)[:, None] / 16
        y = torch.as_tensor(labels, dtype=torch.int64)
        return (x[train], y[train]), (x[:0], y[:0]), (x[test], y[test])


class ImageNet32(TensorSplits):
    """ImageNet at 32 x 32 (Chrabaszcz et al. 2017); the official validation images are the test.

    Images stay in uint8 in memory, four gigabytes, and are normalised batch by batch.

    Args:
        seed: the run's seed; order and augmentation of training images follow from it.
        paths: mirror, given by the harness.
        checksum: of all labels and every thousandth image; null where it is not known yet: then
            preparing says what it is.
        normalise: of a batch.
        augment: of a training batch, after that.
        batch_size: training images of a batch; a last one that is not full is left out.
        eval_batch_size: test images of a batch.
        folder: below the mirror.
    """

    structure = (
        "ImageNet 32x32 as its authors give it for NumPy: train_data_batch_1.npz to _10.npz and"
        " val_data.npz, each with data (N, 3072) and labels from 1 to 1000"
    )

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        normalise: Callable[..., Any],
        augment: Callable[..., Any],
        batch_size: Annotated[int, Field(ge=1)] = 256,
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        folder: str = "imagenet32",
    ) -> None:
        super().__init__(
            seed=seed, paths=paths, batch_size=batch_size, eval_batch_size=eval_batch_size
        )
        for name, given, kind in (
            ("normalise", normalise, Normalise),
            ("augment", augment, CropFlip),
        ):
            if not isinstance(given, kind):
                raise ValueError(f"data.{name}: expected a {kind.__name__}")
        self.checksum, self.folder = checksum, folder
        self.normalise: Any = normalise
        self.augment: Any = augment
        self._read: tuple[Tensors, Tensors, Tensors] | None = None

    def splits(self) -> tuple[Tensors, Tensors, Tensors]:
        """Images ``(N, 3, 32, 32)`` in uint8 and labels from 0, by split."""
        if self._read is None:
            root = in_mirror("data.folder", self.folder, self.paths, self.structure)
            parts = [_read(root / f"train_data_batch_{k}.npz") for k in range(1, 11)]
            images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            test = _read(root / "val_data.npz")
            self._read = ((images, labels), (images[:0], labels[:0]), test)
        return self._read

    def identity(self) -> str:
        """Checksum of what is there."""
        digest = hashlib.sha256()
        for images, labels in self.splits():
            digest.update(labels.numpy().tobytes())
            digest.update(images[::1000].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def prepare_data(self) -> None:
        """Look whether all images are there and are those of the checksum."""
        agree("data.checksum", Path(self.folder), self.identity(), self.checksum)

    def train_dataloader(self) -> Any:
        """Training batches, in the order of the epoch that is about to run."""
        assert self.train is not None
        return TensorLoader(
            self.train,
            self.batch_size,
            shuffle=self.seed,
            epoch=self._epoch,
            augment=lambda images, generator: self.augment(self._float(images), generator),
            drop_last=True,
        )

    def test_dataloader(self) -> Any:
        """Test batches in fixed order."""
        return _Converted(super().test_dataloader(), self._float)

    def _float(self, images: Tensor) -> Tensor:
        return self.normalise.one(images.float() / 255)


class _Converted:
    """Batches of a loader with their images converted."""

    def __init__(self, loader: TensorLoader, convert: Callable[[Tensor], Tensor]) -> None:
        self.loader, self.convert = loader, convert

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for images, *others in self.loader:
            yield self.convert(images), *others


def _read(file: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of a file.

    Raises:
        UserError: where it is missing or has something else in it.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            data, labels = arrays["data"], arrays["labels"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}); it is {ImageNet32.structure}") from None
    whole = data.dtype == np.uint8 and data.shape == (len(labels), 3072)
    if not whole or labels.min() < 1 or labels.max() > 1000:
        raise UserError(f"{file}: has {data.dtype} {data.shape}; it is {ImageNet32.structure}")
    images = torch.from_numpy(data).view(-1, 3, 32, 32)
    return images, torch.as_tensor(labels, dtype=torch.int64) - 1
