"""Parts of a table file: where it stands, metrics, columns, rows, reported numbers, claims."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from retable.tables.over_columns_spec import OverColumns, without_runs
from retable.tables.part import Grade, Part, Words
from retable.util.errors import brief

SpreadKind = Literal["std", "std0", "sem", "ci95_z", "ci95_t", "unknown", "other"]


def _number(text: str) -> str:
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        raise ValueError(f"'{brief(text)}' is not a number")
    if not math.isfinite(float(text)):
        raise ValueError(f"'{brief(text)}' is too large")
    return text


def _not_negative(text: str) -> str:
    if float(text) < 0:
        raise ValueError(f"'{text}' is negative")
    return text


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands twice")
    return seeds


NumberText = Annotated[str, AfterValidator(_number)]
SpreadText = Annotated[NumberText, AfterValidator(_not_negative)]
SeedList = Annotated[list[NonNegativeInt], Field(min_length=1), AfterValidator(_distinct)]

SeedCount = Annotated[int, Field(gt=0, le=100_000)]
"""Number of seeds; a larger one is a slip, and its list would fill the memory."""

SeedLimit = SeedCount | dict[str, SeedCount] | None


def _validation(name: str) -> str:
    if not name.startswith("val/"):
        raise ValueError(
            f"'{brief(name)}' is not a validation metric (val/...); a choice by anything else"
            " would have seen the test split"
        )
    return name


def _share(text: str) -> str:
    if not re.fullmatch(r"([1-9]\d?|100)%", text, re.ASCII):
        raise ValueError(f"'{brief(text)}' is no share; expected 1% to 100%")
    return text


def _dotted(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key, re.ASCII) or key == "seed":
        raise ValueError(f"'{brief(key)}' cannot be chosen; expected a key such as model.lr")
    return key


Share = Annotated[str, AfterValidator(_share)]
Scalar = bool | int | float | str | None


class Source(Part):
    """Where the table stands."""

    paper_ref: Words = Field(description="table or figure of the paper")
    arxiv: str | None = None
    code: str | None = Field(None, description="released code or notebook the numbers come from")
    dossier: list[str] = Field([], description="ids of the table in the source collection")
    own: bool = Field(True, description="false: not one of the paper's own tables; shown so")


class Metric(Part):
    """One quantity of a run and how it is judged."""

    key: str = Field(description="metric in the record, such as test/error")
    title: str | None = None
    unit: str = ""
    direction: Literal["min", "max", "none"] = "none"
    decimals: NonNegativeInt | None = Field(None, description="digits shown")
    margin: PositiveFloat | None = Field(None, description="difference that would not matter")
    n_test: PositiveInt | None = Field(
        None, description="examples that a proportion is over; its binomial error is the margin"
    )
    positive: bool = Field(
        False, description="positive without a ceiling; 5 % of the reported value is the margin"
    )
    ideal: float | None = Field(None, description="better means nearer to this value")
    ranked: bool = Field(True, description="whether the best row of a column is marked")
    quantum: PositiveFloat | None = Field(None, description="smallest step of the metric")
    deterministic: bool = Field(False, description="the same for every seed; one run suffices")
    tolerance: NonNegativeFloat | None = Field(None, description="of a deterministic cell")
    relative_to: str | None = Field(
        None, description="row whose mean in the same column divides the values"
    )
    scientific: bool = Field(False, description="show as 1.2e-07")
    absent: str | None = Field(
        None, description="what it means where a finished run has none, such as 'no collapse'"
    )


class Column(Part):
    """A condition: which experiment, which metric."""

    metric: str
    title: str | None = None
    experiment: str | dict[str, str] = Field(description="experiment's config, by protocol")
    overrides: list[str] = Field([])
    step: NonNegativeInt | None = Field(None, description="of a number that was recorded by steps")
    epoch: NonNegativeInt | Share | None = Field(
        None, description="show the history at this epoch, from 0, or after a share, such as 50%"
    )
    result_row: str | None = None
    margin: PositiveFloat | None = Field(None, description="in place of the metric's")
    seeds: SeedLimit = Field(
        None, description="only so many of the table's seeds, where a run costs more; by protocol"
    )
    over_columns: OverColumns | None = Field(
        None, description="made of the row's numbers in other columns; plans no runs"
    )

    @model_validator(mode="before")
    @classmethod
    def _over_columns(cls, values: Any) -> Any:
        """A column over others has no experiment, and its kind says its metric."""
        return without_runs(values)

    @model_validator(mode="after")
    def _one_place(self) -> Column:
        if self.epoch is not None and (self.step is not None or self.result_row is not None):
            raise ValueError(
                "epoch: is of the history, and step and result_row of what the run records besides;"
                " give one of them"
            )
        return self


class Row(Part):
    """A method."""

    title: str | None = None
    experiment: str | dict[str, str] | None = Field(
        None, description="in place of the columns', such as a second stage's; by protocol"
    )
    overrides: list[str] = Field([])
    result_row: str | None = Field(None, description="rows of a run that gives several")
    run: bool = Field(True, description="false: reported only")
    columns: list[str] | None = Field(
        None, description="columns that the row is run in; all where left out"
    )
    seeds: SeedLimit = Field(None, description="as of a column; the smaller number holds")
    protocols: list[str] | None = Field(
        None, description="run in these protocols alone; in all of its columns' where left out"
    )
    quoted: str | None = Field(None, description="work that the paper quotes this row from")
    note: str | None = None

    def runs_in(self, column: str) -> bool:
        """Whether the row is run in a column, or at most reported there."""
        return self.run and (self.columns is None or column in self.columns)


class Quick(Part):
    """What ``make reproduce`` runs of a table: enough to see it in seconds."""

    protocol: str = "paper"
    seeds: SeedCount | None = Field(
        None, description="only the first so many of each cell; all where left out"
    )
    rows: list[str] | None = Field(None, description="only these; all where left out")
    columns: list[str] | None = Field(None, description="only these; all where left out")


class Select(Part):
    """Settings to choose from, by a validation metric on seeds of their own."""

    over: dict[
        Annotated[str, AfterValidator(_dotted)], Annotated[list[Scalar], Field(min_length=2)]
    ] = Field(min_length=1, description="values to try, by dotted key; all combinations")
    by: Annotated[str, AfterValidator(_validation)] = Field(description="val/... metric")
    direction: Literal["min", "max"] | None = Field(
        None, description="of `by`; as of the table's test metric of that name where left out"
    )
    seeds: SeedCount | SeedList = Field(3, description="tuning seeds: how many, or which")
    rows: list[str] | None = Field(None, description="rows that choose; all where left out")

    def seed_list(self) -> list[int]:
        """Tuning seeds; where only their number is given, far from any table's own."""
        if isinstance(self.seeds, int):
            return list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.seeds))
        return list(self.seeds)


FIRST_TUNING_SEED = 1_000_000


class Reported(Part):
    """A number as somebody printed it; text, because the digits say how exact it is.

    Its fields are the keys of a reported cell in a table file.
    """

    value: NumberText
    spread: SpreadText | None = None
    spread_kind: SpreadKind | None = None
    ddof: Literal[0, 1] = 1
    n: PositiveInt | None = None
    grade: Grade
    where: Words
    decimals: NonNegativeInt | None = None
    reading_error: NonNegativeFloat = Field(0.0, description="of a value read off a plot")
    exact: bool = False
    margin: PositiveFloat | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _spread(self) -> Reported:
        if (self.spread is None) != (self.spread_kind is None):
            raise ValueError("spread and spread_kind: give both or neither")
        return self
