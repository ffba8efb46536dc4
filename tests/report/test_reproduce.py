"""The main job: quick tables, run here or printed from the published records."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from retable.report.reproduce import FROM_RESULTS, NOWHERE, reproduce
from retable.runs import published_records
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables.grid import plan
from retable.util import paths

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


def published(name: str) -> None:
    """Publish records of a table that were made where its data was to be had."""
    provenance = Provenance(
        commit="c", dirty=None, packages="p", python="3", torch="2", cpu="cpu", cores=1
    )
    records = {
        run.key: Record(
            key=run.key, paper="digits", experiment=None, protocol="paper", seed=0, config={},
            status=Status.DONE, results=[ResultRow(metric="test/accuracy", value=0.875)],
            attempt=1, started="2026-01-01", wall_s=1, cpu_s=1, peak_memory_mb=1, device="cpu",
            threads=1, workers=1, fingerprint=run.fingerprint, provenance=provenance,
        )
        for run in plan(name).runs()
    }  # fmt: skip
    path = published_records.parquet_file(name, "paper")
    path.parent.mkdir(parents=True)
    published_records.write(path, records, {})


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
    ok, launched, (away, here), said = call()
    assert ok
    assert launched == ["digits/here"]  # not the one without data, nor the one that is not quick
    assert f"**{FROM_RESULTS}**" in away
    assert "87.50" in away
    assert "Not run here" not in here
    (line,) = said
    assert line.startswith("digits/away: x.csv: neither in a mirror")
    assert "RETABLE_MIRROR" in line


def test_without_published_records_it_says_so_and_is_not_well(quick):
    ok, _, (away, _), _ = call()
    assert not ok
    assert f"**{NOWHERE}**" in away


def test_a_failed_run_is_not_well(quick):
    published("digits/away")
    assert not call(launches=False)[0]
