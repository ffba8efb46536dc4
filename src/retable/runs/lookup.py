"""Find a recorded run by folder or key, here or among the published ones, and freeze it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retable.config.compose import from_values
from retable.runs import records
from retable.runs.frozen import FrozenRun, freeze
from retable.runs.history import read_or_empty
from retable.runs.identity import run_key
from retable.runs.records import Record
from retable.util import paths
from retable.util.errors import UserError, brief
from retable.util.text import run_name

_MIN_PREFIX = 4

REDO = "_again"
"""Side folder below that of all runs, where runs are redone: below it one per state of the code, so
that what older code has left is never taken for the new result."""


class NotARunError(UserError):
    """A name that no run could have."""


@dataclass(frozen=True)
class Recorded:
    """A run with its record.

    Attributes:
        record: the record that speaks for the run.
        history: epoch by epoch; thinned where long and published.
        folder: the run's folder; None where it is published only.
        where: folder or file, for messages.
    """

    record: Record
    history: list[dict[str, float]]
    folder: Path | None
    where: Path

    @property
    def label(self) -> str:
        """Short name for people."""
        record = self.record
        return run_name(record.experiment or record.paper, record.seed, record.key)


def find(text: str) -> Recorded:
    """The recorded run that a folder, a key or the beginning of a key stands for.

    Args:
        text: a run's folder, or at least four characters of its key, with or without ``paper/``
            before it. Runs here come first, then the published ones.

    Raises:
        UserError: where there is none, or several.
    """
    folders, match = _named(text)
    if folders:
        return _from_folder(folders[0])
    assert match is not None
    prefix = match[2]
    from retable.runs import published_records

    published = published_records.find(prefix)
    if len(published) > 1:
        raise _ambiguous(text, list(published))
    for record, history, file in published.values():
        if match[1] in (None, record.paper):
            return Recorded(record, history, None, file)
    runs = paths.runs_folder()
    raise UserError(f"run '{text}': there is none, neither in {runs} nor among the published")


def find_folder(text: str) -> Path:
    """The folder of a run here, which may have no record yet; see :func:`find`.

    Raises:
        UserError: where there is none, or several.
    """
    folders, _ = _named(text)
    if not folders:
        raise UserError(f"run '{text}': there is none in {paths.runs_folder()}")
    folder = folders[0].absolute()
    if folder.parent.name == "attempts":  # as a failure names it
        folder = folder.parents[1]
    if not _is_run(folder):
        raise UserError(f"{folder}: is not a run folder, <runs>/<paper>/<key>")
    return folder


def newest_folder(text: str) -> Path:
    """The folder with the newest attempt of a run, which may be at a side where it is redone.

    Raises:
        UserError: as :func:`find_folder`.
    """
    folder = find_folder(text)
    runs, paper = folder.parents[1], folder.parent.name
    sides = [side for side in runs.glob(f"{REDO}/*/{paper}/{folder.name}") if side.is_dir()]
    return max((folder, *sides), key=_last_attempt)


def _last_attempt(folder: Path) -> float:
    attempts = records.attempts(folder)
    return attempts[0].stat().st_mtime if attempts else 0.0


def _named(text: str) -> tuple[list[Path], re.Match[str] | None]:
    """The run's folder among those here, if any; the paper and the key's beginning, if given."""
    folder = Path(text)
    if folder.is_dir():
        return [folder], None
    match = re.fullmatch(r"(?:(\w+)/)?([0-9a-f]{4,64})", text, re.ASCII)
    if match is None:
        raise NotARunError(
            f"run '{brief(text)}': is neither a run's folder nor the first {_MIN_PREFIX} or more"
            " characters of its key"
        )
    paper, prefix = match[1] or "*", match[2]
    found = [p for p in sorted(paths.runs_folder().glob(f"{paper}/{prefix}*")) if _is_run(p)]
    if len(found) > 1:
        raise _ambiguous(text, [p.name for p in found])
    return found, match


def _is_run(folder: Path) -> bool:
    return not folder.parent.name.startswith("_") and len(folder.name) == 64


def _ambiguous(text: str, keys: list[str]) -> UserError:
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    return UserError(
        f"run '{text}': {len(keys)} begin so: {', '.join(k[:16] for k in keys[:4])}{more}; give"
        " more characters"
    )


def _from_folder(folder: Path) -> Recorded:
    folder = folder.absolute()
    if not folder.name.isalnum() or len(folder.name) != 64:
        raise UserError(f"{folder}: is not a run folder, <runs>/<paper>/<key>")
    warnings: list[str] = []
    record = records.read_run(folder, warnings.append)
    if record is None:
        reason = f" ({warnings[0]})" if warnings else ""
        raise UserError(f"{folder}: has no record; the run has not ended yet{reason}")
    return Recorded(record, history_of(folder, record), folder, folder)


def history_of(folder: Path, record: Record) -> list[dict[str, float]]:
    """History of the attempt that a record is of; empty where it is gone."""
    return read_or_empty(folder / "attempts" / str(record.attempt))


def values_of(record: Record, runs: Path) -> dict[str, Any]:
    """A config that gives the recorded run again, to be done on this machine below a folder.

    Args:
        record: what was recorded; threads and devices are taken from it.
        runs: folder of all runs.
    """
    device: dict[str, Any] = {
        "accelerator": "cpu" if record.device == "cpu" else "auto",
        "threads": record.threads,
    }
    if record.devices != 1:  # older code does not know the word
        device["devices"] = record.devices
    return {
        **record.config,
        "experiment": record.experiment,
        "protocol": record.protocol,
        "device": device,
        "paths": {**paths.default_paths(), "runs": str(runs)},
        "logger": {"name": "none"},
        "launcher": {"name": "local", **({"alone": True} if record.alone else {})},
    }


def refreeze(record: Record, runs: Path) -> FrozenRun:
    """The same run for the present code, to be done below another folder.

    Args:
        record: what was recorded; threads and devices are taken from it.
        runs: folder of all runs.

    Raises:
        UserError: where the record's key does not follow from its config, or the present code
            does not know the config.
    """
    config = from_values(values_of(record, runs))
    if run_key(config) != record.key:
        raise UserError(
            f"run {record.key[:12]}: its key does not follow from its config; the record was"
            " edited, or the schema has changed since"
        )
    return freeze(config)
