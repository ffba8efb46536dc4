"""Records of older code, by the setting and the code that they have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from retable.config import source_files
from retable.launch import commit_code
from retable.runs import provenance, records
from retable.runs.frozen import FrozenRun
from retable.runs.identity import targets_of
from retable.runs.records import Record, Status
from retable.util import paths


@dataclass(frozen=True)
class Stale:
    """Stale records of one setting that the same code has computed; one seed speaks for all.

    Attributes:
        runs: with their records.
        probe: the run that is done by both codes.
        record: its record.
        commit: that is run beside the present code; None where it is compared with the record.
        reason: why it is.
    """

    runs: list[tuple[FrozenRun, Record]]
    probe: FrozenRun
    record: Record
    commit: str | None
    reason: str | None


@dataclass(frozen=True)
class RefreshPlan:
    """Records of some runs by what a refresh has to do about them.

    Attributes:
        groups: of other code than the present, by setting and first code.
        back: of code that is the present one again, which their traces name.
        recorded: how many of the runs are done.
    """

    groups: list[Stale]
    back: list[tuple[FrozenRun, Record]]
    recorded: int


def find(runs: Iterable[FrozenRun]) -> RefreshPlan:
    """Look for records of other code than the present among some runs."""
    groups: dict[tuple[str, str], list[tuple[FrozenRun, Record]]] = {}
    back: list[tuple[FrozenRun, Record]] = []
    recorded = 0
    for run in sorted({r.key: r for r in runs}.values(), key=lambda r: r.config.seed):
        record = records.read_run(run.folder, lambda _: None)
        if record is None or record.status is not Status.DONE:
            continue
        recorded += 1
        if record.fingerprint == run.fingerprint:
            continue
        if run.fingerprint in {code for b in record.blessings for code in (b.was, b.now)}:
            back.append((run, record))
        else:
            groups.setdefault((run.setting_key, record.computed_by), []).append((run, record))
    return RefreshPlan([_of(group) for group in groups.values()], back, recorded)


def _of(runs: list[tuple[FrozenRun, Record]]) -> Stale:
    for run, record in runs:
        if why_not_by_commit(record) is None:
            return Stale(runs, run, record, record.provenance.commit, None)
    run, record = runs[0]
    return Stale(runs, run, record, None, why_not_by_commit(record))


def why_not_by_commit(record: Record) -> str | None:
    """Why a record's own commit cannot compute it again, None where it can."""
    source = record.provenance
    if any(_is_elsewhere(target) for target in targets_of(record.config)):
        return "its paper is kept outside of the repository"
    if source.commit is None:
        return "its record names no commit"
    if source.dirty is not None:
        return "it was computed with changes that were not committed"
    return commit_code.why_unknown(source.commit)


def _is_elsewhere(target: str) -> bool:
    file = (
        source_files.module_file(target.rpartition(".")[0])
        if target.startswith("retable.")
        else None
    )
    return file is not None and not file.is_relative_to(paths.PACKAGE)


def why_not_here(record: Record) -> str | None:
    """Why this machine has not what a record was computed on, None where it has."""
    if record.device != "cpu" and provenance.gpu()[0] is None:
        return f"was computed on {record.device}, which this machine does not have"
    return None
