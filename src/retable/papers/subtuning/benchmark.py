"""DataModule of the benchmark's own files, CIFAR-10-C, where somebody has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retable.data.arrays import checksum as checksum_of
from retable.data.own_data import agree, in_mirror
from retable.papers.subtuning.data import CorruptedImages, chosen
from retable.papers.subtuning.splits import drawn
from retable.util.errors import UserError

SEVERITIES = 5
STRUCTURE = (
    "CIFAR-10-C: <corruption>.npy, (50000, 32, 32, 3) uint8, the 10,000 test images at severity 1,"
    " then at 2, and so on; labels.npy, (50000,) (zenodo.org/records/2535967)"
)


class BenchmarkImages(CorruptedImages):
    """Corrupted test images of CIFAR-10 as the benchmark ships them, in three parts of their own.

    Images are drawn as those of :class:`~retable.papers.subtuning.data.CorruptedImages` are, which
    corrupts them itself.

    Args:
        folder: of the files, below the mirror.
        **options: of :class:`~retable.papers.subtuning.data.CorruptedImages`; ``checksum`` is that
            of the images at the severity with their labels, null where it is not known yet: then
            preparing says what it is.
    """

    def __init__(self, *, folder: str = "CIFAR-10-C", **options: Any) -> None:
        super().__init__(**options)
        self.folder = folder

    def prepare_data(self) -> None:
        """Look whether the files are there and are those of the checksum."""
        images, labels = self._read()
        found = checksum_of({"images": images, "labels": labels})
        agree("data.checksum", self._root() / f"{self.corruption}.npy", found, self.checksum)

    def arrays(self) -> dict[str, Tensor]:
        """Corrupted images by split, uint8, and their labels."""
        images, labels = (torch.from_numpy(array) for array in self._read())
        assert self.n_train is not None
        parts = drawn(labels, self.n_train, self.n_validation, self.n_test, self.seed)
        return chosen(images, labels, *parts)

    def _root(self) -> Path:
        return in_mirror("data.folder", self.folder, self.paths, STRUCTURE)

    def _read(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images of the severity and their labels."""
        root = self._root()
        labels = _array(root / "labels.npy")
        n = labels.size // SEVERITIES
        if not np.array_equal(labels, np.tile(labels.ravel()[:n], SEVERITIES)):
            raise UserError(
                f"{root / 'labels.npy'}: not the same labels five times; it is {STRUCTURE}"
            )
        images = _array(root / f"{self.corruption}.npy")
        if images.shape != (len(labels), 32, 32, 3) or images.dtype != np.uint8:
            raise UserError(
                f"{root / self.corruption}.npy: {images.dtype} {images.shape} for"
                f" {len(labels)} labels; it is {STRUCTURE}"
            )
        part = slice((self.severity - 1) * n, self.severity * n)
        return np.array(images[part]), labels[part].astype(np.int64)


def _array(file: Path) -> NDArray[Any]:
    """Of a file, of which no code is run and only what is looked at is read."""
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{file}: cannot be read as an array ({error}); it is {STRUCTURE}"
        ) from None
    if not isinstance(found, np.ndarray):
        raise UserError(f"{file}: has several arrays (.npz); it is {STRUCTURE}")
    return found
