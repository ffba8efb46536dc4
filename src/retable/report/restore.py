"""The records of a published table as runs here, so that the table can go on where it was left."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from retable.runs import published_artifacts, published_records, published_starts, records
from retable.runs.history import history_text
from retable.runs.import_record import adopt, frozen_for, is_here
from retable.tables import collect
from retable.tables.grid import Grid
from retable.util.errors import UserError
from retable.util.text import counted


@dataclass
class Restored:
    """Outcome of a restore, in runs.

    Attributes:
        written: runs whose record was written.
        here: runs that have a record here already, or are being done.
        refused: why the others were not taken.
        bare: those written that others start from, whose weights are not published.
    """

    written: int = 0
    here: int = 0
    refused: list[str] = field(default_factory=list[str])
    bare: list[str] = field(default_factory=list[str])

    def text(self) -> str:
        """In a line, and one for each that was refused."""
        line = f"{self.written} restored, {self.here} here already, {len(self.refused)} refused"
        lines = [line, *(f"refused: {text}" for text in self.refused)]
        if self.bare:
            lines.append(
                f"without weights, as they are not published: {counted(len(self.bare), 'run')} that"
                " others start from; to add runs to those of one,"
                f" `retable verify {self.bare[0]} --replace` makes its weights again"
            )
        return "\n".join(lines)


def restore(grid: Grid) -> Restored:
    """Write the published records of a table's runs that have none here; it has to be published.

    With them comes what is published for other runs to start from, and for a figure.

    A history that was thinned for the publication comes under a name of its own, for the columns
    that show an epoch: it is not the run's, and publishing again keeps it.

    Raises:
        UserError: where a folder cannot be written.
    """
    path = published_records.parquet_file(grid.name, grid.protocol)
    found = collect.from_results(grid)
    texts = published_records.histories(path)
    done = Restored()
    parents = {
        key
        for setting, seeds in grid.settings()
        for one in setting.chain
        for key in one.keys(seeds)
    }
    for run in grid.runs():
        record = found.get(run.key)
        if record is None:
            continue
        if is_here(run.folder):
            done.here += 1
            continue
        try:
            frozen = frozen_for(record, Path(run.config.paths.runs))
            history, thinned = _whole_or_thinned(texts.get(run.key), record.history_sha256)
            left = published_starts.file_of(grid.name, grid.protocol, run.key)
            start = left.read_bytes() if left.exists() else None
            arrays = published_artifacts.of_run(grid.name, grid.protocol, run.key)
            written = adopt(frozen, record, history, start, thinned, arrays)
        except UserError as error:
            done.refused.append(str(error))
        except OSError as error:
            raise UserError(f"{run.folder}: cannot be written ({error.strerror})") from None
        else:
            done.written += written
            if written and start is None and run.key in parents:
                done.bare.append(f"{run.config.paper}/{run.key[:12]}")
            done.here += not written
    return done


def _whole_or_thinned(published: str | None, sha256: str | None) -> tuple[str | None, str | None]:
    """The history that is published: as the whole one, or as what was left of it."""
    if published is None:
        return None, None
    text = history_text(json.loads(published))
    return (text, None) if records.text_sha256(text) == sha256 else (None, text)
