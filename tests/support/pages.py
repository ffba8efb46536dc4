"""The pages for readers, and what they show: links, blocks of code, commands."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from retable.cli.main import app
from retable.util import paths

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "ARCHITECTURE", "CHANGELOG")),
    ROOT / "slurm" / "README.md",
    ROOT / "tests" / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
    *sorted((ROOT / "src").rglob("README.md")),
]
_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every block of code."""
    return [(lang, text) for lang, text in _FENCE.findall(read(page))]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", read(page))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def lines(page: Path) -> list[str]:
    """Lines of a page's blocks for the shell, without comments."""
    found: list[str] = []
    for lang, text in blocks(page):
        if lang == "sh":
            whole = text.replace("\\\n", " ").splitlines()
            found += [shlex.join(words) for line in whole if (words := shlex.split(line, True))]
    return found


def commands() -> list[tuple[str, str]]:
    """Every call of retable in a block for the shell, with its page; of `a && b` each by itself."""
    return [
        (name_of(page), shlex.join(shlex.split(part)[1:]))
        for page in PAGES
        for line in lines(page)
        for part in line.split(" '&&' ")
        if part.startswith("retable ")
    ]


@cache
def configs() -> set[str]:
    """Names of papers, tables and experiments."""
    return {*paths.config_names("table"), *paths.config_names("experiment"), *papers()}


@cache
def papers() -> set[str]:
    return {name.partition("/")[0] for name in paths.config_names("table")}


@cache
def program() -> Any:
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, Any, list[str]]:
    """The command that words begin with, the context around it, and the other words."""
    command, context = program(), None
    while hasattr(command, "get_command"):
        if not words or words[0].startswith("-"):
            break
        context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"no command {name}"
    return command, context, words


def parse(words: list[str]) -> dict[str, Any]:
    """Options and arguments of a command as it would be called with; nothing is run."""
    command, context, rest = command_of(words)
    return command.make_context(command.name, rest, parent=context).params
