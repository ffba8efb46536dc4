"""Records as columns say what the records say, and one by one they are read only when asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from retable.runs import records
from retable.runs.record_parts import Stretch
from retable.runs.record_set import Found
from retable.runs.records import Status
from retable.tables import collect
from retable.tables.aggregate import build, provenance_of
from support.index import finish, record_for, table
from support.records import PROVENANCE, config_of, record_of

PLACE = ("a", "", None)


def made(n: int = 6) -> dict:
    statuses = [Status.DONE, Status.FAILED, Status.DONE, Status.DIVERGED, Status.TIMEOUT]
    return {
        f"k{i}": record_of(
            config_of(i),
            {"a": i / 3} if i != 2 else {},
            status=statuses[i % 5],
            fingerprint="old" if i == 0 else "new",
            device="cuda" if i == 5 else "cpu",
            wall_s=float(i),
            started=f"2026-01-0{1 + i % 2}T00:00:00+00:00",
        )
        for i in range(n)
    }


def test_columns_of_records():
    mapping = made()
    found = Found.of(mapping, [PLACE])
    numbers = found.numbers(["k5", "nobody", "k0", "k1", "k2"])
    assert numbers.tolist() == [5, -1, 0, 1, 2]
    assert found.done(numbers).tolist() == [True, False, True, False, True]
    assert found.status_is(numbers, Status.FAILED).tolist() == [False, False, False, True, False]
    values = found.at(numbers, PLACE)
    assert [values[0], values[2]] == [5 / 3, 0.0]
    # No record, not done, no number: none of them is a number.
    assert all(math.isnan(values[n]) for n in (1, 3, 4))
    assert {about.fingerprint for about in found.abouts(numbers[[2, 4]])} == {"old", "new"}
    assert found.lost(numbers).tolist() == [1]
    assert dict(found) == mapping
    assert found == mapping


def test_nothing_found():
    found = Found.of({}, [PLACE])
    numbers = found.numbers(["k0", "k1"])
    assert not found.done(numbers).any()
    assert not found.status_is(numbers, Status.FAILED).any()
    assert np.isnan(found.at(numbers, PLACE)).all()
    assert (len(found), list(found), "k0" in found, found.get("k0")) == (0, [], False, None)
    assert found.abouts(found.lost(numbers)) == []
    assert found.circumstances().runs == 0


def test_what_is_asked_for_twice_stays_and_other_numbers_are_looked_up():
    found = Found.of(made(), [PLACE])
    assert Found.of(found, [PLACE]) is found
    assert Found.of(found) is found
    other = Found.of(found, [("b", "", None)])
    assert other is not found
    assert np.isnan(other.columns.values).all()


def test_some_of_them():
    found = Found.of(made(), [PLACE])
    some = found.only(np.array([4, 1, 4]))
    assert list(some) == ["k1", "k4"]
    assert "k0" not in some
    with pytest.raises(KeyError):
        some["k0"]
    assert some["k4"] is found["k4"]
    assert found.only(np.arange(6)) is found


def test_circumstances_are_those_of_each_record():
    mapping = made()
    mapping["k1"] = record_of(
        config_of(1),
        threads=4,
        workers=2,
        provenance=structs.replace(PROVENANCE, commit=None, dirty="d" * 64),
    )
    about = Found.of(mapping).circumstances()
    assert about.runs == 6
    assert about.wall_s == sum(r.wall_s for r in mapping.values())
    assert about.commits == [None, "c"]
    assert about.dirty
    assert about.accelerators == [None]  # on a device whose name is not known
    assert (about.threads, about.workers) == ([1, 4], [1, 2])
    assert about.days == ["2026-01-01", "2026-01-02"]
    assert not Found.of(made()).circumstances().dirty


def test_circumstances_are_those_of_earlier_epochs_too():
    began = Stretch(
        provenance=structs.replace(PROVENANCE, cpu="before"), threads=1, workers=1, alone=False
    )
    mapping = made()
    mapping["k1"] = record_of(config_of(1), alone=True, earlier=[began])
    found = Found.of(mapping)
    assert found.circumstances().begun == ["cpu before, not alone"]
    (about,) = found.abouts(found.numbers(["k1"]))
    assert not about.alone
    assert Found.of(made()).circumstances().begun == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(Status)), st.floats(0, 9) | st.none()), max_size=12))
def test_done_values_are_those_of_the_done_records(runs):
    mapping = {
        f"k{i}": record_of(config_of(i), {} if value is None else {"a": value}, status=status)
        for i, (status, value) in enumerate(runs)
    }
    found = Found.of(mapping, [PLACE])
    values = found.at(found.numbers(mapping), PLACE)
    expected = [
        value if status is Status.DONE and value is not None else math.nan for status, value in runs
    ]
    assert [repr(v) for v in values.tolist()] == [repr(float(v)) for v in expected]


def test_collected_records_are_read_when_they_are_asked_for(runs, monkeypatch):
    monkeypatch.setattr(collect, "MANY", 10)
    grid = table()
    (first, *_) = finish(grid, runs)
    found = collect.from_runs(grid, pytest.fail)
    read: list[object] = []
    plain = records.read_with_stat
    monkeypatch.setattr(records, "read_with_stat", lambda path: read.append(path) or plain(path))
    whole = build(grid, found)
    assert provenance_of(whole).runs == 20
    assert first.key in whole.records
    assert len(whole.records) == 20
    assert read == []  # a table with a hundred thousand of them could not wait for it
    assert whole.records[first.key] == record_for(first, 0.0)
    assert read == [str(first.folder / "record.json")]
