"""The covariance matrices that a run solves: one per seed, or a fixed one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.utils.data import DataLoader

from retable.data.base import DataPaths, OneItem, PaperDataModule
from retable.data.fetch import fetch
from retable.papers.risk_parity.matrices import bai2016, notebook_correlation, random_correlation
from retable.training.seeds import derive_seed

TRADING_DAYS = 260


class Covariance(PaperDataModule):
    """Base: the test set is one ``(N, N)`` float64 matrix."""

    def covariance(self) -> NDArray[np.float64]:
        """The matrix, squared returns."""
        raise NotImplementedError

    def test_dataloader(self) -> DataLoader[Any]:
        """The matrix as the only batch, ``(N, N)``."""
        return DataLoader(OneItem(torch.from_numpy(self.covariance())), batch_size=None)


class RandomCorrelation(Covariance):
    """A random correlation matrix; the seed numbers it.

    Args:
        seed: number of the matrix.
        paths: not used, nothing is read.
        test: 1 for eigenvalues U(0, 1), 2 with the last floor(N / 5) of them zero.
        n_assets: N.
        stream: ``own`` derives a generator from (seed, N, test), so matrices are independent;
            ``notebook`` takes the matrix of that number from the one stream of the authors'
            notebook (NumPy's global generator, seed 123456).
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        test: Literal[1, 2] = 1,
        n_assets: Annotated[int, Field(ge=2, le=5000)] = 25,
        stream: Literal["own", "notebook"] = "own",
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        self.test: Literal[1, 2] = test
        self.n_assets = n_assets
        self.stream = stream

    def covariance(self) -> NDArray[np.float64]:
        """The matrix, unit diagonal."""
        if self.stream == "notebook":
            return notebook_correlation(self.n_assets, self.test, self.seed)
        seed = derive_seed(self.seed, "matrix", self.n_assets, self.test)
        return random_correlation(self.n_assets, self.test, np.random.default_rng(seed))


class Bai2016(Covariance):
    """The five assets of Bai, Scheinberg and Tutuncu (2016), Section 6.1."""

    def covariance(self) -> NDArray[np.float64]:
        """The matrix, ``(5, 5)``."""
        return bai2016()


class Prices(Covariance):
    """Annualised covariance of daily simple returns from a file of index levels.

    Args:
        seed: not used, nothing is random.
        paths: where the file lies.
        file: its name below the mirror or the cache.
        url: where it is fetched from otherwise.
        sha256: of the file.
    """

    def __init__(self, *, seed: int, paths: DataPaths, file: str, url: str, sha256: str) -> None:
        super().__init__(seed=seed, paths=paths)
        self.file = file
        self.url = url
        self.sha256 = sha256

    def prepare_data(self) -> None:
        """Fetch the file."""
        self._path()

    def _path(self) -> Path:
        return fetch(
            self.file, self.url, self.sha256, cache=self.paths.cache, mirror=self.paths.mirror
        )

    def covariance(self) -> NDArray[np.float64]:
        """The matrix, ``(N, N)``, per year of 260 days."""
        return TRADING_DAYS * np.cov(simple_returns(self._path()), rowvar=False)


def simple_returns(path: Path) -> NDArray[np.float64]:
    """Daily simple returns ``p_t / p_{t-1} - 1`` of a ``;``-separated file with a date column.

    Args:
        path: file whose first line names the assets.

    Returns:
        ``(T - 1, N)`` float64.

    Raises:
        ValueError: for a line with a missing or non-positive level, naming it.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file, delimiter=";"))
    names = rows[0][1:]
    levels = np.empty((len(rows) - 1, len(names)))
    for index, row in enumerate(rows[1:]):
        try:
            levels[index] = [float(text) for text in row[1:]]
        except ValueError as error:
            raise ValueError(f"{path}, line {index + 2}: {error}") from None
        if not (levels[index] > 0).all():
            raise ValueError(f"{path}, line {index + 2}: a level is not positive")
    return levels[1:] / levels[:-1] - 1
