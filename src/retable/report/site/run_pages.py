"""The list of all runs as one small data file, and what a run's own page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retable.report.site.charts import Chart
from retable.report.site.inputs import RunUse, ShownTable
from retable.report.site.labels import cell_anchor, slug
from retable.report.sweep_summary import short_names, value_text
from retable.runs import config_keys
from retable.runs.records import Record

_SHORT = 16
_MAX_VALUE = 60


def short_keys(runs: Mapping[str, RunUse]) -> dict[str, str]:
    """Beginning of each key that names it among all; long enough for ``retable verify``."""
    length = _SHORT
    while len({key[:length] for key in runs}) < len(runs):
        length += 4
    return {key: key[:length] for key in runs}


def page_of(record: Record, short: str) -> str:
    """A run's page below ``runs/``, without the ending."""
    return f"{slug(record.paper)}/{short}"


def settings(runs: Mapping[str, RunUse]) -> dict[str, str]:
    """Settings that tell a run from others of its experiment, such as ``n_assets=25``, by key."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for key, use in runs.items():
        groups.setdefault((use.record.paper, use.record.experiment), []).append(key)
    found: dict[str, str] = {}
    for keys in groups.values():
        values = [config_keys.flatten(runs[key].record.config) for key in keys]
        texts = [{k: config_keys.text_of(v) for k, v in config.items()} for config in values]
        varies = config_keys.varying(texts)
        names = short_names(varies)
        for key, config in zip(keys, values, strict=True):
            parts = [f"{names[k]}={_brief(config[k])}" for k in varies if k in config]
            found[key] = ", ".join(parts)
    return found


def _brief(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"


def listing(
    runs: Mapping[str, RunUse], shorts: Mapping[str, str], sources: list[ShownTable]
) -> dict[str, Any]:
    """Every run in a few bytes: words stand once, runs hold their numbers."""
    texts = settings(runs)
    words: dict[str, dict[str, int]] = {
        name: {} for name in ("papers", "experiments", "settings", "statuses", "dates")
    }

    def number(name: str, word: str) -> int:
        return words[name].setdefault(word, len(words[name]))

    rows = [
        [
            shorts[key],
            number("papers", use.record.paper),
            number("experiments", use.record.experiment or "–"),
            number("settings", texts[key]),
            use.record.seed,
            number("statuses", use.record.status.value),
            round(use.record.wall_s, 2),
            number("dates", use.record.started[:10]),
            sorted(use.places),
        ]
        for key, use in runs.items()
    ]
    return {
        **{name: list(known) for name, known in words.items()},
        "folders": [slug(paper) for paper in words["papers"]],
        "tables": [_title(source) for source in sources],
        "runs": rows,
    }


def _title(source: ShownTable) -> str:
    protocol = "" if source.table.protocol == "paper" else f" ({source.table.protocol})"
    return f"{source.table.name}{protocol}"


def view(
    key: str,
    runs: Mapping[str, RunUse],
    shorts: Mapping[str, str],
    sources: list[ShownTable],
    charts: list[Chart],
) -> dict[str, Any]:
    """Values for the template of a run.

    Args:
        key: the run's.
        runs: all runs that have pages.
        shorts: beginnings of their keys.
        sources: all tables.
        charts: its curves.
    """
    use, short = runs[key], shorts[key]
    record = use.record
    return {
        "record": record,
        "key": key,
        "short": short,
        "chain": _chain(record, runs, shorts),
        "config": [(k, value_text(v)) for k, v in flatten_config(record.config)],
        "results": [r for r in record.results if r.metric not in record.timing_metrics],
        "timings": [r for r in record.results if r.metric in record.timing_metrics],
        "charts": charts,
        "charts_data": f"runs/{page_of(record, short)}.js",
        "places": [
            {
                "title": sources[n].table.spec.title,
                "name": _title(sources[n]),
                "page": f"tables/{sources[n].stem}.html",
                "cells": [_cell(sources[n], place) for place in places],
            }
            for n, places in sorted(use.places.items())
        ],
    }


def _chain(
    record: Record, runs: Mapping[str, RunUse], shorts: Mapping[str, str]
) -> list[dict[str, str]]:
    """The runs up the chain, the first one first, with their pages where they have some."""
    found: list[dict[str, str]] = []
    began = record.started_from
    while began is not None:
        if began.key is None:
            found.insert(0, {"key": began.shown, "name": "", "page": ""})
            break
        above = runs[began.key].record if began.key in runs else None
        name = "" if above is None else above.experiment or above.paper
        page = "" if above is None else f"runs/{page_of(above, shorts[began.key])}.html"
        found.insert(0, {"key": began.key[:_SHORT], "name": name, "page": page})
        began = None if above is None else above.started_from
    return found


def _cell(source: ShownTable, place: tuple[str, str]) -> dict[str, str]:
    spec = source.table.spec
    row, column = place
    return {
        "anchor": cell_anchor(row, column),
        "title": f"{spec.rows[row].title or row}, {spec.columns[column].title or column}",
    }


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A config by dotted key, as it stands in the record."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found += flatten_config(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
