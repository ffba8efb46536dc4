"""Records as other code might have left them, for the tests of verify, refresh and diff."""

from __future__ import annotations

from msgspec import structs

from retable.runs import records
from retable.runs.records import ResultRow


def rewrite(run, **update):
    """Change a run's record as if other code had written it."""
    record = records.read(run.folder / "record.json")
    attempt = run.folder / "attempts" / str(record.attempt)
    new = structs.replace(record, **update)
    records.replace_published(records.write_attempt(attempt, new), run.folder)
    return new


def shifted(run, by):
    record = records.read(run.folder / "record.json")
    return [ResultRow(metric=r.metric, value=r.value * (1 + by)) for r in record.results]


def published(run):
    return records.read(run.folder / "record.json")
