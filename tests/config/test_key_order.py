"""The order of a mapping is part of a run's key where numbers may follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from retable.config import paper_refusals
from retable.config.compose import compose, hydra_ready
from retable.config.key_order import named, orders
from retable.config.schema import RunConfig
from retable.runs import frozen
from retable.runs.config_keys import flatten, text_of
from retable.runs.identity import run_key
from retable.runs.lookup import refreeze
from retable.tracking.run_payload import config_of
from support.records import PROVENANCE, record_of

CALLBACK = "{_target_: pytorch_lightning.callbacks.Timer}"
FORWARD = f"+callbacks={{a: {CALLBACK}, b: {CALLBACK}}}"
BACKWARD = f"+callbacks={{b: {CALLBACK}, a: {CALLBACK}}}"


def part(**model: object) -> dict[str, object]:
    return {"model": {"_target_": "x.Net", **model}, "data": {"_target_": "x.Data"}}


def composed(*overrides: str) -> RunConfig:
    with hydra_ready():
        return compose(["experiment=digits/base", "seed=0", *overrides])


def test_of_mappings_that_are_values_and_not_alphabetical():
    assert orders(part(tasks={"a": 1, "b": 1}, z=1, y=2)) == {}
    assert orders(part(tasks={"b": 1, "a": 1})) == {"model.tasks": ["b", "a"]}
    nested = part(net={"_target_": "x.Y", "w": 1, "a": [{"d": 0, "c": {"f": 1, "e": 2}}]})
    assert orders(nested) == {"model.net.a.0": ["d", "c"], "model.net.a.0.c": ["f", "e"]}


def test_sections_that_say_how_have_no_order():
    how = {"trainer": {"precision": "x", "max_epochs": 1}, "tested": {"last": {}, "best": {}}}
    assert orders(part() | how) == {}


def test_of_the_run_that_is_started_from():
    start = part() | {"start": {"run": part(tasks={"b": 1, "a": 1}) | {"start": None}}}
    assert orders(start) == {"start.run.model.tasks": ["b", "a"]}
    assert orders(part() | {"start": {"file": "x.pt", "run": None}}) == {}
    assert orders({"model": "of a record that was edited", "start": "here", "data": 1}) == {}


def test_a_paper_may_say_that_there_is_one_order():
    tasks = {"hours": 1, "age": 2}
    model = {"_target_": "retable.papers.igb.module_adult.X", "tasks": tasks, "others": tasks}
    assert [*orders({"model": model})] == ["model.others"]
    again = {"model": {"_target_": "x.Net"}, "start": {"run": {"model": model}}}
    assert [*orders(again)] == ["start.run.model.others"]


def test_alphabetical_keys_are_as_before(monkeypatch):
    plain = run_key(composed())
    assert run_key(composed(FORWARD)) != plain
    forward = run_key(composed(FORWARD))
    monkeypatch.setattr("retable.runs.identity.orders", lambda _: {})
    assert run_key(composed()) == plain
    assert run_key(composed(FORWARD)) == forward == run_key(composed(BACKWARD))


def test_two_orders_are_two_runs_everywhere(tmp_path: Path):
    """Frozen, recorded, read again, with other seeds, as values to group by and in W&B."""
    one, other = (
        frozen.freeze(composed(text, f"paths.runs={tmp_path}")) for text in (FORWARD, BACKWARD)
    )
    assert one.key != other.key
    assert one.with_seed(3).key != other.with_seed(3).key
    assert other.keys([0, 3]) == [other.key, other.with_seed(3).key]
    assert [run_key(run.config) for run in (one, other)] == [one.key, other.key]
    assert frozen.read(frozen.write(other)).key == other.key
    record = structs.replace(record_of(frozen.recorded(other.config)), key=other.key)
    assert refreeze(record, tmp_path).key == other.key
    flat = [flatten(run) for run in (frozen.recorded(one.config), record.config)]
    differ = {key for key in {*flat[0], *flat[1]} if flat[0].get(key) != flat[1].get(key)}
    assert differ == {"order of callbacks"}
    assert text_of(flat[1]["order of callbacks"]) == '["b", "a"]'
    assert config_of(other, PROVENANCE)["order of callbacks"] == ["b", "a"]


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=5), st.randoms())
def test_orders_tell_any_two_orders_apart(tasks, rng):
    other = dict(rng.sample([*tasks.items()], len(tasks)))
    same = [*tasks] == [*other]
    assert (json.dumps(named(part(t=tasks))) == json.dumps(named(part(t=other)))) == same


def test_without_refusals_nothing_is_imported(monkeypatch):
    monkeypatch.setattr(paper_refusals, "import_module", pytest.fail)
    assert orders(part(tasks={"b": 1, "a": 1})) == {"model.tasks": ["b", "a"]}
