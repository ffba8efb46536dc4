"""Very many records: what is read of each, by how many processes, and what is said of broken."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.runs import records, scan
from retable.runs.columns import NO_STAMP, STATUSES, About, Columns, Place
from retable.runs.records import Record, ResultRow, Status
from retable.runs.scan import value_at
from support.fuzz_mutations import structural, textual
from support.records import config_of, leave, record_of

PLACES: list[Place] = [
    ("a", "", None),
    ("a", "row", 3),
    ("val/a", None, None),
    ("val/a", "", None),
    ("missing", "", None),
]


def of_seed(seed: int, **changes) -> Record:
    numbers = {"a": seed + 0.5, ("a", "row", 3): seed - 0.5}
    return record_of(config_of(seed), numbers, validation={"val/a": seed / 3}, **changes)


def many(runs: Path) -> list[str]:
    """Runs of every kind; returns their keys."""
    rng = random.Random(0)
    keys: list[str] = []
    for seed in range(60):
        made = of_seed(seed)
        keys.append(made.key)
        folder = records.run_folder(runs, "digits", made.key)
        text = records.dump(made)
        match seed % 10:
            case 0:
                continue  # never ran
            case 1:
                for attempt in (1, 2, 10):
                    leave(runs, of_seed(seed, status=Status.FAILED, attempt=attempt))
                (folder / "attempts" / "11").mkdir()  # is running
            case 2:
                leave(runs, of_seed(seed, status=Status.DIVERGED, fingerprint="old"))
            case 3:
                leave(runs, made)
                damaged = structural(rng, json.loads(text))
                (folder / "record.json").write_text(json.dumps(damaged, default=str))
            case 4:
                leave(runs, of_seed(seed, attempt=2))
                (folder / "attempts" / "²").mkdir()
                (folder / "record.json").unlink()
                (folder / "record.json").write_bytes(textual(rng, text, "mark"))
            case 5:
                newer = text.replace('"version":1', '"version":2')
                folder.mkdir(parents=True)
                (folder / "record.json").write_text(newer)
            case 6:
                folder.mkdir(parents=True)
                (folder / "record.json").write_text(text.replace(made.key, "0" * 64))
            case 7:
                (folder / "record.json").mkdir(parents=True)
            case _:
                leave(runs, made)
    return keys


def compared(rows: Columns, runs: Path, keys: list[str]) -> None:
    """Columns say what read_run does of each run, warnings included."""
    said: list[str] = []
    expected = {key: records.read_run(runs / "digits" / key, said.append) for key in keys}
    found = {key: record for key, record in expected.items() if record is not None}
    assert rows.warnings == said
    assert rows.keys == list(found)
    for number, record in enumerate(found.values()):
        assert STATUSES[rows.statuses[number]] == record.status
        assert rows.wall_s[number] == record.wall_s
        assert rows.abouts[rows.about[number]] == About.of(record)
        values = [value_at(record, place) for place in PLACES]
        assert [repr(v) for v in rows.values[number].tolist()] == [repr(v) for v in values]


def test_every_kind_of_run_is_read_as_a_single_one_is(runs):
    keys = many(runs)
    rows = scan.read(str(runs / "digits"), keys, PLACES)
    assert len(rows.warnings) > 15
    compared(rows, runs, keys)
    stamped = dict(zip(rows.keys, rows.stamps.any(axis=1).tolist(), strict=True))
    for key, stamp in stamped.items():
        # What was skipped has to be named the next time too, so it must not be kept.
        assert stamp == (not any(key in warning for warning in rows.warnings))
    assert sum(stamped.values()) >= 24
    slots = dict(zip(rows.keys, rows.slots, strict=True))
    assert [slots[keys[n]] for n in (1, 2, 4, 8)] == [10, 1, 2, 0]


@pytest.mark.parametrize("cores", [1, 2])
def test_in_several_processes_as_in_one(runs, monkeypatch, cores):
    keys = many(runs)
    monkeypatch.setattr(scan, "PARALLEL", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    asked: list[bool] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **kw: asked.append(True) or run(*a, **kw))
    told: list[int] = []
    found = scan.read_all(str(runs / "digits"), keys, PLACES, told.append)
    assert len(asked) == (4 if cores == 2 else 0)
    assert told == ([15, 30, 45, 60] if cores == 2 else [30, 60])
    compared(found, runs, keys)
    whole = scan.read(str(runs / "digits"), keys, PLACES)
    assert found.stamps.tolist() == whole.stamps.tolist()
    assert found.slots.tolist() == whole.slots.tolist()


@pytest.mark.parametrize("command", ["false", "no-such-program", "echo", "cat"])
def test_processes_that_fail_cost_time_only(runs, monkeypatch, command):
    keys = many(runs)
    monkeypatch.setattr(scan, "PARALLEL", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda _, **options: run([command], **options))
    compared(scan.read_all(str(runs / "digits"), keys, PLACES, lambda _: None), runs, keys)


def test_ctrl_c_does_not_read_on(runs, monkeypatch):
    keys = many(runs)
    monkeypatch.setattr(scan, "PARALLEL", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    run, command = subprocess.run, [sys.executable, "-c", "import os; os.kill(os.getpid(), 2)"]
    monkeypatch.setattr(subprocess, "run", lambda _, **options: run(command, **options))
    with pytest.raises(KeyboardInterrupt):
        scan.read_all(str(runs / "digits"), keys, PLACES, lambda _: None)


def test_a_file_that_grows_while_it_is_read_is_not_kept(runs, monkeypatch):
    made = of_seed(1)
    file = leave(runs, made) / "record.json"
    fstat = os.fstat

    def later(handle: int) -> os.stat_result:
        with file.open("a") as out:
            out.write("\n")
        return fstat(handle)

    monkeypatch.setattr(os, "fstat", later)
    rows = scan.read(str(runs / "digits"), [made.key], PLACES)
    assert rows.keys == [made.key]
    assert rows.stamps.tolist() == [list(NO_STAMP)]


rows_of_results = st.lists(
    st.builds(
        ResultRow,
        metric=st.sampled_from(["a", "val/a", "c"]),
        result_row=st.sampled_from(["", "row"]),
        step=st.sampled_from([None, 0, 3]),
        value=st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=12,
)
places = st.lists(
    st.tuples(
        st.sampled_from(["a", "val/a", "c", "d"]),
        st.sampled_from([None, "", "row"]),
        st.sampled_from([None, 0, 3]),
    ),
    unique=True,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(rows_of_results, places)
def test_one_pass_finds_what_looking_at_each_place_does(results, wanted):
    record = record_of(config_of(), results=results, validation={"val/a": 2.0, "d": -1.0})
    found = scan._Wanted(wanted).of(record)
    assert [repr(v) for v in found] == [repr(value_at(record, place)) for place in wanted]


def test_a_place_of_the_validation_is_none_of_the_results():
    record = record_of(config_of(), {"val/a": 7.0}, validation={"val/a": 2.0})
    assert value_at(record, ("val/a", None, None)) == 2.0
    assert value_at(record, ("val/a", "", None)) == 7.0
    assert math.isnan(value_at(record, ("val/b", None, None)))
