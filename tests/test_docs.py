"""What the pages for readers say: links lead somewhere, commands are what the program takes."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer.main

from retable.cli.main import app
from retable.util import paths

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
    ROOT / "slurm" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("README.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: is not there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


def shown() -> list[tuple[str, str]]:
    """Every line of a shell block that calls retable, with its page."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("retable "):
                    found.append((str(page.relative_to(ROOT)), line))
    return found


@cache
def configs() -> set[str]:
    """Names of papers, tables and experiments."""
    return {*paths.config_names("table"), *paths.config_names("experiment"), *papers()}


@cache
def papers() -> set[str]:
    return {name.partition("/")[0] for name in paths.config_names("table")}


def parse(words: list[str]) -> None:
    """Read a command's options and arguments; nothing is run."""
    command, context = typer.main.get_command(app), None
    while hasattr(command, "get_command"):
        context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"no command {name}"
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("table", "Missing parameter: name"),
        ("nothing", "no command nothing"),
        ("wandb sync --what", "No such option: --what"),
        ("run a/b --seeds x", "a valid integer"),
        ("plan a/b --protcol x", "No such option: --protcol"),
    ],
)
def test_what_the_program_does_not_take_is_seen(line, message):
    with pytest.raises(Exception, match=message):
        parse(line.split())


@pytest.mark.parametrize(("page", "line"), shown(), ids=lambda text: text)
def test_commands_are_what_the_program_takes(page, line):
    words = shlex.split(line, comments=True)
    parse(words[1:])
    for word in words[2:]:
        name = word.removeprefix("experiment=")
        if name.partition("/")[0] in papers():  # others are the reader's own
            assert name in configs(), f"{page}: {name} is not there"


def test_there_is_something_to_look_at():
    assert len(PAGES) > 15
    assert len(shown()) > 40


def test_the_first_page_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, f"{page.name} cannot be found from README.md"
