"""The losses of decision vectors: closed forms, fairlearn, empty cells, subsets."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import zero_one_loss

from retable.papers.superhuman_fairness.losses import EXTRA, MEASURES, count, gaps, losses

Y = np.array([1, 1, 0, 0, 1, 0])
DECISIONS = np.array([1, 0, 1, 0, 1, 1])
A = np.array([0, 0, 0, 1, 1, 1])


def by_hand(decisions, y, a):
    """Item by item, as the formulas say; a rate without items is 0."""

    def rate(of, among):
        chosen = [bool(o) for o, m in zip(of, among, strict=True) if m]
        return sum(chosen) / len(chosen) if chosen else 0.0

    def gap(of, within):
        rates = [rate(of, within & (a == group)) for group in (0, 1)]
        return abs(rates[1] - rates[0])

    everyone = np.ones(len(y), dtype=bool)
    return [
        sum(int(d != t) for d, t in zip(decisions, y, strict=True)) / len(y),
        gap(decisions == 1, everyone),
        max(gap(decisions == 1, y == label) for label in (0, 1)),
        max(gap(y == value, decisions == value) for value in (0, 1)),
    ]


@st.composite
def vectors(draw, groups=(0, 1)):
    n = draw(st.integers(1, 30))
    bits = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    some = st.lists(st.sampled_from(groups), min_size=n, max_size=n)
    return tuple(np.array(draw(s)) for s in (bits, bits, some))


def test_the_worked_example():
    assert losses(DECISIONS, Y, A).tolist() == [[3 / 6, 0.0, 0.5, 1.0]]
    assert MEASURES == ("error", "dp", "eqodds", "prp")


def test_equalised_odds_is_the_larger_gap_not_their_mean():
    # True positive rates 1/2 and 1, false positive rates 0 and 0.
    found = losses(np.array([1, 0, 0, 1, 0]), np.array([1, 1, 0, 1, 0]), np.array([0, 0, 0, 1, 1]))
    assert found[0, 2] == 0.5


@pytest.mark.slow
@given(vectors())
@settings(max_examples=300, deadline=None)
def test_losses_are_those_of_the_formulas_item_by_item(drawn):
    np.testing.assert_allclose(losses(*drawn)[0], by_hand(*drawn), rtol=0, atol=1e-15)


def frame_gap(of, decisions, y, a):
    frame = fairlearn.MetricFrame(metrics=of, y_true=y, y_pred=decisions, sensitive_features=a)
    return frame.difference(method="between_groups")


def predictive_value(value):
    def of(y, decisions):
        chosen = np.asarray(y)[np.asarray(decisions) == value]
        return float(np.mean(chosen == value)) if len(chosen) else 0.0

    return of


@pytest.mark.slow
@given(vectors())
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_losses_are_those_of_fairlearn_also_with_empty_cells(drawn):
    decisions, y, a = drawn
    if len(np.unique(a)) < 2:
        return  # one group alone has no gap there; our rate of an absent group is 0
    prp = max(frame_gap(predictive_value(value), decisions, y, a) for value in (0, 1))
    expected = [
        zero_one_loss(y, decisions),
        fairlearn.demographic_parity_difference(y, decisions, sensitive_features=a),
        fairlearn.equalized_odds_difference(y, decisions, sensitive_features=a),
        prp,
    ]
    np.testing.assert_allclose(losses(decisions, y, a)[0], expected, rtol=0, atol=1e-12)


def test_random_vectors_of_a_data_sets_size_are_measured_as_by_fairlearn():
    rng = np.random.default_rng(0)
    y, a = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    decisions = rng.integers(0, 2, (3, 4000))
    found = losses(decisions, y, a)
    for row, each in zip(found, decisions, strict=True):
        eqodds = fairlearn.equalized_odds_difference(y, each, sensitive_features=a)
        dp = fairlearn.demographic_parity_difference(y, each, sensitive_features=a)
        np.testing.assert_allclose(row[[1, 2]], [dp, eqodds], rtol=1e-12)


@given(vectors())
@settings(max_examples=100, deadline=None)
def test_swapping_the_groups_changes_nothing(drawn):
    decisions, y, a = drawn
    np.testing.assert_array_equal(losses(decisions, y, a), losses(decisions, y, 1 - a))


@pytest.mark.slow
@given(vectors(), st.integers(0, 1))
@settings(max_examples=100, deadline=None)
def test_constant_decisions_have_no_gap_between_groups_that_are_there(drawn, value):
    _, y, a = drawn
    y = np.concatenate([y, [0, 1, 0, 1]])
    a = np.concatenate([a, [0, 0, 1, 1]])
    found = losses(np.full(len(y), value), y, a)[0]
    assert found[1] == found[2] == 0


def test_many_vectors_at_once_are_each_vector_alone():
    rng = np.random.default_rng(1)
    y, a = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    decisions = rng.integers(0, 2, (7, 50))
    together = losses(decisions, y, a)
    assert together.shape == (7, 4)
    assert together.dtype == np.float64
    for row, each in zip(together, decisions, strict=True):
        np.testing.assert_array_equal(row, losses(each, y, a)[0])


def test_each_vector_may_decide_on_items_of_its_own():
    rng = np.random.default_rng(2)
    y, a = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    index = np.stack([rng.permutation(40)[:15] for _ in range(5)])
    decisions = rng.integers(0, 2, (5, 15))
    found = losses(decisions, y, a, index)
    for j in range(5):
        alone = losses(decisions[j], y[index[j]], a[index[j]])[0]
        np.testing.assert_array_equal(found[j], alone)
    # A reference's losses take noisy groups, one row for each vector.
    np.testing.assert_array_equal(losses(decisions, y[index], a[index]), found)


def test_the_single_gaps_make_up_the_losses():
    rng = np.random.default_rng(3)
    y, a = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    decisions = rng.integers(0, 2, (9, 60))
    found, parts = losses(decisions, y, a), gaps(count(decisions, y, a))
    assert EXTRA == ("fpr", "fnr", "ppv", "npv")
    np.testing.assert_array_equal(found[:, 2], parts[:, :2].max(axis=1))
    np.testing.assert_array_equal(found[:, 3], parts[:, 2:].max(axis=1))
    fnr = fairlearn.false_negative_rate_difference(y, decisions[0], sensitive_features=a)
    assert parts[0, 1] == pytest.approx(fnr, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 2], [0, 1], [0, 1]), "decisions: a value is neither 0 nor 1"),
        (([0, 1], [0, np.nan], [0, 1]), "y: a value is neither"),
        (([0, 1], [0, 1], [1, 2]), "a: a value is neither"),
        (([0, 1, 1], [0, 1], [0, 1]), "shapes do not agree"),
        (([0, 1], [0, 1], [0, 1, 1]), "shapes do not agree"),
        (([[0, 1]], [[0, 1]], [[0, 1]], np.array([[0, 1]])), "one entry for each item"),
    ],
)
def test_what_is_no_decision_vector_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        losses(*(np.asarray(argument) for argument in arguments))
