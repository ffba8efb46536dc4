"""Local data of a run in W&B: its whole history and its record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retable.runs import frozen, records
from retable.runs.history import FILE as HISTORY
from retable.runs.history import rows_of
from retable.runs.records import Record
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
    """

    id: str
    run: frozen.FrozenRun
    attempt: Path
    record: Record
    history: str
    tags: list[str]

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


def of_run(run: frozen.FrozenRun, pairs: Sequence[tuple[Path, Ledger]]) -> Iterator[Local | str]:
    """The runs of W&B that a run here stands for and that have to be uploaded, oldest first.

    A run that W&B was told of online, to the end, is not among them.

    Args:
        run: as it is frozen here.
        pairs: its attempts that told W&B something, the first one first.

    Yields:
        What there is to upload, or the id of one that has nothing to be uploaded yet: no attempt
        of it has left a record.

    Raises:
        UserError: where its history cannot be read.
    """
    for identifier in dict.fromkeys(told.id for _, told in pairs):
        newest_first = [(path, told) for path, told in reversed(pairs) if told.id == identifier]
        newest = newest_first[0][1]
        attempts = [path for path, _ in newest_first]
        ended = ((path, record) for path in attempts if (record := ledger.record_of(path)))
        path, record = next(ended, (None, None))
        if path is None or record is None:
            yield identifier
            continue
        history = _newest_history(attempts)
        told_all = newest.finished and newest.upto >= len(history.splitlines())
        if newest.mode == "online" and told_all:
            continue
        yield Local(
            id=identifier,
            run=frozen.FrozenRun(run.config, run.key, record.fingerprint),
            attempt=path,
            record=record,
            history=history,
            tags=tags.read(path.parents[3], run.config.paper, run.key),
        )


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
