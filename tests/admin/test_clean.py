"""Freeing disk space: what goes, what stays, and that results are untouched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from retable.admin import clean
from retable.admin.clean import CATEGORIES, remove, survey
from retable.launch.dispatch import launch
from retable.launch.worker import Exit, perform
from retable.runs import records
from retable.runs.lease import Lease
from retable.runs.records import Status
from retable.util import paths
from support.clean import age, cache, cleaned, failed, finished, held, save, tree  # noqa: F401
from support.job import (
    LAUNCHED,
    StopAfter,
    written,
)
from support.runs import record_of

BASE = {"experiment": "digits/base"}
SMALL = ("data.train_size=200",)


def test_a_finished_run_keeps_its_record_and_last_checkpoint(runs, cache):
    run = written("trainer.max_epochs=3", *SMALL, **BASE)
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    before = tree(run.folder)
    assert cleaned(runs, cache) == [("checkpoints", "attempts/1/checkpoints/epoch=000002.ckpt")]
    after = tree(run.folder)
    del before["attempts/1/checkpoints/epoch=000002.ckpt"]
    assert after == before
    assert launch([run]).skipped == 1
    assert survey(runs, cache).items == []


def test_an_interrupted_run_keeps_everything_and_goes_on_exactly(
    runs, cache, tmp_path, monkeypatch
):
    run = written(*SMALL, **BASE)
    assert perform(run.folder, LAUNCHED, StopAfter(2)) is Exit.INTERRUPTED
    assert perform(run.folder, LAUNCHED, StopAfter(1)) is Exit.INTERRUPTED
    before = tree(run.folder)
    assert cleaned(runs, cache) == []
    assert tree(run.folder) == before
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    last = record_of(run)
    assert (last.attempt, last.resumed_from_epoch) == (3, 3)
    assert [c for c, _ in cleaned(runs, cache)] == ["attempts", "attempts"]
    assert record_of(run) == last
    assert launch([run]).skipped == 1
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "other"))
    undisturbed = written(*SMALL, **BASE)
    assert perform(undisturbed.folder, LAUNCHED) is Exit.DONE
    assert record_of(undisturbed).substance() == last.substance()


def test_weights_stay_where_only_the_test_was_left_to_do(runs, cache):
    run = written(*SMALL, **BASE)
    # Asked after each of the four epochs, then before the test's only batch.
    assert perform(run.folder, LAUNCHED, StopAfter(5)) is Exit.INTERRUPTED
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert (record_of(run).attempt, record_of(run).resumed_from_epoch) == (2, 4)
    assert not (run.folder / "attempts" / "2" / "checkpoints").exists()
    assert cleaned(runs, cache) == [("checkpoints", "attempts/1/checkpoints/epoch=000003.ckpt")]
    assert (run.folder / "attempts" / "1" / "checkpoints" / "epoch=000004.ckpt").exists()


def test_dead_attempts_of_a_finished_run_go_before_and_after_the_recorded_one(runs, cache):
    folder = finished(runs, attempt=2)
    failed(folder, 1, 1, 2)
    failed(folder, 3)
    assert cleaned(runs, cache, "attempts") == [
        ("attempts", "attempts/1"),
        ("attempts", "attempts/3"),
    ]
    assert [p.name for p in records.attempts(folder)] == ["2"]
    assert sorted(p.name for p in folder.iterdir()) == ["attempts", "record.json"]


def test_only_checkpoints_leaves_the_attempts_with_their_logs(runs, cache):
    folder = finished(runs, attempt=2)
    (failed(folder, 1, 1, 2) / "log.txt").write_text("why")
    assert [path for _, path in cleaned(runs, cache, "checkpoints")] == [
        "attempts/1/checkpoints/epoch=000001.ckpt",
        "attempts/1/checkpoints/epoch=000002.ckpt",
        "attempts/2/checkpoints/epoch=000003.ckpt",
    ]
    assert (folder / "attempts" / "1" / "log.txt").read_text() == "why"


def test_a_held_run_is_left_alone_and_a_dead_lease_is_not_in_the_way(runs, cache):
    folder = finished(runs)
    held(folder)
    before = tree(folder)
    plan = survey(runs, cache)
    assert plan.items == []
    assert plan.notes == ["1 run held by a living runner: left alone"]
    held(folder, host="elsewhere")
    assert survey(runs, cache).items == [], "it may live on another machine"
    held(folder, started="1")
    assert len(cleaned(runs, cache)) == 1
    del before["lease.json"], before["attempts/1/checkpoints/epoch=000003.ckpt"]
    assert tree(folder) == before


def test_a_lease_from_elsewhere_is_judged_by_what_its_launch_has_said(runs, cache):
    folder = finished(runs)
    held(folder, host="elsewhere")
    (folder / "config.yaml").write_text("config:\n  launcher:\n    lease_s: 600.0\n")
    age(folder / "lease.json", 500)
    assert survey(runs, cache).items == []
    age(folder / "lease.json", 700)
    assert len(survey(runs, cache).items) == 1


def test_a_run_taken_between_showing_and_deleting_is_skipped_and_said(runs, cache, monkeypatch):
    folder = finished(runs)
    plan = survey(runs, cache)
    monkeypatch.setattr(Lease, "acquire", lambda *_: None)
    freed = remove(plan)
    assert freed.skipped == [f"{folder}: held by another runner by now"]
    monkeypatch.undo()
    held(folder)
    assert remove(plan).count == 0
    assert (folder / "attempts/1/checkpoints/epoch=000003.ckpt").exists()


def test_what_may_no_longer_go_when_it_comes_to_it_stays(runs, cache, monkeypatch):
    folder = finished(runs)
    old = snapshot(runs, "0" * 16, clean.DAY + 60)
    plan = survey(runs, cache)
    assert len(plan.items) == 2
    acquire = Lease.acquire

    def late(run, lease_s):
        (folder / "record.json").unlink()  # whoever held it has set it aside
        return acquire(run, lease_s)

    monkeypatch.setattr(Lease, "acquire", late)
    held(finished(runs, 1))  # launched while the question was open, from the old snapshot perhaps
    assert remove(plan).count == 0
    assert (folder / "attempts/1/checkpoints/epoch=000003.ckpt").exists()
    assert (old / "retable" / "module.py").exists()


def snapshot(runs: Path, name: str, seconds: float) -> Path:
    folder = runs / "_snapshots" / name
    (folder / "retable").mkdir(parents=True)
    (folder / "retable" / "module.py").write_text("x = 1")
    age(folder, seconds)
    return folder


def test_snapshots_go_when_they_are_old_and_nobody_can_need_them(runs, cache):
    folder = finished(runs)
    old, young = snapshot(runs, "0" * 16, clean.DAY + 60), snapshot(runs, "1" * 16, 60)
    held(folder)
    assert cleaned(runs, cache, "snapshots") == []
    (folder / "lease.json").unlink()
    config = folder / "config.yaml"
    config.write_text("config:\n  launcher:\n    snapshot: true\n")
    assert cleaned(runs, cache, "snapshots") == [], "its launch may be between two runs"
    age(config, clean.DAY + 60)
    (folder / "record.json").rename(folder / "away.json")
    assert cleaned(runs, cache, "snapshots") == [], "it may be waiting in a queue"
    (folder / "away.json").rename(folder / "record.json")
    plan = survey(runs, cache, ["snapshots"])
    assert [(i.path, i.size) for i in plan.items] == [(old, 5)]
    remove(plan)
    assert [p.name for p in (runs / "_snapshots").iterdir()] == [young.name]


def test_caches_keep_the_newest_and_data_goes_only_when_asked_for(runs, cache):
    (cache / "compose").mkdir(parents=True)
    for index in range(3):
        (cache / "compose" / f"{index}.jsonl").write_text("x")
        age(cache / "compose" / f"{index}.jsonl", 1000 * index)
    (cache / "digits").mkdir()
    (cache / "digits" / "data.bin").write_bytes(b"0" * 50)
    (cache / ".data.bin.lock").write_text("")
    assert [i.path.name for i in survey(runs, cache).items] == ["1.jsonl", "2.jsonl"]
    remove(survey(runs, cache))
    assert sorted(tree(cache)) == [
        ".data.bin.lock", "compose", "compose/0.jsonl", "digits", "digits/data.bin",
    ]  # fmt: skip
    folder = finished(runs)
    held(folder)
    assert survey(runs, cache, ["data"]).notes[-1] == "data: kept, as a run is going on"
    (folder / "lease.json").unlink()
    plan = survey(runs, cache, ["data"])
    assert [(i.path.name, i.size) for i in plan.items] == [("digits", 50)]
    remove(plan)
    assert sorted(tree(cache)) == [".data.bin.lock", "compose", "compose/0.jsonl"]


def test_indexes_of_records_go_and_looks_that_were_fixed_stay(runs, cache):
    index = runs / "_index" / "digits" / "accuracy-paper.npz"
    looks = runs / "_looks" / "digits" / "accuracy-paper.json"
    for file in (index, looks):
        file.parent.mkdir(parents=True)
        file.write_text("x")
    plan = survey(runs, cache)
    assert [(item.category, item.path) for item in plan.items] == [("caches", index)]
    remove(plan)
    assert not index.exists()
    assert looks.exists()


@pytest.mark.parametrize("what", ["runs", "home", "here", "project", "extra"])
def test_a_cache_that_holds_more_than_caches_is_left_alone(runs, tmp_path, monkeypatch, what):
    cache = tmp_path / "cache"
    inner = cache / "inner"
    inner.mkdir(parents=True)
    (inner / "precious").write_text("x")
    if what == "runs":
        runs = inner
    elif what == "home":
        monkeypatch.setenv("HOME", str(inner))
    elif what == "here":
        monkeypatch.chdir(inner)
    elif what == "project":
        monkeypatch.setattr(paths, "project_root", lambda: inner)
    else:
        monkeypatch.setenv("RETABLE_EXTRA", str(inner))
    plan = survey(runs, cache, list(CATEGORIES))
    assert plan.items == []
    assert plan.notes == [f"{cache}: holds more than caches; nothing in it is deleted"]


HEX = "0123456789ab"
LEFT = (
    ".probe." + HEX, ".broken." + HEX, ".lease." + HEX + "cdef", f".config.yaml.{HEX}.tmp",
    f"attempts/1/.record.json.{HEX}.tmp", "attempts/1/checkpoints/epoch=000005.tmp",
)  # fmt: skip
OURS = (".gitignore", "notes.tmp", ".probe.mine", f"attempts/1/x.{HEX}.tmp", "record.json.broken-1")


@pytest.mark.parametrize("status", [Status.DONE, Status.INTERRUPTED])
def test_what_killed_writers_left_goes_when_it_is_old(runs, cache, status):
    folder = finished(runs, status=status)
    for name in (*LEFT, *OURS):
        (folder / name).write_text("half")
    assert cleaned(runs, cache, "leftovers") == [], "it is being written, for all one knows"
    for name in (*LEFT, *OURS):
        age(folder / name, clean.HOUR + 60)
    before = tree(folder)
    held(folder)
    assert survey(runs, cache, ["leftovers"]).items == []
    (folder / "lease.json").unlink()
    assert survey(runs, cache).notes == ["1 broken record set aside (record.json.broken-*): kept"]
    assert cleaned(runs, cache, "leftovers") == sorted(("leftovers", name) for name in LEFT)
    assert tree(folder) == {k: v for k, v in before.items() if k not in LEFT}


def test_what_lies_beside_the_runs_goes_when_it_is_old(runs, cache, monkeypatch):
    store, cached = runs / "_store", cache / "digits"
    for folder in (store, cached, runs / "_snapshots" / f".{HEX}cdef", runs / "_verify" / HEX):
        folder.mkdir(parents=True)
    for folder in (store, cached):
        (folder / f".x.{HEX}.tmp").write_text("half")
        age(folder / f".x.{HEX}.tmp", clean.HOUR + 60)
        (folder / "whole.txt").write_text("whole")
    going_on = finished(runs / "_verify" / HEX)
    held(going_on)
    plan = survey(runs, cache)
    assert [i.path.parent for i in plan.items] == [store, cached]
    # The times of what is in a folder say nothing: copies keep those of what they are copies of.
    monkeypatch.setattr(clean, "_last_change", lambda _: time.time() - 2 * clean.HOUR)
    assert [i.path.name for i in survey(runs, cache).items] == [
        f".x.{HEX}.tmp", f".{HEX}cdef", f".x.{HEX}.tmp",
    ]  # fmt: skip
    (going_on / "lease.json").unlink()
    remove(survey(runs, cache))
    assert list((runs / "_verify").iterdir()) == list((runs / "_snapshots").iterdir()) == []
    assert [p.name for p in (*store.iterdir(), *cached.iterdir())] == ["whole.txt", "whole.txt"]


def test_what_a_redo_has_left_goes_after_a_week(runs, cache, monkeypatch):
    """Before that a job that does the run may still be in a queue."""
    left = finished(runs / "_again" / HEX)
    for days, expected in ((6, []), (8, [HEX])):
        monkeypatch.setattr(clean, "_last_change", lambda _, d=days: time.time() - d * clean.DAY)
        assert [i.path.name for i in survey(runs, cache, ["leftovers"]).items] == expected
    held(left)
    assert survey(runs, cache, ["leftovers"]).items == []
    (left / "lease.json").unlink()
    assert cleaned(runs, cache, "leftovers") == [("leftovers", "")]
    assert not (runs / "_again" / HEX).exists()
