"""Records: what is kept, what is refused, what equality means."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from retable.runs import records
from retable.runs.history import history_text
from retable.runs.records import Provenance, RecordError, ResultRow, Status
from retable.util import atomic
from support.records import plain_record

KEY = "a" * 64
PROVENANCE = Provenance(
    commit=None, dirty=None, packages="p", python="3", torch="2", cpu="c", cores=1
)


def record(**changes):
    values = {
        "key": KEY,
        "config": {"paper": "digits"},
        "results": [ResultRow(metric="test/loss", value=0.1 + 0.2)],
        "fingerprint": "f",
        "provenance": PROVENANCE,
    }
    return plain_record(**{**values, **changes})


@pytest.fixture
def folder(tmp_path):
    path = records.run_folder(tmp_path, "digits", KEY)
    (path / "attempts" / "1").mkdir(parents=True)
    return path


def attempt(folder, number=1, **changes):
    path = folder / "attempts" / str(number)
    path.mkdir(exist_ok=True)
    return records.write_attempt(path, record(attempt=number, **changes))


def test_round_trip_keeps_every_bit(folder):
    made = record(best_epoch=0, resumed_from_epoch=0, timing_metrics=["test/time"])
    text = records.dump(made)
    assert records.parse(text, "x") == made
    assert records.parse(text.encode(), "x").results[0].value == 0.1 + 0.2
    assert text.startswith('{"version":1,')
    assert text.endswith("}\n")


def test_a_newer_version_is_refused_with_what_to_do(folder):
    content = {**json.loads(records.dump(record())), "version": 2, "something": "new"}
    (folder / "record.json").write_text(json.dumps(content))
    with pytest.raises(records.NewerRecord, match=r"record.json: record of version 2.*update"):
        records.read(folder / "record.json")
    said = []
    assert records.read_run(folder, said.append) is None
    assert len(said) == 1
    assert str(folder / "record.json") in said[0]
    assert "update" in said[0]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b"{}",
        b'{"version": 1',
        b'{"version": 1, "key": "a"}',
        "truncated",
        "nan",
        "status",
        "extra",
        "infinite",
        "infinite in the config",
        "negative time",
        "text for a number",
        "long",
        "binary",
    ],
)
def test_a_broken_file_is_skipped_by_name(folder, damage):
    good = attempt(folder, 1, status=Status.FAILED, error="first")
    text = good.read_text()
    broken = {
        "truncated": text[: len(text) // 2].encode(),
        "nan": text.replace('"wall_s":1.0', '"wall_s":"x"').encode(),
        "status": text.replace('"failed"', '"fine"').encode(),
        "extra": text.replace('"seed":0', '"seed":0,"sead":0').encode(),
        "infinite": text.replace('"wall_s":1.0', '"wall_s":1e999').encode(),
        "infinite in the config": text.replace('"config":{', '"config":{"z":[NaN],').encode(),
        "text for a number": text.replace('"wall_s":1.0', '"wall_s":"1.0"').encode(),
        "negative time": text.replace('"wall_s":1.0', '"wall_s":-1.0').encode(),
        "long": text.replace('"attempt":1', f'"attempt":1{"0" * 40}').encode(),
        "binary": text.replace('"seed"', '"\x1b[31m\\u001b"').encode(),
    }.get(damage, damage)
    (folder / "record.json").write_bytes(broken)
    said = []
    found = records.read_run(folder, said.append)
    assert found.error == "first", "the attempt's record stands in for it"
    assert len(said) == 1
    assert said[0].startswith(f"{folder / 'record.json'}: ")
    assert said[0].endswith("skipped")
    assert said[0].isprintable()


def test_only_numbers_are_attempts(folder):
    for name in ("²", "٣", "x", "1.5"):
        (folder / "attempts" / name).mkdir(parents=True)
    good = attempt(folder, 1, status=Status.FAILED, error="first")
    assert records.attempts(folder) == [good.parent]
    assert records.read_run(folder, pytest.fail).error == "first"


def test_attempts_that_are_removed_while_they_are_listed_are_none(folder, monkeypatch):
    """By `retable clean`, say, while a table is collected."""
    attempt(folder, 1, status=Status.FAILED, error="first")
    listed = Path.iterdir

    def removed_just_before(path: Path) -> Iterator[Path]:
        shutil.rmtree(path)
        return listed(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", removed_just_before)
        assert records.attempts(folder) == []
    (folder / "attempts").touch()
    assert records.attempts(folder) == []


def test_a_record_that_cannot_be_read_is_said_so(folder):
    (folder / "record.json").mkdir()
    said = []
    assert records.read_run(folder, said.append) is None
    assert "cannot be read (Is a directory)" in said[0]


def test_the_record_of_another_run_is_refused(folder):
    for place in (folder, folder / "attempts" / "1"):
        (place / "record.json").write_text(records.dump(record(key="b" * 64)))
    said = []
    assert records.read_run(folder, said.append) is None
    assert len(said) == 2
    assert all("belongs to another run (bbbbbbbbbbbb)" in text for text in said)


def test_published_speaks_first_then_the_newest_attempt(folder):
    assert records.read_run(folder, pytest.fail) is None
    for number in (1, 2, 9, 10):
        attempt(folder, number, status=Status.FAILED, error=str(number))
    (folder / "attempts" / "11").mkdir()  # still going on
    (folder / "attempts" / ".hidden").mkdir()
    assert [p.name for p in records.attempts(folder)] == ["11", "10", "9", "2", "1"]
    assert records.read_run(folder, pytest.fail).error == "10"
    done = attempt(folder, 2)
    assert records.publish(done, folder)
    assert records.read_run(folder, pytest.fail).attempt == 2


def test_publishing_refuses_a_second(folder):
    assert records.publish(attempt(folder, 1), folder)
    assert not records.publish(attempt(folder, 2, seed=7), folder)
    assert records.read_run(folder, pytest.fail).seed == 0


def test_limits():
    rows = [ResultRow(metric="m", step=k, value=k / 7) for k in range(201)]
    assert len(records.dump(record(results=rows[:200]))) < records.MAX_BYTES
    with pytest.raises(RecordError, match="200 results, this one has 201"):
        records.dump(record(results=rows))
    with pytest.raises(RecordError, match=r"record of \d+ bytes; at most 20000"):
        records.dump(record(error="e" * 20_000))


def test_equality_is_about_substance():
    one = record(
        results=[ResultRow(metric="a", value=1), ResultRow(metric="s", value=2)],
        timing_metrics=["s"],
        weights_sha256="w",
        history_sha256="h",
    )
    same = structs.replace(
        one,
        results=[ResultRow(metric="a", value=1), ResultRow(metric="s", value=9)],
        attempt=5,
        wall_s=99.0,
        resumed_from_epoch=3,
        started="later",
    )
    assert one.substance() == same.substance()
    for change in (
        {"weights_sha256": "x"},
        {"history_sha256": "x"},
        {"timing_metrics": []},
        {"results": [ResultRow(metric="a", value=1.0000000000000002), one.results[1]]},
        {"results": [ResultRow(metric="a", value=1, step=0), one.results[1]]},
        {"results": [ResultRow(metric="a", value=1, result_row="r"), one.results[1]]},
    ):
        assert structs.replace(same, **change).substance() != one.substance(), change


def test_value_needs_the_whole_address():
    made = record(results=[ResultRow(metric="a", value=1), ResultRow(metric="a", step=1, value=2)])
    assert (made.value("a"), made.value("a", step=1), made.value("a", "row")) == (1, 2, None)


def test_history_text_is_canonical():
    rows = [{"epoch": 0, "b": 1.5, "a": 2.0}, {"epoch": 1}]
    assert history_text(rows) == '{"a":2.0,"b":1.5,"epoch":0}\n{"epoch":1}\n'
    assert records.text_sha256(history_text(reversed(rows))) != records.text_sha256(
        history_text(rows)
    )
    with pytest.raises(ValueError):
        history_text([{"a": float("nan")}])


def test_writing_is_atomic(folder, monkeypatch):
    path = attempt(folder)
    before = path.read_bytes()
    synced = []
    real_sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real_sync(fd)))

    def killed(self, target):
        assert synced, "renamed before it was durable"
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_atomic(path, "new")
    assert path.read_bytes() == before
    monkeypatch.undo()
    atomic.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["record.json"], "a temporary was left"
    with pytest.raises(FileNotFoundError):
        atomic.write_atomic(folder / "nowhere" / "file", "x")


def test_a_temporary_of_a_killed_writer_is_not_taken_for_a_record(folder):
    (folder / ".record.json.abc.tmp").write_text(records.dump(record()))
    assert records.read_run(folder, pytest.fail) is None
