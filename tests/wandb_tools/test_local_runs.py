"""What lies here of runs in W&B: which are to be uploaded, with which history and record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from retable.runs.history import history_text
from retable.runs.records import Status
from retable.tracking import ledger, naming
from retable.tracking.ledger import Ledger
from retable.wandb_tools import local_runs
from retable.wandb_tools.local_runs import Local
from support.sync import attempt, followed, rows
from support.sync import locals_of as found


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    """Ledgers alone: these tests do not look into W&B's files."""

    def instead(given):
        base = sync.Path(given["folder"]) / "wandb"
        number = len(list(base.glob("*")))
        (base / f"offline-run-{number}-{given['opening']['id']}").mkdir(parents=True)

    from support import sync

    monkeypatch.setattr(sync, "_closed", instead)
    monkeypatch.setattr(sync, "_killed", instead)


def test_the_history_is_the_newest_and_the_record_that_of_the_newest_attempt_with_one():
    run = followed()
    first = attempt(run, 1, end=2, status=Status.INTERRUPTED)
    attempt(run, 2, begin=2, end=5, status=None, closed=False)
    [one] = found(run)
    assert isinstance(one, Local)
    assert (one.attempt, one.record.status) == (first, Status.INTERRUPTED)
    assert one.rows() == rows(5)
    third = attempt(run, 3, begin=5, end=6)
    (third / local_runs.HISTORY).unlink()  # killed before its first epoch, or cleaned away
    [one] = found(run)
    assert isinstance(one, Local)
    assert (one.attempt, one.rows()) == (third, rows(5))


def test_a_run_that_was_started_anew_is_another_one_in_wandb():
    run = followed()
    attempt(run, 1, end=2, status=Status.FAILED)
    attempt(run, 2, end=3, generation=1)
    first, second = found(run)
    base = naming.run_id(run.key, run.fingerprint)
    assert (first.id, second.id) == (base, f"{base}g1")
    assert (first.epochs, second.epochs) == ([0, 1], [0, 1, 2])
    assert first.digest() != second.digest()


def test_without_a_record_there_is_only_an_id():
    run = followed()
    attempt(run, 1, status=None, closed=False)
    assert found(run) == [naming.run_id(run.key, run.fingerprint)]


def test_what_was_told_online_to_the_end_is_not_told_again():
    run = followed()
    path = attempt(run, 1)
    told = ledger.read(path)
    assert isinstance(told, Ledger)
    replace(told, mode="online").write(path)
    assert found(run) == []
    replace(told, mode="online", finished=False).write(path)
    assert len(found(run)) == 1
    replace(told, mode="online", upto=2).write(path)
    assert len(found(run)) == 1


def test_a_history_that_is_not_the_records_is_a_flaw():
    run = followed()
    path = attempt(run, 1)
    assert found(run)[0].flaw() is None
    kept = (path / local_runs.HISTORY).read_text()
    (path / local_runs.HISTORY).write_text(history_text(rows(2)))
    assert "not the one" in found(run)[0].flaw()
    (path / local_runs.HISTORY).unlink()
    assert found(run)[0].flaw() == "its history is gone"
    # A later attempt, which was killed, has gone on with it.
    (path / local_runs.HISTORY).write_text(kept)
    attempt(run, 2, begin=3, end=5, status=None, closed=False)
    assert found(run)[0].epochs == [0, 1, 2, 3, 4]
    assert found(run)[0].flaw() is None


def test_a_run_that_nobody_followed_has_nothing():
    run = followed()
    assert found(run) == []


def test_the_digest_changes_with_history_record_and_tags():
    run = followed()
    path = attempt(run, 1)
    [one] = found(run)
    changed = [
        replace(one, tags=["t"]),
        replace(one, history=history_text(rows(4))),
        replace(one, record=structs.replace(one.record, wall_s=9.0)),
    ]
    digests = {one.digest(), *(other.digest() for other in changed)}
    assert len(digests) == 4
    assert found(run)[0].digest() == one.digest()
    assert path == one.attempt
