"""Runs to be cleaned: finished and failed ones that nobody has run, ages, leases."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from msgspec import structs

from retable.admin.clean import UNASKED, remove, survey
from retable.runs import records
from retable.runs.lease import Holder
from retable.runs.records import Status
from support import records as made


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def cleaned(runs, cache, *only):
    """Categories and paths of what went."""
    plan = survey(runs, cache, only or UNASKED)
    freed = remove(plan)
    assert (freed.skipped, freed.failed) == ([], [])
    assert freed.count == len(plan.items)
    assert freed.size == plan.size
    assert not [item.path for item in plan.items if os.path.lexists(item.path)]
    return sorted((i.category, i.path.relative_to(runs).as_posix()[72:]) for i in plan.items)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def save(folder: Path, *epochs: int) -> None:
    """Checkpoints of an attempt, of a hundred bytes each."""
    base = folder / "checkpoints"
    base.mkdir(parents=True, exist_ok=True)
    for epoch in epochs:
        (base / f"epoch={epoch:06d}.ckpt").write_bytes(b"0" * 100)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def finished(runs: Path, seed: int = 0, attempt: int = 1, **changes) -> Path:
    """A finished run of this attempt, whose checkpoints are of epochs 3 and 4."""
    record = made.record_of(made.config_of(seed), {"test/loss": 1}, attempt=attempt, **changes)
    folder = made.leave(runs, record)
    save(folder / "attempts" / str(attempt), 3, 4)
    return folder


def failed(folder: Path, number: int, *epochs: int) -> Path:
    """One more attempt of a run, that failed."""
    path = folder / "attempts" / str(number)
    path.mkdir(parents=True)
    record = made.record_of(made.config_of(0), attempt=number, status=Status.FAILED)
    records.write_attempt(path, structs.replace(record, key=folder.name))
    save(path, *epochs)
    return path


def held(folder: Path, **changes) -> None:
    holder = {**Holder.me().__dict__, **changes}
    (folder / "lease.json").write_text(json.dumps(holder))
