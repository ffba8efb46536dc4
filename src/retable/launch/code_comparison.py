"""The sides of a comparison between two states of the code: one seed of each setting by either."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from retable.launch import commit_code
from retable.launch.commit_code import Answer, Code, Order, Unavailable
from retable.launch.dispatch import launch
from retable.launch.stale import Stale
from retable.runs import provenance, records, snapshot
from retable.runs.equality import TOLERANCE, Rows, compare, first_difference, only_in_one
from retable.runs.frozen import FrozenRun
from retable.runs.lease import Lease, read_holder
from retable.runs.lookup import history_of, refreeze, values_of
from retable.runs.records import Record, Status
from retable.util.errors import UserError
from retable.util.text import counted

FOLDER = "_refresh"
"""Side folder below that of all runs."""
_PRESENT = "present"
_LEASE_S = 60.0


class Sides:
    """Runs of some stale settings, done aside by their own commits and by the present code.

    Attributes:
        stopped: whether Ctrl-C has ended one of the launches.
    """

    def __init__(
        self,
        home: Path,
        groups: Sequence[Stale],
        say: Callable[[str], None],
        label: Callable[[FrozenRun], str],
    ) -> None:
        """Resume what was begun where code, packages and processor are the same.

        Args:
            home: folder of all runs.
            groups: whose probes are to be run.
            say: told what happens.
            label: what a run is called.
        """
        of = sorted({group.probe.fingerprint for group in groups})
        here = "\n".join([*of, provenance.cpu_model(), provenance.packages()])
        self._base = home / FOLDER / hashlib.sha256(here.encode()).hexdigest()[:16]
        self._say, self._label = say, label
        self._codes: dict[str, Code] = {}
        self.stopped = False

    @contextmanager
    def alone(self) -> Generator[None]:
        """While no other refresh may use what is done aside.

        Raises:
            UserError: where one does, or nothing can be written.
        """
        try:
            self._base.mkdir(parents=True, exist_ok=True)
            lease = Lease.acquire(self._base, _LEASE_S)
        except OSError as error:
            raise UserError(f"{self._base}: cannot be written ({error.strerror})") from None
        if lease is None:
            other = read_holder(self._base)
            who = f" (process {other.pid} on {other.host})" if other else ""
            raise UserError(f"another refresh goes on{who}; try again when it has ended")
        try:
            yield
        finally:
            lease.release()
            with suppress(OSError):  # empty where everything is confirmed
                self._base.rmdir()
                self._base.parent.rmdir()

    def clear(self) -> None:
        """Remove what was done aside; nothing of it is needed any more."""
        for path in self._base.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def old(self, group: Stale) -> Record | None:
        """Reference result of the probe: its commit's result here, or the record itself."""
        return self._result(group, _short(group.commit)) if group.commit else group.record

    def new(self, group: Stale) -> Record | None:
        """Result of the probe by the present code."""
        return self._result(group, _PRESENT)

    def difference(self, group: Stale) -> str:
        """Where the old and the present code's results part first, and by how much they differ."""
        old, new = self.old(group), self.new(group)
        assert old is not None
        assert new is not None
        histories = self._histories(group, old, new)
        found = compare(old, new, histories)
        size = f", {found.kind} of {TOLERANCE:g}" if found.kind != "different" else ""
        return f"first in {first_difference(old, new, histories)}{size}"

    def recorded_since(self, group: Stale) -> list[str] | None:
        """What the present code records and the old did not; None where something else differs."""
        old, new = self.old(group), self.new(group)
        assert old is not None
        assert new is not None
        if old.substance() == new.substance():
            return []
        alone = only_in_one(old, new, self._histories(group, old, new))
        return None if alone is None or alone[0] else alone[1]

    def _histories(self, group: Stale, old: Record, new: Record) -> tuple[Rows, Rows]:
        place = self._folder(group, _short(group.commit)) if group.commit else group.probe.folder
        return history_of(place, old), history_of(self._folder(group, _PRESENT), new)

    def prepare(self, groups: Sequence[Stale]) -> list[Stale]:
        """Make source and packages of all commits; a group whose cannot be made does without."""
        missing: dict[str | None, str] = {}
        for commit in dict.fromkeys(group.commit for group in groups if group.commit):
            try:
                self._codes[commit] = commit_code.of_commit(commit, self._say)
            except Unavailable as error:
                self._say(f"{error}; its runs are compared with their records' bits")
                missing[commit] = str(error)
        return [
            replace(group, commit=None, reason=missing[group.commit])
            if group.commit in missing
            else group
            for group in groups
        ]

    def by_commits(self, groups: Sequence[Stale]) -> dict[str, str]:
        """Have every probe run by its own commit; returns why one says nothing, by key."""
        reasons: dict[str, str] = {}
        for commit in dict.fromkeys(group.commit for group in groups if group.commit):
            own = [group for group in groups if group.commit == commit]
            try:
                answer = self._execute(self._codes[commit], own, _short(commit))
            except Unavailable as error:
                reasons |= {group.probe.key: str(error) for group in own}
                continue
            if self.stopped:
                break
            for group in own:
                if (reason := self._why_not(group, answer)) is not None:
                    self._say(f"{self._label(group.probe)}: {reason}")
                    reasons[group.probe.key] = reason
        return reasons

    def _why_not(self, group: Stale, answer: Answer) -> str | None:
        """Why what its commit has done says nothing of a record, None where it does."""
        key, record, name = group.probe.key, group.record, f"commit {_short(group.commit)}"
        if key in answer.refused:
            return f"its {name} refuses it: {answer.refused[key]}"
        if (by := answer.computed_by.get(key, "none")) != record.computed_by:
            return (
                f"was not computed by the code of its {name}: fingerprint"
                f" {record.computed_by[:12]}, there {by[:12]}"
            )
        old = self.old(group)
        if old is None or old.status is not Status.DONE:
            return f"its {name} does not do it here: {ending_of(old)}"
        if old.device != record.device:
            return f"is of {record.device}, and its {name} runs on {old.device} here"
        if _same_machine(record, old) and old.substance() != record.substance():
            found = compare(record, old)
            return f"its {name} does not give its bits on its own kind of processor: {found.text()}"
        return None

    def by_the_present(self, some: Sequence[Record]) -> dict[str, str]:
        """Have recorded runs done by the present code; returns why it refuses one, by key."""
        reasons: dict[str, str] = {}
        todo: list[FrozenRun] = []
        for record in some:
            try:
                todo.append(self.aside(record))
            except UserError as error:
                reasons[record.key] = f"the present code refuses it: {error}"
        if todo:
            self._say(f"by the present code: {counted(len(todo), 'run')}")
            self.stopped = launch(todo, label=self._label).stopped
        return reasons

    def aside(self, record: Record) -> FrozenRun:
        """A recorded run as the present code does it here."""
        run = refreeze(record, self._base / _PRESENT)
        launcher = run.config.launcher.model_copy(update={"snapshot": True})
        config = run.config.model_copy(update={"launcher": launcher})
        return FrozenRun(config, run.key, run.fingerprint)

    def causes(self, groups: Sequence[Stale]) -> dict[str, str]:
        """Code or packages? Have what differs run by the present code with the old packages.

        Returns:
            What that says, by key; of settings that have a commit.
        """
        found: dict[str, str] = {}
        for commit in dict.fromkeys(group.commit for group in groups if group.commit):
            own = [group for group in groups if group.commit == commit]
            if not self._codes[commit].has_own_packages:
                found |= {
                    group.probe.key: "the code, as the packages are the same" for group in own
                }
                continue
            side = f"{_short(commit)}-packages"
            source = snapshot.make(self._base / _PRESENT, {t for g in own for t in g.probe.targets})
            name = f"the present code with the packages of commit {_short(commit)}"
            try:
                self._execute(Code(name, source, self._codes[commit].python), own, side)
            except Unavailable as error:
                found |= {group.probe.key: f"code or packages, not known: {error}" for group in own}
                continue
            if self.stopped:
                break
            found |= {g.probe.key: _cause(self.old(g), self._result(g, side)) for g in own}
        return found

    def _execute(self, code: Code, groups: Sequence[Stale], side: str) -> Answer:
        self._say(f"by {code.name}: {counted(len(groups), 'run')}")
        answer = commit_code.execute(code, [self._order(group, side) for group in groups])
        self.stopped = answer.stopped
        return answer

    def _order(self, group: Stale, side: str) -> Order:
        values = values_of(group.record, self._base / side)
        paths = values["paths"].items()
        absolute = {name: path and str(Path(path).absolute()) for name, path in paths}
        present = side != _short(group.commit)
        by = group.probe.fingerprint if present else group.record.computed_by
        return Order(group.probe.key, by, {**values, "paths": absolute})

    def _folder(self, group: Stale, side: str) -> Path:
        return records.run_folder(self._base / side, group.record.paper, group.probe.key)

    def _result(self, group: Stale, side: str) -> Record | None:
        return records.read_run(self._folder(group, side), lambda _: None)


def ending_of(record: Record | None) -> str:
    """Describe the end of a run that gave no result."""
    if record is None:
        return "no record"
    lines = (record.error or "").splitlines()
    return f"{record.status.value}{': ' + lines[0] if lines else ''}"


def _short(commit: str | None) -> str:
    return str(commit)[:12]


def _same_machine(a: Record, b: Record) -> bool:
    """Whether nothing is known that could give a record other bits when its code runs again."""
    x, y = a.provenance, b.provenance
    if None not in (x.cpu_id, y.cpu_id) and x.cpu_id != y.cpu_id:
        return False  # many a processor in a cloud goes by one name
    return (x.cpu, x.accelerator, x.driver, x.python) == (y.cpu, y.accelerator, y.driver, y.python)


def _cause(old: Record | None, mixed: Record | None) -> str:
    if old is None or mixed is None or mixed.status is not Status.DONE:
        return f"code or packages, not known: with the old packages {ending_of(mixed)}"
    if mixed.substance() == old.substance():
        return "the packages, as with the old ones the code gives the same bits"
    return "the code, as with the old packages too it gives other bits"
