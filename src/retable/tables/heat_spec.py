"""Specification of heat maps and images in table files: arrays that runs leave, drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from retable.tables.spec_parts import Part, Words
from retable.util.errors import brief


def _word(name: str) -> str:
    if not (name.isascii() and name.isidentifier()):
        raise ValueError(f"'{brief(name)}' is no artefact's name: expected one word")
    return name


def _ordered(limits: list[float]) -> list[float]:
    low, high = limits
    if low >= high:
        raise ValueError(f"[{low:g}, {high:g}]: expected the lower end first, then a higher one")
    return limits


class HeatPanel(Part):
    """One heat map: an array of a cell's runs, their elementwise mean."""

    title: str = ""
    row: str = Field(description="with the column, the cell whose runs have left the array")
    column: str
    array: Words = Field(description="name of the array in the artefact; (C,) or (R, C)")


class Heat(Part):
    """Heat maps of an artefact, with one scale of colours for all panels."""

    kind: Literal["heat"]
    artifact: Annotated[str, AfterValidator(_word)] = Field(
        description="name that PaperModule.artifacts gives it"
    )
    title: Words = Field(description="what the numbers are; title of the scale of colours")
    x: str = Field("", description="what the columns of the array are")
    y: str = Field("", description="what the rows of the array are")
    first: Annotated[int, Field(ge=0)] = Field(0, description="number of the first row and column")
    limits: (
        Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ordered)] | None
    ) = Field(None, description="ends of the scale; those of the numbers where left out")
    across: Annotated[int, Field(ge=1, le=6)] = Field(2, description="panels beside each other")
    panels: list[HeatPanel] = Field(min_length=1)


class ImagePanel(HeatPanel):
    """One image: an array of one of a cell's runs."""

    array: Words = Field(
        description="name of the array in the artefact; (R, C), (1, R, C) or, in colours, (3, R, C)"
    )
    seed: int | None = Field(None, description="of the run; the first one where left out")


class Image(Part):
    """Images of an artefact, each of one run: grey, or of red, green and blue."""

    kind: Literal["image"]
    artifact: Annotated[str, AfterValidator(_word)] = Field(
        description="name that PaperModule.artifacts gives it"
    )
    title: Words = Field(description="what the images are")
    limits: Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ordered)] = (
        Field([0.0, 1.0], description="numbers that are black and white; of each colour alike")
    )
    across: Annotated[int, Field(ge=1, le=12)] = Field(4, description="images beside each other")
    panels: list[ImagePanel] = Field(min_length=1)
