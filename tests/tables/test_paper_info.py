"""What is said of a paper: its file, and what stands for it where there is none."""

from __future__ import annotations

import re

import pytest

from retable.tables import paper_info, spec
from retable.util import paths
from retable.util.errors import UserError

TEXT = "title: A\nauthors: [Ann Bo, Cy Di, Ed Fo]\nvenue: V\nyear: 2020\n"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the file of a paper of its own folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setattr(paths, "paper_dirs", lambda: [tmp_path])
    return lambda text: (folder / "paper.yaml").write_text(text, encoding="utf-8")


def test_a_title_has_who_and_when(written):
    written(TEXT)
    assert paper_info.title_of("mine") == "A (Bo et al. 2020)"
    written(TEXT.replace(", Ed Fo", ""))
    assert paper_info.title_of("mine") == "A (Bo and Di 2020)"
    written(TEXT.replace(", Cy Di, Ed Fo", ""))
    assert paper_info.title_of("mine") == "A (Bo 2020)"


def test_without_a_file_the_slug_stands_for_it(written):
    assert paper_info.load("mine") is None
    assert paper_info.title_of("mine") == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: A\n", "", "title: Field required"),
        ("year: 2020", "year: long ago", "year: should be a valid integer"),
        ("year: 2020", "yaer: 2020", "yaer: unknown field; did you mean 'year'?"),
        ("venue: V", 'arxiv: "22"\nvenue: V', "arxiv: String should match"),
        ("venue: V", "code: http://x\nvenue: V", "code: String should match"),
        ("title: A", "title: [", "not valid YAML"),
        ("venue: V", "venue: V\nvenue: W", "not valid YAML: 'venue' stands twice"),
        ("venue: V", "arxiv: 2\nvenue: V", "arxiv: should be words; put them in quotes"),
        ("title: A\n", "title:\n", "title: is empty"),
        ("title: A\n", "title: [A]\n", "title: should be words, not a list"),
        ("venue: V", "venue: V\nfound: [{so: it is}]", "found.0: should be words, and a colon"),
        ("venue: V", "venue: V\nnot_run:\n  1: why", ", line 5: not_run.1: should be words"),
        ("Ann Bo, Cy Di, Ed Fo", '" "', "authors.0: String should match"),
        (TEXT, "- A", "the file: should be key: value pairs"),
    ],
)
def test_refusals_name_file_and_key(written, old, new, message):
    assert old in TEXT
    written(TEXT.replace(old, new))
    with pytest.raises(UserError) as caught:
        paper_info.load("mine")
    assert re.search(r"mine/paper\.yaml(, line \d)?: ", str(caught.value))
    assert message in str(caught.value)


def test_a_refusal_has_the_line_and_bytes_that_are_no_text_are_one(written):
    file = paths.paper_dirs()[0] / "mine" / "paper.yaml"
    written(TEXT.replace("year: 2020", "year: long ago"))
    with pytest.raises(UserError, match=r"paper\.yaml, line 4: year: "):
        paper_info.load("mine")
    file.write_bytes(TEXT.encode() + b"says: \xff\n")
    with pytest.raises(UserError, match=r"paper\.yaml, line 5: not valid YAML: is not UTF-8"):
        paper_info.load("mine")


def test_every_paper_here_is_the_one_of_its_own_tables():
    for name in paths.config_names("table"):
        table = spec.load(name)
        info = paper_info.load(table.paper)
        # Papers of the tests need no file; tests/test_layout.py asks the project's own for one.
        if info is not None and table.source.own:
            assert table.source.arxiv in {None, info.arxiv}, name
