"""Files of a run that may go without losing a result: found by name, never through a link."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retable.runs import records
from retable.runs.records import Record, RecordError, Status

HOUR = 3600.0
TRASH = re.compile(r"\.trash\.[0-9a-f]{12}")
_CHECKPOINT = re.compile(r"epoch=([0-9]+)\.ckpt")
_TEMPORARY = re.compile(
    r"\..+\.[0-9a-f]{12}\.tmp|epoch=[0-9]+\.tmp|\.(probe|broken)\.[0-9a-f]{12}|\.lease\.[0-9a-f]{16}"
)


@dataclass(frozen=True)
class Item:
    """A file or folder that may go, what it takes up, and the run whose lease that needs."""

    category: str
    path: Path
    size: int
    run: Path | None = None


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder by name; none where it is missing, a link or not readable."""
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def tree_size(path: Path) -> int:
    """Bytes that deleting a file or folder gives back; links and second names give nothing."""
    total = 0
    todo = [path]
    while todo:
        for entry in entries(todo.pop()):
            with suppress(OSError):
                stat = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry))
                elif stat.st_nlink == 1:
                    total += stat.st_size
    return total or file_size(path)


def file_size(path: Path) -> int:
    """Bytes that deleting a file gives back; nothing where it has a second name."""
    with suppress(OSError):
        stat = path.lstat()
        return stat.st_size if stat.st_nlink == 1 and path.is_file() else 0
    return 0


def run_items(folder: Path, only: Collection[str], now: float) -> list[Item]:
    """Items of one run that may go; without a published record nothing but dead files."""
    base = folder / "attempts"
    attempts = {
        int(entry.name): Path(entry)
        for entry in entries(base)
        if entry.name.isdecimal() and entry.is_dir(follow_symlinks=False)
    }
    out: list[Item] = []
    if {"attempts", "checkpoints"}.intersection(only):
        out = _of_finished(folder, attempts, only)
    if "leftovers" in only:
        gone = {item.path for item in out}
        staying = [path for path in attempts.values() if path not in gone]
        for place in (folder, *staying, *(path / "checkpoints" for path in staying)):
            out += dead_files(place, now, folder)
    return out


def _of_finished(folder: Path, attempts: dict[int, Path], only: Collection[str]) -> list[Item]:
    saved = {number: checkpoints(path) for number, path in attempts.items()}
    if len(attempts) < 2 and sum(map(len, saved.values())) < 2:
        return []
    record = _published(folder, attempts)
    if record is None:
        return []
    last = _last(record, saved)
    out: list[Item] = []
    for number, path in sorted(attempts.items()):
        keep = number == record.attempt or (last is not None and path in last.parents)
        if "attempts" in only and not keep and not (path / "checkpoints").is_symlink():
            out.append(Item("attempts", path, tree_size(path), folder))
        elif "checkpoints" in only:
            gone = [file for _, file in saved[number] if file != last]
            out += [Item("checkpoints", file, file_size(file), folder) for file in gone]
    return out


def checkpoints(attempt: Path) -> list[tuple[int, Path]]:
    """Checkpoints of an attempt with their epochs, the oldest first."""
    return sorted(
        (int(match[1]), Path(entry))
        for entry in entries(attempt / "checkpoints")
        if (match := _CHECKPOINT.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
    )


def _published(folder: Path, attempts: dict[int, Path]) -> Record | None:
    """The record of a finished run, where it is beyond doubt which attempt it is of."""
    try:
        record = records.read(folder / records.RUN_RECORD)
        if record is None or record.status is not Status.DONE or record.attempt not in attempts:
            return None
        own = attempts[record.attempt] / records.RUN_RECORD
        same = own.read_bytes() == (folder / records.RUN_RECORD).read_bytes()
    except (OSError, RecordError):
        return None
    return record if same else None


def _last(record: Record, saved: dict[int, list[tuple[int, Path]]]) -> Path | None:
    """A finished run's last checkpoint; an earlier attempt's where only the test was left to do."""
    if saved[record.attempt]:
        return saved[record.attempt][-1][1]
    earlier = [
        (number, path)
        for number, files in saved.items()
        for epoch, path in files
        if number < record.attempt and epoch == record.resumed_from_epoch
    ]
    return max(earlier)[1] if earlier else None


def dead_files(folder: Path, now: float, run: Path | None) -> Iterator[Item]:
    """Temporary files that nobody writes any more, and what an earlier deletion left."""
    for entry in entries(folder):
        if TRASH.fullmatch(entry.name) and not entry.is_symlink():
            yield Item("leftovers", Path(entry), tree_size(Path(entry)), run)
        elif _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):
                if now - entry.stat(follow_symlinks=False).st_mtime > HOUR:
                    yield Item("leftovers", Path(entry), file_size(Path(entry)), run)
