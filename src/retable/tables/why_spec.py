"""Causes of differences, each with what tests it: runs, or what a script has measured."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from retable.tables.part import Part, Words
from retable.util.errors import UserError, brief
from retable.util.paths import shown

MEASURED = "measured"
"""Folder of a paper's results that has the outputs of scripts."""


def _key(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{12,64}", text, re.ASCII):
        raise ValueError(f"'{brief(text)}' is not a run's key, or not its first 12 digits or more")
    return text


def _checksum(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text, re.ASCII):
        raise ValueError(f"'{brief(text)}' is not a SHA-256, 64 digits of 0 to 9 and a to f")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w-]+\.json", text, re.ASCII):
        raise ValueError(f"'{brief(text)}' is not the name of a JSON file")
    return text


class Measured(Part):
    """What a script has measured, published as it wrote it."""

    script: Words = Field(description="that wrote it, from the project's folder")
    file: Annotated[str, AfterValidator(_name)] = Field(
        description="name of its output in the folder `measured` of the paper's results"
    )
    sha256: Annotated[str, AfterValidator(_checksum)] = Field(description="of the output")

    def refuse_other(self, results: Path, where: str) -> None:
        """Refuse an output that is not there, or is not the one that the cause was drawn from.

        Args:
            results: folder of the results of the table's paper.
            where: key of the table file.
        """
        file = results / MEASURED / self.file
        if not file.is_file():
            raise UserError(f"{where}: there is no {shown(file)}; {self.script} writes it")
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != self.sha256:
            raise UserError(f"{where}.sha256: that of {shown(file)} is {found}")


class Why(Part):
    """A cause of a difference, and what tests it."""

    row: str | None = None
    column: str | list[str] | None = Field(None, description="all of the row where left out")
    claim: str | None = Field(None, description="id, instead of a row")
    because: Words
    runs: list[Annotated[str, AfterValidator(_key)]] = Field(
        [], description="keys of the runs that test it"
    )
    measured: Measured | None = Field(
        None, description="output of a script that tests it, instead of runs or beside them"
    )

    @model_validator(mode="after")
    def _place(self) -> Why:
        if (self.row is None) == (self.claim is None):
            raise ValueError("row, claim: give one of them")
        if not self.runs and self.measured is None:
            raise ValueError("runs, measured: give what tests it")
        return self

    def text(self) -> str:
        """The cause, and what tests it."""
        tests: list[str] = []
        if self.runs:
            keys = ", ".join(key[:12] for key in self.runs)
            tests.append(f"tested by run{'s' if len(self.runs) > 1 else ''} {keys}")
        if self.measured:
            tests.append(f"measured by {self.measured.script}: {MEASURED}/{self.measured.file}")
        return f"{self.because} ({'; '.join(tests)})"
