"""Freeing disk space, whatever happens meanwhile: links, doubts, kills, a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.admin import clean, clean_rules
from retable.admin.clean import CATEGORIES, UNASKED, parse_only, remove, survey
from retable.launch import redo
from retable.runs import lease, records
from retable.runs.lease import Lease
from retable.runs.records import Status
from retable.util.errors import UserError
from support import records as made
from support.clean import age, cache, cleaned, failed, finished, held, save, tree  # noqa: F401
from support.job import written


def test_links_are_never_followed(runs, cache, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    folder = finished(runs, attempt=3)
    # A folder of checkpoints, an attempt, a checkpoint, a run and a paper that lie elsewhere.
    failed(folder, 1, 1, 2)
    (folder / "attempts/1/checkpoints").rename(away / "checkpoints")
    (folder / "attempts/1/checkpoints").symlink_to(away / "checkpoints")
    failed(folder, 2, 1, 2).rename(away / "2")
    (folder / "attempts/2").symlink_to(away / "2")
    (folder / "attempts/3/checkpoints/epoch=000003.ckpt").rename(away / "3.ckpt")
    (folder / "attempts/3/checkpoints/epoch=000003.ckpt").symlink_to(away / "3.ckpt")
    other = finished(tmp_path / "others")
    (runs / "digits" / ("e" * 64)).symlink_to(other)
    (runs / "linked").symlink_to(other.parent)
    cache.mkdir()
    (cache / "compose").symlink_to(away)
    (cache / "big").symlink_to(away)
    before, elsewhere = tree(runs), (tree(away), tree(tmp_path / "others"))
    assert cleaned(runs, cache, *CATEGORIES) == []
    assert tree(runs) == before
    assert (tree(away), tree(tmp_path / "others")) == elsewhere


def test_a_folder_of_runs_that_is_a_link_itself_is_cleaned(runs, cache, tmp_path):
    finished(runs)
    (tmp_path / "link").symlink_to(runs)
    assert len(survey(tmp_path / "link", cache).items) == 1


@pytest.mark.parametrize(
    "doubt",
    ["broken", "newer", "of another attempt", "without its attempt", "diverged", "of another"],
)
def test_a_run_of_which_anything_is_in_doubt_is_left_alone(runs, cache, doubt):
    folder = finished(runs, attempt=2)
    failed(folder, 1, 1, 2)
    record = folder / "record.json"
    text = record.read_text()
    record.unlink()  # its other name stays
    if doubt == "broken":
        record.write_text(text[:100])
    elif doubt == "newer":
        record.write_text(text.replace('"version":1', '"version":2'))
    elif doubt == "of another attempt":
        record.write_text(text.replace('"attempt":2', '"attempt":1'))
    elif doubt == "without its attempt":
        record.write_text(text)
        shutil.rmtree(folder / "attempts" / "2")
        failed(folder, 3, 1, 2)
    elif doubt == "diverged":
        record.write_text(text.replace('"done"', '"diverged"'))
    else:
        record.write_text(text.replace(folder.name, "0" * 64))
    before = tree(folder)
    assert cleaned(runs, cache) == []
    assert tree(folder) == before


def test_a_copied_record_counts_as_well_as_a_linked_one(runs, cache):
    folder = finished(runs)
    text = (folder / "record.json").read_bytes()
    (folder / "record.json").unlink()
    (folder / "record.json").write_bytes(text)
    assert len(cleaned(runs, cache)) == 1


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(12))
def test_a_kill_at_any_moment_leaves_results_and_the_next_one_does_the_rest(
    runs, cache, monkeypatch, moment
):
    folder = finished(runs, attempt=2)
    failed(folder, 1, 1, 2)
    failed(folder, 3, 1)
    record = records.read_run(folder, pytest.fail)
    whole = {p.name: tree(p) for p in records.attempts(folder)}
    left = moment

    def dies(function):
        def call(*args, **more):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return function(*args, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dies(Path.unlink))
        patch.setattr(Path, "rename", dies(Path.rename))
        patch.setattr(os, "unlink", dies(os.unlink))
        patch.setattr(os, "rmdir", dies(os.rmdir))
        with suppress(Killed):
            remove(survey(runs, cache))
    assert records.read_run(folder, pytest.fail) == record
    for attempt in records.attempts(folder):
        if attempt.name != "2":
            assert tree(attempt) == whole[attempt.name], "half an attempt is to be seen"
    (folder / "lease.json").unlink(missing_ok=True)  # this process lives, a killed one does not
    for path in folder.glob(".*"):
        age(path, 2 * clean.HOUR)
    remove(survey(runs, cache))
    assert sorted(tree(folder)) == [
        "attempts", "attempts/2", "attempts/2/checkpoints",
        "attempts/2/checkpoints/epoch=000004.ckpt", "attempts/2/record.json", "record.json",
    ]  # fmt: skip


def test_a_full_disk_has_no_room_for_a_lease_but_is_cleaned(runs, cache, monkeypatch):
    folder = finished(runs, attempt=2)
    failed(folder, 1, 1, 2)
    old = folder / "attempts/2/checkpoints/epoch=000003.ckpt"
    acquire = Lease.acquire

    def full(run, lease_s):
        if old.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return acquire(run, lease_s)

    monkeypatch.setattr(Lease, "acquire", full)
    assert len(cleaned(runs, cache)) == 2
    assert not (folder / "attempts" / "1").exists()


def test_what_cannot_be_deleted_is_said_and_the_rest_goes(runs, cache, monkeypatch):
    bad, good = sorted([finished(runs, 0), finished(runs, 1)])
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if bad in path.parents and path.suffix == ".ckpt":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    freed = remove(survey(runs, cache))
    assert (freed.count, freed.size) == (1, 100)
    assert freed.failed == [f"{bad}/attempts/1/checkpoints/epoch=000003.ckpt: Permission denied"]
    assert not (good / "attempts/1/checkpoints/epoch=000003.ckpt").exists()


def test_nothing_there_is_nothing_to_free(runs, cache):
    plan = survey(runs, cache, list(CATEGORIES))
    assert (plan.items, plan.notes) == ([], [])
    assert not runs.exists()


def test_categories_are_chosen_by_name():
    assert parse_only([]) == UNASKED == tuple(CATEGORIES)[:-1]
    assert parse_only(["caches,attempts", "data"]) == ("attempts", "caches", "data")
    with pytest.raises(UserError, match="--only attemps: not known; did you mean 'attempts'"):
        parse_only(["checkpoints,attemps"])


ATTEMPT = st.tuples(st.sampled_from(list(Status)), st.sets(st.integers(1, 6), max_size=2))


@settings(max_examples=30, deadline=None)
@given(st.lists(ATTEMPT, min_size=1, max_size=4), st.booleans(), st.sets(st.sampled_from(UNASKED)))
def test_no_record_changes_and_no_unfinished_run_loses_anything(attempts, published, only):
    with tempfile.TemporaryDirectory() as base:
        runs = Path(base).resolve() / "runs"
        for number, (status, epochs) in enumerate(attempts, start=1):
            record = made.record_of(made.config_of(0), attempt=number, status=status)
            folder = records.run_folder(runs, "digits", record.key)
            (folder / "attempts" / str(number)).mkdir(parents=True)
            written = records.write_attempt(folder / "attempts" / str(number), record)
            save(written.parent, *epochs)
            if published and status is Status.DONE:
                records.publish(written, folder)
        speaks, before = records.read_run(folder, pytest.fail), tree(folder)
        newest = max(
            (p for p in before if p.startswith(f"attempts/{speaks.attempt}/checkpoints/e")),
            default=None,
        )
        remove(survey(runs, Path(base) / "cache", only))
        after = tree(folder)
        assert records.read_run(folder, pytest.fail) == speaks
        assert after.items() <= before.items()
        if not (folder / "record.json").exists():
            assert after == before
        elif "attempts" in only:
            assert [p.name for p in records.attempts(folder)] == [str(speaks.attempt)]
        assert newest is None or newest in after
        if (folder / "record.json").exists() and {"attempts", "checkpoints"} <= only:
            saved = [p for p in after if p.endswith(".ckpt")]
            assert saved == ([newest] if newest else [])


def test_the_patterns_are_those_of_the_writers(tmp_path, monkeypatch):
    """A name that lease, files or resume gave otherwise would never be cleaned."""
    (tmp_path / "lease.json").write_text("{}")
    age(tmp_path / "lease.json", 100)
    monkeypatch.setattr(Path, "replace", lambda *_: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    records.write_atomic(tmp_path / "record.json", "x")
    Lease.acquire(tmp_path, 60).release()
    left = {p.name for p in tmp_path.iterdir()} - {"lease.json"}
    assert {name.split(".")[1] for name in left} == {"record", "lease", "probe", "broken"}
    assert all(clean_rules._TEMPORARY.fullmatch(name) for name in left), left


def test_what_is_read_from_a_frozen_run_is_what_a_launch_writes():
    run = written("launcher.lease_s=600", "launcher.snapshot=true")
    assert lease.lease_s(run.folder) == 600
    assert clean._may_need_source(run.folder, time.time())
    run = written("launcher.lease_s=5", seed=1)
    assert lease.lease_s(run.folder) == 60
    assert not clean._may_need_source(run.folder, time.time())
    assert clean.VERIFY == redo.VERIFY
