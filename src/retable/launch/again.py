"""Recorded runs once more: verify what a record says, refresh what older code has computed."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from retable import locations, provenance, records
from retable.compare import Comparison, compare
from retable.errors import UserError
from retable.launch import frozen
from retable.launch.engine import Summary, launch
from retable.launch.frozen import FrozenRun
from retable.launch.job import new_attempt
from retable.launch.lease import Lease
from retable.launch.recorded import Recorded, history_of, refreeze
from retable.records import Blessing, Record, RecordError, Status

if TYPE_CHECKING:
    from collections.abc import Generator

VERIFY = "_verify"
REFRESH = "_refresh"
"""Side folders below that of all runs, where runs are done again."""


@dataclass(frozen=True)
class Verified:
    """What came of running a recorded run again."""

    recorded: Recorded
    comparison: Comparison
    new: Record | None
    replaced: bool
    stopped: bool


def verify(recorded: Recorded, *, replace: bool = False) -> Verified:
    """Run a recorded run again, in a folder of its own, and compare.

    Args:
        recorded: done or diverged.
        replace: put the new record in the place of the recorded one.

    Raises:
        UserError: where there is nothing to compare or nothing that could be replaced.
    """
    old = recorded.record
    if old.status not in {Status.DONE, Status.DIVERGED}:
        raise UserError(f"{recorded.where}: is {old.status.value}; only an ended run has a result")
    if replace and recorded.folder is None:
        raise UserError(f"run {old.key[:12]}: is published only; --replace needs it among the runs")
    home = recorded.folder.parents[1] if recorded.folder else locations.runs_folder().absolute()
    side = home / VERIFY / secrets.token_hex(6)
    run = refreeze(old, side)
    try:
        summary = launch([run], label=lambda _: f"verify {recorded.name}")
        new = records.read_run(run.folder, lambda _: None)
        if summary.stopped:
            return Verified(recorded, _not_ended("stopped"), new, replaced=False, stopped=True)
        comparison = _compare(recorded, run, new)
        replaced = False
        if replace and new is not None and new.status is Status.DONE:
            put_in_place(refreeze(old, home), run.folder)
            replaced = True
        return Verified(recorded, comparison, new, replaced=replaced, stopped=False)
    finally:
        shutil.rmtree(side, ignore_errors=True)
        with suppress(OSError):  # another verification goes on in it
            side.parent.rmdir()


def _not_ended(reason: str) -> Comparison:
    return Comparison("different", f"the run again has no result: {reason}")


def _compare(recorded: Recorded, run: FrozenRun, new: Record | None) -> Comparison:
    if new is None:
        return _not_ended("it left no record")
    if new.status in {Status.FAILED, Status.INTERRUPTED, Status.TIMEOUT}:
        lines = (new.error or "").splitlines()
        return _not_ended(f"{new.status.value}{': ' + lines[0] if lines else ''}")
    return compare(recorded.record, new, (recorded.history, history_of(run.folder, new)))


@contextmanager
def _leased(run: FrozenRun) -> Generator[None]:
    lease = Lease.acquire(run.folder, run.config.launcher.lease_s)
    if lease is None:
        raise UserError(f"{run.folder}: another runner holds it; try again when it has ended")
    try:
        yield
    finally:
        lease.release()


def put_in_place(run: FrozenRun, side: Path) -> None:
    """Make the done attempt of a side folder the newest attempt of a run, and its record the run's.

    A kill at any moment leaves the old record or the new one.

    Args:
        run: the run among the others.
        side: the run's folder where it was done again.
    """
    new = records.read(side / records.RUN_RECORD)
    assert new is not None
    with _leased(run):
        attempt = new_attempt(run.folder)
        shutil.copytree(side / "attempts" / str(new.attempt), attempt, dirs_exist_ok=True)
        store = Path(run.config.paths.runs) / provenance.STORE
        shutil.copytree(side.parents[1] / provenance.STORE, store, dirs_exist_ok=True)
        numbered = new.model_copy(update={"attempt": int(attempt.name)})
        frozen.write(run)
        records.replace_published(records.write_attempt(attempt, numbered), run.folder)


@dataclass
class Refreshed:
    """What a refresh did, in runs; ``failed`` names those that stay stale."""

    settings: int = 0
    blessed: int = 0
    again: int = 0
    same: int = 0
    failed: list[str] = field(default_factory=list[str])
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is stale any more."""
        return not self.failed and not self.stopped

    def text(self) -> str:
        """How it went, in words."""
        if not self.settings:
            return "nothing is stale"
        lines = [
            f"{self.settings} stale settings: {self.blessed} records confirmed (bitwise equal),"
            f" {self.again} runs done again, {self.same} of them with the same result"
        ]
        lines += [f"still stale: {text}" for text in self.failed]
        if self.stopped:
            lines.append("stopped; the same command goes on from here")
        return "\n".join(lines)


@dataclass
class _Setting:
    """The stale runs of one setting with their records, first seed first."""

    runs: list[tuple[FrozenRun, Record]]

    @property
    def timed(self) -> bool:
        """Whether it measured times, of which a comparison says nothing."""
        return any(record.timing_metrics for _, record in self.runs)


def stale_settings(runs: Iterable[FrozenRun]) -> list[list[tuple[FrozenRun, Record]]]:
    """Done runs whose record is of other code than the present, by setting."""
    settings: dict[str, list[tuple[FrozenRun, Record]]] = {}
    for run in runs:
        record = records.read_run(run.folder, lambda _: None)
        if record is None or record.status is not Status.DONE:
            continue
        if record.fingerprint != run.fingerprint:
            settings.setdefault(run.with_seed(0).key, []).append((run, record))
    return list(settings.values())


def refresh(runs: Sequence[FrozenRun], say: Callable[[str], None]) -> Refreshed:
    """Bring the stale records among some runs up to the present code.

    One seed of every setting runs again. Where it is bitwise equal, the setting's records are
    re-blessed, with a trace; where it is not, or where times were measured, all its stale runs
    are done again. Old records stand until the new ones are there; a refresh that was stopped
    goes on when called again.

    Args:
        runs: all runs of some tables; their paths and launcher agree.
        say: told what happens.
    """
    settings = [_Setting(group) for group in stale_settings(runs)]
    done = Refreshed(settings=len(settings))
    if not settings:
        return done
    home = Path(runs[0].config.paths.runs).absolute()
    code = hashlib.sha256("".join(sorted({r.fingerprint for r in runs})).encode()).hexdigest()
    side = home / REFRESH / code[:16]
    probes = [setting.runs[0] for setting in settings if not setting.timed]
    again = [pair for setting in settings if setting.timed for pair in setting.runs]
    if again:
        say(f"{len(again)} stale runs measured times: all of them run again")
    if probes:
        say(f"{len(probes)} stale settings: one seed of each runs again")
    done.stopped = _launch_aside(probes, side).stopped
    for setting in [] if done.stopped else settings:
        if setting.timed:
            continue
        run, old = setting.runs[0]
        new = _result_aside(run, side)
        recorded = Recorded(old, history_of(run.folder, old), run.folder, run.folder)
        comparison = _compare(recorded, _aside(run, side), new)
        if comparison.kind == "bitwise equal":
            done.blessed += _bless(setting, run.config.seed, done)
        else:
            say(f"{run.label}: {comparison.text()}; all {len(setting.runs)} stale runs again")
            again += setting.runs
    if again and not done.stopped:
        done.stopped = _launch_aside(again, side).stopped
    for run, old in again:
        _replace(run, old, side, done)
    if done.ok:
        shutil.rmtree(side, ignore_errors=True)
    return done


def _aside(run: FrozenRun, side: Path) -> FrozenRun:
    config = run.config
    paths = config.paths.model_copy(update={"runs": str(side)})
    logger = config.logger.model_copy(update={"name": "none"})  # its curves are the run's own
    config = config.model_copy(update={"paths": paths, "logger": logger})
    return FrozenRun(config, run.key, run.fingerprint)


def _launch_aside(pairs: Sequence[tuple[FrozenRun, Record]], side: Path) -> Summary:
    return launch([_aside(run, side) for run, _ in pairs])


def _result_aside(run: FrozenRun, side: Path) -> Record | None:
    return records.read_run(_aside(run, side).folder, lambda _: None)


def _bless(setting: _Setting, seed: int, done: Refreshed) -> int:
    """Give a setting's records the present fingerprint, with a trace; returns how many."""
    some = setting.runs[0][0]
    now = provenance.collect(Path(some.config.paths.runs))
    count = 0
    for run, old in setting.runs:
        trace = Blessing(
            was=old.fingerprint,
            seed=seed,
            commit=now.commit,
            dirty=now.dirty,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        new = old.model_copy(
            update={"fingerprint": run.fingerprint, "blessings": [*old.blessings, trace]}
        )
        attempt = run.folder / "attempts" / str(old.attempt)
        try:
            with _leased(run):
                attempt.mkdir(parents=True, exist_ok=True)
                frozen.write(run)
                records.replace_published(records.write_attempt(attempt, new), run.folder)
        except (UserError, OSError, RecordError) as error:
            done.failed.append(f"{run.label}: {error}")
        else:
            count += 1
    return count


def _replace(run: FrozenRun, old: Record, side: Path, done: Refreshed) -> None:
    new = _result_aside(run, side)
    if new is None or new.status is not Status.DONE:
        if not done.stopped:
            reason = "no record" if new is None else f"{new.status.value}: {new.error or ''}"
            done.failed.append(f"{run.label}: run again: {reason.splitlines()[0]}")
        return
    done.same += compare(old, new).kind == "bitwise equal"
    try:
        put_in_place(run, _aside(run, side).folder)
    except (UserError, OSError) as error:
        done.failed.append(f"{run.label}: {error}")
    else:
        done.again += 1
