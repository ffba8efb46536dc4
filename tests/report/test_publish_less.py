"""What is published is never replaced by less without being told to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retable import locations
from retable.errors import UserError
from retable.report import publish
from retable.tables import collect
from retable.tables.grid import plan

NAME = "risk_parity/example_bai2016"
RESULTS = Path(__file__).parents[2] / "results"


def test_fewer_runs_than_published_are_refused(tmp_path, monkeypatch):
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    monkeypatch.setattr(locations, "results_dir", lambda: copy)
    grid = plan(NAME)
    records = collect.from_results(grid)
    fewer = dict(list(records.items())[1:])
    monkeypatch.setattr(collect, "from_runs", lambda *_: fewer)
    before = (copy / f"{NAME}.md").read_bytes()
    with pytest.raises(UserError, match="5 finished runs are here, 6 are published"):
        publish.publish(grid)
    assert (copy / f"{NAME}.md").read_bytes() == before
    monkeypatch.setattr(publish, "write_overview", lambda: None)
    publish.publish(grid, partial=True)
    assert "partial 0/1" in (copy / f"{NAME}.md").read_text(encoding="utf-8")
