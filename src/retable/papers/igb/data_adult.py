"""Adult census income as three tasks, and a generated table of the same structure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from retable.data.fetch import fetch
from retable.papers.igb.data import REGRESSION, Items, TaskData, classification
from retable.training.seeds import derive_seed
from retable.util.errors import UserError


class Source(NamedTuple):
    """A raw file: its name below mirror and cache, its address, its SHA-256."""

    name: str
    url: str
    sha256: str


ADULT = (
    Source(
        "uci/adult/adult.data",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    ),
    # UCI's own without the comment in its first line and the full stops behind its labels.
    Source(
        "uci/adult/adult.test",
        "https://raw.githubusercontent.com/omidMemari/superhumn-fairness/"
        "a9911decf725a2eb39bd2db264829e6cb8dae7d8/dataset/Adult/adult.test",
        "26854bfda83653b56af5431fd07c9b43b6a2ddea70e5a0a8b6a0445c83d78e34",
    ),
)

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status"),
    *("occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"),
    *("hours-per-week", "native-country", "income"),
)
"""Fields of a line of the files, which have no header."""

NUMBERS = ("age", "education-num", "capital-gain", "capital-loss")
CATEGORIES = ("workclass", "education", "occupation", "race", "sex", "native-country")
"""Columns of the inputs. Those that are neither here nor targets are left out: ``relationship``
(husband, wife, own child, ...) says the marital status, ``fnlwgt`` is the weight of the sample in
the census and says nothing of the person."""

N_INPUTS = 93
"""Four numbers and one indicator for each of 89 categories; ``?`` is one of them."""

Texts = dict[str, tuple[str, ...]]
"""The fields of each column ``(N,)``."""


class Table(TaskData):
    """Base: tasks ``income`` (2 classes), ``married`` (2 classes) and ``hours`` (regression).

    Inputs ``(B, columns)``.
    """

    def kinds(self) -> dict[str, str]:
        """``income``, ``married`` and ``hours``."""
        two = classification(2)
        return {"income": two, "married": two, "hours": REGRESSION}


class AdultTasks(Table):
    """Adult: income above 50,000, whether somebody was ever married, and hours of work per week.

    Never married or not is the second task that Ma et al. (MMoE, KDD 2018) take beside income, of
    another census. Inputs are :data:`NUMBERS`, then the indicators of :data:`CATEGORIES`
    (:data:`N_INPUTS` in all). A row with an unknown field is kept. Numbers and ``hours`` are less
    their mean over the training rows, by their deviation. The categories are those of
    ``adult.data``, so that the number of inputs does not depend on the seed.

    Training and validation rows are those of ``adult.data``, split by the seed; the test is
    ``adult.test`` for every seed.

    Args:
        n_validation: rows of ``adult.data`` that are set aside; 26,000 are left by default.
        **options: of :class:`~retable.papers.igb.data.TaskData`.
    """

    def __init__(
        self, *, n_validation: Annotated[int, Field(ge=1)] = 6_561, **options: Any
    ) -> None:
        super().__init__(**options)
        self.n_validation = n_validation

    def prepare_data(self) -> None:
        """Fetch the files."""
        self._files()

    def _files(self) -> list[Path]:
        cache, mirror = self.paths.cache, self.paths.mirror
        return [fetch(*source, cache=cache, mirror=mirror) for source in ADULT]

    def texts(self) -> tuple[Texts, Texts]:
        """``adult.data`` and ``adult.test``."""
        known, test = (read(path) for path in self._files())
        return known, test

    def items(self) -> tuple[Items, Items, Items]:
        """Split and encode."""
        known, test = self.texts()
        n = len(known["income"])
        if self.n_validation >= n:
            raise UserError(f"data.n_validation: {self.n_validation} of {n} rows, none is left")
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "split"))
        order = torch.randperm(n, generator=generator).numpy()
        validation, train = (np.sort(part) for part in np.split(order, [self.n_validation]))
        x, targets = encoded(known, known, train)
        return (
            (x[train], {task: target[train] for task, target in targets.items()}),
            (x[validation], {task: target[validation] for task, target in targets.items()}),
            encoded(test, known, train),
        )


class GeneratedTasks(Table):
    """A table with the tasks of Adult, for smoke runs; no file is read, no seed changes it.

    Targets depend on a hidden vector of four numbers that the inputs determine.

    Args:
        columns: of the inputs.
        n_train: rows of training.
        n_validation: of validation.
        n_test: of the test.
        **options: of :class:`~retable.papers.igb.data.TaskData`.
    """

    def __init__(
        self,
        *,
        columns: Annotated[int, Field(ge=4)] = N_INPUTS,
        n_train: Annotated[int, Field(ge=1)] = 256,
        n_validation: Annotated[int, Field(ge=1)] = 64,
        n_test: Annotated[int, Field(ge=1)] = 64,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.columns, self.sizes = columns, [n_train, n_validation, n_test]

    def items(self) -> tuple[Items, Items, Items]:
        """Normal inputs, and targets of the hidden vector."""
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(self.columns, 4, generator=generator) / self.columns**0.5
        x = torch.randn(sum(self.sizes), self.columns, generator=generator)
        hidden = (x @ weights).tanh()
        targets = {
            "income": (hidden[:, 0] + hidden[:, 1] > 0).long(),
            "married": (hidden[:, 1] + hidden[:, 2] > 0).long(),
            "hours": hidden[:, 0] - hidden[:, 2] + hidden[:, 3],
        }
        parts = {task: target.split(self.sizes) for task, target in targets.items()}
        train, validation, test = (
            (rows, {task: split[k] for task, split in parts.items()})
            for k, rows in enumerate(x.split(self.sizes))
        )
        return train, validation, test


def read(path: Path) -> Texts:
    """The columns of a file.

    Raises:
        UserError: naming the line that has other fields.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(", ") for line in lines if line]
    for number, row in enumerate(rows, 1):
        if len(row) != len(COLUMNS):
            raise UserError(f"{path}, row {number}: has {len(row)} fields, not {len(COLUMNS)}")
    return dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))


def encoded(texts: Texts, known: Texts, train: NDArray[np.int64]) -> Items:
    """Inputs and targets of all rows.

    Args:
        texts: to be encoded.
        known: fields of ``adult.data``: its categories are those of the inputs, a field that is
            none of them has no indicator.
        train: rows of ``known`` whose mean and deviation the numbers are standardised with.
    """

    def standardised(name: str) -> NDArray[np.float64]:
        seen = np.array(known[name], np.float64)[train]
        return (np.array(texts[name], np.float64) - seen.mean()) / (seen.std() or 1.0)

    numbers = [standardised(name)[:, None] for name in NUMBERS]
    indicators = [indicator(texts[name], known[name]) for name in CATEGORIES]
    x = np.concatenate([*numbers, *indicators], axis=1, dtype=np.float32)
    return torch.from_numpy(x), {
        "income": torch.tensor([int(value == ">50K") for value in texts["income"]]),
        "married": torch.tensor(
            [int(value != "Never-married") for value in texts["marital-status"]]
        ),
        "hours": torch.from_numpy(standardised("hours-per-week")).float(),
    }


def indicator(values: Sequence[str], known: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a value is each of the known ones ``(N, categories)``, these in their order."""
    place = {category: k for k, category in enumerate(sorted(set(known)))}
    codes = np.array([place.get(value, -1) for value in values])
    return codes[:, None] == np.arange(len(place))
