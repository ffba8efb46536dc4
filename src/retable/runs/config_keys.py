"""Recorded configs by dotted key, to group runs by their values and to see what varies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from retable.config import key_order
from retable.config.schema import RunConfig, is_keyed, sections


@cache
def _schema() -> tuple[dict[str, Any], frozenset[str]]:
    """Defaults of the schema's keyed fields by dotted key, and the keys that are not keyed."""
    defaults: dict[str, Any] = {}
    unkeyed: set[str] = set()
    nested = sections()
    for name, info in RunConfig.model_fields.items():
        if not is_keyed(RunConfig, name) or info.is_required():
            continue
        section = nested.get(name)
        if section is None or info.default is None:
            defaults[name] = info.default
            continue
        for inner, inner_info in section.model_fields.items():
            if is_keyed(section, inner):
                defaults[f"{name}.{inner}"] = inner_info.default
            else:
                unkeyed.add(f"{name}.{inner}")
    return defaults, frozenset(unkeyed)


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """The keyed values of a recorded config by dotted key.

    A field that the schema has got since is at its default: that is what adding one means. An
    argument of data or model that the config leaves out stays out: the code's default may have
    changed. The order of a mapping that is part of the key has one of its own, "order of ...".
    """
    out: dict[str, Any] = {}
    _walk(config, "", out)
    defaults, unkeyed = _schema()
    for key in unkeyed:
        out.pop(key, None)
    for key, value in defaults.items():
        if key not in out and key not in config:
            out[key] = value
    return out | key_order.named(config)


def _walk(node: dict[str, Any], prefix: str, out: dict[str, Any]) -> None:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            _walk(value, f"{prefix}{key}.", out)
        else:
            out[f"{prefix}{key}"] = value


def varying(texts: Sequence[dict[str, str]]) -> list[str]:
    """Keys in which some configs differ, the seed left aside."""
    values: dict[str, set[str | None]] = {key: set() for config in texts for key in config}
    for key, seen in values.items():
        seen.update(config.get(key) for config in texts)
    return sorted(key for key, seen in values.items() if len(seen) > 1 and key != "seed")


def text_of(value: Any) -> str:
    """A value as text to compare: 1, 1.0, "1" and true differ, which compare or hash alike."""
    # Ten times as fast as JSON where they say the same.
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else repr(value)
