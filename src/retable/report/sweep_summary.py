"""A summary of an experiment's runs as text and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from retable.runs.records import Status
from retable.tables.summarize import Group, Statistic, Summary

WIDTH = 100
_NONE = "–"
_RESERVED = ("n", "settings")
_Column = tuple[str, list[str], bool]
"""Heading, cells, and whether they are numbers, which stand at the right."""


def as_text(summary: Summary, width: int = WIDTH) -> str:
    """An aligned table; one that is wider than ``width`` continues in further ones below."""
    groups = summary.groups
    total = sum((g.statuses for g in groups[1:]), groups[0].statuses)
    states = ", ".join(f"{total[s]} {s.value}" for s in Status if total[s])
    count = "1 run" if total.total() == 1 else f"{total.total()} runs"
    lines = [f"{summary.experiment}: {count} in {summary.runs}: {states}"]
    if summary.by:
        lines.append(f"by {', '.join(summary.by)}")
    lines += [*summary.notes, ""]
    names = short_names(summary.by)
    left: list[_Column] = []
    for key in summary.by:
        values = [g.setting.get(key, _NONE) for g in groups]
        numbers = all(isinstance(v, int | float) or v == _NONE for v in values)
        left.append((names[key], [value_text(v) for v in values], numbers))
    left.append(("n", [str(g.n) for g in groups], True))
    if any(g.settings > 1 for g in groups):
        left.append(("settings", [str(g.settings) for g in groups], True))
    numbers = [
        (a.label, [statistic_text(g.statistics[a], g.n) for g in groups], True)
        for a in summary.addresses
    ]
    marks = [", ".join(g.marks()) for g in groups]
    right: list[_Column] = [("", marks, False)] if any(marks) else []
    room = width - _width([*left, *right])
    pages: list[list[_Column]] = [[]]
    for column in numbers:
        if pages[-1] and _width([*pages[-1], column]) > room:
            pages.append([])
        pages[-1].append(column)
    lines.append("\n\n".join(_aligned([*left, *page, *right]) for page in pages))
    return "\n".join(lines)


def _column_width(column: _Column) -> int:
    return max(len(text) for text in (column[0], *column[1]))


def _width(columns: Sequence[_Column]) -> int:
    return sum(_column_width(column) + 2 for column in columns)


def _aligned(columns: Sequence[_Column]) -> str:
    widths = [_column_width(column) for column in columns]
    rows = [[heading for heading, _, _ in columns]]
    rows += [list(cells) for cells in zip(*(cells for _, cells, _ in columns), strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column[2] else text.ljust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    )


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each dotted key that no other key has too."""
    out: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]
        others = [other for other in keys if other != key]
        out[key] = next(
            (
                ending
                for ending in endings
                if ending not in _RESERVED
                and not any(f".{other}".endswith(f".{ending}") for other in others)
            ),
            key,
        )
    return out


def value_text(value: Any) -> str:
    """A setting's value: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def statistic_text(statistic: Statistic, of: int) -> str:
    """``0.912 ± 0.013``; with ``(3/5)`` behind where not every finished run has the number."""
    if statistic.mean is None:
        return _NONE
    count = f" ({statistic.n}/{of})" if statistic.n != of else ""
    return f"{_spread_text(statistic.mean, statistic.std)}{count}"


def _spread_text(mean: float, std: float | None) -> str:
    """Mean and spread to two digits of the spread."""
    if std is None:
        return f"{mean:.6g}"
    if std == 0:
        return f"{mean:.6g} ± 0"
    size = max(abs(mean), std)
    if not 1e-4 <= size < 1e6 or std < 1e-6:
        return f"{mean:.3e} ± {std:.1e}"
    decimals = max(0, 1 - math.floor(math.log10(std)))
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}"


def as_json(summary: Summary) -> dict[str, Any]:
    """Everything of a summary as plain values; a setting lacks the keys that its config lacks."""
    return {
        "experiment": summary.experiment,
        "runs": str(summary.runs),
        "by": summary.by,
        "by_chosen": summary.chosen,
        "metrics": [a.label for a in summary.addresses],
        "without_record": summary.waiting,
        "notes": summary.notes,
        "groups": [_group_json(summary, group) for group in summary.groups],
    }


def _group_json(summary: Summary, group: Group) -> dict[str, Any]:
    return {
        "setting": group.setting,
        "n": group.n,
        "settings": group.settings,
        "differs": group.differs,
        "seeds": group.seeds,
        "keys": group.keys,
        "runs": {status.value: count for status, count in sorted(group.statuses.items())},
        "stale": group.stale,
        "devices": dict(sorted(group.devices.items())),
        "mixed_times": group.mixed_times,
        "marks": group.marks(),
        "metrics": [
            {
                "metric": a.metric,
                "result_row": a.result_row,
                "step": None if a.step < 0 else a.step,
                "mean": group.statistics[a].mean,
                "std": group.statistics[a].std,
                "n": group.statistics[a].n,
            }
            for a in summary.addresses
        ],
    }
