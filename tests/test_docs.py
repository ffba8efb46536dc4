"""What the pages for readers say: links lead somewhere, code and options are what there is."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from support import pages
from support.pages import PAGES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
WRITTEN_BY_THE_READER = "retable.papers.sharpness."  # of a page that test_first_paper.py tries
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(pages.prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: is not there"
        if anchor and target.suffix == ".md":
            assert anchor in pages.anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_blocks_of_code_are_whole_and_say_their_language(page):
    assert pages.read(page).count("\n```") == 2 * len(pages.blocks(page)), "a block has no end"
    for lang, text in pages.blocks(page):
        assert lang, f"no language: {text}"
        if lang != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retable"):
                if (node.module or "").startswith(WRITTEN_BY_THE_READER):
                    continue
                module = __import__(node.module or "", fromlist=["*"])
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_targets_of_make_are_there(page):
    shown = "\n".join([*pages.lines(page), *re.findall(r"`([^`\n]+)`", pages.prose(page))])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in TARGET.findall(shown):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=pages.name_of)
def test_options_in_the_text_are_what_the_program_takes(page):
    """Of `retable ... --option` in a sentence, which need not be whole."""
    for line in re.findall(r"`retable ([^`]+)`", pages.prose(page)):
        command, _, rest = pages.command_of(line.split())
        known = {name for option in command.params for name in option.opts}
        known |= {"-h", "--help", "--install-completion"}
        for word in rest:
            assert not word.startswith("-") or word in known, f"{line}: no {word}"


def test_the_first_page_is_short_and_leads_to_all_others():
    text = pages.read(ROOT / "README.md")
    assert len(text.splitlines()) <= 130
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, f"{page.name} cannot be found from README.md"


def test_the_first_page_lists_the_commands_with_json():
    text = " ".join(pages.read(ROOT / "README.md").split())
    listed = re.search(r"has the others, each with an example\. ([^.]*) take `--json`", text)
    assert listed
    command, _, _ = pages.command_of([])
    with_json = [
        name
        for name, one in command.commands.items()
        if any("--json" in option.opts for option in one.params)
    ]
    assert sorted(re.findall(r"`([\w-]+)`", listed[1])) == sorted(with_json)


def test_the_index_has_every_page():
    """Sphinx holds it too, where it is there."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(pages.read(index))}
    for page in (ROOT / "docs").rglob("*.md"):
        if page != index and not {"_build", "decisions"} & set(page.relative_to(ROOT).parts):
            assert page in linked, f"{page.name} cannot be found from docs/index.md"


def keys_of(value: Any) -> set[str]:
    """Keys of a JSON document, but for those that are names or numbers of somebody's own."""
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if not isinstance(value, dict):
        return set()
    own = {"values", "rows", "columns", "metrics", "source", "config", "set"}
    return {*value}.union(*(keys_of(inner) for name, inner in value.items() if name not in own))


@pytest.mark.parametrize("name", ["verdicts.json", "verdicts_claims.json", "verdicts.csv"])
def test_every_key_of_an_output_is_described(name):
    text = (ROOT / "tests" / "report" / "golden" / name).read_text(encoding="utf-8")
    keys = (
        set(text.splitlines()[0].split(",")) if name.endswith("csv") else keys_of(json.loads(text))
    )
    described = set(re.findall(r"`([^`]+)`", pages.read(ROOT / "docs" / "outputs.md")))
    assert len(keys) > 15
    assert keys - described == set()


def test_there_is_something_to_look_at():
    assert len(PAGES) > 25
    assert len(pages.commands()) > 45
