"""What a paper is called, by whom it is and where it can be read: ``paper.yaml`` in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, ValidationError

from retable.tables import table_file
from retable.tables.spec_parts import Part, Words
from retable.util import paths
from retable.util.errors import UserError, nearest
from retable.util.paths import shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Name = Annotated[str, StringConstraints(pattern=r"\S")]


class PaperInfo(Part):
    """A paper as its readers know it."""

    title: Words
    authors: list[_Name] = Field(min_length=1, description="in the paper's order, first name first")
    venue: Words
    year: Annotated[int, Field(ge=1900, le=2100)]
    arxiv: str | None = Field(None, pattern=r"^\d{4}\.\d{4,5}$")
    code: str | None = Field(None, pattern=r"^https://", description="the authors'")
    says: Words | None = Field(None, description="what the paper says, in a few sentences")
    found: list[Words] = Field(
        [],
        description="what came out here; {table@protocol CLAIM verdict}, {table CLAIM ratio},"
        " {table row/column}",
    )
    not_run: dict[Words, Words] = Field(
        {}, description="why nothing is published of TABLE@PROTOCOL, either of which may be *"
    )

    @property
    def cited(self) -> str:
        """``Koster et al. 2022``; up to two authors by name."""
        names = [author.split()[-1] for author in self.authors]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return f"{who} {self.year}"


def load(paper: str) -> PaperInfo | None:
    """What is said of a paper; None where its folder has no ``paper.yaml``.

    Raises:
        UserError: naming file, line and key, where it is not as it should be.
    """
    files = [folder / paper / "paper.yaml" for folder in paths.paper_dirs()]
    file = next((one for one in files if one.is_file()), None)
    if file is None:
        return None
    values = table_file.plain(file)
    try:
        return PaperInfo.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # What is missing is often there under a misspelt name.
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        path = [str(part) for part in first["loc"] if part != "[key]"]
        line = paths.line_of(file, path) if path else None
        where = f"{shown(file)}, line {line}" if line else shown(file)
        raise UserError(f"{where}: {'.'.join(path) or 'the file'}: {_said(first)}") from None


def _said(error: ErrorDetails) -> str:
    """Of pydantic's error, what a writer of YAML has to know."""
    match error["type"]:
        case "extra_forbidden":
            return f"unknown field{nearest(str(error['loc'][-1]), PaperInfo.model_fields)}"
        case "model_type" | "dict_type":
            return "should be key: value pairs"
        case "string_type" if error["input"] is None:
            return "is empty"
        case "string_type" if isinstance(error["input"], dict):
            return "should be words, and a colon makes them key: value; put the whole in quotes"
        case "string_type" if isinstance(error["input"], list):
            return "should be words, not a list"
        case "string_type":
            return "should be words; put them in quotes"
        case _:
            return error["msg"].replace("Input should", "should")


def title_of(paper: str) -> str:
    """A paper's title and who wrote it when; its slug where nothing else is known."""
    info = load(paper)
    return f"{info.title} ({info.cited})" if info else paper
