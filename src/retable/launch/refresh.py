"""Stale records brought up to the present code, by one seed of each setting.

Bits depend on the processor, so a record that was made elsewhere says nothing about the code by
itself. The record's own commit, with its own packages, and the present code therefore run the same
seed here; where they agree bit for bit, what was edited since changes nothing, and the records are
confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from retable.launch import stale
from retable.launch.checks import workers_of
from retable.launch.code_comparison import Sides, ending_of
from retable.launch.redo import leased, put_in_place
from retable.launch.stale import RefreshPlan, Stale
from retable.runs import frozen, provenance, records
from retable.runs.equality import compare
from retable.runs.frozen import FrozenRun
from retable.runs.records import Blessing, Record, RecordError, Status
from retable.util import eta
from retable.util.errors import UserError
from retable.util.text import counted, duration

Say = Callable[[str], None]

_START_S = 10.0  # until a launch has imported what its runs need


@dataclass
class Refreshed:
    """Outcome of a refresh.

    Attributes:
        settings: stale ones.
        confirmed: records whose code was found to compute the same.
        other_numbers: settings among them whose record says other numbers than this processor.
        back: records of code that is the present one again.
        redone: runs done again, whose new records are in the place of the old ones.
        same: those of them with the same result.
        stale: those that stay so, and why.
        advice: what one could do about them.
        stopped: by Ctrl-C.
    """

    settings: int = 0
    confirmed: int = 0
    other_numbers: int = 0
    back: int = 0
    redone: int = 0
    same: int = 0
    stale: list[str] = field(default_factory=list[str])
    advice: str = ""
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is stale any more."""
        return not self.stale and not self.stopped

    def text(self) -> str:
        """Describe the outcome."""
        lines: list[str] = []
        if self.back:
            lines.append(f"{counted(self.back, 'record')} of code that is the present one again")
        if not self.settings:
            return "\n".join(lines) or "nothing is stale"
        settings = counted(self.settings, "stale setting")
        line = f"{settings}: {counted(self.confirmed, 'record')} confirmed"
        if self.redone:
            line += f", {counted(self.redone, 'run')} done again ({self.same} with the same result)"
        lines.append(line)
        if self.other_numbers:
            lines.append(
                f"{counted(self.other_numbers, 'confirmed setting')}: the record has other numbers"
                " than any code here, as of another processor it may; `retable verify` on its own"
                " kind tells"
            )
        lines += [f"still stale: {text}" for text in self.stale]
        if self.advice:
            lines.append(self.advice)
        if self.stopped:
            lines.append("stopped; the same command goes on from here")
        return "\n".join(lines)


def plan_text(found: RefreshPlan) -> str:
    """Describe what a refresh will do, and about how long that takes by the records' own times."""
    groups = found.groups
    lines: list[str] = []
    if found.back:
        lines.append(f"{counted(len(found.back), 'record')} of code that is the present one again")
    if not groups:
        return "\n".join(lines) or "nothing is stale"
    count = sum(len(group.runs) for group in groups)
    settings = counted(len(groups), "stale setting")
    lines.append(f"{settings}, {counted(count, 'run')}: one seed of each setting runs again")
    commits = Counter(group.commit for group in groups if group.commit)
    if commits:
        which = ", ".join(f"{commit[:12]} ({n})" for commit, n in commits.items())
        lines.append(f"    by the present code and beside it by the record's own commit: {which}")
    for reason, n in Counter(group.reason for group in groups if not group.commit).items():
        lines.append(f"    by the present code, beside the record's bits: {n}, because {reason}")
    workers = workers_of(groups[0].probe)
    launches = [[g for g in groups if g.commit == commit] for commit in commits]
    seconds = sum(_launch_s([g.record for g in own], workers) for own in [*launches, groups])
    lines.append(f"    about {duration(seconds)} by the records' times, {workers} at once")
    return "\n".join(lines)


def _launch_s(done: Iterable[Record], workers: int) -> float:
    """Seconds of a launch that does recorded runs again."""
    took = {record.key: [record.wall_s] for record in done}
    return _START_S + (eta.left(took, dict.fromkeys(took, 1), workers) or 0.0)


def refresh(
    runs: Sequence[FrozenRun],
    say: Say,
    *,
    redo: bool = False,
    label: Callable[[FrozenRun], str] = lambda run: run.label,
) -> Refreshed:
    """Confirm the stale records among some runs where the present code gives the old bits.

    Old records stand until new ones are there; a refresh that was stopped goes on with the next
    call. What was published is not touched.

    Args:
        runs: frozen for the present code, below one folder.
        say: told what happens.
        redo: redo all runs of the settings that could not be confirmed.
        label: what a run is called.

    Raises:
        UserError: where another refresh of the same code goes on.
    """
    found = stale.find(runs)
    if not found.groups and not found.back:
        return Refreshed()
    say(plan_text(found))
    return _Refresh(found, say, label).go(redo=redo)


class _Refresh:
    """One refresh; ``reasons`` says by the probe's key why a setting is not confirmed."""

    def __init__(self, found: RefreshPlan, say: Say, label: Callable[[FrozenRun], str]) -> None:
        some = found.groups[0].probe if found.groups else found.back[0][0]
        home = Path(some.config.paths.runs).absolute()
        self.groups, self.back, self.say, self.label = found.groups, found.back, say, label
        self.done = Refreshed(settings=len(found.groups))
        self.now = provenance.collect(home)
        self.sides = Sides(home, found.groups, say, label)
        self.reasons: dict[str, str] = {}
        self.differing: list[Stale] = []

    def go(self, *, redo: bool) -> Refreshed:
        """Confirm what can be, and redo the rest where that is asked for."""
        done = self.done
        for run, record in self.back:
            done.back += self._put(run, record, {"fingerprint": run.fingerprint})
        if not self.groups:
            return done
        with self.sides.alone():
            self._by_both_sides()
            unconfirmed = [group for group in self.groups if group.probe.key in self.reasons]
            lines = [self._line(group) for group in unconfirmed]
            if redo and unconfirmed and not done.stopped:
                if self.now.dirty:
                    self.say(
                        "warning: the code has changes that are not committed; what is done again"
                        " by it can never be compared with a commit"
                    )
                for line in lines:
                    self.say(f"done again: {line}")
                self._redo(unconfirmed)
            else:
                done.stale += lines
                done.advice = self._advice()
            if done.ok:
                self.sides.clear()
        return done

    def _by_both_sides(self) -> None:
        sides = self.sides
        for group in self.groups:
            if (reason := stale.why_not_here(group.record)) is not None:
                self.reasons[group.probe.key] = reason
        self.groups = sides.prepare(self.groups)
        self.reasons |= sides.by_commits(self._left())
        if not sides.stopped:
            self.reasons |= sides.by_the_present([group.record for group in self._left()])
        if not sides.stopped:
            self._judge()
        self.done.stopped = sides.stopped

    def _left(self) -> list[Stale]:
        return [group for group in self.groups if group.probe.key not in self.reasons]

    def _line(self, group: Stale) -> str:
        more = len(group.runs) - 1
        whose = f" (and {more} more of its setting)" if more else ""
        return f"{self.label(group.probe)}{whose}: {self.reasons[group.probe.key]}"

    def _judge(self) -> None:
        """Confirm what is equal bit for bit, and find out why the rest is not."""
        for group in self._left():
            old, new = self.sides.old(group), self.sides.new(group)
            assert old is not None
            if new is None or new.status is not Status.DONE:
                reason = f"the present code does not do it: {ending_of(new)}"
                self.reasons[group.probe.key] = reason
            elif (since := self.sides.recorded_since(group)) is None:
                self.differing.append(group)
            else:
                self._confirm(group, old, new, since)
        causes = self.sides.causes(self.differing)
        for group in self.differing:
            cause = causes.get(group.probe.key)
            self.reasons[group.probe.key] = (
                f"the present code gives other bits than {_other(group)},"
                f" {self.sides.difference(group)}{f'; cause: {cause}' if cause else ''}"
            )

    def _advice(self) -> str:
        runs = [record for group in self.differing for _, record in group.runs]
        if not runs:
            return ""
        seconds = _launch_s(runs, workers_of(self.differing[0].probe))
        return (
            f"keep those records by taking the edit back, or compute {counted(len(runs), 'run')}"
            f" anew with --again, in about {duration(seconds)}"
        )

    def _confirm(self, group: Stale, old: Record, new: Record, since: list[str]) -> None:
        """Give a setting's records the present fingerprint, with a trace.

        What is recorded since does not appear in them: a table that asks for it has them redone.
        """
        count = 0
        for run, record in group.runs:
            trace = Blessing(
                was=record.fingerprint,
                seed=group.record.seed,
                commit=self.now.commit,
                dirty=self.now.dirty,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                now=run.fingerprint,
                against=group.commit,
                cpu=new.provenance.cpu,
                accelerator=new.provenance.accelerator if new.device != "cpu" else None,
                old_sha256=old.substance_sha256(),
                new_sha256=new.substance_sha256(),
                also=since,
            )
            update = {"fingerprint": run.fingerprint, "blessings": [*record.blessings, trace]}
            count += self._put(run, record, update)
        beside = compare(group.record, new)
        self.done.confirmed += count
        self.done.other_numbers += beside.kind == "different"
        text = f"the present code gives the bits of {_whose(group)}"
        if since:
            text = (
                f"equal in all that both {_whose(group)} and the present code record; that records"
                f" {', '.join(since)} besides, which these records have not"
            )
        if group.record.timing_metrics:
            text += ", measured times left out"
        if group.commit is not None:
            same = group.record.provenance.cpu == new.provenance.cpu
            where = "" if same else " of another processor"
            text += f" (beside the record{where}: {beside.kind}, {beside.detail})"
        self.say(f"{self.label(group.probe)}: {text}; {count} confirmed")

    def _put(self, run: FrozenRun, record: Record, update: Mapping[str, object]) -> bool:
        """Write a record with other facts about its code; False where that cannot be."""
        attempt = run.folder / "attempts" / str(record.attempt)
        try:
            with leased(run):
                if records.read_run(run.folder, lambda _: None) != record:
                    raise UserError("its record was replaced meanwhile")
                attempt.mkdir(parents=True, exist_ok=True)
                frozen.write(run)
                written = records.write_attempt(attempt, structs.replace(record, **update))
                records.replace_published(written, run.folder)
        except (UserError, OSError, RecordError) as error:
            self.done.stale.append(f"{self.label(run)}: {error}")
            return False
        return True

    def _redo(self, groups: Sequence[Stale]) -> None:
        """Redo all runs of some settings; each replaces its record when it is done."""
        done, pairs = self.done, [pair for group in groups for pair in group.runs]
        refused = self.sides.by_the_present([record for _, record in pairs])
        done.stopped = self.sides.stopped
        for run, old in pairs:
            if run.key in refused:
                done.stale.append(f"{self.label(run)}: {refused[run.key]}")
                continue
            folder = self.sides.aside(old).folder
            new = records.read_run(folder, lambda _: None)
            if new is None or new.status is not Status.DONE:
                if not done.stopped:
                    done.stale.append(f"{self.label(run)}: done again: {ending_of(new)}")
                continue
            done.same += compare(old, new).kind == "bitwise equal"
            try:
                put_in_place(run, folder)
            except (UserError, OSError) as error:
                done.stale.append(f"{self.label(run)}: {error}")
            else:
                done.redone += 1


def _whose(group: Stale) -> str:
    return "its record" if group.commit is None else f"its commit {group.commit[:12]}"


def _other(group: Stale) -> str:
    if group.commit is None:
        return f"its record, which is all there is to compare with because {group.reason}"
    return f"its commit {group.commit[:12]} here"
