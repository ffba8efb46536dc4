"""Stale records brought up to the present code, by one seed of each setting.

Bits depend on the processor, so a record that was made elsewhere says nothing about the code by
itself. The record's own commit, with its own packages, and the present code therefore run the same
seed here; where they agree bit for bit, what was edited since changes nothing, and the records are
confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from retable import provenance, records
from retable.compare import compare
from retable.errors import UserError
from retable.launch import frozen, stale
from retable.launch.again import leased, put_in_place
from retable.launch.frozen import FrozenRun
from retable.launch.progress import counted, duration
from retable.launch.sides import Sides, ending_of
from retable.launch.stale import Stale
from retable.launch.together import workers_of
from retable.records import Blessing, Record, RecordError, Status

Say = Callable[[str], None]

_START_S = 10.0  # until a launch has imported what its runs need


@dataclass
class Refreshed:
    """What a refresh did, in runs; ``stale`` names those that stay so, and why."""

    settings: int = 0
    confirmed: int = 0
    again: int = 0
    same: int = 0
    stale: list[str] = field(default_factory=list[str])
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is stale any more."""
        return not self.stale and not self.stopped

    def text(self) -> str:
        """How it went, in words."""
        if not self.settings:
            return "nothing is stale"
        settings = counted(self.settings, "stale setting")
        line = f"{settings}: {counted(self.confirmed, 'record')} confirmed"
        if self.again:
            line += f", {counted(self.again, 'run')} done again, {self.same} with the same result"
        lines = [line, *(f"still stale: {text}" for text in self.stale)]
        if self.stopped:
            lines.append("stopped; the same command goes on from here")
        return "\n".join(lines)


def plan_text(groups: Sequence[Stale]) -> str:
    """What a refresh will do, and about how long that takes by the records' own times."""
    if not groups:
        return "nothing is stale"
    count = sum(len(group.runs) for group in groups)
    settings = counted(len(groups), "stale setting")
    lines = [f"{settings}, {counted(count, 'run')}: one seed of each setting runs again"]
    commits = Counter(group.commit for group in groups if group.commit)
    if commits:
        which = ", ".join(f"{commit[:12]} ({n})" for commit, n in commits.items())
        lines.append(f"    by the present code and beside it by the record's own commit: {which}")
    for reason, n in Counter(group.reason for group in groups if not group.commit).items():
        lines.append(f"    by the present code, beside the record's bits: {n}, because {reason}")
    workers = workers_of(groups[0].probe)
    seconds = sum(group.record.wall_s * (2 if group.commit else 1) for group in groups) / workers
    seconds += _START_S * (len(commits) + 1)
    lines.append(f"    about {duration(seconds)} by the records' times, {workers} at once")
    return "\n".join(lines)


def refresh(
    runs: Sequence[FrozenRun],
    say: Say,
    *,
    again: bool = False,
    label: Callable[[FrozenRun], str] = lambda run: run.label,
) -> Refreshed:
    """Confirm the stale records among some runs where the present code gives the old bits.

    Old records stand until new ones are there; a refresh that was stopped goes on when called
    again. What was published is not touched.

    Args:
        runs: frozen for the present code, below one folder.
        say: told what happens.
        again: do all runs again of the settings that could not be confirmed.
        label: what a run is called.
    """
    groups = stale.of_runs(runs)
    if not groups:
        return Refreshed()
    say(plan_text(groups))
    return _Refresh(groups, say, label).go(again=again)


class _Refresh:
    """One refresh; ``reasons`` says by the probe's key why a setting is not confirmed."""

    def __init__(
        self, groups: Sequence[Stale], say: Say, label: Callable[[FrozenRun], str]
    ) -> None:
        home = Path(groups[0].probe.config.paths.runs).absolute()
        self.groups, self.say, self.label = groups, say, label
        self.done = Refreshed(settings=len(groups))
        self.now = provenance.collect(home)
        self.sides = Sides(home, groups, say, label)
        self.reasons: dict[str, str] = {}

    def go(self, *, again: bool) -> Refreshed:
        """Run the sides, confirm what agrees, and do the rest again where that is asked for."""
        sides, done = self.sides, self.done
        for group in self.groups:
            if (reason := stale.why_not_here(group.record)) is not None:
                self.reasons[group.probe.key] = reason
        self.groups = sides.prepare(self.groups)
        self.reasons |= sides.by_commits(self._left())
        if not sides.stopped:
            self.reasons |= sides.by_the_present([group.record for group in self._left()])
        if not sides.stopped:
            self._judge()
        done.stopped = sides.stopped
        unconfirmed = [group for group in self.groups if group.probe.key in self.reasons]
        lines = [self._line(group) for group in unconfirmed]
        if again and unconfirmed and not done.stopped:
            for line in lines:
                self.say(line)
            self._do_again(unconfirmed)
        else:
            done.stale += lines
            if unconfirmed and not done.stopped:
                self.say(_offer(unconfirmed))
        if done.ok:
            sides.close()
        return done

    def _left(self) -> list[Stale]:
        return [group for group in self.groups if group.probe.key not in self.reasons]

    def _line(self, group: Stale) -> str:
        more = len(group.runs) - 1
        whose = f" and {more} more of its setting" if more else ""
        return f"{self.label(group.probe)}{whose}: {self.reasons[group.probe.key]}"

    def _judge(self) -> None:
        """Confirm what is equal bit for bit, and find out why the rest is not."""
        differing: list[Stale] = []
        for group in self._left():
            old, new = self.sides.old(group), self.sides.new(group)
            assert old is not None
            if new is None or new.status is not Status.DONE:
                reason = f"the present code does not do it: {ending_of(new)}"
                self.reasons[group.probe.key] = reason
            elif old.substance() != new.substance():
                differing.append(group)
            else:
                count = self._confirm(group, old, new)
                self.say(f"{self.label(group.probe)}: {_how_equal(group, new)}; {count} confirmed")
        causes = self.sides.causes(differing)
        for group in differing:
            text = f"differs from {_other(group)}: {self.sides.compare(group).text()}"
            cause = causes.get(group.probe.key)
            self.reasons[group.probe.key] = f"{text}; cause: {cause}" if cause else text

    def _confirm(self, group: Stale, old: Record, new: Record) -> int:
        """Give a setting's records the present fingerprint, with a trace; returns how many."""
        before = self.done.confirmed
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
            )
            update = {"fingerprint": run.fingerprint, "blessings": [*record.blessings, trace]}
            attempt = run.folder / "attempts" / str(record.attempt)
            try:
                with leased(run):
                    if records.read_run(run.folder, lambda _: None) != record:
                        raise UserError("its record was replaced meanwhile")
                    attempt.mkdir(parents=True, exist_ok=True)
                    frozen.write(run)
                    written = records.write_attempt(attempt, record.model_copy(update=update))
                    records.replace_published(written, run.folder)
            except (UserError, OSError, RecordError) as error:
                self.done.stale.append(f"{self.label(run)}: {error}")
            else:
                self.done.confirmed += 1
        return self.done.confirmed - before

    def _do_again(self, groups: Sequence[Stale]) -> None:
        """Do all runs of some settings again; each replaces its record when it is done."""
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
                done.again += 1


def _offer(groups: Sequence[Stale]) -> str:
    runs = [record for group in groups for _, record in group.runs]
    seconds = sum(record.wall_s for record in runs) / workers_of(groups[0].probe)
    what = f"{counted(len(runs), 'run')}, about {duration(_START_S + seconds)}"
    return f"--again does what is still stale again: {what}"


def _other(group: Stale) -> str:
    if group.commit is None:
        return f"the record, which is all there is to compare with: {group.reason}"
    return f"its commit {group.commit[:12]} here"


def _how_equal(group: Stale, new: Record) -> str:
    whose = "its record" if group.commit is None else f"its commit {group.commit[:12]}"
    text = f"the present code gives the bits of {whose}"
    if group.record.timing_metrics:
        text += ", measured times left out"
    if group.commit is None:
        return text
    found = compare(group.record, new)
    where = "" if group.record.provenance.cpu == new.provenance.cpu else " of another processor"
    return f"{text} (beside the record{where}: {found.kind}, {found.detail})"
