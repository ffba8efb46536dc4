"""The order of a mapping's keys, as far as it is part of a run's key.

Numbers may follow from it: tasks that have a head each draw its weights one after the other. So
``model.tasks={b: 1, a: 1}`` and ``model.tasks={a: 1, b: 1}`` are two runs. A mapping in
alphabetical order adds nothing to the key, as if its order had been left out.

What a ``_target_`` is called with goes by name and has no order; a class that takes any names is
not to compute by theirs. A paper may say of a mapping that
one order of it is all there is (:func:`retable.config.paper_refusals.one_order`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from retable.config.paper_refusals import one_order

_SECTIONS = ("callbacks", "data", "model")


def orders(part: dict[str, Any]) -> dict[str, list[str]]:
    """Keys in their order, by dotted place, of each mapping whose order may move a number.

    Args:
        part: a config as plain values, such as its keyed part; what it starts from is looked at
            too.
    """
    return dict(_of_run(part, ""))


def named(part: dict[str, Any]) -> dict[str, list[str]]:
    """:func:`orders` by names that tell two configs apart that differ in nothing else."""
    return {f"order of {place}": keys for place, keys in orders(part).items()}


def _of_run(part: dict[str, Any], place: str) -> Iterator[tuple[str, list[str]]]:
    model, start = part.get("model"), part.get("start")
    fixed = (
        {f"{place}{name}" for name in one_order(model)} if isinstance(model, dict) else set[str]()
    )
    for section in _SECTIONS:
        for where, keys in _below(part.get(section), f"{place}{section}"):
            if where not in fixed:
                yield where, keys
    run = start.get("run") if isinstance(start, dict) else None
    if isinstance(run, dict):
        yield from _of_run(run, f"{place}start.run.")


def _below(node: Any, place: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(node, dict):
        if "_target_" not in node and (keys := [*node]) != sorted(keys):
            yield place, keys
        for name, value in node.items():
            yield from _below(value, f"{place}.{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _below(value, f"{place}.{number}")
