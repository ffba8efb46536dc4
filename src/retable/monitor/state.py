"""The state of a run, from what files, queue and accounting say of it. Pure: nothing is read here.

The queue has to be looked at before the leases, and those before the records: a run that ends
meanwhile is then seen as queued or running and done, which is done, and never as lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from retable.launch.slurm.client import Queued
from retable.launch.slurm.sacct import Account
from retable.runs.records import Status


class State(StrEnum):
    """States of a run; every run has exactly one."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    STALE = "stale"
    DIVERGED = "diverged"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    TODO = "to do"


OPEN = frozenset({State.RUNNING, State.QUEUED})
"""States that change by themselves."""

TROUBLE = (State.FAILED, State.LOST, State.DIVERGED)
"""States of runs that have ended and are not done, which are named one by one."""

BLOCKING = frozenset({*TROUBLE, State.CANCELLED, State.BLOCKED})
"""States of a run, from which another one cannot start until somebody has seen to it."""

RECORDED = (State.DONE, State.STALE, State.DIVERGED, State.FAILED, State.BLOCKED, State.TODO)
"""States that records alone can tell."""

_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"})


class Holder(StrEnum):
    """Who holds a run's lease, and lives as far as one can tell."""

    NOBODY = "nobody"
    JOB = "its job"
    OTHER = "another runner"


@dataclass(frozen=True)
class Submitted:
    """Facts of a run's newest submission.

    Attributes:
        queued: its task in the queue; None where that is not there any more.
        has_id: whether SLURM took it, as far as is known.
        ended: how the run came to its end in this submission, by its record; None where it did not.
        refused: why its job did not begin it, or gave it up; None where it did neither.
        blocked: why it could not start from another run; None where it did not try.
        turn: whether it is among those that its job does now, in the job's order.
        cancelled: whether the user cancelled its task with us.
        account: what the accounting says of its task.
        accounted: whether the accounting knows the array at all.
        asked: whether the accounting could be asked about its task.
    """

    queued: Queued | None = None
    has_id: bool = True
    ended: Status | None = None
    refused: str | None = None
    blocked: str | None = None
    turn: bool = True
    cancelled: bool = False
    account: Account | None = None
    accounted: bool = False
    asked: bool = True

    @property
    def works(self) -> bool:
        """Whether its job is on a node."""
        return self.queued is not None and self.queued.state not in _WAITING

    @property
    def over(self) -> bool:
        """Whether nothing will be done about the run in this submission any more."""
        end = self.ended is not None and not self.ended.resumable
        told = self.refused is not None or self.blocked is not None
        return end or told or self.queued is None

    @property
    def unexplained(self) -> bool:
        """Whether only the accounting can tell why nothing came of it."""
        told = self.ended is not None and not self.ended.resumable
        refused = self.refused is not None or self.blocked is not None
        ended = told or refused or self.cancelled or self.account is not None
        return self.queued is None and self.has_id and not ended


@dataclass(frozen=True)
class Facts:
    """Facts of a run.

    Attributes:
        record: how it ended, by the record that speaks for it.
        fresh: whether that is of the present code.
        error: of the record.
        holder: who holds its lease.
        submitted: its newest submission.
    """

    record: Status | None = None
    fresh: bool = True
    error: str = ""
    holder: Holder = Holder.NOBODY
    submitted: Submitted | None = None


def states_text(counts: Mapping[State, int]) -> str:
    """``3 done, 1 queued``."""
    return ", ".join(f"{counts[s]} {s}" for s in State if counts.get(s)) or "no runs"


def states_json(counts: Mapping[State, int], states: Iterable[State] = State) -> dict[str, int]:
    """Plain values: the number of runs in each state."""
    return {state.value: counts.get(state, 0) for state in states}


def judge(facts: Facts) -> tuple[State, str]:
    """The state of a run, and why, in words; "" where there is nothing to say.

    A run that is going on is that before all else, but for one that is done; what has ended in
    its newest submission is what its record says; and what was submitted and has neither is lost.
    """
    if facts.record is Status.DONE and facts.fresh:
        return State.DONE, ""
    submitted = facts.submitted
    if facts.holder is Holder.OTHER:
        return State.RUNNING, ""
    if submitted is not None and submitted.works and facts.holder is Holder.JOB:
        return State.RUNNING, ""  # perhaps once more, after it had failed for want of memory
    if submitted is not None and not submitted.over:
        state, why = _going_on(submitted)
        if state is State.CANCELLED and facts.record is Status.DONE:
            return State.STALE, "again: cancelled"
        return state, why
    if facts.record is Status.DONE:
        return State.STALE, _not_again(submitted) if submitted else ""
    if facts.record is Status.DIVERGED:
        return State.DIVERGED, _first(facts.error)
    if submitted is None or not submitted.has_id:
        failed = facts.record is Status.FAILED
        return (State.FAILED, _first(facts.error)) if failed else (State.TODO, "")
    if submitted.refused is not None:
        return State.FAILED, _first(submitted.refused)
    if submitted.blocked is not None:
        return State.BLOCKED, _first(submitted.blocked)
    if submitted.ended is Status.FAILED:
        return State.FAILED, _first(facts.error)
    if is_cancelled(submitted):
        return State.CANCELLED, ""
    return State.LOST, why_lost(submitted)


def _first(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _going_on(submitted: Submitted) -> tuple[State, str]:
    queued = submitted.queued
    assert queued is not None
    if submitted.cancelled and queued.state == "COMPLETING":
        return State.CANCELLED, ""
    if not submitted.works:
        return State.QUEUED, queued.reason if queued.reason != "None" else queued.state
    if submitted.turn:
        return State.RUNNING, "starting" if queued.state == "RUNNING" else queued.state.lower()
    return State.QUEUED, f"behind other runs of job {queued.id}"


def is_cancelled(submitted: Submitted) -> bool:
    """Whether a task that is gone was cancelled: it says so itself, or has left no trace.

    A task that is cancelled while it waits is not in the accounting, though its array is.
    """
    if submitted.account is not None:
        return submitted.account.cancelled
    return submitted.cancelled or submitted.accounted


def why_lost(submitted: Submitted) -> str:
    """Why a task that is gone has not done its run."""
    account = submitted.account
    if account is None:
        known = "does not know its job" if submitted.asked else "cannot be asked"
        return f"SLURM's accounting {known}"
    if not account.over:
        return f"not in the queue any more; the accounting still says {account.state}"
    if account.state == "COMPLETED":
        return "its job ended well without it"
    return account.text()


def _not_again(submitted: Submitted) -> str:
    """Why a stale run that was submitted again is still stale."""
    if submitted.refused is not None:
        return f"again: {_first(submitted.refused)}"
    if submitted.ended is not None and submitted.ended is not Status.DONE:
        return f"again: {submitted.ended.value}"
    if submitted.ended is not None or not submitted.has_id:
        return ""
    if is_cancelled(submitted):
        return "again: cancelled"
    return f"again: lost ({why_lost(submitted)})"
