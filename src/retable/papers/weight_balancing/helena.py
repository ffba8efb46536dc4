"""Helena (OpenML): a table of 27 numbers and 100 classes that is long-tailed as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from retable.data.base import DataPaths
from retable.data.fetch import sha256_of
from retable.data.own_data import agree, in_mirror
from retable.data.tensor_splits import Tensors, TensorSplits
from retable.training.seeds import derive_seed
from retable.util.errors import UserError, brief, nearest

EACH = 20
"""Samples of every class for validation, and as many for the test."""

_WHAT = "OpenML's data set 41169 as an ARFF file"
Table = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Features ``(N, d)`` and labels ``(N,)``."""


class Helena(TensorSplits):
    """Samples of Helena; labels are numbered anew, from the most frequent class to the rarest.

    Of every class 20 samples are drawn for validation and 20 for the test, the same for every seed;
    the rest is for training. The authors' draw is in files that are not in their repository, so
    the numbers of samples are theirs, the samples are not. Features are less their mean over the
    training samples, by their deviation; the authors have such constants in their code.

    Args:
        seed: the run's seed; the order of training samples follows from it.
        paths: mirror, given by the harness.
        file: ARFF file as OpenML has it, below the mirror; its label is called ``class``.
        sha256: of the file; null where it is not known yet: then preparing says what it is.
        batch_size: training samples of a batch; a last one that is not full is kept.
        eval_batch_size: samples of a batch of validation and test.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        file: str = "openml/helena.arff",
        sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None,
        batch_size: Annotated[int, Field(ge=2)] = 64,
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
    ) -> None:
        super().__init__(
            seed=seed, paths=paths, batch_size=batch_size, eval_batch_size=eval_batch_size
        )
        self.file, self.sha256 = file, sha256

    def table(self) -> Table:
        """All samples, in the file's order and with its labels."""
        return read_arff(in_mirror("data.file", self.file, self.paths, _WHAT))

    def prepare_data(self) -> None:
        """Look whether the file is there and is that of the checksum."""
        path = in_mirror("data.file", self.file, self.paths, _WHAT)
        agree("data.sha256", path, sha256_of(path), self.sha256)

    def splits(self) -> tuple[Tensors, Tensors, Tensors]:
        """Draw validation and test, and scale."""
        x, labels = self.table()
        y = by_frequency(labels)
        train, validation, test = drawn(y)
        mean, std = x[train].mean(0), x[train].std(0)
        z = torch.from_numpy((x - mean) / np.where(std > 0, std, 1)).float()

        def split(rows: NDArray[np.int64]) -> Tensors:
            return z[rows], torch.from_numpy(y[rows])

        return split(train), split(validation), split(test)


class GeneratedHelena(Helena):
    """A table of as many classes and columns, for smoke runs: normal, with a mean by class.

    Arguments are those of :class:`Helena`; no file is read.
    """

    def table(self) -> Table:
        """Classes of 100 samples down to 45."""
        rng = np.random.default_rng(0)
        y = np.repeat(rng.permutation(100), np.linspace(100, 45, 100).astype(np.int64))
        return rng.normal(rng.normal(size=(100, 27))[y]), y

    def prepare_data(self) -> None:
        """Nothing is read."""


def by_frequency(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels ``(N,)`` numbered by falling frequency; classes of equal size in their old order."""
    _, old, n = np.unique(labels, return_inverse=True, return_counts=True)
    return np.argsort(np.argsort(-n, kind="stable"))[old]


def drawn(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows for training, validation and test, each in rising order; the same whenever drawn.

    Raises:
        UserError: where a class has no row left for training.
    """
    rng = np.random.default_rng(derive_seed(0, "helena"))
    parts: list[list[NDArray[np.int64]]] = [[], [], []]
    for label in range(int(labels.max()) + 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) <= 2 * EACH:
            raise UserError(f"data.file: a class has {len(rows)} samples, {2 * EACH} are set aside")
        for part, chosen in zip(parts, np.split(rows, [-2 * EACH, -EACH]), strict=True):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]


def read_arff(path: Path) -> Table:
    """Numbers and labels of an ARFF file whose label is called ``class``.

    Raises:
        UserError: where it is no such file, or a number is missing.
    """
    from scipy.io import arff

    try:
        rows: Any = arff.loadarff(path)[0]
    except (arff.ArffError, ValueError, RuntimeError, LookupError, StopIteration) as error:
        raise UserError(f"{path}: cannot be read as ARFF ({brief(str(error))})") from None
    names = [name for name in rows.dtype.names if name != "class"]
    if len(names) == len(rows.dtype.names):
        raise UserError(f"{path}: has no attribute 'class'{nearest('class', names)}")
    odd = [name for name in names if rows.dtype[name].kind != "f" or np.isnan(rows[name]).any()]
    if odd:
        raise UserError(f"{path}: attribute '{odd[0]}' is not a number in every row")
    labels = np.unique(rows["class"], return_inverse=True)[1]
    return np.column_stack([rows[name] for name in names]), labels.astype(np.int64)
