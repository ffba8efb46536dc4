"""What is published is never replaced by less without being told to."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from retable.report import publish
from retable.tables import collect
from retable.tables.grid import plan
from retable.tables.why_spec import Measured, Why
from retable.util import paths
from retable.util.errors import UserError

NAME = "risk_parity/example_bai2016"
RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.slow
def test_fewer_runs_than_published_are_refused(tmp_path, monkeypatch):
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    monkeypatch.setattr(paths, "results_dir", lambda: copy)
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
    assert "incomplete 0/1" in (copy / f"{NAME}.md").read_text(encoding="utf-8")


@pytest.fixture
def caused_by(tmp_path, monkeypatch):
    """A published table whose difference is said to be tested by something."""
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    monkeypatch.setattr(paths, "results_dir", lambda: copy)
    grid = plan(NAME)
    records = collect.from_results(grid)
    monkeypatch.setattr(collect, "from_runs", lambda *_: records)

    def make(**tests):
        why = Why(row="long", because="another library", **tests)
        return replace(grid, spec=grid.spec.model_copy(update={"why": [why]}))

    make.key = next(iter(records))[:12]
    make.results = copy / NAME.partition("/")[0]
    return make


def test_a_cause_has_to_name_a_run_that_somebody_has(caused_by):
    publish.check(caused_by(runs=[caused_by.key]))
    with pytest.raises(UserError, match=r"why\.0\.runs: run 'deadbeefdead': there is none"):
        publish.check(caused_by(runs=["deadbeefdead"]))


def test_what_a_script_has_measured_lies_beside_the_table_as_it_was(caused_by):
    content = b'{"versions": {}}\n'
    sha256 = hashlib.sha256(content).hexdigest()
    measured = Measured(script="scripts/count.py", file="counts.json", sha256=sha256)
    with pytest.raises(
        UserError,
        match=r"why\.0\.measured: there is no .*measured/counts\.json; scripts/count\.py writes it",
    ):
        publish.check(caused_by(measured=measured))
    file = caused_by.results / "measured" / "counts.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    publish.check(caused_by(measured=measured))
    file.write_bytes(content + b" ")
    with pytest.raises(UserError, match=r"sha256: that of .*counts\.json is [0-9a-f]{64}"):
        publish.check(caused_by(measured=measured))


def test_a_table_that_is_not_published_is_not_printed_as_an_empty_one(retable):
    said = retable("table", "digits/accuracy", "--from", "results", code=2).stderr
    assert "nothing is published under protocol paper" in said
    said = retable("table", NAME, "--from", "results", code=2).stderr
    assert "RETABLE_EXTRA is set" in said


@pytest.mark.slow
def test_of_several_tables_none_is_written_where_one_cannot_be(retable, tmp_path):
    extra = shutil.copytree(os.environ["RETABLE_EXTRA"], tmp_path / "extra")
    table = extra / "conf" / "table" / "digits"
    shutil.copy(table / "accuracy.yaml", table / "zero.yaml")
    changed = (table / "zero.yaml").read_text().replace("lr=0.01]", "lr=0.02]")
    (table / "zero.yaml").write_text(changed.replace("lr=0.1]", "lr=0.2]"))
    retable("run", "digits/accuracy", "--protocol", "smoke", RETABLE_EXTRA=extra)
    said = retable("publish", "digits", "--protocol", "smoke", code=2, RETABLE_EXTRA=extra).stderr
    assert "digits/zero: nothing to publish" in said
    assert not list(extra.rglob("results/**/*.md"))
