"""What the page of a run shows, as data files of many runs each: words stand once in a file.

A page of its own for each of ten thousand runs would be a hundred megabytes that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from retable.report.site import charts, labels, run_pages
from retable.report.site.inputs import RunUse, ShownTable
from retable.report.sweep_summary import value_text
from retable.runs import stretches
from retable.runs.records import Record
from retable.tables.paper_info import title_of
from retable.util.text import counted

_PREFIX = 2
"""Digits of the key that name a run's file: runs are spread evenly, and the key is the address."""


def files(
    runs: Mapping[str, RunUse], shorts: Mapping[str, str], sources: Sequence[ShownTable]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and content of each data file."""
    titles = {paper: title_of(paper) for paper in {use.record.paper for use in runs.values()}}
    groups: dict[str, list[str]] = {}
    for key in runs:
        groups.setdefault(key[:_PREFIX], []).append(key)
    for prefix, keys in groups.items():
        file = _File(runs, shorts, sources, titles)
        shown = {key: file.run(key) for key in keys}
        yield f"runs/{prefix}.js", {"words": list(file.words), "runs": shown}


class _File:
    """A data file in the making.

    Attributes:
        words: every text that it holds, by its number.
    """

    def __init__(
        self,
        runs: Mapping[str, RunUse],
        shorts: Mapping[str, str],
        sources: Sequence[ShownTable],
        titles: Mapping[str, str],
    ) -> None:
        self.words: dict[str, int] = {}
        self._runs = runs
        self._shorts = shorts
        self._sources = sources
        self._title_of = titles

    def run(self, key: str) -> dict[str, Any]:
        """A run; every text is the number of a word."""
        use = self._runs[key]
        record = use.record
        shown: dict[str, Any] = {
            "short": self._word(self._shorts[key]),
            "paper": [
                self._word(self._title_of[record.paper]),
                self._word(labels.paper_page(record.paper)),
            ],
            "name": self._word(record.experiment or record.paper),
            "seed": record.seed,
            "protocol": self._word(record.protocol),
            "status": self._word(record.status.value),
            "places": [self._place(n, places) for n, places in sorted(use.places.items())],
            "results": [
                [self._word(r.metric), self._word(r.result_row or ""), r.step, _number(r.value)]
                for r in sorted(record.results, key=lambda r: r.metric in record.timing_metrics)
            ],
            "config": self._pairs(
                (name, _text(value)) for name, value in flatten_config(record.config)
            ),
            "facts": self._pairs(_facts(key, record)),
        }
        more: dict[str, Any] = {
            "error": record.error,
            "timings": ", ".join(record.timing_metrics),
            "chain": [
                [*map(self._word, above)] for above in chain(record, self._runs, self._shorts)
            ],
            "validation": [[self._word(n), _number(v)] for n, v in record.validation.items()],
            "best": record.best_epoch if record.validation else None,
            "charts": charts.learning({"": charts.bands([use.history(key)])}),
        }
        return shown | {name: value for name, value in more.items() if value not in ("", [], None)}

    def _word(self, text: str) -> int:
        return self.words.setdefault(text, len(self.words))

    def _pairs(self, pairs: Iterator[tuple[str, str]]) -> list[int]:
        return [self._word(text) for pair in pairs for text in pair]

    def _place(self, number: int, places: Sequence[tuple[str, str]]) -> list[Any]:
        """A table with the run's cells in it, each with title and anchor."""
        source = self._sources[number]
        spec = source.table.spec
        cells = self._pairs(
            (
                f"{spec.rows[row].title or row}, {spec.columns[column].title or column}",
                labels.cell_anchor(row, column),
            )
            for row, column in places
        )
        texts = spec.title, source.titled, f"tables/{source.stem}.html"
        return [*map(self._word, texts), cells]


def chain(
    record: Record, runs: Mapping[str, RunUse], shorts: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """The runs up the chain, the first one first: key, name and page, which some lack."""
    found: list[tuple[str, str, str]] = []
    began = record.started_from
    while began is not None:
        if began.key is None:
            found.insert(0, (began.shown, "", ""))
            break
        above = runs[began.key].record if began.key in runs else None
        name = "" if above is None else above.experiment or above.paper
        page = "" if above is None else run_pages.page_of(shorts[began.key])
        found.insert(0, (began.key[: run_pages.SHORT], name, page))
        began = None if above is None else above.started_from
    return found


def _text(value: Any) -> str:
    """A value of a config; the same few stand in every run's."""
    return value_text(value) if isinstance(value, str | list | dict) else _scalar_text(value)


@lru_cache(maxsize=1024, typed=True)
def _scalar_text(value: float | None) -> str:
    return value_text(value)


def _number(value: float) -> float | str:
    """A number as it may stand in a data file."""
    return value if math.isfinite(value) else str(value)


def _facts(key: str, record: Record) -> Iterator[tuple[str, str]]:
    """Where a run comes from, as the page lists it."""
    v = record.provenance
    changed = f" with local changes {v.dirty[:12]}" if v.dirty else ""
    yield "Commit", f"{v.commit or 'none'}{changed}"
    for root in v.roots:
        changed = f" with local changes {root.dirty[:12]}" if root.dirty else ""
        yield f"Code of {root.name}", f"{root.commit or root.version or 'no commit'}{changed}"
    after = record.resumed_from_epoch
    resumed = f", resumed from epoch {after}" if after is not None else ""
    yield "Started", f"{record.started}, attempt {record.attempt}{resumed}"
    times = f"{labels.small(record.wall_s)} s wall, {labels.small(record.cpu_s)} s CPU"
    yield "Time", f"{times}, {labels.small(record.peak_memory_mb)} MB at most"
    accelerator = f"{v.accelerator}, driver {v.driver}; " if v.accelerator else ""
    cores, threads = counted(v.cores, "core"), counted(record.threads, "thread")
    ran = f"ran on {record.device} with {threads}, {record.workers} at once"
    yield "Machine", f"{accelerator}{v.cpu}, {cores}; {ran}"
    for told in stretches.told(record):
        yield "Begun with", told
    yield "Software", f"Python {v.python}, torch {v.torch}, packages {v.packages[:12]}"
    if v.kernels:
        yield "Kernels", v.kernels_shown
    yield "Key", key
    yield "Fingerprint of the code", record.fingerprint
    if record.weights_sha256:
        yield "Weights", record.weights_sha256
    if record.history_sha256:
        yield "History", record.history_sha256
    for b in record.blessings:
        at = f" at commit {b.commit[:12]}" if b.commit else ""
        local = " with local changes" if b.dirty else ""
        on = f" on {b.accelerator or b.cpu}" if b.cpu else ""
        to = f" to what commit {b.against[:12]} gives there" if b.against else ""
        to = to or (" to this record" if b.now else "")
        to += f", but for {', '.join(b.also)} that it has not" if b.also else ""
        yield "Confirmed", f"{b.at}: seed {b.seed} run again{at}{local}{on}, bitwise equal{to}"


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A config by dotted key, as it stands in the record."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found += flatten_config(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
