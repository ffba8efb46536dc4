"""The main job: quick tables, run here or printed from the published records, and what came out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from retable.report.reproduce import FROM_RESULTS, NOWHERE, planned, reproduce
from retable.report.reproduced import Agreement, Reproduced, agreement, summary
from retable.runs import published_records
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.verdicts.judge import judge
from retable.util import paths
from retable.util.errors import UserError

EXTRA = Path(os.environ["RETABLE_EXTRA"])
AWAY = """# @package _global_
paper: digits
protocol: paper
trainer: {max_epochs: 1}
data:
  _target_: retable.papers.digits.fetched.Fetched
  url: http://127.0.0.1:9/x
model:
  _target_: retable.papers.digits.module.Perceptron
  optimizer: {_target_: torch.optim.SGD, _partial_: true, lr: 0.1}
"""
MODULE = '''"""Data that is fetched."""

from retable.data.base import PaperDataModule
from retable.data.fetch import fetch


class Fetched(PaperDataModule):
    """Needs a file from nowhere."""

    def __init__(self, *, seed, paths, url: str) -> None:
        super().__init__(seed=seed, paths=paths)
        self.url = url

    def prepare_data(self) -> None:
        fetch("x.csv", self.url, "0" * 64, cache=self.paths.cache, mirror=self.paths.mirror)
'''


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Two quick tables, ``here`` and ``away``; the data of the second cannot be had."""
    tables = EXTRA / "conf" / "table" / "digits"
    text = (tables / "accuracy.yaml").read_text()
    text = text.replace("{paper: 3, smoke: 1}", "1").replace("title: Test", "quick: true\ntitle: A")
    text = text.replace("paper: digits/base, smoke: digits/smoke", "paper: digits/base")
    files = {
        tables / "here.yaml": text,
        tables / "away.yaml": text.replace("digits/base", "digits/away"),
        EXTRA / "conf" / "experiment" / "digits" / "away.yaml": AWAY,
        EXTRA / "papers" / "digits" / "fetched.py": MODULE,
    }
    for path, content in files.items():
        path.write_text(content, encoding="utf-8")
    names = paths.config_names
    only = {"digits/accuracy", "digits/away", "digits/here"}
    monkeypatch.setattr(
        paths, "config_names", lambda g: [n for n in names(g) if g != "table" or n in only]
    )
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    yield
    for path in files:
        path.unlink()
    shutil.rmtree(EXTRA / "papers" / "digits" / "__pycache__", ignore_errors=True)


def records_of(name: str, value: float = 0.875, **changes) -> dict[str, Record]:
    """Records of all runs of a table; changes are of their provenance."""
    provenance = Provenance(
        **{"commit": "c", "dirty": None, "packages": "p", "python": "3", "torch": "2", "cpu": "cpu",
           "cores": 1, **changes}
    )  # fmt: skip
    return {
        run.key: Record(
            key=run.key, paper="digits", experiment=None, protocol="paper", seed=0, config={},
            status=Status.DONE, results=[ResultRow(metric="test/accuracy", value=value)],
            attempt=1, started="2026-01-01", wall_s=1, cpu_s=1, peak_memory_mb=1, device="cpu",
            threads=1, workers=1, fingerprint=run.fingerprint, provenance=provenance,
        )
        for run in plan(name).runs()
    }  # fmt: skip


def published(name: str) -> None:
    """Publish records of a table that were made where its data was to be had."""
    path = published_records.parquet_file(name, "paper")
    path.parent.mkdir(parents=True)
    published_records.write(path, records_of(name), {})


def call(launches: bool = True) -> tuple[bool, list[str], list[str], list[str]]:
    printed: list[str] = []
    said: list[str] = []
    launched: list[str] = []

    def launch(grids):
        launched.extend(grid.name for grid in grids)
        return launches, grids

    ok = reproduce(launch, printed.append, said.append)
    return ok, launched, printed, said


def test_what_cannot_be_run_is_printed_from_the_published_records(quick):
    published("digits/away")
    ok, launched, (away, here, end), said = call()
    assert ok
    assert launched == ["digits/here"]  # not the one without data, nor the one that is not quick
    assert f"**{FROM_RESULTS}**" in away
    assert "87.50" in away
    assert "Not run here" not in here
    (line,) = said
    assert line.startswith("digits/away: x.csv: neither in a mirror")
    assert "RETABLE_MIRROR" in line
    assert "| digits/away (published) | paper    | 1     | 2 " in end
    assert (
        "Run here: 1 table. From published records, as their data cannot be had: digits/away."
        in end
    )


def test_without_published_records_it_says_so_and_is_not_well(quick):
    ok, _, (away, _, end), _ = call()
    assert not ok
    assert "Neither run nor published, as their data cannot be had: digits/away." in end
    assert "| digits/away (not run) |" in end
    assert "--full" not in end  # one seed is all there is
    assert f"**{NOWHERE}**" in away


def test_a_failed_run_is_not_well(quick):
    published("digits/away")
    assert not call(launches=False)[0]


def test_what_is_quick_of_a_table_is_run_and_all_of_it_on_demand(quick):
    file = EXTRA / "conf" / "table" / "digits" / "here.yaml"
    text = file.read_text(encoding="utf-8")
    text = text.replace("seeds: 1", "seeds: 3").replace(
        "quick: true", "quick: {seeds: 2, rows: [slow], columns: [accuracy]}"
    )
    file.write_text(text, encoding="utf-8")
    [_, few] = planned(full=False)
    [_, full] = planned(full=True)
    assert few.seeds == [0, 1]
    assert list(few.cells) == [("slow", "accuracy")]
    assert full.seeds == [0, 1, 2]
    assert {row for row, _ in full.cells} > {"slow"}
    said = summary([Reproduced(few, judged(few), 2, None)])
    assert "| 2 of 3 |" in said


def judged(grid):
    return judge(build(grid, {}))


@pytest.fixture
def twice(quick):
    """A table's published records, and what a run here that gave other numbers agrees with."""
    published("digits/here")
    grid = plan("digits/here")

    def beside(value: float, **changes):
        return grid, agreement(grid, records_of("digits/here", value, **changes))

    return beside


def test_runs_are_compared_with_the_published_ones(twice):
    _, same = twice(0.875)
    assert list(same.kinds.values()) == ["bitwise equal"] * 2
    assert not same.unexplained
    assert not same.differing
    _, near = twice(0.875 * (1 + 1e-6), cpu="another")
    assert list(near.kinds.values()) == ["equal within tolerance"] * 2
    assert not near.unexplained
    assert not near.differing


@pytest.mark.parametrize("value", [0.5, 0.875 * (1 + 1e-6)])
def test_what_should_have_been_the_same_bits_is_said_first(twice, value):
    grid, other = twice(value)
    assert len(other.unexplained) == 2
    said = summary([Reproduced(grid, judged(grid), 2, other)])
    first, _, rest = said.partition("| table")
    assert "**Other bits than published in 2 runs,** although code" in first
    assert "digits/here" in first
    assert "digits/here" in rest


def test_other_numbers_under_other_circumstances_are_named_with_them(twice):
    grid, other = twice(0.5, cpu="another")
    assert not other.unexplained
    said = summary([Reproduced(grid, judged(grid), 2, other)])
    assert "of 2 runs 0 bit for bit the same, 0 the same within 0.0001" in said
    assert "2 with other numbers" in said
    assert "cpu another / cpu" in said


def test_every_run_with_other_numbers_is_named(twice):
    grid, _ = twice(0.5)
    lines = {str(n): f"digits/here, run {n}: here / published: 1 / 2" for n in range(30)}
    other = Agreement(dict.fromkeys(lines, "different"), {}, lines)
    said = summary([Reproduced(grid, judged(grid), 30, other)])
    assert all(f"digits/here, run {n}" in said for n in range(30))
    assert said.count("here / published") == 20


def test_one_table_or_a_paper_s_can_be_asked_for(quick):
    assert [one.name for one in planned("digits/here", full=False)] == ["digits/here"]
    assert [one.name for one in planned("digits", full=False)] == ["digits/away", "digits/here"]
    with pytest.raises(UserError, match="digits/accuracy: no table of it is quick; retable run"):
        planned("digits/accuracy", full=False)
    with pytest.raises(UserError, match="no table or paper 'digit'; did you mean 'digits"):
        planned("digit", full=False)


def test_a_run_of_two_tables_counts_once(twice):
    grid, other = twice(0.875)
    both = [Reproduced(grid, judged(grid), 2, other)] * 2
    assert "Beside the published runs: of 2 runs 2 bit for bit the same" in summary(both)
