"""The reference of an experiment's keys in docs/experiments.md says what the schema says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from retable.config import schema

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "experiments.md"
EXPERIMENTS = PROJECT / "conf" / "experiment"
PARTS: dict[str, type[schema.Section]] = {
    "The file": schema.SettingConfig,
    "`trainer`": schema.TrainerConfig,
    "`best_epoch`": schema.BestEpoch,
    "`start`": schema.StartConfig,
    "`device`": schema.DeviceConfig,
    "`resources`": schema.ResourcesConfig,
}


def default_of(field):
    if field.default is PydanticUndefined:
        return "needed"
    if field.default is None or isinstance(field.default, BaseModel) or field.default == {}:
        return ""
    return f"`{json.dumps(field.default)}`".replace('"', "")


def rows_of(part):
    """Key, default, whether it is part of a run's key, and meaning, as the page has them."""
    return [
        f"| `{name}` | {default_of(field)} | {'yes' if schema.is_keyed(part, name) else ''} |"
        f" {field.description} |"
        for name, field in part.model_fields.items()
    ]


@pytest.mark.parametrize("title", PARTS)
def test_every_key_stands_there_with_its_default_and_meaning(title):
    text = PAGE.read_text(encoding="utf-8")
    own = text.partition(f"\n**{title}**\n")[2].partition("\n**")[0]
    rows = [line for line in own.splitlines() if line.startswith("| `")]
    assert [" ".join(row.split()) for row in rows] == [
        " ".join(row.split()) for row in rows_of(PARTS[title])
    ]


def test_no_part_is_left_out():
    sections = schema.sections(schema.SettingConfig).values()
    assert set(sections) | {schema.SettingConfig} == set(PARTS.values())


def test_the_example_is_one_that_ships():
    block = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    assert block == (EXPERIMENTS / "igb" / "digits.yaml").read_text(encoding="utf-8")
