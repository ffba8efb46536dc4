"""Every table under results/ follows, byte for byte, from the records beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retable import locations
from retable.report import publish
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


@pytest.mark.parametrize("name", sorted(names(".parquet")) or [None])
def test_table_follows_from_its_records(name):
    if name is None:
        return
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
    if not names(".parquet"):
        return
    assert publish.overview() == path.read_text(encoding="utf-8")
