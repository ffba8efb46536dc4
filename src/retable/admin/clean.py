"""Find what can be deleted without losing a result, and delete it.

Everything is found without following links, and only by names that the project itself gives. A
folder is renamed before it is deleted, so that a kill leaves it whole or out of sight; what it
leaves is found as a leftover the next time. Records are never touched.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from retable.admin.clean_rules import (
    HOUR,
    TRASH,
    Item,
    dead_files,
    entries,
    file_size,
    run_items,
    tree_size,
)
from retable.runs import lease as leases
from retable.runs import provenance, records
from retable.runs.frozen import FILE as CONFIG
from retable.runs.lease import Lease, is_busy, lease_s
from retable.runs.lookup import REDO
from retable.util import paths
from retable.util.errors import UserError, nearest

CATEGORIES = {
    "checkpoints": "of finished runs; each keeps its last",
    "attempts": "of finished runs; each keeps the one its record is of",
    "snapshots": "copies of the source, a day old or more, that no run is going on with",
    "caches": "composed configs (the newest is kept), indexes, source and packages of commits",
    "leftovers": "of killed writers, an hour old; of a refresh, a day; of runs done again, a week",
    "data": "downloaded and decoded data; has to be made again",
}
UNASKED = tuple(name for name in CATEGORIES if name != "data")
"""Everything but data, which is expensive to make again."""

OF_COMMITS = ("commits", "environments")
"""Folders of the cache with the source and the packages of commits, see ``commit_code``."""

DAY, WEEK = 86_400.0, 604_800.0
VERIFY, REFRESH, SNAPSHOTS = "_verify", "_refresh", "_snapshots"
_ASIDE = re.compile(r"[0-9a-f]+")
_UNFINISHED_SNAPSHOT = re.compile(r"\.[0-9a-f]{16}")
_SET_ASIDE = f"{records.RUN_RECORD}.broken-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Plan:
    """Plan of a deletion; ``notes`` say what stays and why."""

    runs: Path
    cache: Path
    only: Collection[str]
    items: list[Item] = field(default_factory=list[Item])
    notes: list[str] = field(default_factory=list[str])

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return sum(item.size for item in self.items)

    def of(self, category: str) -> list[Item]:
        """Items of one category, the biggest first."""
        return sorted((i for i in self.items if i.category == category), key=lambda i: -i.size)


@dataclass
class Freed:
    """Outcome of a deletion; ``skipped`` and ``failed`` name what is still there, and why."""

    size: int = 0
    count: int = 0
    skipped: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])


def survey(runs: Path, cache: Path, only: Collection[str] = UNASKED) -> Plan:
    """Look for what may go; deletes nothing.

    Args:
        runs: folder of all runs.
        cache: folder of caches.
        only: names of :data:`CATEGORIES`.
    """
    plan = Plan(runs.resolve(), cache.resolve(), only)
    now = time.time()
    held = aside = 0
    needs_source = False
    copies = "snapshots" in only and any(entries(plan.runs / SNAPSHOTS))
    for folder in paths.run_folders(plan.runs):
        names = {entry.name for entry in entries(folder)}
        aside += sum(name.startswith(_SET_ASIDE) for name in names)
        needs_source = needs_source or (copies and _may_need_source(folder, now))
        if leases.FILE in names and is_busy(folder):
            held += 1
            continue
        plan.items += run_items(folder, only, now)
    if held:
        plan.notes.append(
            f"{held} run{'s' if held > 1 else ''} held by a living runner: left alone"
        )
    if aside:
        what = f"{aside} broken record{'s' if aside > 1 else ''} set aside"
        plan.notes.append(f"{what} ({_SET_ASIDE}*): kept")
    if "leftovers" in only:
        plan.items += _leftovers_beside(plan.runs, now)
    if "snapshots" in only:
        found = [
            Item("snapshots", Path(entry), tree_size(Path(entry)))
            for entry in entries(plan.runs / SNAPSHOTS)
            if entry.is_dir(follow_symlinks=False)
            and not entry.name.startswith(".")
            and now - entry.stat(follow_symlinks=False).st_mtime > DAY
        ]
        if found and (held or needs_source):
            plan.notes.append("snapshots: kept, a run is going on or was launched from one lately")
        else:
            plan.items += found
    if "caches" in only:
        plan.items += _indexes(plan.runs)
    if "caches" in only or "data" in only or "leftovers" in only:
        _survey_cache(plan, now, held=held)
    return plan


def _leftovers_beside(runs: Path, now: float) -> Iterator[Item]:
    """Dead files of what lies beside the runs: texts, snapshots, runs being verified."""
    for name in (provenance.STORE, SNAPSHOTS):
        yield from dead_files(runs / name, now, None)
    for name, pattern, age in (
        (SNAPSHOTS, _UNFINISHED_SNAPSHOT, HOUR),
        (VERIFY, _ASIDE, HOUR),
        (REFRESH, _ASIDE, DAY),  # one that was stopped goes on from what is there
        (REDO, _ASIDE, WEEK),  # so does one, and a job that does it may wait in a queue
    ):
        for entry in entries(runs / name):
            path = Path(entry)
            if not entry.is_dir(follow_symlinks=False) or not pattern.fullmatch(entry.name):
                continue
            if now - _last_change(path) > age and not _holds_living(path):
                yield Item("leftovers", path, tree_size(path))
    yield from dead_files(runs / VERIFY, now, None)


def _indexes(runs: Path) -> Iterator[Item]:
    """Indexes of records, which cost time and nothing else to make again."""
    from retable.runs.index import FOLDER

    for paper in entries(runs / FOLDER):
        for entry in entries(Path(paper)):
            if entry.name.endswith(".npz") and entry.is_file(follow_symlinks=False):
                yield Item("caches", Path(entry), file_size(Path(entry)))


def _last_change(folder: Path) -> float:
    # Copies keep the times of what they are copies of, so the status counts as well.
    times = [0.0]
    for base, _, names in os.walk(folder):
        for path in (base, *(f"{base}/{name}" for name in names)):
            with suppress(OSError):
                times.append(Path(path).lstat().st_ctime)
    return max(times)


def _holds_living(folder: Path) -> bool:
    """Whether a run goes on below a side folder, of which some have a folder per side."""
    found = (path for depth in ("*/*", "*/*/*") for path in folder.glob(f"{depth}/{leases.FILE}"))
    return any(is_busy(path.parent) for path in found)


def _may_need_source(folder: Path, now: float) -> bool:
    """Whether a launch from a snapshot may still be waiting: between two runs, or in a queue."""
    with suppress(OSError):
        config = folder / CONFIG
        age = now - config.stat().st_mtime
        if age < (DAY if (folder / records.RUN_RECORD).exists() else WEEK):
            return "snapshot: true" in config.read_text(encoding="utf-8")
    return False


def _survey_cache(plan: Plan, now: float, *, held: int) -> None:
    base, only = plan.cache, plan.only
    homes = [plan.runs, paths.project_root(), paths.extra_root(), Path.home(), Path.cwd()]
    if any(path is not None and path.resolve().is_relative_to(base) for path in homes):
        if any(entries(base)):
            plan.notes.append(f"{base}: holds more than caches; nothing in it is deleted")
        return
    composed = [e for e in entries(base / "compose") if e.is_file(follow_symlinks=False)]
    files = [Path(e) for e in composed if not e.name.startswith(".")]
    if "caches" in only and files:
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        plan.items += [Item("caches", f, file_size(f)) for f in files if f != newest]
    if "caches" in only and not any(map(_holds_living, map(Path, entries(plan.runs / REFRESH)))):
        found = [Path(e) for name in OF_COMMITS for e in entries(base / name)]
        plan.items += [
            Item("caches", p, tree_size(p)) for p in found if not TRASH.fullmatch(p.name)
        ]
    if "data" in only:
        kept = {"compose", *OF_COMMITS}
        found = [Path(e) for e in entries(base) if e.name not in kept and not e.is_symlink()]
        found = [path for path in found if not path.name.startswith(".")]
        if held and found:
            plan.notes.append("data: kept, as a run is going on")
        else:
            plan.items += [Item("data", path, tree_size(path)) for path in found]
    if "leftovers" in only:
        gone = {item.path for item in plan.items if item.category == "data"}
        for folder, inner, _ in os.walk(base):
            inner[:] = [n for n in inner if Path(folder, n) not in gone and not TRASH.fullmatch(n)]
            plan.items += dead_files(Path(folder), now, None)


def remove(plan: Plan) -> Freed:
    """Delete what a survey has found, run by run under its lease, as far as it still may go."""
    freed = Freed()
    # Since then somebody may have thought it over for hours, and launched runs meanwhile.
    still = {item.path for item in survey(plan.runs, plan.cache, plan.only).items}
    by_run: dict[Path | None, list[Item]] = {None: []}
    for item in (item for item in plan.items if item.path in still):
        by_run.setdefault(item.run, []).append(item)
    # What needs no lease comes first: a full disk has no room for one.
    for run, items in by_run.items():
        if run is None:
            for item in items:
                _delete(item, freed)
            continue
        try:
            lease = _acquire(run, items, freed)
        except OSError as error:
            freed.failed.append(f"{run}: {error.strerror}")
            continue
        if lease is None:
            freed.skipped.append(f"{run}: held by another runner by now")
            continue
        try:
            still = {item.path for item in run_items(run, plan.only, time.time())}
            for item in items:
                if item.path in still and not lease.lost.is_set():
                    _delete(item, freed)
        finally:
            lease.release()
    return freed


def _acquire(run: Path, items: list[Item], freed: Freed) -> Lease | None:
    try:
        return Lease.acquire(run, lease_s(run))
    except OSError as error:
        old = [item for item in items if item.category == "checkpoints"]
        if error.errno not in _FULL or not old or (run / leases.FILE).exists():
            raise
    # One old checkpoint makes room. Whoever may take the lease meanwhile finds a finished run.
    _delete(old[0], freed)
    return Lease.acquire(run, lease_s(run))


def _delete(item: Item, freed: Freed) -> None:
    path = item.path
    try:
        if path.is_dir() and not path.is_symlink():
            trash = path
            if not TRASH.fullmatch(path.name):
                home = path.parent if item.run is None else item.run
                trash = home / f".trash.{secrets.token_hex(6)}"
                path.rename(trash)
            shutil.rmtree(trash)
        else:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        freed.failed.append(f"{path}: {error.strerror}")
        return
    freed.size += item.size
    freed.count += 1


def parse_only(texts: Collection[str]) -> tuple[str, ...]:
    """Categories that ``--only a,b`` names; all but data where nothing is given."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CATEGORIES:
            raise UserError(f"--only {name}: not known{nearest(name, CATEGORIES)}")
    return tuple(name for name in CATEGORIES if name in names) if names else UNASKED
