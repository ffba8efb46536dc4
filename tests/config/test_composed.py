"""Single values set among plain ones, held against OmegaConf, which sets them in its own."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from retable.config import compose_cache
from retable.config.compose import compose
from retable.config.composed import Base, Whole
from retable.util.errors import UserError
from support.composed import BASE


def by_omegaconf(config, changes):
    config = copy.deepcopy(config)
    for key, value in changes:
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    return told(Whole(config))


def told(composed):
    values, missing = composed.resolved()
    return repr(composed.plain), repr(values), missing  # NaN is not equal to itself, 1 is to True


KEYS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join)
SINGLE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["", "x", "a.b", "???"])
)
REFERENCES = st.sampled_from(["${a}", "${a.b}", "${b}", "${b.c}", "x${c}", "${oc.env:A,1}", "$"])
ODD = st.sampled_from(["${.b}", "${${c}}", "${oc.decode:1}"])
TREES = st.recursive(
    SINGLE | REFERENCES,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), below)
    ),
    max_leaves=12,
)
VALUES = SINGLE | REFERENCES | ODD | st.lists(SINGLE, max_size=2) | st.just({"a": 1})


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    tree=st.fixed_dictionaries({"a": TREES, "b": TREES, "c": TREES | ODD}),
    changes=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3),
)
def test_what_is_set_among_plain_values_is_what_omegaconf_sets(tree, changes):
    config = OmegaConf.create(tree)
    base = Base(config)
    before = copy.deepcopy(base.whole.plain)
    quick = base.with_values(changes)
    if quick is None:
        return
    try:
        expected = by_omegaconf(config, changes)
    except Exception as error:
        with pytest.raises(type(error)):
            told(quick)
        return
    assert told(quick) == expected
    assert told(base.with_values(changes)) == expected  # nothing is left of the first time
    assert base.whole.plain == before


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("a.b", 2)],
        [("a.b", [1, None, "x"]), ("a.new.below", 1e-3)],
        [("whole", 3), ("whole", 4)],
        [("missing.one", 5)],
        [("missing", 5)],
        [("list", ["x"])],
    ],
)
def test_what_is_simple_is_done(changes):
    tree = {
        "a": {"b": 1, "c": "${other}"},
        "other": "${oc.env:RETABLE_NOT_SET,7}",
        "whole": {"x": 1},
        "missing": {"one": "???", "two": "???"},
        "list": [1, 2],
    }
    config = OmegaConf.create(tree)
    quick = Base(config).with_values(changes)
    assert quick is not None
    assert told(quick) == by_omegaconf(config, changes)


@pytest.mark.parametrize(
    ("tree", "key", "value"),
    [
        ({"a": "${b}", "b": 1}, "b", 2),
        ({"a": "${b.c}", "b": {"c": 1}}, "b", 2),
        ({"a": "${b}", "b": {"c": 1}}, "b.c", 2),
        ({"a": "${b}", "b": {"c": 1}}, "a.c", 2),
        ({"a": "${b}", "c": 1}, "a", 2),  # the reference that leads nowhere is lost
        ({"a": ["${b}"], "c": 1}, "a", 2),
        ({"a": {"x": "${.b}", "b": 1}}, "c", 2),
        ({"a": "${${b}}", "b": "c", "c": 1}, "d", 2),
        ({"a": "${oc.select:b}", "b": 1}, "c", 2),
        ({"a": 1}, "a.b", 2),
        ({"a": None}, "a.b", 2),
        ({"a": [{"b": 1}]}, "a[0].b", 2),
        ({"a": {"b": 1}}, "a", [1]),
        ({"a": 1}, "a", {"b": 1}),
        ({"a": 1}, "a", [{"b": 1}]),
        ({"a": 1}, "a", "${b}"),
        ({"a": 1}, "a", "???"),
    ],
)
def test_what_is_not_as_simple_is_left_to_omegaconf(tree, key, value):
    assert Base(OmegaConf.create(tree)).with_values([(key, value)]) is None


def test_references_of_what_shares_no_more_than_the_beginning_of_a_name_are_no_matter():
    quick = Base(OmegaConf.create({"a": "${bc}", "bc": 1})).with_values([("b", 2)])
    assert quick is not None
    assert quick.resolved()[0] == {"a": 1, "bc": 1, "b": 2}


def test_files_of_an_experiment_are_checked_once_while_many_runs_are_planned(monkeypatch):
    checked = []
    monkeypatch.setattr("retable.config.compose.check_files", checked.append)
    runs = [[*BASE, f"model.hidden={n}"] for n in (3, 4, 5)]
    with compose_cache.planning():
        hidden = [compose(run).model["hidden"] for run in runs]
    assert hidden == [3, 4, 5]
    assert checked == runs[:1]


def test_files_that_are_refused_are_refused_again(monkeypatch):
    def refuse(_):
        raise UserError("not these")

    monkeypatch.setattr("retable.config.compose.check_files", refuse)
    with compose_cache.planning():
        for n in (3, 4):
            with pytest.raises(UserError, match="not these"):
                compose([*BASE, f"model.hidden={n}"])
