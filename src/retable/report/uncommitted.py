"""Records of code that is in no commit: nobody else can look up what computed them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from retable.runs import provenance
from retable.runs.code_roots import changed_files
from retable.runs.import_closure import PROJECT
from retable.runs.records import Provenance, Record
from retable.util.text import counted, short_key

_NAMED = 3
"""Files named one by one; more are counted."""


def said(records: Iterable[Record], runs: Path) -> list[str]:
    """For each root of code and each state of it that was not committed, how many records it gave.

    Args:
        records: to be published.
        runs: folder of all runs, which keeps what was changed.
    """
    found: dict[tuple[str, str | None], list[str]] = {}
    for record in records:
        for state in _uncommitted(record.provenance):
            found.setdefault(state, []).append(record.key)
    return [
        f"{counted(len(keys), 'record')} of code that is in no commit: {name}"
        f" {_what(runs, dirty)}; commit it, then do {_them(keys)} again"
        for (name, dirty), keys in found.items()
    ]


def _them(keys: Sequence[str]) -> str:
    again = f"`retable verify {short_key(keys[0])} --replace`"
    return f"it with {again}" if len(keys) == 1 else f"each with {again}"


def _uncommitted(source: Provenance) -> Iterator[tuple[str, str | None]]:
    """Name of each root, and hash of its changes; None of one that is in no repository."""
    if source.dirty is not None:  # without a commit it is an installed copy, which has a version
        yield PROJECT, source.dirty
    for root in source.roots:
        if not root.is_committed:
            yield root.name, root.dirty


def _what(runs: Path, dirty: str | None) -> str:
    if dirty is None:
        return "is in no repository"
    try:
        text = provenance.kept(runs, dirty)
    except OSError:
        return "had local changes, which are not kept here"
    files = changed_files(text)
    more = f" and {counted(len(files) - _NAMED, 'more file')}" if len(files) > _NAMED else ""
    return f"had local changes in {', '.join(files[:_NAMED])}{more}"
