"""Local data of a run in W&B: its whole history, its record, and W&B's own files of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from retable.runs import frozen, records
from retable.runs.history import FILE as HISTORY
from retable.runs.history import rows_of
from retable.runs.records import Record, RecordError
from retable.tracking import ledger, naming, tags
from retable.tracking.ledger import Ledger
from retable.util.errors import UserError, brief


@dataclass(frozen=True)
class Local:
    """One run of W&B, as the files here have it.

    Attributes:
        id: in W&B.
        run: the frozen run that it is of, with the code that computed it.
        attempt: folder of the newest attempt that has ended, whose record it is.
        record: how it ended.
        history: text of ``history.jsonl``, every epoch once.
        tags: tables and cells, as they are now.
        segments: folders of W&B's files, in the order in which they were begun.
    """

    id: str
    run: frozen.FrozenRun
    attempt: Path
    record: Record
    history: str
    tags: list[str]
    segments: list[Path]

    @property
    def name(self) -> str:
        """Short name for people."""
        return f"{naming.display_name(self.run.config, self.run.key)} ({self.id})"

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.attempt.parents[3]

    @property
    def epochs(self) -> list[int]:
        """Epochs of the history, which are the steps in W&B."""
        return [int(row["epoch"]) for row in self.rows()]

    def rows(self) -> list[dict[str, float]]:
        """The history."""
        return rows_of(self.history)

    def flaw(self) -> str | None:
        """Why it cannot be uploaded whole: its history is not what it was; None where it can."""
        wanted = self.record.history_sha256
        if wanted is None or records.text_sha256(self.history) == wanted:
            return None
        try:  # a later attempt, which was killed, may have gone on with it
            own = hashlib.sha256((self.attempt / HISTORY).read_bytes()).hexdigest()
        except OSError:
            return "its history is gone"
        return None if own == wanted else "its history is not the one that its record hashes"

    def digest(self) -> str:
        """SHA-256 of all that W&B is to have: it is uploaded again where this has changed."""
        parts = [self.history, records.dump(self.record), *self.tags]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def of_run(folder: Path) -> Iterator[Local | str]:
    """The runs of W&B that a run here stands for and that have to be uploaded, oldest first.

    A run that W&B was told of online, to the end, is not among them.

    Args:
        folder: of the run.

    Yields:
        What there is to upload, or the id of one that has nothing to be uploaded yet: no attempt
        of it has left a record.

    Raises:
        UserError: where the frozen run or its history cannot be read.
    """
    pairs = ledger.of_run(folder)
    if not pairs:
        return
    run = frozen.read(folder)
    tagged = tags.read(folder.parents[1], run.config.paper, run.key)
    for identifier in dict.fromkeys(found.id for _, found in pairs):
        own = [(path, found) for path, found in pairs if found.id == identifier]
        last = own[-1][1]
        if last.mode == "online" and last.finished and last.upto >= _epochs(own):
            continue
        yield _whole(run, own, tagged) or identifier


def _epochs(own: list[tuple[Path, Ledger]]) -> int:
    return len(_newest_history(path for path, _ in reversed(own)).splitlines())


def _whole(
    run: frozen.FrozenRun, own: list[tuple[Path, Ledger]], tagged: list[str]
) -> Local | None:
    newest_first = [path for path, _ in reversed(own)]
    for path in newest_first:
        record = _record(path)
        if record is not None:
            break
    else:
        return None
    below = naming.folder(path.parents[3]) / "wandb"
    return Local(
        id=own[-1][1].id,
        run=frozen.FrozenRun(run.config, run.key, record.fingerprint),
        attempt=path,
        record=record,
        history=_newest_history(newest_first),
        tags=tagged,
        segments=[below / found.segment for _, found in own if found.segment],
    )


def _record(attempt: Path) -> Record | None:
    try:
        return records.read(attempt / records.RUN_RECORD)
    except RecordError:
        return None


def _newest_history(newest_first: Iterable[Path]) -> str:
    """History of the newest attempt that has one: it holds that of those it went on from."""
    for path in newest_first:
        try:
            text = (path / HISTORY).read_text(encoding="utf-8")
            for row in rows_of(text):
                int(row["epoch"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(f"{path / HISTORY}: cannot be read ({brief(str(error))})") from None
        return text
    return ""
