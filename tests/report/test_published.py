"""Every table under results/ follows, byte for byte, from the records beside it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from retable.report import latex, layout, publish, terminal
from retable.report.findings import findings
from retable.report.not_run import idle, not_run
from retable.runs import published_records
from retable.tables import paper_info, spec
from support.published import RESULTS

ROOT = RESULTS.parent
pytestmark = pytest.mark.usefixtures("published_results")


def names(ending: str) -> set[str]:
    """Published files, by name without the ending."""
    return {
        p.relative_to(RESULTS).with_suffix("").as_posix()
        for p in RESULTS.rglob(f"*{ending}")
        if p.stem != "README"
    }


@cache
def follows(paper: str, protocol: str) -> dict[Path, str]:
    """What the published records of a paper give: p of a claim is over all claims of the paper."""
    return publish.files_of(publish.judged(paper, protocol))


def test_every_table_has_its_records_and_every_record_file_its_table():
    assert names(".md") == names(".parquet")
    assert names(".md"), "nothing is published"


def test_every_figure_is_drawn_and_nothing_else():
    drawn = {
        publish.published_file(name, protocol).relative_to(RESULTS).with_suffix("").as_posix()
        for name, protocol in publish.published()
        if spec.load(name).figure is not None
    }
    assert names(".svg") == drawn
    assert drawn, "no figure is published"


def test_no_sentence_on_a_paper_is_out_of_date():
    seen = 0
    papers: dict[str, list] = {}
    for table in all_judged():
        papers.setdefault(table.spec.paper, []).append(table)
    for paper, tables in papers.items():
        info = paper_info.load(paper)
        found = findings(info.found, tables, ["a.md"] * len(tables))
        assert info.says, paper
        assert 2 < len(found) < 6, paper
        assert [one.outdated for one in found if one.outdated] == [], paper
        assert not [one.text for one in found if "{" in one.text or "}" in one.text], paper
        seen += len(found)
    assert seen > 20


def test_what_is_not_run_has_a_reason_and_no_reason_is_idle():
    there = set(publish.published())
    for paper in {name.partition("/")[0] for name, _ in there}:
        assert [one for one in not_run(paper, there) if not one.why] == [], paper
        assert idle(paper, there) == [], paper


def all_judged():
    for paper, protocol in sorted({(n.partition("/")[0], p) for n, p in publish.published()}):
        yield from publish.judged(paper, protocol)


def test_every_published_table_fits_a_terminal():
    for table in all_judged():
        text = terminal.render(table, width=80, colour=False)
        assert max(map(len, text.splitlines())) <= 80, table.name


def test_no_table_of_a_page_is_wider_than_ten_columns_and_no_cell_is_lost():
    wide = 0
    for table in all_judged():
        blocks = layout.blocks(table, layout.MOST_COLUMNS)
        assert all(len(block.across) <= 9 for block in blocks), table.name
        assert {place for block in blocks for place in block.cells()} >= set(table.cells), (
            table.name
        )
        printed = latex.render(table)
        cells = re.findall(r"\\begin\{tabular\}\{@\{\}l(r*)@\{\}\}", printed)
        assert len(cells) >= len(blocks), table.name
        assert max(map(len, cells)) <= 9, table.name
        labels = re.findall(r"\\label\{(.+?)\}", printed)
        assert len(labels) == len(set(labels)), table.name
        wide += len(layout.sides(table)[1]) > 9
    assert wide > 3


@pytest.mark.parametrize("name", sorted(names(".parquet")))
def test_published_records_are_of_committed_code(name):
    for record in published_records.read(RESULTS / f"{name}.parquet"):
        assert record.provenance.commit is not None
        assert record.provenance.dirty is None, f"{record.key[:12]} was measured with local changes"


@pytest.mark.parametrize("name", sorted(names(".parquet")))
def test_table_and_picture_follow_from_their_records(name):
    found = {publish.published_file(n, p): (n, p) for n, p in publish.published()}
    table, protocol = found[RESULTS / f"{name}.md"]
    made = follows(table.partition("/")[0], protocol)
    for path in (RESULTS / f"{name}.md", RESULTS / f"{name}.svg"):
        assert path.exists() == (path in made), path
        if path in made:
            assert made[path] == path.read_text(encoding="utf-8"), (
                f"{path.name} does not follow from {name}.parquet as the code stands: if the table"
                f" says `stale` now, run it again (retable run {table} --protocol {protocol}), then"
                f" retable publish {table} --protocol {protocol}"
            )
            assert not re.search(r"\b(nan|inf)\b", made[path]), path


def test_the_overview_and_the_papers_pages_follow_from_the_records():
    files = publish.overview()
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, path
    assert set(RESULTS.rglob("README.*")) == set(files)
    for name in names(".md"):
        paper, _, page = name.partition("/")
        text = files[RESULTS / paper / "README.md"]
        assert (
            len(re.findall(rf"^\| \[[^\n]*\]\({re.escape(page)}\.md\)<br>", text, re.MULTILINE))
            == 1
        )
        assert f"]({paper}/README.md)" in files[RESULTS / "README.md"]
        if (RESULTS / f"{name}.svg").exists():
            assert f"]({page}.svg)]({page}.md)" in text


def test_tables_in_readmes_are_the_published_ones():
    """Between `begin` and `end` stands a stretch of the published table, and nothing else."""
    seen = 0
    for readme in (ROOT / "README.md", *ROOT.glob("src/retable/papers/*/README.md")):
        text = readme.read_text(encoding="utf-8")
        blocks = re.findall(
            r"<!-- begin (results/\S+\.md) -->(.*?)<!-- end \1 -->", text, re.DOTALL
        )
        assert len(blocks) == text.count("<!-- begin results/"), f"{readme}: a block has no end"
        for name, block in blocks:
            published = (ROOT / name).read_text(encoding="utf-8")
            assert f"\n{block.strip()}\n" in published, f"{readme}: not what {name} says"
            assert block.count("\n|") > 3
            seen += 1
    assert seen
