"""The simulated data of a run: one training sample, one test set with the true effects."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from retable.data.base import DataPaths, PaperDataModule
from retable.papers.r_learner.setups import Sample, draw
from retable.training.seeds import derive_seed


class Problem(NamedTuple):
    """Data of a run, float64: no truth about the training units, no outcomes of the test's.

    ``x (n, p)``, ``a (n,)`` in {0, 1}, ``y (n,)``; ``x_test (N, p)`` with the true effect
    ``tau_test (N,)``.
    """

    x: Tensor
    a: Tensor
    y: Tensor
    x_test: Tensor
    tau_test: Tensor


class _One(Dataset[Problem]):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Problem:
        if index != 0:
            raise IndexError(index)
        return self.problem


class Simulated(PaperDataModule):
    """Units of one set-up; the training sample is drawn first, then the test set.

    The generator depends on seed, set-up and n alone, so all learners meet the same data, and
    training data does not depend on the size of the test set.

    Args:
        seed: number of the simulation.
        paths: not used, nothing is read.
        setup: letter of the set-up.
        n: training units.
        n_test: test units.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        setup: Literal["a", "b", "c", "d", "e", "f"] = "a",
        n: Annotated[int, Field(ge=20)] = 250,
        n_test: Annotated[int, Field(ge=1)] = 10000,
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        self.setup_name = setup
        self.n, self.n_test = n, n_test

    def samples(self) -> tuple[Sample, Sample]:
        """Training sample and test set, with all that is true about them."""
        rng = np.random.default_rng(derive_seed(self.seed, "data", self.setup_name, self.n))
        return draw(self.setup_name, self.n, rng), draw(self.setup_name, self.n_test, rng)

    def test_dataloader(self) -> DataLoader[Any]:
        """The :class:`Problem` as the only batch."""
        train, test = self.samples()
        arrays = (train.x, train.a, train.y, test.x, test.tau)
        return DataLoader(
            _One(Problem(*(torch.from_numpy(array) for array in arrays))), batch_size=None
        )
