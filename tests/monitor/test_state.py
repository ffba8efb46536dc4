"""The state of a run by what is known of it: one for every combination, and the right one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.launch.slurm.client import Queued
from retable.launch.slurm.sacct import Account
from retable.monitor.state import OPEN, Facts, Holder, State, Submitted, judge
from retable.runs.records import Status


def task(state="PENDING", reason="Resources", node=""):
    return Queued("12", 3, state, node, "29:58", reason)


RUNNING = task("RUNNING", "None", "n1")
ACCOUNTS = [
    Account("CANCELLED"), Account("COMPLETED"), Account("FAILED", "1:0", "n1"),
    Account("OUT_OF_MEMORY"), Account("NODE_FAIL"), Account("RUNNING"), Account("PREEMPTED"),
]  # fmt: skip
maybe_status = st.none() | st.sampled_from(Status)
submissions = st.builds(
    Submitted,
    queued=st.none() | st.sampled_from([task(), RUNNING, task("COMPLETING"), task("SUSPENDED")]),
    has_id=st.booleans(),
    ended=maybe_status,
    refused=st.none() | st.just("the code changed\nsince"),
    turn=st.booleans(),
    cancelled=st.booleans(),
    account=st.none() | st.sampled_from(ACCOUNTS),
    accounted=st.booleans(),
    asked=st.booleans(),
)


@st.composite
def facts(draw):
    """Anything that can be true at once."""
    record, fresh = draw(maybe_status), draw(st.booleans())
    submitted = draw(st.none() | submissions)
    # A record of a submission speaks for its run, but for one that is done again at a side.
    if submitted is not None and (record is not Status.DONE or fresh) and submitted.ended:
        submitted = replace(submitted, ended=record)
    error = draw(st.sampled_from(["", "ValueError: no\nmore"]))
    return Facts(record, fresh, error, draw(st.sampled_from(Holder)), submitted)


@given(facts())
def test_every_run_has_one_state_and_it_follows_from_what_is_known(known):
    state, why = judge(known)
    assert state in State
    assert "\n" not in why
    submitted = known.submitted
    queued = submitted.queued if submitted else None
    done = known.record is Status.DONE
    assert (state is State.DONE) == (done and known.fresh)
    if state is State.STALE:
        assert done
    if state is State.DIVERGED:
        assert known.record is Status.DIVERGED
    if state is State.RUNNING:
        assert known.holder is Holder.OTHER or queued is not None
    if state is State.QUEUED:
        assert queued is not None
        assert why
    if known.holder is Holder.OTHER and state is not State.DONE:
        assert state is State.RUNNING
    if state in {State.LOST, State.CANCELLED}:
        assert queued is None or (queued.state == "COMPLETING" and state is State.CANCELLED)
        assert submitted.has_id or queued is not None  # in the queue: SLURM has taken it
        assert not done
    if state is State.LOST:
        assert submitted.has_id
        assert why
        assert not submitted.cancelled or not (
            submitted.account is None or submitted.account.cancelled
        )
    if state is State.TODO:
        assert known.record in {None, Status.INTERRUPTED, Status.TIMEOUT}
        assert submitted is None or not submitted.has_id
    if submitted is not None and submitted.unexplained:
        assert queued is None
        assert state not in OPEN or known.holder is Holder.OTHER


@given(facts())
def test_what_only_the_accounting_can_tell_is_what_it_changes(known):
    """So that it is asked where it matters, and not where it does not."""
    if known.submitted is None or known.submitted.account is not None or known.submitted.accounted:
        return
    states = {
        judge(replace(known, submitted=replace(known.submitted, account=account)))
        for account in ACCOUNTS
    }
    if not known.submitted.unexplained and not known.submitted.cancelled:
        assert len(states) == 1


def submitted(**about):
    return Facts(submitted=Submitted(**about))


def failed(**about):
    return Facts(Status.FAILED, error="no", submitted=Submitted(**about))


def stale(**about):
    return Facts(Status.DONE, fresh=False, submitted=Submitted(**about))


@pytest.mark.parametrize(
    ("known", "state", "why"),
    [
        (Facts(), "to do", ""),
        (Facts(Status.INTERRUPTED), "to do", ""),
        (Facts(Status.FAILED, error="ValueError: no\nmore"), "failed", "ValueError: no"),
        (Facts(Status.DIVERGED, error="loss is nan"), "diverged", "loss is nan"),
        (Facts(Status.DONE, fresh=False), "stale", ""),
        (Facts(holder=Holder.OTHER), "running", ""),
        (submitted(queued=task()), "queued", "Resources"),
        (submitted(queued=task(reason="BeginTime")), "queued", "BeginTime"),
        (submitted(queued=task(reason="None")), "queued", "PENDING"),
        (submitted(queued=RUNNING), "running", "starting"),
        (submitted(queued=RUNNING, turn=False), "queued", "behind other runs of job 12_3"),
        (submitted(queued=task("COMPLETING", node="n1")), "running", "completing"),
        # It was cancelled, and what its job goes on with are other runs, if any.
        (submitted(queued=task("COMPLETING"), cancelled=True), "cancelled", ""),
        (stale(queued=task("COMPLETING"), cancelled=True), "stale", "again: cancelled"),
        # It failed for want of memory, and the job does it once more.
        (
            Facts(Status.FAILED, holder=Holder.JOB,
                  submitted=Submitted(queued=RUNNING, ended=Status.FAILED)),
            "running", "",
        ),
        # Its job was requeued, but on other machines the lease still looks alive.
        (Facts(holder=Holder.JOB, submitted=Submitted(queued=task())), "queued", "Resources"),
        # It failed, and its job goes on with others.
        (failed(queued=RUNNING, ended=Status.FAILED), "failed", "no"),
        # It failed before, and was submitted again.
        (failed(queued=task()), "queued", "Resources"),
        (submitted(queued=RUNNING, refused="the code changed"), "failed", "the code changed"),
        (submitted(account=Account("OUT_OF_MEMORY", "0:125", "n2")), "lost", "OUT_OF_MEMORY on n2"),
        (submitted(account=Account("COMPLETED")), "lost", "its job ended well without it"),
        (submitted(account=Account("CANCELLED")), "cancelled", ""),
        (submitted(cancelled=True), "cancelled", ""),
        (submitted(cancelled=True, account=Account("TIMEOUT")), "lost", "TIMEOUT"),
        # A task that is cancelled while it waits leaves no trace in the accounting.
        (submitted(accounted=True), "cancelled", ""),
        (submitted(), "lost", "SLURM's accounting does not know its job"),
        (submitted(asked=False), "lost", "SLURM's accounting cannot be asked"),
        (submitted(has_id=False), "to do", ""),
        (
            Facts(holder=Holder.JOB, submitted=Submitted(account=Account("NODE_FAIL"))),
            "lost", "NODE_FAIL",
        ),
        (failed(account=Account("TIMEOUT")), "lost", "TIMEOUT"),
        # Done again at a side, for other code.
        (stale(queued=task()), "queued", "Resources"),
        (stale(account=Account("TIMEOUT")), "stale", "again: lost (TIMEOUT)"),
        (stale(ended=Status.FAILED), "stale", "again: failed"),
        # The code has changed since it was submitted and done.
        (stale(ended=Status.DONE), "stale", ""),
    ],
)  # fmt: skip
def test_states(known, state, why):
    assert judge(known) == (State(state), why)
