"""Specification of heat maps of cells in table files: numbers of a table as colours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from retable.tables.spec_parts import Part, Words

_Labels = Annotated[dict[str, Words | float], Field(min_length=1, max_length=40)]


class CellMapPanel(Part):
    """One heat map: some rows of the table by some of its columns, which have one metric."""

    title: Words
    rows: _Labels = Field(description="label by row, from the top")
    columns: _Labels = Field(description="label by column, from the left")

    @field_validator("rows", "columns")
    @classmethod
    def _said(cls, labels: dict[str, Words | float]) -> dict[str, Words | float]:
        """Numbers as one writes them."""
        return {
            name: label if isinstance(label, str) else f"{label:g}"
            for name, label in labels.items()
        }


class CellMap(Part):
    """Heat maps of a table's cells, each with a scale of colours of its own."""

    kind: Literal["cells"]
    x: Words = Field(description="title of the x axis: what the columns are")
    y: Words = Field(description="title of the y axis: what the rows are")
    across: Annotated[int, Field(ge=1, le=6)] = Field(2, description="panels beside each other")
    panels: list[CellMapPanel] = Field(min_length=1)
