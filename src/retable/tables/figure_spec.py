"""Specification of figures in table files: lines, scatter plots; others in files beside."""

from __future__ import annotations

import math
from typing import Annotated, Literal, cast

from pydantic import Discriminator, Field, Tag, model_validator

from retable.tables.cell_map_spec import CellMap
from retable.tables.heat_spec import Heat, Image
from retable.tables.spec_parts import Part, Words


class Panel(Part):
    """One coordinate system of a figure."""

    title: str = ""
    points: dict[str, float] = Field(
        min_length=1,
        description="position on the x axis by column (by row where lines are columns)",
    )
    only: list[str] | None = Field(None, description="lines that are drawn; all where left out")
    x: Words | None = Field(None, description="title of its x axis; the figure's where left out")
    log: list[Literal["x"]] | None = Field(
        None, description="whether its x axis is logarithmic; as the figure's where left out"
    )


Band = Literal["std", "sem95"]


class Drawn(Part):
    """Base of the figures whose points are cells."""

    band: Band = Field(
        "std", description="of our means: one standard deviation, or 1.96 standard errors"
    )
    across: Annotated[int, Field(ge=1, le=6)] = Field(2, description="panels beside each other")

    @property
    def band_text(self) -> str:
        """Half height of the band, in words."""
        return {"std": "one standard deviation over seeds", "sem95": "1.96 standard errors"}[
            self.band
        ]

    def half(self, std: float | None, n: int) -> float:
        """Half the height of the band at a mean of ``n`` runs; 0 where there is one run."""
        return (std or 0.0) * (1.0 if self.band == "std" else 1.96 / math.sqrt(max(n, 1)))


class Figure(Drawn):
    """Line plot of a table: its cells are points of curves over x."""

    kind: Literal["curves"] = "curves"
    x: Words = Field(description="title of the x axis")
    y: str | None = Field(None, description="title of the y axis; the metric's where left out")
    lines: Literal["rows", "columns"] = "rows"
    log: list[Literal["x", "y"]] = Field([])
    share: Literal["all", "row"] = Field(
        "all", description="panels with one y axis, as far as their sizes allow; row: those abreast"
    )
    ticks: Literal["round", "points"] = Field("round", description="where the x axis has ticks")
    groups: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        {}, description="lines that look alike and have one entry of the legend, by its title"
    )
    marks: str | None = Field(
        None,
        description="column whose numbers are places on the x axis, a dashed line for each row",
    )
    runs: bool = Field(
        False,
        description="every run a line of its own, and a mark of its own, in place of mean and band",
    )
    panels: list[Panel] = Field(min_length=1)

    def log_of(self, panel: Panel) -> list[Literal["x", "y"]]:
        """Which axes of a panel are logarithmic."""
        if panel.log is None:
            return self.log
        return [*panel.log, *(one for one in self.log if one == "y")]

    @model_validator(mode="after")
    def _apart(self) -> Figure:
        if self.marks is not None and self.lines != "rows":
            raise ValueError("marks: only where rows are lines (lines: rows)")
        members = [name for group in self.groups.values() for name in group]
        twice = next((name for name in members if members.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"groups: '{twice}' stands in two of them")
        for number, panel in enumerate(self.panels):
            for title, group in self.groups.items():
                drawn = [name for name in group if panel.only is None or name in panel.only]
                if len(drawn) > 1:
                    raise ValueError(
                        f"groups: panel {panel.title or number} draws '{drawn[0]}' and '{drawn[1]}'"
                        f" of '{title}', which look alike"
                    )
        return self


class Pair(Part):
    """One coordinate system of a scatter plot: two columns of the table."""

    title: str = ""
    x: str = Field(description="column")
    y: str = Field(description="column")


class Steps(Part):
    """Numbers that a run gives at steps 0, 1, 2 ...: the table's first run, or a row's first."""

    result_row: Words = Field(description="of the numbers; their metrics are those of the columns")
    title: Words


class Scatter(Drawn):
    """Scatter plot of a table: its columns are the coordinates of its rows."""

    kind: Literal["scatter"]
    panels: list[Pair] = Field(min_length=1)
    only: list[str] | None = Field(None, description="rows that are drawn; all where left out")
    guides: list[str] = Field(
        [], description="rows drawn as dashed lines at their coordinates, such as a bound"
    )
    cloud: Steps | None = Field(None, description="small marks behind the rows")
    path: Steps | None = Field(None, description="a line to each row's mark, from where it was")


def _kind(value: object) -> str:
    """Which of the kinds a figure is; one that does not say draws curves."""
    if isinstance(value, dict):
        return str(cast("dict[str, object]", value).get("kind", "curves"))
    return str(getattr(value, "kind", "curves"))


AnyFigure = Annotated[
    Annotated[Figure, Tag("curves")]
    | Annotated[Scatter, Tag("scatter")]
    | Annotated[CellMap, Tag("cells")]
    | Annotated[Heat, Tag("heat")]
    | Annotated[Image, Tag("image")],
    Discriminator(_kind),
]
