"""The greedy search, against brute force, scikit-learn and cases that can be done by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SequentialFeatureSelector

from retable.papers.subtuning.search import Found, fixed, greedy, most, named, pending


def subsets(n):
    return [s for k in range(n + 1) for s in itertools.combinations(range(n), k)]


def tables(n):
    """Scores of all sets, all different: with ties the two implementations may part."""
    sets = subsets(n)
    return st.permutations(range(len(sets))).map(
        lambda ranks: {s: (1 + r) / len(sets) for s, r in zip(sets, ranks, strict=True)}
    )


class Columns(BaseEstimator):
    """An estimator of scikit-learn whose score is that of the columns it was given."""

    def __init__(self, table=None):
        self.table = table

    def fit(self, x, y=None):
        return self

    def score(self, x, y=None):
        return self.table[tuple(x[0].astype(int))]


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "backward"])
@given(table=tables(4), eps=st.sampled_from([0.01, 0.2]))
def test_scikit_learn_takes_the_same_blocks_by_gain(direction, table, eps):
    x = np.tile(np.arange(4), (4, 1))
    selector = SequentialFeatureSelector(
        Columns(table),
        n_features_to_select="auto",
        tol=eps,
        direction=direction,
        cv=[(np.arange(4), np.arange(4))],
    )
    theirs = tuple(np.flatnonzero(selector.fit(x, [0, 1, 0, 1]).get_support()))
    ours = greedy(4, table.__getitem__, "gain", direction, eps)
    # Theirs compares the first round with nothing, and never takes (leaves) all.
    first = max((table[s], s) for s in subsets(4) if len(s) == (1 if direction == "forward" else 3))
    start = 0.0 if direction == "forward" else table[0, 1, 2, 3]
    if first[0] > start + eps and len(ours.chosen) not in (0, 4):
        assert ours.chosen == theirs
    assert ours.score == (table[ours.chosen] if ours.chosen or direction != "forward" else 0.0)


@given(weights=st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=4, max_size=4))
def test_of_a_coverage_it_has_1_less_1_over_e_of_the_best_of_its_size(weights):
    # Monotone and submodular: every item counts by the best block that has it.
    def score(blocks):
        return sum(max((weights[i][j] for i in blocks), default=0.0) for j in range(5))

    found = greedy(4, score, "gain", "forward", 0.0)
    best = max(score(s) for s in subsets(4) if len(s) <= max(1, len(found.chosen)))
    assert score(found.chosen) >= (1 - np.exp(-1)) * best - 1e-12


DIP = {(): 0.5, (0,): 0.495, (1,): 0.4, (0, 1): 0.7}


def test_the_codes_rule_walks_through_a_small_dip_and_the_papers_stops():
    assert greedy(2, DIP.__getitem__, "patience", eps=0.01) == Found((0, 1), 0.7, (0, 1))
    assert greedy(2, DIP.__getitem__, "patience", eps=0.001).chosen == ()  # the dip is too deep
    from_lp = greedy(2, DIP.__getitem__, "gain", "best", eps=0.01)
    assert from_lp.chosen == (0, 1), "all is the better end, and nothing is better without a block"
    dip = {**DIP, (0, 1): 0.497}
    assert greedy(2, dip.__getitem__, "gain", "best", eps=0.01).chosen == ()
    assert greedy(2, dip.__getitem__, "gain", eps=0.01).chosen == (0,), "Algorithm 1 takes one"


def test_equal_scores_take_the_lowest_block():
    table = dict.fromkeys(subsets(3), 0.5)
    assert greedy(3, table.__getitem__, "gain").steps == (0,)
    assert greedy(3, table.__getitem__, "patience").chosen == ()
    table |= {(1,): 0.6, (2,): 0.6, (0, 2): 0.7, (1, 2): 0.8}
    assert greedy(3, table.__getitem__, "gain").steps == (1, 2)
    assert greedy(3, table.__getitem__, "patience").steps == (1, 2)


def test_no_block_where_every_one_makes_it_worse():
    table = {s: 0.9 - 0.2 * len(s) for s in subsets(4)}
    assert greedy(4, table.__getitem__, "patience").chosen == ()
    assert greedy(4, table.__getitem__, "patience", "best").chosen == ()
    assert greedy(4, table.__getitem__, "gain").chosen == (0,)
    backward = greedy(4, table.__getitem__, "patience", "backward")
    assert backward == Found((), 0.9, (0, 1, 2, 3))


@given(
    table=tables(4),
    rule=st.sampled_from(["gain", "patience"]),
    direction=st.sampled_from(["forward", "backward", "best"]),
    eps=st.sampled_from([0.0, 0.1]),
)
def test_one_score_at_a_time_it_finds_the_same_and_asks_for_none_twice(table, rule, direction, eps):
    def search(score):
        return greedy(4, score, rule, direction, eps)

    known = {}
    while not isinstance(next_ := pending(known, search), Found):
        assert next_ not in known
        known[next_] = table[next_]
    assert next_ == search(table.__getitem__)
    assert len(known) <= most(4)
    # What the code's rule keeps is the best that it has seen.
    assert rule == "gain" or next_.score == max(known.values())


def test_number_of_trainings_as_the_dossier_counts_them():
    """L = 16 and three picks: 16 + 15 + 14 + 13 sets, times five folds; LP is one more."""
    asked = []

    def score(blocks):
        asked.append(blocks)
        return 0.5 + 0.1 * min(len(blocks), 3)

    assert len(greedy(16, score, "gain").chosen) == 3
    assert len(asked) == 58
    assert most(16) == 138


def test_sets_of_the_profiles():
    assert fixed("singles", 3) == [(), (0, 1, 2), (0,), (1,), (2,)]
    assert fixed("windows2", 4)[2:] == [(0, 1), (1, 2), (2, 3)]
    assert fixed("windows3", 4)[2:] == [(0, 1, 2), (1, 2, 3)]
    assert fixed("pairs", 3)[2:] == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(fixed("pairs", 16)) == 2 + 16 + 120
    assert [named(s, 3) for s in [(), (0, 1, 2), (0, 2)]] == ["none", "all", "B1+B3"]
