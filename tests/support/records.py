"""Runs that nobody has run: records written into a folder of runs, as attempts leave them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from retable.runs import records
from retable.runs.records import Provenance, Record, ResultRow, Status

PROVENANCE = Provenance(
    commit="c", dirty=None, packages="p", python="3", torch="2", cpu="cpu", cores=1
)
DATA = {"_target_": "retable.papers.digits.data.Digits", "noise": 0.1}
MODEL = {"_target_": "retable.papers.digits.module.Perceptron", "hidden": 32}


def config_of(seed: int = 0, **changes) -> dict:
    """A recorded config; ``a__b=c`` changes the key ``a.b``."""
    config = {
        "paper": "digits",
        "seed": seed,
        "stages": ["fit", "test"],
        "data": dict(DATA),
        "model": dict(MODEL),
        "trainer": {"max_epochs": 4, "checkpoint_every_n_epochs": 1},
        "callbacks": {},
        "best_epoch": None,
        "diverged_above": {},
    }
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        node = config
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return config


def plain_record(**fields) -> Record:
    """A record that is done, with these fields and nothing particular in the others."""
    plain = {
        "paper": "digits",
        "experiment": "digits/base",
        "protocol": "paper",
        "seed": 0,
        "config": {},
        "status": Status.DONE,
        "results": [],
        "attempt": 1,
        "started": "2026-01-01T00:00:00+00:00",
        "wall_s": 1.0,
        "cpu_s": 1.0,
        "peak_memory_mb": 1.0,
        "device": "cpu",
        "threads": 1,
        "workers": 1,
        "fingerprint": "f" * 64,
        "provenance": PROVENANCE,
    }
    return Record(**{**plain, **fields})


def record_of(config: dict, numbers: dict | None = None, **changes) -> Record:
    """A done record with ``numbers`` by metric, or by (metric, row, step)."""
    places = {(k if isinstance(k, tuple) else (k, "", None)): v for k, v in (numbers or {}).items()}
    fields = {
        "key": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "seed": config["seed"],
        "config": config,
        "results": [
            ResultRow(metric=m, result_row=row, step=step, value=value)
            for (m, row, step), value in places.items()
        ],
    }
    return plain_record(**{**fields, **changes})


def leave(runs: Path, record: Record) -> Path:
    """Write an attempt's record, and publish it where the run is done; returns the run's folder."""
    folder = records.run_folder(runs, record.paper, record.key)
    attempt = folder / "attempts" / str(record.attempt)
    attempt.mkdir(parents=True, exist_ok=True)
    written = records.write_attempt(attempt, record)
    if record.status is Status.DONE:
        records.publish(written, folder)
    return folder
