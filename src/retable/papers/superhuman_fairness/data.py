"""DataModules: Adult and COMPAS from their raw files, and a generated set of the same structure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from retable.data.base import DataPaths, PaperDataModule
from retable.data.fetch import fetch
from retable.papers.superhuman_fairness.encode_adult import encode_adult
from retable.papers.superhuman_fairness.encode_compas import encode_compas
from retable.papers.superhuman_fairness.losses import Index
from retable.papers.superhuman_fairness.units import Units
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

__all__ = ["Adult", "Compas", "Generated", "Halves", "Units", "halve"]


class Source(NamedTuple):
    """A raw file: its name below mirror and cache, where it is fetched from, and its SHA-256."""

    name: str
    url: str
    sha256: str


class Expected(NamedTuple):
    """Counts that an encoded set has to have: rows, columns, positive labels by group."""

    rows: int
    columns: int
    group: tuple[int, int]
    positive: tuple[int, int]


ADULT_FILES = (
    Source(
        "uci/adult/adult.data",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    ),
    # The authors' copy: UCI's own without the comment in its first line and the labels' full stops.
    Source(
        "uci/adult/adult.test",
        "https://raw.githubusercontent.com/omidMemari/superhumn-fairness/"
        "a9911decf725a2eb39bd2db264829e6cb8dae7d8/dataset/Adult/adult.test",
        "26854bfda83653b56af5431fd07c9b43b6a2ddea70e5a0a8b6a0445c83d78e34",
    ),
)
ADULT = Expected(rows=48_842, columns=109, group=(32_650, 16_192), positive=(9_918, 1_769))

COMPAS_FILE = Source(
    "propublica/compas/compas-scores-two-years.csv",
    "https://raw.githubusercontent.com/propublica/compas-analysis/"
    "bafff5da3f2e45eca6c2d5055faad269defd135a/compas-scores-two-years.csv",
    "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
)
COMPAS = Expected(rows=5_278, columns=8, group=(3_175, 2_103), positive=(1_661, 822))


class Halves(NamedTuple):
    """Data of a run: training and test half.

    ``x (n, d)`` float64, label ``y (n,)`` and group ``a (n,)`` int8 in {0, 1}.
    """

    x: Tensor
    y: Tensor
    a: Tensor
    x_test: Tensor
    y_test: Tensor
    a_test: Tensor

    def units(self) -> tuple[Units, Units]:
        """Both halves as arrays that share the tensors' memory."""
        x, y, a, x_test, y_test, a_test = (part.cpu().numpy() for part in self)
        return Units(x, y, a), Units(x_test, y_test, a_test)


def halve(n: int, seed: int, *, y: np.ndarray[Any, Any] | None = None) -> tuple[Index, Index]:
    """Two random halves of ``n`` items; the second has the odd one.

    Args:
        n: number of items.
        seed: of the generator.
        y: ``(n,)`` labels; where given, both halves have the same share of each to within one.

    Returns:
        Indices, each in random order.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    if y is None:
        return order[: n // 2], order[n // 2 :]
    # Stable: items of a label stay in random order and go to the halves in turn.
    order = order[np.argsort(y[order], kind="stable")]
    first, second = order[1::2], order[::2]
    return rng.permutation(first), rng.permutation(second)


class Tabular(PaperDataModule):
    """Base: items of a set in two random halves, given whole as the only batch of each stage.

    Args:
        seed: numbers the repetition: the split follows from it.
        paths: mirror and cache, given by the harness.
        stratified: the halves have equal shares of both labels. The authors split so, then take
            rows by position where labels were meant, which is a plain random half: the default.
    """

    def __init__(self, *, seed: int, paths: DataPaths, stratified: bool = False) -> None:
        super().__init__(seed=seed, paths=paths)
        self.stratified = stratified
        self._halves: Halves | None = None

    def units(self) -> Units:
        """All items."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Encode and split, once."""
        if self._halves is not None:
            return
        units = self.units()
        seed = derive_seed(self.seed, "split")
        train, test = halve(len(units), seed, y=units.y if self.stratified else None)
        parts = [part for half in (train, test) for part in _tensors(units.at(half))]
        self._halves = Halves(*parts)

    def _loader(self) -> DataLoader[Any]:
        assert self._halves is not None
        return DataLoader(cast("Dataset[Any]", [self._halves]), batch_size=None)

    def train_dataloader(self) -> DataLoader[Any]:
        """The :class:`Halves` as the only batch; fitting looks at the training half alone."""
        return self._loader()

    def test_dataloader(self) -> DataLoader[Any]:
        """The :class:`Halves` as the only batch."""
        return self._loader()


def _tensors(units: Units) -> tuple[Tensor, Tensor, Tensor]:
    x, y, a = (torch.from_numpy(part) for part in (units.x, units.y, units.a))
    return x, y, a


class Adult(Tabular):
    """Adult census income, all 48,842 rows of both files, 109 inputs; group: 1 for women."""

    def prepare_data(self) -> None:
        """Fetch the files."""
        self._paths()

    def _paths(self) -> list[Path]:
        return [_file(source, self.paths) for source in ADULT_FILES]

    def units(self) -> Units:
        """All items, counts asserted."""
        return check(encode_adult(self._paths()), ADULT, "Adult")


class Compas(Tabular):
    """COMPAS, 5,278 rows, 8 inputs; group: 1 for Caucasians."""

    def prepare_data(self) -> None:
        """Fetch the file."""
        _file(COMPAS_FILE, self.paths)

    def units(self) -> Units:
        """All items, counts asserted."""
        return check(encode_compas(_file(COMPAS_FILE, self.paths)), COMPAS, "COMPAS")


class Generated(Tabular):
    """Items whose label depends on inputs and group: needs no data, for smoke runs.

    The first column is 1, the second the group, the others are normal with a mean that depends on
    the group; the label is Bernoulli of a logistic model with base rate near 0.3.

    Args:
        seed: of items and split.
        paths: not used.
        n: items.
        columns: inputs.
        stratified: as for :class:`Tabular`.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        n: Annotated[int, Field(ge=40)] = 400,
        columns: Annotated[int, Field(ge=3)] = 8,
        stratified: bool = False,
    ) -> None:
        super().__init__(seed=seed, paths=paths, stratified=stratified)
        self.n, self.columns = n, columns

    def units(self) -> Units:
        """All items."""
        rng = np.random.default_rng(derive_seed(self.seed, "data", self.n, self.columns))
        a = (rng.random(self.n) < 0.4).astype(np.int8)
        free = rng.standard_normal((self.n, self.columns - 2)) - 0.3 * a[:, None]
        slope = np.linspace(1.0, 0.2, self.columns - 2)
        logit = free @ slope - 0.9 - 0.6 * a
        y = (rng.random(self.n) < 1 / (1 + np.exp(-logit))).astype(np.int8)
        return Units(np.column_stack([np.ones(self.n), a.astype(np.float64), free]), y, a)


def _file(source: Source, paths: DataPaths) -> Path:
    return fetch(source.name, source.url, source.sha256, cache=paths.cache, mirror=paths.mirror)


def check(units: Units, expected: Expected, name: str) -> Units:
    """The units, if they have the counts of the paper's data.

    Raises:
        UserError: naming the first count that differs.
    """
    counts = [
        ("rows", len(units), expected.rows),
        ("columns", units.x.shape[1], expected.columns),
    ]
    for group in (0, 1):
        members = units.a == group
        counts.append((f"rows of group {group}", int(members.sum()), expected.group[group]))
        positive = int(units.y[members].sum())
        counts.append((f"positive labels of group {group}", positive, expected.positive[group]))
    for what, found, wanted in counts:
        if found != wanted:
            raise UserError(f"{name}: has {found} {what} once encoded, expected {wanted}")
    return units
