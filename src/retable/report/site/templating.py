"""Templates and data files as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from retable.report import claim_sentences, claims_text
from retable.report.site import bars, charts, labels
from retable.report.svg import verdict_bars
from retable.tables.paper_info import title_of

Files = Iterator[tuple[str, str]]
"""Path below the site, and content."""


@cache
def environment() -> Environment:
    """Templates, with everything escaped that they do not write themselves."""
    found = Environment(
        loader=PackageLoader("retable.report.site", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters: dict[str, Any] = found.filters
    filters |= {
        "small": labels.small,
        "hours": labels.hours,
        "p": labels.p_value,
        "chip": labels.claim_chip,
        "effect": claims_text.effect,
        "details": claims_text.details,
        "size": claim_sentences.size,
        "keys": charts.keys,
        "cells_of": verdict_bars.cells,
        "claims_of": verdict_bars.claims,
    }
    values: dict[str, Any] = found.globals
    values |= {
        "words": labels,
        "bar": bars.of,
        "bar_key": bars.key,
        "cells_of": verdict_bars.cells,
        "claims_of": verdict_bars.claims,
        "title_of": title_of,
    }
    return found


def page(path: str, template: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """A page; ``root`` in its template leads to the top of the site."""
    root = "../" * path.count("/")
    return path, environment().get_template(template).render(root=root, **values)


def given(value: Any) -> str:
    """A data file: a script, because a page from ``file://`` may load nothing else."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"retable.give({content});\n"
