"""The reference of all keys in docs/tables.md says what the schema of table files says."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from retable.tables import (
    cell_map_spec,
    claim_spec,
    figure_spec,
    heat_spec,
    looks_spec,
    over_columns_spec,
    spec,
    spec_parts,
    why_spec,
)
from retable.tables.spec_parts import Part

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
PARTS: dict[str, type[Part]] = {
    "The file": spec.TableSpec,
    "`source`": spec_parts.Source,
    "`metrics`": spec_parts.Metric,
    "`columns`": spec_parts.Column,
    "`columns`, in `over_columns`": over_columns_spec.OverColumns,
    "`columns`, in `over_columns.base`": over_columns_spec.Base,
    "`rows`": spec_parts.Row,
    "`looks`": looks_spec.DeclaredLooks,
    "`select`": spec_parts.Select,
    "`quick`": spec_parts.Quick,
    "`reported`, a cell": spec_parts.Reported,
    "`claims`": claim_spec.Claim,
    "`claims`, in `also`": claim_spec.Also,
    "`why`": why_spec.Why,
    "`why`, in `measured`": why_spec.Measured,
    "`figure`, `kind: curves`": figure_spec.Figure,
    "`figure`, a panel of curves": figure_spec.Panel,
    "`figure`, `kind: scatter`": figure_spec.Scatter,
    "`figure`, a panel of a scatter plot": figure_spec.Pair,
    "`figure`, `cloud` and `path`": figure_spec.Steps,
    "`figure`, `kind: cells`": cell_map_spec.CellMap,
    "`figure`, a panel of cells": cell_map_spec.CellMapPanel,
    "`figure`, `kind: heat`": heat_spec.Heat,
    "`figure`, a panel of a heat map": heat_spec.HeatPanel,
    "`figure`, `kind: image`": heat_spec.Image,
    "`figure`, a panel of images": heat_spec.ImagePanel,
}


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """Default and meaning by part and key."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## All keys\n")[2]
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"\*\*(.+)\*\*", line):
            found[heading[1]] = {}
        elif row := re.fullmatch(r"\| `(\w+)` \| (.*?) ?\| (.*) \|", line):
            found[next(reversed(found))][row[1]] = row[2].strip(), row[3]
    return found


def default_of(part: type[Part], key: str) -> str:
    field = part.model_fields[key]
    if field.is_required():
        return "needed"
    value = field.get_default()
    if value in (None, "", [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_no_part_of_a_table_file_is_left_out():
    there = {
        kind
        for module in (spec, spec_parts, claim_spec, figure_spec, heat_spec, looks_spec, why_spec)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Part)
    }
    assert there - set(PARTS.values()) == {Part, figure_spec.Drawn}  # bases of the others
    assert list(documented()) == list(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_every_key_is_documented_with_its_default(name):
    part, said = PARTS[name], documented()[name]
    assert {key: default for key, (default, _) in said.items()} == {
        key: default_of(part, key) for key in part.model_fields
    }
    assert all(meaning.strip() for _, meaning in said.values())
