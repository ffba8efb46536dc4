"""The list of all runs as one small data file, and their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retable.report.site.inputs import RunUse, ShownTable
from retable.report.sweep_summary import short_names, value_text
from retable.runs import config_keys

SHORT = 16
_MAX_VALUE = 60


def short_keys(runs: Mapping[str, RunUse]) -> dict[str, str]:
    """Beginning of each key that names it among all; long enough for ``retable verify``."""
    length = SHORT
    while len({key[:length] for key in runs}) < len(runs):
        length += 4
    return {key: key[:length] for key in runs}


def page_of(short: str) -> str:
    """A run's address: one page shows any of them."""
    return f"run.html?{short}"


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
        "tables": [source.titled for source in sources],
        "runs": rows,
    }
