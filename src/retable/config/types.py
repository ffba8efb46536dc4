"""Kinds of text and numbers that fields of a config may be."""

from __future__ import annotations

import keyword
import re
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, Field

from retable.util.errors import nearest
from retable.util.paths import PACKAGE

MAX_WORD = 64
WEIGHTS_FROM = ("hub", "torchvision")
"""Where files of weights come from that are named ``FROM:NAME``."""


def _slug(value: str) -> str:
    # Becomes a folder name: letters, digits, underscore; so no path can be built from it.
    if not (value.isascii() and value.isidentifier() and len(value) <= MAX_WORD):
        raise ValueError("must be one word of letters, digits and underscores")
    return value


@cache
def _is_shared(value: str) -> bool:
    return (PACKAGE / "papers" / f"{value}.py").is_file()


def _paper(value: str) -> str:
    # The name of its package as well, beside the modules that papers share.
    if keyword.iskeyword(_slug(value)) or value.startswith("_"):
        raise ValueError(f"cannot be '{value}', no package has a keyword for its name or a first _")
    if _is_shared(value):
        raise ValueError(f"cannot be '{value}', retable.papers.{value} is what papers share")
    return value


def _folder(value: str) -> str:
    if "\0" in value:
        raise ValueError("has characters that a path cannot have")
    parts = value.split("/")
    if len(value.encode()) > 3000 or any(len(part.encode()) > 255 for part in parts):
        raise ValueError("is too long for a path")
    return value


def _line(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > 1000:
        raise ValueError("must be one line of text")
    return value


def _word(value: str) -> str:
    if set(_line(value)) & set(" \t'\"\\$`;&|<>()"):
        raise ValueError("must be one word, without quotes and what a shell reads")
    return value


def _project(value: str) -> str:
    if wrong := sorted(set(_word(value)) & set("/\\#?%:")):
        raise ValueError(f"has {wrong[0]}, which W&B does not take in a project's name")
    return value


def _option(value: str) -> str:
    if not (value.isascii() and value.replace("-", "").isalnum() and not value.startswith("-")):
        raise ValueError("must be the long name of an option of sbatch, without dashes before it")
    return value


def _sha256(value: str) -> str:
    if len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError("must be a SHA-256: 64 of 0-9 and a-f, as sha256sum prints it")
    return value


def _weights_file(value: str) -> str:
    scheme, colon, name = _line(value).partition(":")
    parts = (name if colon else value).split("@")[0].split("/")
    if colon and scheme not in WEIGHTS_FROM:
        raise ValueError(f"is from '{scheme}:'{nearest(scheme, WEIGHTS_FROM)}, or a plain path")
    if "" in parts or ".." in parts or "." in parts:
        raise ValueError("must be a path below the mirror, without .., . and a leading /")
    if scheme == "hub" and colon and len(parts) < 3:
        raise ValueError("must be hub:OWNER/REPOSITORY/FILE, and @REVISION where it is not main")
    if scheme == "torchvision" and colon and not re.fullmatch(r"\w+_Weights\.\w+", name):
        raise ValueError("must be torchvision:NAME_Weights.VERSION, as torchvision lists them")
    return value


Slug = Annotated[str, AfterValidator(_slug)]
PaperName = Annotated[str, AfterValidator(_paper)]
Line = Annotated[str, AfterValidator(_line)]
Word = Annotated[str, AfterValidator(_word)]
Project = Annotated[str, AfterValidator(_project)]
Option = Annotated[str, AfterValidator(_option)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(_folder)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
WeightsFile = Annotated[str, AfterValidator(_weights_file)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
