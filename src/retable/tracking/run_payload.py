"""Payload of a run for W&B: its config, and in the summary what its record says.

Nothing of a machine's directories or of its user is in it: the config is the one that records keep.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import structs, to_builtins

from retable.runs.records import Provenance, Record, ResultRow
from retable.tracking import naming
from retable.util.redact import scrub

if TYPE_CHECKING:
    from retable.runs.frozen import FrozenRun

ABOUT = "retable"
"""Section of the config with what is not the run's own config."""

RECORD = "record"
"""Entry of the summary with the whole record as JSON: what ``retable wandb pull`` reads."""


def opening_of(run: FrozenRun, provenance: Provenance) -> dict[str, Any]:
    """Fields of :class:`retable.tracking.wandb_run.Opening` but id and tags.

    Args:
        run: the frozen run.
        provenance: of its launch.
    """
    logger = run.config.logger
    return {
        "name": naming.display_name(run.config, run.key),
        "group": naming.group(run.config),
        "project": logger.project,
        "entity": logger.entity,
        "config": config_of(run, provenance),
    }


def config_of(run: FrozenRun, provenance: Provenance) -> dict[str, Any]:
    """Config of a run: its keyed fields, then who computes it.

    Args:
        run: the frozen run.
        provenance: of its launch: commit, packages, hardware.
    """
    from retable.config import key_order  # not what a follower has to import
    from retable.runs.frozen import recorded

    about = {
        "key": run.key,
        "fingerprint": run.fingerprint,
        "experiment": run.config.experiment,
        "protocol": run.config.protocol,
        "devices": run.config.device.devices,
        "threads": run.config.device.threads,
        **structs.asdict(provenance),
    }
    del about["roots"]
    about["kernels"] = provenance.kernels_shown
    if provenance.roots:  # a list of plain values, as W&B takes no others
        about["roots"] = to_builtins(provenance.roots)
    if (parent := run.parent) is not None:
        about["started_from"] = parent.key
    elif run.config.start is not None:
        about["started_from"] = run.config.start.file
    config = recorded(run.config)
    return _clean({**config, **key_order.named(config), ABOUT: about})


def summary_of(record: Record) -> dict[str, Any]:
    """Summary of a run that has ended: its results by name, how it ended, and the whole record."""
    about = {
        "status": record.status.value,
        "error": record.error and scrub(record.error),
        "attempt": record.attempt,
        "best_epoch": record.best_epoch,
        "wall_s": record.wall_s,
        "cpu_s": record.cpu_s,
        "peak_memory_mb": record.peak_memory_mb,
        "device": record.device,
    }
    return {
        **{name_of(result): result.value for result in record.results},
        **{name: value for name, value in about.items() if value is not None},
        RECORD: json.dumps(_clean(to_builtins(record))),
    }


def name_of(result: ResultRow) -> str:
    """A result's address as one name: ``test/error``, ``test/error [row]``, ``time @ 100``."""
    row = f" [{result.result_row}]" if result.result_row else ""
    step = "" if result.step is None else f" @ {result.step}"
    return f"{result.metric}{row}{step}"


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {str(name): _clean(entry) for name, entry in value.items()}
    return [_clean(entry) for entry in value] if isinstance(value, list) else value
