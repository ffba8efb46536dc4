"""Post-processing: fairlearn's decisions, the balanced subsample, what the thresholds equalise."""

import numpy as np
import pandas as pd
import pytest
from fairlearn import postprocessing as fairlearn

from retable.papers.superhuman_fairness.baselines import postproc
from retable.papers.superhuman_fairness.units import Units


def sample(n=600, seed=0) -> Units:
    rng = np.random.default_rng(seed)
    a = (rng.random(n) < 0.4).astype(np.int8)
    x = rng.normal(size=(n, 3)) + 0.8 * a[:, None]
    y = (rng.random(n) < 1 / (1 + np.exp(1.2 - x @ [1.0, 0.5, -0.3]))).astype(np.int8)
    return Units(x, y, a)


def test_the_subsample_is_the_one_pandas_draws():
    y = pd.Series(sample().y)
    positive = y[y == 1].index
    negative = y[y == 0].sample(n=positive.size, random_state=1234).index
    assert postproc.balanced(y.to_numpy()).tolist() == positive.union(negative).tolist()


def test_the_subsample_is_all_where_negatives_are_few():
    assert postproc.balanced(np.array([1, 0, 1, 1])).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
def test_decides_as_the_authors_pipeline(constraint):
    from sklearn.linear_model import LogisticRegression

    train, test = sample(seed=0), sample(seed=1)
    regression = LogisticRegression(C=100, solver="newton-cg", max_iter=1000)
    regression.fit(train.x, train.y)
    peer = fairlearn.ThresholdOptimizer(
        estimator=regression, constraints=constraint, prefit=True, predict_method="auto"
    )
    part = train.at(postproc.balanced(train.y))
    peer.fit(part.x, part.y, sensitive_features=part.a)
    expected = peer.predict(test.x, sensitive_features=test.a, random_state=5)
    ours = postproc.PostProcessed(train, constraint, "newton-cg").decide(test.x, test.a, 5)
    assert ours.dtype == np.int8
    assert np.array_equal(ours, expected)


def test_both_solvers_find_the_same_minimum():
    train = sample()
    first, second = (
        postproc.logistic_regression(train.x, train.y, solver)
        for solver in ("newton-cg", "newton-cholesky")
    )
    assert first.predict_proba(train.x) == pytest.approx(second.predict_proba(train.x), abs=1e-3)


def rates(fitted, part, label=None):
    """Shares of positive decisions by group, over many draws."""
    often = np.tile(np.arange(len(part)), 300)
    drawn = fitted.decide(part.x[often], part.a[often], 0).reshape(300, -1).mean(axis=0)
    within = np.ones(len(part), bool) if label is None else part.y == label
    return [drawn[within & (part.a == group)].mean() for group in (0, 1)]


def test_dp_equalises_shares_of_positive_decisions():
    train = sample()
    fitted = postproc.PostProcessed(train, "demographic_parity")
    plain, other = rates(fitted, train.at(postproc.balanced(train.y)))
    assert plain == pytest.approx(other, abs=0.01)
    assert 0.2 < plain < 0.8


def test_eqodds_equalises_both_rates():
    train = sample()
    fitted = postproc.PostProcessed(train, "equalized_odds")
    part = train.at(postproc.balanced(train.y))
    for label in (0, 1):
        plain, other = rates(fitted, part, label)
        assert plain == pytest.approx(other, abs=0.02)
    assert rates(fitted, part, 1)[0] > rates(fitted, part, 0)[0] + 0.1


def test_random_decisions_are_the_seeds():
    train = sample()
    fitted = postproc.PostProcessed(train, "equalized_odds")
    first, again, other = (fitted.decide(train.x, train.a, seed) for seed in (2**62, 2**62, 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_says_which_group_lacks_a_label():
    units = sample()
    lacking = Units(units.x, np.where(units.a == 1, 1, units.y).astype(np.int8), units.a)
    with pytest.raises(ValueError, match=r"group 1 of the .* items .* lacks one of the labels"):
        postproc.PostProcessed(lacking, "demographic_parity")
