"""What runs start from is published beside their records, so that others can go on from there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from retable.launch import redo
from retable.launch.dispatch import launch
from retable.report import publish
from retable.report.restore import restore
from retable.runs import published_starts, start_files, starts
from retable.runs.lookup import find
from retable.runs.published_records import parquet_file
from retable.tables.grid import plan
from retable.util import paths
from retable.util.errors import UserError
from support.runs import record_of

FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf"
TABLE = """\
paper: digits
title: Accuracy of a new last layer
source: {paper_ref: "Table 2", own: true}
metrics: {accuracy: {key: test/accuracy, direction: max, margin: 1.0}}
seeds: {smoke: 2}
columns: {accuracy: {metric: accuracy, experiment: {smoke: digits/averaged}}}
rows: {slow: [model.optimizer.lr=0.01], fast: [model.optimizer.lr=0.1]}
"""
EXPERIMENT = """\
# @package _global_
defaults: [/experiment/digits/smoke]
model: {_target_: retable.papers.digits.averaged.Averaged}
start:
  run:
    experiment: digits/smoke
    overrides: [model._target_=retable.papers.digits.averaged.Averaged]
"""
NAME = "digits/averages"


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """A table of four runs that start from two, and results of its own."""
    files = {FOLDER / "table" / f"{NAME}.yaml": TABLE}
    files[FOLDER / "experiment" / "digits" / "averaged.yaml"] = EXPERIMENT
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    yield plan(NAME, "smoke")
    for file in files:
        file.unlink()


def published(grid):
    return sorted(published_starts.folder_of(NAME, grid.protocol).glob("*"))


@pytest.mark.slow
def test_restored_it_is_started_from_as_if_it_had_been_done_here(grid, runs, fake):
    assert launch(list(grid.runs())).done == 6
    everyone = {run.key: record_of(run).substance() for run in grid.runs()}
    publish.publish(grid)
    parents = sorted({run.parent.key for run in grid.runs() if run.parent})
    assert [file.stem for file in published(grid)] == parents
    assert publish.written(NAME, "smoke").endswith(
        "averages-smoke.md, averages-smoke.parquet, averages-smoke.starts/ (2 files)"
    )
    before = [file.read_bytes() for file in published(grid)]
    shutil.rmtree(runs)
    assert restore(grid).written == 6
    # A child that is deleted is done again from what was restored, to the same bits.
    child = next(run for run in grid.runs() if run.parent)
    shutil.rmtree(child.folder)
    fake.log.clear()
    assert launch([child]).done == 1
    assert [run.key for run in fake.log] == [child.key]
    assert record_of(child).substance() == everyone[child.key]
    start, taken = starts.read_start(child)
    assert sorted(start.artifacts) == list(taken.artifacts) == ["average"]
    assert [row["epoch"] for row in start.history] == [0]
    assert redo.verify(find(child.key)).comparison.kind == "bitwise equal"
    # Published again, from there, nothing has changed; also where it is not here any more.
    publish.publish(grid)
    assert [file.read_bytes() for file in published(grid)] == before
    for file in child.parent.folder.glob("attempts/*/start.safetensors"):
        file.unlink()
    assert "whose weights are not here" in starts.obstacle(child)
    publish.publish(grid)
    assert [file.read_bytes() for file in published(grid)] == before


@pytest.mark.slow
def test_what_is_large_or_not_needed_is_left_out(grid, fake, monkeypatch, capsys):
    launch(list(grid.runs()))
    publish.publish(grid)
    size = max(file.stat().st_size for file in published(grid))
    stray = published_starts.folder_of(NAME, "smoke") / f"{'0' * 64}.safetensors"
    stray.write_bytes(b"")
    monkeypatch.setattr(published_starts, "MAX_ALL_BYTES", size + 10)
    publish.publish(grid)
    assert len(published(grid)) == 1
    assert capsys.readouterr().err.count("is too large to be published") == 1
    monkeypatch.setattr(published_starts, "MAX_BYTES", size - 10)
    publish.publish(grid)
    assert not published_starts.folder_of(NAME, "smoke").exists()
    assert parquet_file(NAME, "smoke").exists()


def test_a_broken_file_is_named(tmp_path):
    file = tmp_path / "x.safetensors"
    for content in (b"", b"no", b"\x08\0\0\0\0\0\0\0{}      "):
        file.write_bytes(content)
        if content.endswith(b"{}      "):
            assert start_files.read(file).weights == {}
            continue
        with pytest.raises(UserError, match=r"x\.safetensors: cannot be read"):
            start_files.read(file)
    with pytest.raises(UserError, match="cannot be read"):
        start_files.read(tmp_path / "gone")


@pytest.mark.slow
def test_what_was_altered_is_not_taken(grid, runs, fake):
    launch(list(grid.runs()))
    publish.publish(grid)
    child = next(run for run in grid.runs() if run.parent)
    other = next(run for run in grid.runs() if run.key != child.parent.key and not run.parent)
    file = published_starts.file_of(NAME, "smoke", child.parent.key)
    file.write_bytes(published_starts.file_of(NAME, "smoke", other.key).read_bytes())
    shutil.rmtree(runs)
    restore(grid)
    with pytest.raises(UserError, match="are not the recorded ones"):
        starts.read_start(child)
