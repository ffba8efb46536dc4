"""Rebuild records of runs that were made elsewhere from what their W&B runs say.

A record is taken only where it is whole and true to itself: it follows our schema, its key is that
of a run that was asked for and follows from its config, and its history is the one that it hashes.
Nothing here is overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import structs

from retable.config.schema import LoggerConfig
from retable.runs import records
from retable.runs.frozen import FrozenRun
from retable.runs.history import history_text
from retable.runs.import_record import GOOD, adopt, frozen_for, is_here
from retable.runs.records import Record, RecordError, Status
from retable.tracking import naming, run_payload
from retable.util.errors import UserError, brief
from retable.wandb_tools.api import Refused, Server, Unreachable, patiently

PROJECT: str = LoggerConfig(name="none").project
"""Project that runs go to where nothing else is said."""


@dataclass
class Pulled:
    """Outcome of a pull, in runs.

    Attributes:
        pulled: records that were written.
        without_history: of those, how many have no history here.
        here: runs that have a record here already.
        absent: runs that W&B does not have, or not with a result.
        refused: why records were not taken.
        where: address of the project.
    """

    pulled: int = 0
    without_history: int = 0
    here: int = 0
    absent: int = 0
    refused: list[str] = field(default_factory=list[str])
    where: str = ""

    def text(self) -> str:
        """In a line, and one for each that was refused."""
        without = f" ({self.without_history} without history)" if self.without_history else ""
        line = (
            f"{self.pulled} pulled{without}, {self.here} here already, {self.absent} not in W&B,"
            f" {len(self.refused)} refused; {self.where}"
        )
        return "\n".join([line, *(f"refused: {text}" for text in self.refused)])


@dataclass(frozen=True)
class _Candidate:
    """A run of W&B with its record.

    Attributes:
        remote: the library's run.
        path: ``entity/project/id``.
        record: as it says.
    """

    remote: Any
    path: str
    record: Record


def pull(
    runs: Iterable[FrozenRun],
    server: Server,
    *,
    entity: str,
    project: str,
    say: Callable[[str], None],
) -> Pulled:
    """Write the records of runs that have none here.

    Args:
        runs: that are asked for.
        server: W&B's.
        entity: user or team that has them.
        project: that they are in.
        say: told of pauses.

    Raises:
        UserError: where the server refuses, or does not answer.
    """
    path = f"{entity}/{project}"
    outcome = Pulled(where=server.page(path))
    wanted: dict[str, FrozenRun] = {}
    for run in {run.key: run for run in runs}.values():
        if is_here(run.folder):
            outcome.here += 1
        else:
            wanted[run.key] = run
    if not wanted:
        return outcome
    try:
        found = _listed(wanted, server, path, say)
        for key, run in wanted.items():
            before = len(outcome.refused)
            remotes = found.get(key[: naming.KEY_CHARACTERS], [])
            candidates = _candidates(key, remotes, server, path, outcome, say)
            if candidates:
                _take(run, _best(candidates, run.fingerprint), server, outcome, say)
            elif len(outcome.refused) == before:
                outcome.absent += 1
    except (Refused, Unreachable) as error:
        raise UserError(f"wandb pull: {server.host}: {error}") from None
    return outcome


def _listed(
    wanted: Mapping[str, FrozenRun],
    server: Server,
    project: str,
    say: Callable[[str], None],
) -> dict[str, list[Any]]:
    """Runs of W&B by the beginning of their keys, which their ids begin with."""
    groups = sorted({naming.group(run.config) for run in wanted.values()})
    filters = {"group": {"$in": groups}}
    listed = patiently(lambda: server.runs(project, filters), said=say)
    found: dict[str, list[Any]] = {}
    for remote in listed:
        found.setdefault(str(remote.id)[: naming.KEY_CHARACTERS], []).append(remote)
    return found


def _candidates(
    key: str,
    remotes: Iterable[Any],
    server: Server,
    where: str,
    outcome: Pulled,
    say: Callable[[str], None],
) -> list[_Candidate]:
    out: list[_Candidate] = []
    for remote in remotes:
        path = f"{where}/{remote.id}"
        text = patiently(lambda remote=remote: server.summary(remote), said=say).get(
            run_payload.RECORD
        )
        if not isinstance(text, str):
            continue  # it has not ended, or somebody else's run has such an id
        try:
            record = records.parse(text, path)
        except RecordError as error:
            outcome.refused.append(str(error))
            continue
        if record.status not in GOOD:
            continue
        own = re.escape(naming.run_id(record.key, record.fingerprint))
        if record.key != key or not re.fullmatch(rf"{own}(g\d+)?", str(remote.id), re.ASCII):
            which = brief(record.key, naming.KEY_CHARACTERS)
            outcome.refused.append(f"{brief(path)}: its record is of another run ({which})")
            continue
        out.append(_Candidate(remote, path, record))
    return out


def _best(candidates: list[_Candidate], fingerprint: str) -> _Candidate:
    """A finished one before a diverged one, of the present code before another, the newest."""

    def rank(one: _Candidate) -> tuple[bool, bool, str]:
        record = one.record
        return record.status is Status.DONE, record.fingerprint == fingerprint, record.started

    return max(candidates, key=rank)


def _take(
    run: FrozenRun,
    one: _Candidate,
    server: Server,
    outcome: Pulled,
    say: Callable[[str], None],
) -> None:
    try:
        frozen_run = frozen_for(one.record, Path(run.config.paths.runs))
    except UserError as error:
        outcome.refused.append(f"{one.path}: {error}")
        return
    history = None
    if one.record.history_sha256 is not None:
        history = history_of(patiently(lambda: server.rows(one.remote), said=say))
        if history is None or records.text_sha256(history) != one.record.history_sha256:
            history = None
            say(f"{one.path}: its history is not the one that its record hashes; left out")
    try:
        written = adopt(frozen_run, structs.replace(one.record, pulled=one.path), history)
    except RecordError as error:  # too large
        outcome.refused.append(f"{one.path}: {error}")
    except OSError as error:
        raise UserError(f"{frozen_run.folder}: cannot be written ({error.strerror})") from None
    else:
        outcome.pulled += written
        lost = history is None and one.record.history_sha256 is not None
        outcome.without_history += written and lost
        outcome.here += not written


def history_of(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Text of ``history.jsonl`` from the rows that W&B has; None where they are no such rows.

    W&B writes 1.0 as 1. All numbers of a history but the epoch are floats.
    """
    try:
        return history_text(
            {name: int(v) if name == "epoch" else float(v) for name, v in row.items()}
            for row in rows
        )
    except (TypeError, ValueError):
        return None
