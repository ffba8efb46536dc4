"""Many tests at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.tables.results import Effect
from retable.tables.verdicts.contrast import Arm, contrast
from retable.tables.verdicts.multiplicity import all_of, best, holm
from support.statistics import by_seed

ps = st.lists(st.floats(0, 1), max_size=12)


def of(p: float) -> Effect:
    """The effect of a claim with this p, as `contrast` would have it at 5 %."""
    lower = 1.0 if p < 0.05 else -1.0 if 1 - p >= 0.05 else -3.0
    upper = -1.0 if 1 - p < 0.05 else 3.0
    return Effect(0.0, 1.0, 4.0, lower, upper, p, 1 - p, 5, True)


def test_holms_value():
    assert holm([0.01, 0.02, 0.03, 0.2]) == pytest.approx([0.04, 0.06, 0.06, 0.2])
    assert holm([0.2, 0.03, 0.01, 0.02]) == pytest.approx([0.2, 0.06, 0.04, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(ps)
def test_holm_adjusts_upwards_and_keeps_the_order(values):
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


@given(ps, st.randoms(use_true_random=False))
def test_holm_does_not_ask_in_which_order(values, random):
    places = list(range(len(values)))
    random.shuffle(places)
    assert holm([values[i] for i in places]) == [holm(values)[i] for i in places]


@given(ps.filter(bool), st.data())
def test_holm_is_monotone_in_every_p(values, data):
    place = data.draw(st.integers(0, len(values) - 1))
    larger = [*values]
    larger[place] = data.draw(st.floats(values[place], 1))
    assert all(a <= b for a, b in zip(holm(values), holm(larger), strict=True))


# Claims of several parts


def test_all_of_is_upheld_at_its_largest_p_without_a_correction():
    assert all_of([of(0.01), of(0.04), of(0.001)]) == ("upheld", 0.04)
    assert all_of([of(0.01), of(0.06)]) == ("undecided", 0.06)


@pytest.mark.parametrize(
    ("against", "parts", "verdict"),
    [(0.01, 4, "contradicted"), (0.012, 5, "undecided"), (0.04, 1, "contradicted"),
     (0.026, 2, "undecided"), (0.02, 2, "contradicted")],
)  # fmt: skip
def test_all_of_is_contradicted_after_a_correction_for_its_parts(against, parts, verdict):
    found, p = all_of([of(1 - against), *[of(0.001)] * (parts - 1)])
    assert found == verdict
    assert p == pytest.approx(1 - against)


def test_a_part_that_cannot_be_tested_leaves_all_of_it_undecided():
    untested = contrast([Arm(1.0, {0: 1.0})])
    assert all_of([of(0.01), untested]) == ("undecided", None)
    assert all_of([of(0.999), untested])[0] == "contradicted", "one false part is enough"
    one_run = replace(of(0.99999), n=1)
    assert all_of([of(0.01), one_run])[0] == "undecided"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_parts_changes_nothing(values, random):
    effects = [of(p) for p in values]
    shuffled = list(effects)
    random.shuffle(shuffled)
    assert all_of(shuffled) == all_of(effects)


# Bold

CLEAR = {"a": by_seed(1.0, 1.1, 1.2), "b": by_seed(2.0, 2.2, 2.1), "c": by_seed(3.0, 3.3, 3.1)}


def test_the_best_row_has_to_beat_every_other():
    assert best(CLEAR, "min") == "a"
    assert best(CLEAR, "max") == "c"
    assert best(CLEAR, "none") is None
    close = {**CLEAR, "d": by_seed(1.05, 1.3, 1.0)}
    assert best(close, "min") is None
    assert best(close, "max") == "c"


def test_bold_is_at_two_sided_five_per_cent():
    """One-sided p .0236 is below 2.5 %, .0259 is not."""
    a, b = by_seed(2.1, 1.9, 2.4), by_seed(1.5, 1.6, 1.7)
    assert best({"a": a, "b": b}, "max") == "a"
    elsewhere = {seed + 10: x for seed, x in b.items()}
    assert contrast([Arm(1.0, a), Arm(-1.0, elsewhere)]).p < 0.05
    assert best({"a": a, "b": elsewhere}, "max") is None


def test_towards_an_ideal_the_nearest_is_best():
    rows = {"a": by_seed(40.0, 41.0, 39.5), "b": by_seed(52.0, 51.0, 51.5)}
    assert best(rows, "none", ideal=50.0) == "b"
    assert best(rows, "min", ideal=30.0) == "a"


@pytest.mark.parametrize("rows", [{}, {"a": CLEAR["a"]}, {"a": CLEAR["a"], "b": {}}])
def test_a_row_that_is_alone_beats_nobody(rows):
    assert best(rows, "min") is None


def test_single_runs_are_bold_only_where_every_run_gives_the_same():
    rows = {"a": {0: 1.0}, "b": {0: 2.0}, "c": {0: 3.0}}
    assert best(rows, "min") is None
    assert best({**CLEAR, "d": {0: 9.0}}, "min") is None, "what has no spread cannot be beaten"
    assert best(rows, "min", deterministic=True) == "a"
    assert best({**rows, "d": {0: 1.0}}, "min", deterministic=True) is None


def test_equal_runs_are_not_bold_within_a_quantum():
    rows = {"a": by_seed(0.0, 0.0, 0.0), "b": by_seed(2.0, 2.0, 2.0)}
    assert best(rows, "min") == "a"
    assert best(rows, "min", quantum=2.0) is None


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.floats(-9, 9).map(lambda x: round(x, 3)), min_size=3, max_size=3).map(
            lambda v: by_seed(*v)
        ),
        min_size=2,
    ),
    st.randoms(use_true_random=False),
)
def test_bold_does_not_ask_in_which_order_and_has_a_mirror_image(rows, random):
    names = list(rows)
    random.shuffle(names)
    found = best(rows, "max")
    assert best({name: rows[name] for name in names}, "max") == found
    mirrored = {name: {s: -x for s, x in values.items()} for name, values in rows.items()}
    assert best(mirrored, "min") == found
