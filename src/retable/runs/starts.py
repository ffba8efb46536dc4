"""What a run begins with where it starts from another one: weights, artefacts and history of that.

The other run's record is the truth: it says whether there is anything to begin with, and which
weights these have to be. Of a file of weights the config has the checksum.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retable.runs import records, start_files
from retable.runs.artifacts import read_artifacts
from retable.runs.frozen import FrozenRun
from retable.runs.record_parts import StartedFrom
from retable.runs.records import Record, Status
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.training.checkpointing import Resume
    from retable.training.start import Start

SIDES = ("_verify", "_again", "_refresh")
"""Folders below that of all runs, in which runs are done once more."""


def home_of(runs: Path) -> Path:
    """The folder of all runs that a side folder is below; any other folder is one itself."""
    for folder in runs.parents:
        if folder.name in SIDES:
            return folder.parent
    return runs


def find_parent(run: FrozenRun) -> FrozenRun | None:
    """The run that a run starts from, where it has been or is to be done.

    A run that is done once more at a side starts from what is there, and else from what is among
    all runs.
    """
    parent = run.parent
    if parent is None:
        return None
    side = Path(run.config.paths.runs)
    home = home_of(side)
    if home == side or (parent.folder / records.RUN_RECORD).exists():
        return parent
    there = parent.below(home)
    return there if is_ready(there) else parent


def is_ready(run: FrozenRun) -> bool:
    """Whether another run can start from a run: it is done, and its weights are here."""
    record = _record(run)
    return record is not None and record.status is Status.DONE and _weights_are_here(run, record)


def obstacle(run: FrozenRun) -> str | None:
    """Why a run cannot start, as far as the run is concerned that it starts from."""
    parent = find_parent(run)
    if parent is None:
        return None
    record = _record(parent)
    if record is None:
        return f"it starts from {parent.label}, which is not done yet"
    if record.status is not Status.DONE:
        return f"it starts from {parent.label}, which is {record.status.value}"
    if not _weights_are_here(parent, record):
        return (
            f"it starts from {parent.label}, which is done, but whose weights are not here;"
            f" `retable verify {parent.config.paper}/{parent.key[:12]} --replace` makes them again"
        )
    return None


def read_start(run: FrozenRun) -> tuple[Start, StartedFrom] | None:
    """What a run begins with, and of which bits that was; None for one that starts from nothing.

    Raises:
        UserError: where it is not there, or is not what was recorded.
    """
    if run.config.start is not None and run.config.start.file is not None:
        return _read_file(run)
    parent = find_parent(run)
    if parent is None:
        return None
    if reason := obstacle(run):
        raise UserError(reason)
    record = _record(parent)
    assert record is not None
    return left_by(parent, record), StartedFrom(
        key=record.key, weights_sha256=record.weights_sha256, artifacts=record.artifacts
    )


def _read_file(run: FrozenRun) -> tuple[Start, StartedFrom]:
    from retable.runs import weight_files
    from retable.training.start import Start
    from retable.training.tested import tensors_sha256

    named = run.config.start
    assert named is not None
    weights = weight_files.read(weight_files.have(named, run.config.paths))
    return Start(weights), StartedFrom(file=named.file, weights_sha256=tensors_sha256(weights))


def left_by(run: FrozenRun, record: Record) -> Start:
    """What a done run has left for others: from its checkpoint, else from where it was restored.

    Raises:
        UserError: where it is not there, or is not what was recorded.
    """
    from retable.training.start import Start

    attempt = run.folder / "attempts" / str(record.attempt)
    found = last_checkpoint(run.folder, record, lambda _: None)
    if found is not None:
        artifacts = read_artifacts(attempt, record.artifacts)
        start = Start(tested_weights(found, run.config.tested), artifacts, found.history)
    elif (attempt / start_files.FILE).exists():
        start = start_files.read(attempt / start_files.FILE)
    else:
        raise UserError(f"{run.folder}: has no checkpoint of the trained network any more")
    if not is_recorded(start, record):
        raise UserError(f"{run.folder}: its weights or artefacts are not the recorded ones")
    return start


def is_recorded(start: Start, record: Record) -> bool:
    """Whether weights and artefacts are those that a record speaks of."""
    from retable.training.tested import tensors_sha256

    weights = tensors_sha256(start.weights) if start.weights else None
    artifacts = {name: tensors_sha256(arrays) for name, arrays in start.artifacts.items()}
    return (weights, artifacts) == (record.weights_sha256, record.artifacts)


def last_checkpoint(
    folder: Path, record: Record, on_broken: Callable[[str], None]
) -> Resume | None:
    """The checkpoint that the fit of a done run has ended with; None where it is gone.

    Args:
        folder: of the run.
        record: its standing one.
        on_broken: told of each file that cannot be read.
    """
    from retable.training.checkpointing import find_resume

    # A record that was confirmed for newer code is of older code, and so are its checkpoints.
    identity = {
        "key": record.key,
        "fingerprint": record.computed_by,
        "device": records.device_of(record),
    }
    found = find_resume(records.attempts(folder), identity, on_broken)
    return found if found is not None and found.fitted else None


def tested_weights(found: Resume, tested: dict[str, Any]) -> dict[str, Any]:
    """State of the network that was tested first, before it was made ready for that.

    Args:
        found: the last checkpoint.
        tested: the config's.
    """
    first = min(tested.items(), default=("", {"epoch": "best"}))[1]
    best = found.best if first.get("epoch", "last") == "best" else None
    return best["weights"] if best else found.weights


def _record(run: FrozenRun) -> Record | None:
    """The record that speaks for a run; a done one that was not published is none yet."""
    try:
        record = records.read_run(run.folder, lambda _: None)
        there = (run.folder / records.RUN_RECORD).exists()
    except OSError:
        return None
    unpublished = record is not None and record.status is Status.DONE and not there
    return None if unpublished else record


def _weights_are_here(run: FrozenRun, record: Record) -> bool:
    attempt = run.folder / "attempts" / str(record.attempt)
    if (attempt / start_files.FILE).exists():
        return True
    arrays = all((attempt / "artifacts" / f"{n}.safetensors").exists() for n in record.artifacts)
    some = any(any(f.glob("checkpoints/epoch=*.ckpt")) for f in records.attempts(run.folder))
    return arrays and some
