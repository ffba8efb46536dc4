"""Every table under results/ follows, byte for byte, from the records beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retable import locations
from retable.report import parquet, publish
from retable.tables.grid import plan

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def names(ending: str) -> set[str]:
    """Published files, by name without the ending."""
    return {
        p.relative_to(RESULTS).with_suffix("").as_posix()
        for p in RESULTS.rglob(f"*{ending}")
        if p.name != "README.md"
    }


@pytest.fixture(autouse=True)
def _own_results(monkeypatch):
    monkeypatch.setattr(locations, "results_dir", lambda: RESULTS)


def test_every_table_has_its_records_and_every_record_file_its_table():
    assert names(".md") == names(".parquet")
    assert names(".md"), "nothing is published"


@pytest.mark.parametrize("name", sorted(names(".parquet")))
def test_published_records_are_of_committed_code(name):
    for record in parquet.read(RESULTS / f"{name}.parquet"):
        assert record.provenance.commit is not None
        assert record.provenance.dirty is None, f"{record.key[:12]} was measured with local changes"


@pytest.mark.parametrize("name", sorted(names(".parquet")))
def test_table_follows_from_its_records(name):
    found = {publish.published_file(n, p): (n, p) for n, p in publish.published()}
    path = RESULTS / f"{name}.md"
    table, protocol = found[path]
    text = publish.render_published(plan(table, protocol))
    assert text == path.read_text(encoding="utf-8"), (
        f"{name}.md does not follow from {name}.parquet as the code stands: if the table says"
        f" `stale` now, run it again (retable run {table} --protocol {protocol}), then"
        f" retable publish {table} --protocol {protocol}"
    )


def test_overview_lists_them():
    path = RESULTS / "README.md"
    assert publish.overview() == path.read_text(encoding="utf-8")


def test_the_table_in_the_readme_is_the_published_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = "<!-- begin results/risk_parity/iterations.md -->", "<!-- end "
    block = text[text.index(begin) + len(begin) : text.index(end)]
    shown = [line for line in block.splitlines() if line.startswith("|")]
    published = (RESULTS / "risk_parity" / "iterations.md").read_text(encoding="utf-8").splitlines()
    assert len(shown) > 10
    for line in shown:
        assert line in published
