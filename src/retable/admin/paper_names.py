"""What a new paper may be called: one word, which nothing else is called.

A paper's slug is part of the keys of its runs, so that another name later would orphan them all.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from retable.util import paths
from retable.util.errors import UserError, brief

MAX_LENGTH = 40
"""Longer ones would make longer lines of the files that a paper begins with."""


def check(paper: str, folders: Iterable[Path]) -> None:
    """Refuse a slug that a new paper cannot have.

    Args:
        paper: the slug.
        folders: that hold a folder for each paper.

    Raises:
        UserError: saying which would do, or what has the name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", paper) or keyword.iskeyword(paper):
        raise UserError(
            f"NAME: '{brief(paper)}' cannot name a package: a lower-case letter, then letters,"
            f" digits and _ are needed{_instead(paper)}"
        )
    if len(paper) > MAX_LENGTH:
        raise UserError(
            f"NAME: '{brief(paper)}' has {len(paper)} characters; at most {MAX_LENGTH} can be had"
        )
    for folder in folders:
        for file in (folder / paper, folder / f"{paper}.py"):
            if file.exists():
                raise UserError(f"NAME: '{paper}' is taken by {paths.shown(file)}; choose another")
    for file in harness():
        # Most files do not have the word at all, and reading is quicker than parsing.
        text = file.read_text(encoding="utf-8")
        for line, word in words(text) if paper in text else ():
            if word == paper:
                raise UserError(
                    f"NAME: '{paper}' is a word of the harness ({paths.shown(file)}, line {line}),"
                    f" which is to name no paper; choose another, such as '{paper}_paper'"
                )


def _instead(paper: str) -> str:
    found = re.sub(r"[^a-z0-9]+", "_", paper.lower()).strip("_0123456789")[:MAX_LENGTH]
    if keyword.iskeyword(found):
        found += "_paper"
    return f"; '{found}' would do" if found else ""


def harness() -> Iterator[Path]:
    """Files of the harness: all that belong to no paper."""
    papers = paths.PACKAGE / "papers"
    for file in sorted(paths.PACKAGE.rglob("*.py")):
        if file.parent == papers or not file.is_relative_to(papers):
            yield file


def words(text: str) -> Iterator[tuple[int, str]]:
    """Words in the strings of a module, with their lines.

    Docstrings and the examples of the help, which may name a paper, are left out.
    """
    tree = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in docstrings and "Example:" not in node.value:
            for word in re.findall(r"\w+", node.value):
                yield node.lineno, word
