"""How a run of a task stands when its job starts: what is skipped, and what is not tried again."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec import structs

from retable.launch.slurm.submission import Entry
from retable.launch.slurm.task_history import Past, barren, put_in_place, standing
from retable.runs import frozen, records
from retable.runs.attempts import Attempt, new_attempt
from retable.runs.records import ResultRow, Status
from support.job import LAUNCHED
from support.task import freeze, name_of

NOTHING = Past.of([])


def attempt(run, status=None, *, epochs=0, publish=False, results=()):
    """Leave what an attempt leaves."""
    path = new_attempt(run.folder)
    for epoch in range(1, epochs + 1):
        (path / "checkpoints").mkdir(exist_ok=True)
        (path / "checkpoints" / f"epoch={epoch:06d}.ckpt").touch()
    if status is None:
        return None
    about = Attempt(path, int(path.name), run, LAUNCHED, "2026-01-01T00:00:00+00:00", 0.0)
    record = about.record(status, None if status is Status.DONE else "why")
    record = structs.replace(record, results=list(results))
    written = records.write_attempt(path, record)
    if publish:
        assert records.publish(written, run.folder)
    return record


def stands(runs, run, past=NOTHING, before=0):
    return standing(runs, Entry(folder=name_of(runs, run), before=before), past)


def test_a_run_without_a_record_is_open(runs):
    run = freeze()
    assert stands(runs, run) == "open"
    attempt(run)
    assert stands(runs, run) == "open"


@pytest.mark.parametrize("status", [Status.INTERRUPTED, Status.TIMEOUT, Status.FAILED])
def test_what_was_stopped_or_failed_before_is_open(runs, status):
    run = freeze()
    attempt(run, status)
    assert stands(runs, run) == "open"


def test_what_failed_in_an_earlier_start_of_the_job_is_not_tried_again(runs):
    run = freeze()
    name = name_of(runs, run)
    for event in (
        {"event": "ended", "run": name, "status": "failed"},
        {"event": "gave up", "run": name},
    ):
        assert stands(runs, run, Past.of([event])) == "failed"
    for event in (
        {"event": "ended", "run": name, "status": "interrupted"},
        {"event": "refused", "run": name},
        {"event": "killed", "run": name},
        {"run": name},
    ):
        assert stands(runs, run, Past.of([event])) == "open"
    attempt(run, Status.DONE, publish=True)  # somebody else has done it
    assert stands(runs, run, Past.of([{"event": "gave up", "run": name}])) == "done"


def test_a_diverged_run_is_settled_unless_it_was_submitted_so(runs):
    run = freeze()
    attempt(run, Status.DIVERGED)
    assert stands(runs, run) == "diverged"
    assert stands(runs, run, before=1) == "open"
    attempt(run, Status.DIVERGED)
    assert stands(runs, run, before=1) == "diverged"


def test_a_done_attempt_that_was_not_published_is_published(runs):
    run = freeze()
    attempt(run, Status.DONE)
    assert not (run.folder / "record.json").exists()
    assert stands(runs, run) == "done"
    assert (run.folder / "record.json").samefile(run.folder / "attempts" / "1" / "record.json")
    assert not (run.folder / "lease.json").exists()


def test_a_broken_record_is_replaced_by_that_of_the_done_attempt(runs, capsys):
    run = freeze()
    record = attempt(run, Status.DONE)
    (run.folder / "record.json").write_text("{")
    assert stands(runs, run) == "done"
    assert records.read(run.folder / "record.json") == record
    assert str(run.folder / "record.json") in capsys.readouterr().err


def test_only_attempts_since_the_submission_count_as_barren(runs):
    run = freeze()
    entry = Entry(folder=name_of(runs, run))
    assert barren(runs, entry) == 0
    for _ in range(3):
        attempt(run)
    assert barren(runs, entry) == 3
    assert barren(runs, Entry(folder=entry.folder, before=2)) == 1
    assert barren(runs, Entry(folder=entry.folder, before=9)) == 0
    attempt(run, epochs=1)
    assert barren(runs, entry) == 0
    attempt(run, Status.INTERRUPTED)
    assert barren(runs, entry) == 1


def test_requeues_without_an_attempt_are_counted_from_the_last_attempt():
    past = Past.of({"event": "requeued", "attempts": n} for n in (2, 3, 3, 3))
    assert past.idle(3) == 3
    assert past.idle(4) == 0
    assert Past.of([]).idle(0) == 0


def test_kills_are_counted_by_run():
    events = [{"event": "killed", "run": run} for run in ("a", "b", "a")]
    assert Past.of(events).killed == Counter(a=2, b=1)


def test_a_record_made_at_a_side_takes_the_place_of_the_stale_one_once(runs):
    run = freeze()
    stale = frozen.FrozenRun(run.config, run.key, "0" * 64)
    attempt(stale, Status.DONE, publish=True, results=[ResultRow(metric="m", value=1.0)])
    aside = run.below(runs / "_again" / "code", logged=False)
    frozen.write(aside)
    new = attempt(aside, Status.DONE, publish=True, results=[ResultRow(metric="m", value=2.0)])
    entry = Entry(folder=name_of(runs, aside), home=name_of(runs, run))
    for _ in range(2):  # a job may be started again at any moment
        put_in_place(runs, entry)
        record = records.read(run.folder / "record.json")
        assert (record.attempt, record.fingerprint) == (2, run.fingerprint)
        assert record.substance() == new.substance()
        assert len(records.attempts(run.folder)) == 2
    assert frozen.read(run.folder).fingerprint == run.fingerprint


def test_a_run_that_is_at_home_stays_as_it_is(runs):
    run = freeze()
    attempt(run, Status.DONE, publish=True)
    put_in_place(runs, Entry(folder=name_of(runs, run)))
    assert len(records.attempts(run.folder)) == 1
