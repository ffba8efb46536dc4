"""Runs seen through files, squeue and sacct as they really answer; and how often they are asked."""

from __future__ import annotations

import shutil

import pytest
from msgspec import structs

from retable.launch.slurm.sacct import Accounting
from retable.launch.slurm.submission import Entry
from retable.monitor import run_states
from retable.monitor.run_states import Known
from retable.runs import records
from retable.runs.records import Status
from support.follow import (
    begun,
    ended,
    folder_of,
    hold,
    queue,
    submit,
)


@pytest.fixture
def six(grid):
    return list(grid.runs())


def look(runs, some, accounting=None):
    def known():
        found = {folder_of(r): records.read_run(r.folder, pytest.fail) for r in some}
        states = {
            folder_of(r): (
                found[folder_of(r)].status,
                found[folder_of(r)].fingerprint == r.fingerprint,
            )
            for r in some
            if found[folder_of(r)]
        }
        return Known(states, found.get)

    folders = [folder_of(r) for r in some]
    view = run_states.states_of(runs, folders, known, accounting or Accounting())
    return view, [view.runs[folder] for folder in folders]


def states(seen):
    return [one.state.value for one in seen]


def test_without_a_submission_nobody_is_asked(runs, six, slurm):
    ended(six[0])
    ended(six[1], Status.FAILED, error="ValueError: no\nmore")
    ended(six[2], fingerprint="f" * 64)
    begun(six[3])
    hold(six[3].folder)
    view, seen = look(runs, six)
    assert states(seen) == ["done", "failed", "stale", "running", "to do", "to do"]
    assert seen[1].why == "ValueError: no"
    assert slurm.calls() == []
    assert view.notes == []


def test_a_submission_in_all_its_states_with_one_call_each(runs, six, slurm):
    submission = submit(runs, *([run] for run in six))
    queue(slurm, "12_0 RUNNING n1", "12_1 PENDING Resources", "12_2 RUNNING n2")
    submission.say(0, 0, "started", job="12_0", id="13", restart=0, node="n1")
    hold(six[0].folder, job="13", here=False)
    ended(six[3])
    ended(six[4], Status.FAILED, error="RuntimeError: no")
    slurm.answer("sacct", "12_5|OUT_OF_MEMORY|0:125|n3\n")
    _, seen = look(runs, six)
    assert states(seen) == ["running", "queued", "running", "done", "failed", "lost"]
    assert [one.why for one in seen] == ["", "Resources", "starting", "", "RuntimeError: no",
                                         "OUT_OF_MEMORY on n3"]  # fmt: skip
    assert seen[0].assigned.id == "12_0"
    assert [call[0] for call in slurm.calls()] == ["squeue", "sacct"]


def test_sacct_is_asked_only_about_what_is_lost(runs, six, slurm):
    submission = submit(runs, *([run] for run in six))
    queue(slurm, *(f"12_{n} PENDING Priority" for n in range(4)))
    ended(six[4])
    submission.cancel([(0, 5)])
    _, seen = look(runs, six)
    assert states(seen) == ["queued"] * 4 + ["done", "cancelled"]
    assert slurm.calls("sacct") == []


def test_what_is_over_is_asked_for_once_while_somebody_watches(runs, six, slurm):
    submit(runs, six)
    slurm.answer("sacct", "12_0|TIMEOUT|0:0|n1\n")
    accounting = Accounting()
    for _ in range(3):
        _, seen = look(runs, six, accounting)
        assert states(seen) == ["lost"] * 6
    assert len(slurm.calls("sacct")) == 1
    assert len(slurm.calls("squeue")) == 1  # with nothing in the queue it is closed


def test_without_sacct_it_works_and_says_so_once(runs, six, slurm):
    submit(runs, *([run] for run in six))
    slurm.answer("sacct", error="Slurm accounting storage is disabled\n", code=1)
    ended(six[0])
    view, seen = look(runs, six)
    assert states(seen) == ["done"] + ["lost"] * 5
    (note,) = view.notes
    assert note.startswith("sacct: Slurm accounting storage is disabled")
    assert {one.why for one in seen[1:]} == {"SLURM's accounting cannot be asked"}


def test_a_task_cancelled_while_it_waited_is_known_by_its_siblings(runs, six, slurm):
    submit(runs, *([run] for run in six[:2]))
    slurm.answer("sacct", "12_0|NODE_FAIL|0:0|n1\n")
    _, seen = look(runs, six[:2])
    assert states(seen) == ["lost", "cancelled"]


def test_a_job_that_does_several_shows_which_it_has_come_to(runs, six, slurm):
    submission = submit(runs, six, at_once=2)
    queue(slurm, "12_0 RUNNING n1")
    submission.say(0, 0, "started", job="12_0", id="13", restart=0, node="n1")
    ended(six[0])
    submission.say(0, 0, "ended", run=folder_of(six[0]), status="done", error=None)
    ended(six[1], Status.INTERRUPTED)
    submission.say(0, 0, "ended", run=folder_of(six[1]), status="interrupted", error=None)
    submission.say(0, 0, "refused", run=folder_of(six[2]), error="the code changed since launch")
    _, seen = look(runs, six)
    assert states(seen) == ["done", "running", "failed", "running", "queued", "queued"]
    assert seen[2].why == "the code changed since launch"
    assert seen[4].why == "behind other runs of job 12_0"


def test_a_dead_job_s_lease_is_no_life(runs, six, slurm):
    """On other nodes it looks alive until its heartbeat is old; the queue knows better."""
    submission = submit(runs, six[:1], six[1:2])
    for task in (0, 1):
        submission.say(0, task, "started", job=f"12_{task}", id=f"2{task}", restart=0, node="n1")
        hold(six[task].folder, job=f"2{task}", here=False)
    queue(slurm, "12_0 PENDING BeginTime")
    slurm.answer("sacct", "12_1|CANCELLED by 1000|0:0|n1\n")
    _, seen = look(runs, six[:2])
    assert states(seen) == ["queued", "cancelled"]
    assert seen[0].why == "BeginTime"


def test_a_lost_run_that_somebody_does_here_is_running(runs, six, slurm):
    submit(runs, six[:1])
    hold(six[0].folder)
    _, seen = look(runs, six[:1])
    assert states(seen) == ["running"]
    assert seen[0].host
    assert slurm.calls("sacct") == []


def test_the_newest_submission_counts(runs, six, slurm):
    old = submit(runs, six[:1], job="5", name="20250101T000000-aaaaaa")
    old.cancel([(0, 0)])
    old.close()
    submit(runs, six[:1], job="12", name="20260101T000000-bbbbbb")
    slurm.answer("sacct", "12_0|TIMEOUT|0:0|n1\n5_0|FAILED|1:0|n1\n")
    _, seen = look(runs, six[:1])
    assert (states(seen), seen[0].why) == (["lost"], "TIMEOUT on n1")
    assert seen[0].assigned.submission.folder.name == "20260101T000000-bbbbbb"


def test_a_failed_run_that_is_submitted_again_is_queued(runs, six, slurm):
    ended(six[0], Status.FAILED, error="no", attempt=2)
    submit(runs, six[:1], before=2)
    queue(slurm, "12_0 PENDING Priority")
    assert states(look(runs, six[:1])[1]) == ["queued"]
    ended(six[0], Status.FAILED, error="again no", attempt=3)
    _, seen = look(runs, six[:1])
    assert (states(seen), seen[0].why) == (["failed"], "again no")


def test_a_stale_run_that_is_done_again_at_a_side(runs, six, slurm):
    run = six[0]
    ended(run, fingerprint="f" * 64)
    aside = f"_again/{'a' * 16}/{folder_of(run)}"
    submit(runs, [Entry(folder=aside, home=folder_of(run))])
    queue(slurm, "12_0 PENDING Priority")
    _, seen = look(runs, [run])
    assert states(seen) == ["queued"]
    assert seen[0].folder == runs / aside
    queue(slurm)
    slurm.answer("sacct", "12_0|TIMEOUT|0:0|n1\n")
    _, seen = look(runs, [run])
    assert (states(seen), seen[0].why) == (["stale"], "again: lost (TIMEOUT on n1)")
    shutil.copytree(run.folder, runs / aside)
    shutil.rmtree(runs / aside / "attempts")
    (runs / aside / "record.json").unlink()
    record = records.read_run(run.folder, pytest.fail)
    (runs / aside / "attempts" / "1").mkdir(parents=True)
    failed = structs.replace(record, status=Status.FAILED, error="no")
    records.write_attempt(runs / aside / "attempts" / "1", failed)
    assert look(runs, [run])[1][0].why == "again: failed"


def test_what_was_never_taken_by_slurm_is_still_to_do(runs, six, slurm):
    submit(runs, six[:1], job=None).close()
    assert states(look(runs, six[:1])[1]) == ["to do"]


def test_a_broken_file_of_an_old_submission_is_named_and_does_not_stop_it(runs, six, slurm):
    submission = submit(runs, six[:1])
    submission.close()
    (submission.folder / "array-0.json").write_text("{")
    view, seen = look(runs, six[:1])
    assert states(seen) == ["to do"]
    (note,) = view.notes
    assert "array-0.json: broken" in note


def test_queue_and_leases_are_looked_at_before_records(runs, six, slurm):
    """A run that ends meanwhile is done, not lost."""
    submit(runs, six[:1])
    queue(slurm, "12_0 RUNNING n1")

    def known():
        queue(slurm)
        ended(six[0])
        return Known({folder_of(six[0]): (Status.DONE, True)}, lambda _: None)

    view = run_states.states_of(runs, [folder_of(six[0])], known, Accounting())
    assert states(view.runs.values()) == ["done"]
