"""What is in the queue: open submissions joined with one squeue, closed, recovered, told apart."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from retable.launch.slurm.open_jobs import LEASE_S, comment, queue_of
from retable.launch.slurm.submission import Array, Entry, Header, Submission, Tasks
from retable.runs.lease import Lease
from retable.util.errors import UserError

AGES_AGO = time.time() - 3600


def submission(runs, name, *tasks, jobs=("11",), user="me", chores=None):
    """A submission with the same tasks in each array; a job's id may be missing."""
    found = Submission(runs / "_slurm" / name)
    found.folder.mkdir(parents=True)
    arrays = [
        Array(number=number, tasks=len(tasks), about="", job=job) for number, job in enumerate(jobs)
    ]
    about = {"label": name, "created": "then", "user": user, "host": "h", "cluster": "dev"}
    found.write(Header(**about, arrays=arrays, chores=chores or {}))
    for number in range(len(jobs)):
        entries = [[Entry(folder=f"{run}{number}") for run in task] for task in tasks]
        found.write_tasks(number, Tasks(tasks=entries))
    old(found)
    return found


def old(found):
    os.utime(found.folder / "submission.json", (AGES_AGO, AGES_AGO))


def line(job, task, state="PENDING", said=""):
    return f"{job}|{task}|{state}||1:00|Priority|{said}\n"


def test_where_nothing_is_open_squeue_is_not_asked(fake_slurm, runs):
    assert queue_of(runs).submissions == []
    submission(runs, "a", ["p/x"]).close()
    queue = queue_of(runs)
    assert (queue.submissions, queue.tasks, queue.where("p/x0")) == ([], {}, None)
    assert fake_slurm.calls() == []


def test_one_call_tells_where_the_runs_of_all_submissions_are(fake_slurm, runs):
    first = submission(runs, "a", ["p/x", "p/y"], ["p/z"], jobs=("11", "12"))
    second = submission(runs, "b", ["q/x"], jobs=("13",), chores={"publish": "14"})
    fake_slurm.answer(
        "squeue",
        line(11, 0, "RUNNING", comment("a", 0))
        + line(11, 1, "COMPLETED", comment("a", 0))
        + line(12, 1, "PENDING", comment("a", 1))
        + line(13, 0, "COMPLETING", comment("b", 0))
        + line(14, "N/A", "PENDING", comment("b", "publish")),
    )
    queue = queue_of(runs)
    assert [s.folder for s in queue.submissions] == [second.folder, first.folder]
    assert {place: q.state for place, q in queue.tasks.items()} == {
        ("a", 0, 0): "RUNNING",
        ("a", 1, 1): "PENDING",
        ("b", 0, 0): "COMPLETING",
    }
    assert queue.chores["b", "publish"].job == "14"
    place = queue.where("p/y0")
    assert (place.submission.folder, place.array, place.task) == (first.folder, 0, 0)
    assert place.queued.state == "RUNNING"
    assert queue.where("p/z1").queued.id == "12_1"
    assert queue.where("q/x0").queued.job == "13"
    for gone in ("p/z0", "p/x1", "p/unheard"):  # its task has ended, or is not in squeue at all
        assert queue.where(gone) is None
    [asked] = fake_slurm.calls("squeue")
    assert "--jobs=13,11,12,14" in asked or "--jobs=13,14,11,12" in asked


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL"])
def test_what_has_no_job_in_the_queue_any_more_is_closed(fake_slurm, runs, state):
    gone, ended = submission(runs, "a", ["p/x"]), submission(runs, "b", ["p/y"], jobs=("12",))
    waiting = submission(runs, "c", ["p/z"], jobs=("13",))
    fake_slurm.answer(
        "squeue", line(12, 0, state, comment("b", 0)) + line(13, 0, said=comment("c", 0))
    )
    assert [s.folder for s in queue_of(runs).submissions] == [waiting.folder]
    assert (gone.closed, ended.closed, waiting.closed) == (True, True, False)


def test_a_controller_that_does_not_answer_closes_nothing(fake_slurm, runs):
    found = submission(runs, "a", ["p/x"])
    fake_slurm.answer("squeue", error="slurm_load_jobs error: Unable to contact\n", code=1)
    with pytest.raises(UserError, match="does not answer"):
        queue_of(runs)
    assert not found.closed


def test_an_id_that_was_never_written_down_is_found_by_the_jobs_comment(fake_slurm, runs):
    found = submission(runs, "a", ["p/x"], jobs=("11", None), user="me")
    other = submission(runs, "b", ["p/y"], jobs=("15",), user="you")
    fake_slurm.answer(
        "squeue",
        line(11, 0, said=comment("a", 0))
        + line(12, 0, said=comment("a", 1))
        + line(13, 0, said="something else")
        + line(15, 0, said=comment("b", 0)),
    )
    queue = queue_of(runs)
    assert queue.where("p/x1").queued.job == "12"
    assert [array.job for array in Submission(found.folder).header.arrays] == ["11", "12"]
    [asked] = fake_slurm.calls("squeue")
    assert "--user=me,you" in asked  # one call for all, whoever they are of
    queue_of(runs)
    assert any(text.startswith("--jobs=") for text in fake_slurm.calls("squeue")[1])
    assert not other.closed


def test_while_somebody_is_submitting_nothing_is_taken_for_ended(fake_slurm, runs):
    found = submission(runs, "a", ["p/x"], jobs=(None,))
    lease = Lease.acquire(runs / "_slurm", LEASE_S)
    assert [s.folder for s in queue_of(runs).submissions] == [found.folder]
    lease.release()
    # Just after it was killed too: its last sbatch may still be on its way.
    os.utime(found.folder / "submission.json")
    assert not queue_of(runs).submissions[0].closed
    old(found)
    assert queue_of(runs).submissions == []
    assert found.closed


@pytest.mark.parametrize("said", ["(null)", "", comment("other", 0)])
def test_a_job_that_has_only_got_the_same_id_is_not_ours(fake_slurm, runs, said):
    found = submission(runs, "a", ["p/x"])
    fake_slurm.answer("squeue", line(11, 0, "RUNNING", said))
    assert queue_of(runs).where("p/x0") is None
    assert found.closed


def test_a_comment_of_the_site_does_not_make_a_job_a_strangers(fake_slurm, runs):
    submission(runs, "a", ["p/x"])
    fake_slurm.answer("squeue", line(11, 0, "RUNNING", "checked by the prolog"))
    assert queue_of(runs).where("p/x0") is not None


def test_a_submission_that_is_taken_back_meanwhile_is_none(fake_slurm, runs, monkeypatch):
    found = submission(runs, "a", ["p/x"])
    kept = Submission.header.func

    def late(self):
        shutil.rmtree(found.folder)
        return kept(self)

    monkeypatch.setattr(Submission, "header", property(late))
    assert queue_of(runs).submissions == []


def test_a_broken_file_is_named(fake_slurm, runs):
    found = submission(runs, "a", ["p/x"])
    (found.folder / "submission.json").write_text("{}")
    with pytest.raises(UserError, match=r"submission\.json: broken"):
        queue_of(runs)
