"""What every part of a table file is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Grade = Literal["primary", "secondhand", "recalled", "derived"]
Words = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """Part of a table file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
