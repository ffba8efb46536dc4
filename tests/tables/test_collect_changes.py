"""Collecting with an index while files change, by several at once, and in any order."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from retable.runs import index, records
from retable.runs.records import Status
from retable.tables.aggregate import build
from retable.tables.collect import from_runs
from retable.tables.grid import Grid
from retable.util.errors import UserError
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
from support.index import TABLE, changed, finish, overwrite, record_for, table
from support.records import leave


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


@pytest.mark.slow
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
    assert all(count > 1 and wrong == 0 for count, wrong in ended), ended
    same_as_the_files(grid)


@pytest.mark.slow
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


@pytest.mark.slow
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
