"""Collecting with an index says exactly what the files say, whatever happens to either."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from index_support import TABLE, changed, finish, overwrite, record_for, table
from records_support import leave
from retable import bulk, index, records
from retable.errors import UserError
from retable.records import Record, Status
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.collect import from_runs
from retable.tables.found import Found
from retable.tables.grid import Grid


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    """As if the table's twenty runs were a hundred thousand that finished long ago."""
    monkeypatch.setattr(collect, "MANY", 10)
    monkeypatch.setattr(collect, "_NEWS", 1)
    monkeypatch.setattr(index, "_SETTLED_NS", 0)


@pytest.fixture
def grid() -> Grid:
    return table()


@pytest.fixture
def file(runs) -> Path:
    return index.file_of(runs, "digits/many", "paper")


class Readings:
    """Which runs' records are read, not taken from the index."""

    def __init__(self, monkeypatch) -> None:
        self.keys: list[str] = []
        read = bulk.read

        def noted(base, keys, places):
            self.keys += keys
            return read(base, keys, places)

        monkeypatch.setattr(bulk, "read", noted)

    def taken(self) -> list[str]:
        """Since it was asked the last time."""
        keys, self.keys = self.keys, []
        return keys


@pytest.fixture
def readings(monkeypatch) -> Readings:
    return Readings(monkeypatch)


def tick() -> None:
    """Let the file system's clock go on, so that what was written before is settled."""
    time.sleep(0.02)


def plainly(grid: Grid) -> tuple[list[object], dict[str, Record], list[str]]:
    """Cells, records and warnings without an index."""
    said: list[str] = []
    read = {run.key: records.read_run(run.folder, said.append) for run in grid.runs()}
    found = {key: record for key, record in read.items() if record}
    return list(build(grid, found).cells.values()), found, said


def same_as_the_files(grid: Grid) -> Found:
    """Collect, and compare all there is to compare with what the files say."""
    tick()
    said: list[str] = []
    found = from_runs(grid, said.append)
    cells, expected, warnings = plainly(grid)
    assert list(build(grid, found).cells.values()) == cells
    assert sorted(said) == sorted(warnings)
    assert set(found) == set(expected)
    assert all(found[key] == record for key, record in expected.items())
    return found


def test_what_was_read_once_is_not_read_again(grid, runs, readings, file):
    made = finish(grid, runs)
    same_as_the_files(grid)
    assert readings.taken() == [run.key for run in made]
    assert file.is_file()
    written = file.stat().st_mtime_ns
    same_as_the_files(grid)
    assert readings.taken() == []
    assert file.stat().st_mtime_ns == written


def test_few_runs_have_no_index(grid, runs, file, monkeypatch):
    monkeypatch.setattr(collect, "MANY", 21)
    finish(grid, runs)
    assert len(same_as_the_files(grid)) == 20
    assert not file.parent.parent.exists()


def test_added_changed_and_removed(grid, runs, readings):
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
    assert build(other, found).cells["fast", "loss"].marks == ["partial 0/10"]
    same_as_the_files(grid)  # and back
    assert len(readings.taken()) == 20


def test_only_what_is_asked_for_is_read_and_the_rest_stays(runs, readings, file):
    small, large = table(5), table(20)
    finish(large, runs)
    same_as_the_files(small)
    assert len(readings.taken()) == 10  # not the other thirty that lie there too
    same_as_the_files(large)
    assert len(readings.taken()) == 30
    for grid in (small, large, small):
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


def test_a_file_that_changes_while_it_is_collected(grid, runs, monkeypatch):
    """The old or the new number now, and the new one the next time."""
    made = finish(grid, runs)
    tick()
    target = made[6].folder / "record.json"
    record = records.read(target)
    assert record is not None
    read = os.read

    def meddle(handle: int, n: int) -> bytes:
        data = read(handle, n)
        if os.path.samestat(os.fstat(handle), target.stat()):
            overwrite(target, changed(record, 0.21875))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", meddle)
        found = from_runs(grid, pytest.fail)
    place = ("test/accuracy", "", None)
    assert found.at(found.numbers([made[6].key]), place).tolist() in ([0.09375], [0.21875])
    overwrite(target, changed(record, 0.34375))
    found = same_as_the_files(grid)
    assert found.at(found.numbers([made[6].key]), place).tolist() == [0.34375]


def test_a_file_that_changes_after_it_was_collected(grid, runs):
    """A record that is asked for later is the one that was collected, or it is refused."""
    made = finish(grid, runs)
    same_as_the_files(grid)
    found = from_runs(grid, pytest.fail)
    record = found[made[2].key]
    assert record.results[0].value == 2 / 64
    overwrite(made[2].folder / "record.json", changed(record, 0.21875))
    (made[3].folder / "record.json").unlink()
    for number in (2, 3):
        with pytest.raises(UserError, match="changed while it was collected; ask again"):
            found[made[number].key]
    assert found[made[4].key].seed == made[4].config.seed


def _collect(grid: Grid, stop: float, out) -> None:
    count = wrong = 0
    while time.time() < stop:
        found = build(grid, from_runs(grid, lambda _: None))
        cell = found.cells["slow", "accuracy"]
        # The two numbers of a record are written together: none may come from another moment.
        for seed, value in cell.values.items():
            other = found.cells["slow", "loss"].values[seed]
            wrong += abs(value / 100 + other - 1) > 1e-9
        count += 1
    out.put((count, wrong))


def test_two_collectors_at_once_while_records_change(grid, runs):
    made = finish(grid, runs)
    queue = multiprocessing.get_context("fork").Queue()
    begin = multiprocessing.get_context("fork").Process
    stop = time.time() + 2.0
    both = [begin(target=_collect, args=(grid, stop, queue)) for _ in range(2)]
    for process in both:
        process.start()
    rng = random.Random(0)
    while time.time() < stop:
        run = rng.choice(made)
        shutil.rmtree(run.folder / "attempts")
        (run.folder / "record.json").unlink(missing_ok=True)
        leave(runs, record_for(run, rng.random()))
    ended = [queue.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert all(count > 3 and wrong == 0 for count, wrong in ended), ended
    same_as_the_files(grid)


def test_whatever_happens_in_any_order(grid, runs, file, readings):
    """A hundred random changes to records and index, each followed by a comparison."""
    rng = random.Random(7)
    made = finish(grid, runs)
    value = iter(n / 4096 for n in range(1, 4096))
    for _ in range(100):
        run = rng.choice(made)
        own = run.folder / "record.json"
        match rng.randrange(9):
            case 0:
                shutil.rmtree(run.folder, ignore_errors=True)
            case 1:
                leave(runs, record_for(run, next(value)))
            case 2:
                own.unlink(missing_ok=True)
            case 3 if own.is_file():
                own.write_bytes(rng.choice([b"", b"{", own.read_bytes()[:-9]]))
            case 4 if own.is_file() and own.stat().st_size > 100:
                own.write_text(own.read_text().replace('"version":1', '"version":2'))
            case 5:
                status = rng.choice([Status.FAILED, Status.DIVERGED])
                attempt = rng.randint(1, 12)
                leave(runs, record_for(run, next(value), status=status, attempt=attempt))
            case 6:
                file.unlink(missing_ok=True)
            case 7 if file.is_file():
                file.write_bytes(file.read_bytes()[: rng.randrange(3000)])
            case _:
                run.folder.mkdir(parents=True, exist_ok=True)
                own.unlink(missing_ok=True)
                records.write_attempt(run.folder, record_for(run, next(value)))
        same_as_the_files(grid)
    assert len(readings.taken()) < 100 * 20 / 2  # it was the index that was tried


def test_the_commands_say_the_same_with_an_index(runs, retable):
    """In processes of their own, with more runs than an index needs."""
    extra = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "many.yaml"
    grid = table(600)
    made = finish(grid, runs)
    (made[8].folder / "record.json").write_text("{}")
    extra.write_text(TABLE.format(seeds=600, row="last"), encoding="utf-8")
    try:
        time.sleep(2.2)  # so that they are old enough to be kept
        first = retable("table", "digits/many", "--json")
        assert index.file_of(runs, "digits/many", "paper").is_file()
        again = retable("table", "digits/many", "--json")
        planned = retable("plan", "digits/many", "--json")
    finally:
        extra.unlink()
    assert first.stdout == again.stdout
    assert first.stderr == again.stderr
    assert str(made[8].folder) in first.stderr
    assert json.loads(planned.stdout)["runs"]["done"] == 1199
    cells = json.loads(first.stdout)["cells"]
    assert sum(cell["n"] for cell in cells) == 4 * 600 - 2
    expected = build(grid, plainly(grid)[1]).cells.values()
    assert [cell["mean"] for cell in cells] == [cell.mean for cell in expected]
