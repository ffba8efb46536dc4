"""Collecting with an index says exactly what the files say, whatever happens to either."""

from __future__ import annotations

import errno
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from retable.runs import index, records
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.collect import from_runs
from retable.tables.grid import plan
from retable.util import paths
from support.collect import (  # noqa: F401 - fixtures
    Readings,
    _few_are_many,
    file,
    grid,
    plainly,
    readings,
    same_as_the_files,
    tick,
)
from support.index import changed, finish, overwrite, record_for, table
from support.records import leave


def test_what_was_read_once_is_not_read_again(grid, runs, readings, file):
    made = finish(grid, runs)
    same_as_the_files(grid)
    assert readings.taken() == [run.key for run in made]
    assert file.is_file()
    written = file.stat().st_mtime_ns
    same_as_the_files(grid)
    assert readings.taken() == []
    assert file.stat().st_mtime_ns == written


def test_where_nothing_has_run_nothing_is_read(grid, runs, readings):
    assert len(same_as_the_files(grid)) == 0
    assert readings.taken() == []


def test_few_runs_have_no_index(grid, runs, file, monkeypatch):
    monkeypatch.setattr(collect, "MANY", 21)
    finish(grid, runs)
    assert len(same_as_the_files(grid)) == 20
    assert not file.parent.parent.exists()


def test_added_changed_and_removed(grid, runs, readings, file):
    made = finish(grid, runs)
    shutil.rmtree(made[3].folder)
    same_as_the_files(grid)
    readings.taken()
    leave(runs, record_for(made[3], 0.875))  # added
    (made[5].folder / "record.json").unlink()  # replaced, as refresh does
    shutil.rmtree(made[5].folder / "attempts")
    leave(runs, record_for(made[5], 0.125, attempt=2))
    shutil.rmtree(made[7].folder)  # removed
    found = same_as_the_files(grid)
    assert made[7].key not in found
    assert sorted(readings.taken()) == sorted(made[n].key for n in (3, 5, 7))
    same_as_the_files(grid)
    assert readings.taken() == [made[7].key]  # it may have come back
    known = index.load(file, [])
    assert known is not None
    assert len(known.keys) == len(set(known.keys)) == 20  # each once


def test_changed_in_place_with_the_same_size_time_and_inode(grid, runs):
    made = finish(grid, runs)
    before = same_as_the_files(grid)
    old = before[made[4].key]
    assert old.results[0].value == 0.0625
    overwrite(made[4].folder / "record.json", changed(old, 0.1875))
    found = same_as_the_files(grid)
    assert found[made[4].key].results[0].value == 0.1875


@pytest.mark.parametrize("settled_ns", [2_000_000_000])
def test_changed_within_the_clock_s_tick_after_it_was_read(grid, runs, monkeypatch, settled_ns):
    """What is young is never kept, because the next change may leave it with the same times."""
    monkeypatch.setattr(index, "_SETTLED_NS", settled_ns)
    (run, *_) = finish(grid, runs)
    for value in (0.125, 0.375, 0.625, 0.875):
        file = run.folder / "record.json"
        record = records.read(file)
        assert record is not None
        file.write_text(changed(record, value))
        found = from_runs(grid, pytest.fail)
        assert found.at(found.numbers([run.key]), ("test/accuracy", "", None)) == [value]


def test_a_broken_record_is_named_each_time_and_never_shown(grid, runs, readings):
    made = finish(grid, runs)
    same_as_the_files(grid)
    for run, text in zip(made, ("", "{}", "[]", '{"version":2}', "\0"), strict=False):
        (run.folder / "record.json").write_text(text)
        shutil.rmtree(run.folder / "attempts")
    for _ in range(3):
        readings.taken()
        found = same_as_the_files(grid)
        assert len(found) == 15
        assert sorted(readings.taken()) == sorted(run.key for run in made[:5])


def test_a_record_of_a_newer_version_is_refused_by_name_each_time(grid, runs):
    made = finish(grid, runs)
    same_as_the_files(grid)
    file = made[2].folder / "record.json"
    file.write_text(file.read_text().replace('"version":1', '"version":2'))
    shutil.rmtree(made[2].folder / "attempts")
    for _ in range(2):
        said: list[str] = []
        tick()
        assert made[2].key not in from_runs(grid, said.append)
        assert len(said) == 1
        assert f"{file}: record of version 2" in said[0]


def test_runs_that_ended_otherwise(grid, runs, readings):
    for number, run in enumerate(grid.runs()):
        status = list(Status)[number % len(Status)]
        leave(runs, record_for(run, number / 64, status=status))
    same_as_the_files(grid)
    readings.taken()
    found = same_as_the_files(grid)
    assert readings.taken() == []
    made = build(grid, found)
    assert made.n_failed == 16
    assert len(made.lost) == 16
    assert {r.status for r in made.lost.values()} == set(Status) - {Status.DONE}


DAMAGES = {
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:30]),
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(random.Random(0).randbytes(5000)),
    "a text": lambda file: file.write_text("key,value\n"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "its folder gone": lambda file: shutil.rmtree(file.parent.parent),
    "one bit": lambda file: file.write_bytes(
        (data := file.read_bytes())[:900] + bytes([data[900] ^ 1]) + data[901:]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_costs_time_only(grid, runs, file, readings, damage):
    made = finish(grid, runs)
    same_as_the_files(grid)
    readings.taken()
    DAMAGES[damage](file)
    if damage != "a folder":
        same_as_the_files(grid)
        assert len(readings.taken()) == len(made)
        same_as_the_files(grid)
        assert readings.taken() == []
        return
    said: list[str] = []
    found = from_runs(grid, said.append)
    assert build(grid, found).cells == build(grid, plainly(grid)[1]).cells
    assert len(said) == 1
    assert "cannot be written" in said[0]


def test_an_index_of_other_runs_shows_nothing_of_them(grid, runs, file):
    """A whole folder of runs copied to another place brings its index along."""
    made = finish(grid, runs)
    same_as_the_files(grid)
    saved = file.read_bytes()
    shutil.rmtree(runs)
    for number, run in enumerate(made):
        leave(runs, record_for(run, 1 - number / 64))
    file.parent.mkdir(parents=True)
    file.write_bytes(saved)
    same_as_the_files(grid)


def test_where_nothing_can_be_written(grid, runs, file, monkeypatch):
    finish(grid, runs)
    monkeypatch.setattr(Path, "mkdir", _refuse(errno.EROFS, Path.mkdir, "_index"))
    assert len(same_as_the_files(grid)) == 20
    assert not file.exists()


def test_where_there_is_no_space(grid, runs, file, monkeypatch):
    finish(grid, runs)
    monkeypatch.setattr(index, "write_atomic", _refuse(errno.ENOSPC, None, ""))
    said: list[str] = []
    tick()
    found = from_runs(grid, said.append)
    assert len(found) == 20
    assert said == [
        f"{file}: cannot be written (No space left on device); the next time is as slow"
    ]
    assert list(file.parent.iterdir()) == []


def _refuse(number: int, otherwise, part: str):
    def refuse(path, *args, **options):
        if part in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return otherwise(path, *args, **options)

    return refuse


def test_another_number_of_the_table_is_read_from_the_files(grid, runs, readings):
    finish(grid, runs)
    same_as_the_files(grid)
    readings.taken()
    other = table(row="first")  # the table file was edited
    found = same_as_the_files(other)
    assert len(readings.taken()) == 20
    assert build(other, found).cells["fast", "loss"].marks == ["partial 0/10", "not recorded"]
    same_as_the_files(grid)  # and back
    assert len(readings.taken()) == 20


def test_only_what_is_asked_for_is_read_and_the_rest_stays(runs, readings, file):
    small, large = table(5), table(20)
    finish(large, runs)
    same_as_the_files(small)
    assert len(readings.taken()) == 10  # not the other thirty that lie there too
    same_as_the_files(large)
    assert len(readings.taken()) == 30
    for again in (small, large, small):
        same_as_the_files(again)
    assert readings.taken() == []


def test_part_of_a_table_costs_the_rest_nothing(grid, runs, readings):
    made = finish(grid, runs)
    same_as_the_files(grid)
    leave(runs, record_for(made[0], 0.25, attempt=2))
    (made[0].folder / "record.json").unlink()
    readings.taken()
    cells = {place: cell for place, cell in grid.cells.items() if place[1] == "accuracy"}
    same_as_the_files(replace(grid, cells=cells))
    assert readings.taken() == [made[0].key]
    same_as_the_files(grid)
    assert readings.taken() == []


def test_runs_that_nobody_asks_for_any_more_are_forgotten(runs, file, monkeypatch):
    large, small = table(60), table(6)
    finish(large, runs)
    same_as_the_files(large)
    run = next(small.runs())
    leave(runs, record_for(run, 0.25, attempt=3))
    (run.folder / "record.json").unlink()
    same_as_the_files(small)
    known = index.load(file, [])
    assert known is not None
    assert len(known.keys) == 12


def test_few_news_are_read_each_time(grid, runs, readings, monkeypatch, file):
    """An index of very many is not written again for one record."""
    made = finish(grid, runs)
    same_as_the_files(grid)
    readings.taken()
    monkeypatch.setattr(collect, "_NEWS", 3)
    written = file.stat().st_mtime_ns
    overwrite(made[0].folder / "record.json", (made[0].folder / "record.json").read_text())
    for _ in range(2):
        same_as_the_files(grid)
        assert readings.taken() == [made[0].key]
    assert file.stat().st_mtime_ns == written


def test_published_runs_that_are_not_planned_any_more_are_counted_and_named(monkeypatch):
    results = Path(__file__).parents[2] / "results"
    monkeypatch.setattr(paths, "results_dir", lambda: results)
    whole = plan("binary_connect/table2", "reduced")
    said: list[str] = []
    published = collect.from_results(whole, said.append)
    assert published
    assert not said
    fewer = plan("binary_connect/table2", "reduced", n_seeds=1, rows=list(whole.spec.rows)[:1])
    left = collect.from_results(fewer, said.append)
    assert left.items() <= published.items()
    (line,) = said
    own = {key for setting, _ in fewer.settings() for key in setting.keys(range(1000))}
    of_seeds = len((published.keys() & own) - left.keys())
    of_settings = len(published.keys() - own)
    assert min(of_seeds, of_settings) > 0
    assert f"{of_seeds} of further seeds and {of_settings} of settings it has not" in line
    first = [key for key in published if key not in left][:3]
    assert f"({', '.join(key[:12] for key in first)}, ...)" in line
