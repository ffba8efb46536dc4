"""Which jobs are cancelled for a table, what goes with them, and what is left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.launch.slurm.sacct import Accounting, parse
from retable.launch.slurm.submission import Submission
from retable.monitor import cancel, run_states
from retable.monitor.cancel import ranges
from retable.monitor.run_states import Known
from retable.runs.records import Status
from retable.util.errors import UserError
from support.follow import (
    ended,
    folder_of,
    hold,
    queue,
    submit,
)


def cancellation_of(runs, some):
    folders = [folder_of(run) for run in some]
    view = run_states.states_of(runs, folders, lambda: Known({}, lambda _: None), Accounting())
    return cancel.cancellation_of(runs, view.runs, view.queue)


def test_tasks_of_the_named_runs_only(runs, grid, slurm):
    six = list(grid.runs())
    submission = submit(runs, *([run] for run in six))
    queue(slurm, "12_0 RUNNING n1", *(f"12_{n} PENDING Priority" for n in range(1, 6)))
    found = cancellation_of(runs, six[:3])
    assert found.text() == "3 runs in 3 tasks of job 12"
    assert (found.others, found.local) == ([], {})
    cancel.carry_out(found)
    assert slurm.calls("scancel") == [["12_[0-2]"]]
    assert submission.cancelled() == {(0, 0), (0, 1), (0, 2)}


def test_a_whole_array_goes_by_its_id(runs, grid, slurm):
    six = list(grid.runs())
    submit(runs, *([run] for run in six))
    queue(slurm, *(f"12_{n} PENDING Priority" for n in (1, 3, 4)))
    cancel.carry_out(cancellation_of(runs, six))
    assert slurm.calls("scancel") == [["12"]]


def test_runs_of_others_in_the_same_tasks_are_said(runs, grid, slurm):
    six = list(grid.runs())
    submit(runs, six[:4], six[4:])
    queue(slurm, "12_0 RUNNING n1", "12_1 PENDING Priority")
    ended(six[1])
    ended(six[2], Status.FAILED)
    found = cancellation_of(runs, six[:1])
    assert found.others == [folder_of(six[3])]
    assert f"would do 1 other run: digits/{six[3].key[:8]}" in found.text()
    cancel.carry_out(found)
    assert slurm.calls("scancel") == [["12_0"]]


def test_runs_that_are_done_here_are_left_alone(runs, grid, slurm):
    six = list(grid.runs())
    submit(runs, six[1:2])
    queue(slurm, "12_0 PENDING Priority")
    six[0].folder.mkdir(parents=True)
    hold(six[0].folder)
    found = cancellation_of(runs, six[:2])
    assert list(found.local) == [folder_of(six[0])]
    assert f"left alone: {six[0].key[:8]} is being done on " in found.text()
    assert len(found.tasks) == 1


def test_nothing_in_the_queue_is_nothing_to_cancel(runs, grid, slurm):
    submit(runs, list(grid.runs()))
    found = cancellation_of(runs, list(grid.runs()))
    assert (found.tasks, found.text()) == ({}, "")


def test_chores_that_would_be_left_alone_go_too(runs, grid, slurm):
    six = list(grid.runs())
    submission = submit(runs, *([run] for run in six[:2]))
    header = submission.header.model_copy(update={"chores": {"publish": "20"}})
    submission.write(header)
    name = submission.folder.name
    lines = [f"12|{n}|PENDING||30:00|Priority|retable {name} 0\n" for n in (0, 1)]
    lines.append(f"20|N/A|PENDING||30:00|Dependency|retable {name} publish\n")
    slurm.answer("squeue", "".join(lines))
    assert cancellation_of(runs, six[:1]).chores == {}
    found = cancellation_of(runs, six[:2])
    assert "nothing is left for publish (job 20), which goes too" in found.text()
    cancel.carry_out(found)
    assert slurm.calls("scancel") == [["12", "20"]]


def test_what_slurm_refuses_is_not_noted_as_cancelled(runs, grid, slurm):
    six = list(grid.runs())
    submission = submit(runs, six)
    queue(slurm, "12_0 RUNNING n1")
    slurm.answer("scancel", error="scancel: error: Access/permission denied", code=1)
    with pytest.raises(UserError, match="denied"):
        cancel.carry_out(cancellation_of(runs, six))
    assert Submission(submission.folder).cancelled() == set()


@given(st.lists(st.integers(0, 50), min_size=1))
def test_ranges_are_read_by_slurm_as_the_tasks_they_were_made_of(numbers):
    text = ranges(numbers)
    assert re.fullmatch(r"\d+|\[[\d,-]+\]", text)
    assert [task for (_, task), _ in parse(f"7_{text}|PENDING|0:0|")] == sorted(set(numbers))


def test_words_in_the_file_of_cancelled_tasks_that_are_none_are_left_out(tmp_path):
    submission = Submission(tmp_path)
    assert submission.cancelled() == set()
    submission.cancel([(0, 3), (1, 12)])
    with (tmp_path / "cancelled").open("a") as file:
        file.write("x\n0\n1 2 3\n2 1")  # the last one was cut off, and is whole all the same
    assert submission.cancelled() == {(0, 3), (1, 12), (2, 1)}
