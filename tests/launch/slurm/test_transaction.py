"""All of a submission or nothing: refusals in the middle, Ctrl-C, full disks."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace

import pytest

from retable.launch.dispatch import launch
from retable.launch.slurm import client
from retable.launch.slurm.submission import all_of
from retable.launch.slurm.submit import Orders
from retable.runs import frozen
from retable.util.errors import UserError
from support.submit import ON, said, some, the_submission, tree  # noqa: F401 - a fixture


@pytest.fixture
def orders(said):
    return Orders(label="digits/accuracy", table=("digits/accuracy",), say=said.append)


def refuse(monkeypatch, number, error):
    """Have the n-th sbatch (from 1) fail."""
    sbatch, calls = client.sbatch, []

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise error
        return sbatch(*arguments)

    monkeypatch.setattr(client, "sbatch", counted)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_where_sbatch_refuses_one_all_is_taken_back(fake_slurm, runs, orders, monkeypatch, number):
    todo = some(3, "cluster.max_array=1")
    frozen.write(todo[0])
    (todo[0].folder / "attempts" / "1").mkdir(parents=True)
    before = tree(runs)
    refuse(monkeypatch, number, UserError("sbatch: Job violates accounting/QOS policy"))
    with pytest.raises(UserError, match=r"^sbatch: Job violates"):
        launch(todo, orders=replace(orders, prepare=("digits/accuracy",), publish=True))
    assert fake_slurm.jobs == {}
    left = [p for p in tree(runs) if not p.startswith("_store")]
    assert left == sorted([*before, "_slurm"])


def test_a_job_whose_sbatch_was_cut_off_is_taken_back_too(fake_slurm, runs, orders, monkeypatch):
    sbatch = client.sbatch

    def lost(*arguments):
        sbatch(*arguments)
        raise client.Unreachable("slurmctld does not answer (sbatch took over 60 s)")

    monkeypatch.setattr(client, "sbatch", lost)
    with pytest.raises(UserError, match="does not answer"):
        launch(some(1), orders=orders)
    assert fake_slurm.jobs == {}
    assert list(all_of(runs)) == []


def test_what_cannot_be_taken_back_is_said_and_stays_known(
    fake_slurm, runs, orders, said, monkeypatch
):
    todo = some(2, "cluster.max_array=1")
    refuse(monkeypatch, 2, client.Unreachable("slurmctld does not answer"))
    fake_slurm.answer("scancel", error="scancel: error: not now\n", code=1)
    with pytest.raises(UserError, match="does not answer"):
        launch(todo, orders=orders)
    warning = "jobs could not be cancelled (scancel: not now); do it later: scancel 101"
    assert f"warning: {warning}" in said
    made = the_submission(runs)
    assert [array.job for array in made.header.arrays] == ["101", None]
    # Its files are there, so that asking again knows what goes on.
    summary = launch(todo, orders=orders)
    assert (summary.queued, summary.already) == (1, 1)


def test_ctrl_c_takes_all_back_and_leaves_no_job(fake_slurm, runs, orders, monkeypatch):
    sbatch = client.sbatch

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return sbatch(*arguments)

    monkeypatch.setattr(client, "sbatch", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        launch(some(3, "cluster.max_array=1"), orders=orders)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(fake_slurm.calls("sbatch")) == 1  # the one that went on is cancelled
    assert fake_slurm.jobs == {}
    assert list(all_of(runs)) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(fake_slurm, runs, orders, monkeypatch):
    todo, write = some(3), frozen.write

    def full(run):
        if run is todo[2]:
            raise OSError(errno.ENOSPC, "No space left on device", str(run.folder))
        return write(run)

    monkeypatch.setattr(frozen, "write", full)
    with pytest.raises(UserError, match=r"paths\.runs: .*No space left on device; free some"):
        launch(todo, orders=orders)
    assert fake_slurm.calls("sbatch") == []
    assert [p for p in tree(runs) if not p.startswith("_store")] in (
        ["_slurm"],
        ["_slurm", "digits"],
    )
