"""Parts of a record: a result, where it comes from, why it stands for newer code."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]  # what a published table can hold


class ResultRow(BaseModel):
    """One number in long form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    result_row: str = ""
    metric: str
    step: Count | None = None
    value: float


class Provenance(BaseModel):
    """Where a record comes from; long texts are stored once, by hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str | None
    dirty: str | None = Field(description="hash of the stored diff, None if the tree was clean")
    packages: str = Field(description="hash of the stored package list")
    python: str
    torch: str
    cpu: str
    cpu_id: str | None = None
    cores: int
    accelerator: str | None = None
    driver: str | None = None


class Blessing(BaseModel):
    """Why a record stands for newer code: one seed of its setting was run again, bitwise equal.

    Equal to what the record's own commit computes on the same machine, or where that could not be
    asked (``against`` is None) to the record itself. Times that were measured are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    was: str = Field(description="fingerprint of the code that computed the record, or before")
    seed: int = Field(description="seed that was run again")
    commit: str | None = Field(description="of the code that ran it again")
    dirty: str | None = None
    at: str
    now: str | None = Field(default=None, description="fingerprint of the code that ran it again")
    against: str | None = Field(default=None, description="the record's commit, which ran beside")
    cpu: str | None = Field(default=None, description="processor of both")
    accelerator: str | None = None
    old_sha256: str | None = Field(
        default=None, description="result of the commit, or the record's"
    )
    new_sha256: str | None = Field(default=None, description="result of the code that ran it again")
