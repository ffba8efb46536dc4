"""A run of W&B, written by the library itself and told nothing that is not meant for it.

Nothing here imports the library before :func:`start` does. A process that uses it is started with
:func:`environment`, so that no variable of the user's adds to a run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import retable
from retable.runs.records import Record, Status
from retable.tracking import run_payload

TAGGED = {Status.FAILED, Status.DIVERGED}
"""Ways to end that a run is tagged with."""
PREEMPTED = {status for status in Status if status.resumable}
"""Ways to end after which a run will go on."""

GOES_ON = "resumed"
"""Tag in the place of one of these, where there are no others."""

KILLED = "killed"
"""Status in W&B of an attempt whose process was gone before it had a record."""

_KEPT = {
    "WANDB_API_KEY",
    "WANDB_APP_URL",
    "WANDB_BASE_URL",
    "WANDB_CACHE_DIR",
    "WANDB_CONFIG_DIR",
    "WANDB_CREDENTIALS_FILE",
    "WANDB_DATA_DIR",
    "WANDB_ENTITY",
    "WANDB_HTTP_TIMEOUT",
    "WANDB_IDENTITY_TOKEN_FILE",
    "WANDB_INSECURE_DISABLE_SSL",
    "WANDB_MODE",
}
"""Variables of W&B's that say who somebody is and where the server is; no other one is used."""


@dataclass(frozen=True)
class Opening:
    """Parameters with which a run is opened in W&B.

    Attributes:
        id: of the run in W&B.
        name: for people.
        group: runs that belong together.
        project: where it goes.
        entity: user or team; None for the login's default.
        tags: tables and cells.
        config: what the run is.
    """

    id: str
    name: str
    group: str
    project: str
    entity: str | None
    tags: Sequence[str]
    config: Mapping[str, Any]


def environment(folder: Path | None = None) -> dict[str, str]:
    """Variables of a process that uses the library: only what it needs, and nothing is reported.

    It has the source that this process has; started with ``-P``, whatever the current folder holds.

    Args:
        folder: of W&B's files, where the library keeps its own logs then, not in the user's home.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") or k in _KEPT}
    if folder is not None:
        kept["WANDB_CACHE_DIR"] = str(folder / "cache")
    source = [str(Path(retable.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    kept["PYTHONPATH"] = os.pathsep.join(part for part in source if part)
    # Go on one core: the run needs the others. No errors are sent to the library's makers.
    return {**kept, "GOMAXPROCS": "1", "WANDB_ERROR_REPORTING": "false"}


def start(opening: Opening, folder: Path, mode: str, *, finish_s: float = 0.0) -> Any:
    """Begin a run of W&B, or go on with the one of its id.

    Args:
        opening: what it is told.
        folder: of W&B's files; those of the run are made in ``wandb/`` in it.
        mode: ``online`` or ``offline``.
        finish_s: longest time to upload the rest at the end, after which ``finish`` raises
            ``TimeoutError``; 0: no limit.

    Returns:
        The library's ``Run``.

    Raises:
        Exception: of the library's, where it cannot begin.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run: Any = wandb.init(
        id=opening.id,
        name=opening.name,
        group=opening.group,
        project=opening.project,
        entity=opening.entity,
        tags=list(opening.tags),
        config=dict(opening.config),
        mode="online" if mode == "online" else "offline",
        dir=str(folder),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(**_SETTINGS, finish_timeout=finish_s),
    )
    # What the summary says comes from the record, and not from whatever was logged last.
    run.define_metric("*", summary="none")
    if set(run.tags or ()) & {status.value for status in TAGGED}:
        # It goes on from an attempt that failed; no tags at all would leave those of the server.
        run.tags = opening.tags or [GOES_ON]
    return run


def end_service() -> None:
    """End the library's service, which holds on to a run that could not begin."""
    import wandb

    wandb.teardown(exit_code=1)


_SETTINGS: dict[str, Any] = {
    # Nothing of the machine, of its user or of their code.
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "email": "",
    "host": "",
    "label_disable": True,
    "program": "",
    "save_code": False,
    "username": "",
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_executable": "",
    "x_save_requirements": False,
    # Runs that go on beside each other share no file.
    "symlink": False,
    "use_dot_wandb": False,
    "run_notes": None,
    # A run that goes on may be done by another commit or machine than it was begun by.
    "allow_val_change": True,
    "finish_timeout_raises": True,
    "init_timeout": 15.0,
    "quiet": True,
    "show_info": False,
    "x_transaction_log_flush_interval": 1.0,
}


def log(run: Any, row: Mapping[str, float]) -> None:
    """Log the metrics of an epoch, as the step of its number; steps have to come in order."""
    run.log(dict(row), step=int(row["epoch"]), commit=True)


def end(run: Any, record: Record | None, without: str = KILLED) -> None:
    """Say how a run ended, and finish it.

    Args:
        run: of W&B.
        record: of its attempt; None where it left none. One that will go on is marked as
            preempted.
        without: what the status is where there is no record.

    Raises:
        TimeoutError: where not all could be uploaded in time.
    """
    if record is None:
        # Whether it goes on, and what is recorded of it, is its launcher's to say, later.
        run.summary.update({"status": without})
        run.finish(exit_code=1)
        return
    status = record.status
    if status in PREEMPTED:
        run.summary.update({"status": status.value})
        run.mark_preempting()
    else:
        if record.error is None and run.summary.get("error") is not None:
            del run.summary["error"]  # of an attempt that this one went on from
        run.summary.update(run_payload.summary_of(record))
        if status in TAGGED:
            run.tags = (*run.tags, status.value)
    run.finish(exit_code=0 if status is Status.DONE else 1)
