"""The learner is LightGBM with the parameters of the protocol, and a tuning is the literal one."""

import numpy as np
import pytest

from retable.papers.r_learner.learners.base import Role, Task
from retable.papers.r_learner.learners.grid import Candidate
from retable.papers.r_learner.learners.lightgbm import LightGBM, fit_trees
from support.rl_literal import Literal, train

KINDS = ("mse", "weighted", "nll", "weighted_nll")


def problem(seed, n=225, p=10, normal=True):
    """Covariates, treatment, propensity, a heavy-tailed pseudo-outcome."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) if normal else rng.random((n, p))
    pi = np.clip(1 / (1 + np.exp(x[:, 0] + rng.standard_normal(n))), 0.01, 0.99)
    a = (rng.random(n) < pi) * 1.0
    u = (x[:, -1] + rng.standard_normal(n)) / (a - pi)
    return x, a, pi, u


def of_kind(kind, seed, **sizes):
    x, a, pi, u = problem(seed, **sizes)
    w = (a - pi) ** 2 if "weighted" in kind else None
    return (x, a, Task.PROBABILITY, w) if "nll" in kind else (x, u, Task.REGRESSION, w)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_lightgbm(kind):
    x, y, task, w = of_kind(kind, 0)
    candidate = Candidate(40, 0.1, 9, 1.0, 12, 1e-6)
    expected = train(candidate, x, y, task, w).predict(problem(1)[0])
    assert np.ptp(expected) > 0
    assert (fit_trees(candidate, x, y, task, w).predict(problem(1)[0]) == expected).all()


def test_what_cannot_be_split_is_the_mean():
    x, a, _, u = problem(0, n=19)
    w = 0.5 + np.random.default_rng(0).random(19)
    candidate = Candidate(50, 0.1, 5, 1.0, 10, 1e-10)
    for weights in (None, w):
        ours = fit_trees(candidate, x, u, Task.REGRESSION, weights)
        assert ours.predict(x) == pytest.approx(np.full(19, np.average(u, weights=weights)))
    ours = fit_trees(candidate, x, a, Task.PROBABILITY, None)
    assert ours.predict(x) == pytest.approx(np.full(19, a.mean()))


def test_one_class_only():
    x = problem(0, n=60)[0]
    candidate = Candidate(50, 0.1, 5, 1.0, 10, 1e-10)
    for y in (np.zeros(60), np.ones(60)):
        ours = fit_trees(candidate, x, y, Task.PROBABILITY, None)
        assert ours.predict(x) == pytest.approx(y, abs=1e-6)


def test_weights_of_one_are_no_weights_and_bagging_has_no_effect():
    x, _, _, u = problem(7)
    one, half = (Candidate(40, 0.1, 9, b, 12, 1e-6) for b in (1.0, 0.5))
    plain = fit_trees(one, x, u, Task.REGRESSION, None).predict(x)
    assert (fit_trees(half, x, u, Task.REGRESSION, None).predict(x) == plain).all()
    unit = fit_trees(one, x, u, Task.REGRESSION, np.ones(225)).predict(x)
    assert unit == pytest.approx(plain, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[:3])
@pytest.mark.parametrize("seed", range(3))
def test_tuning_chooses_what_the_literal_protocol_chooses(kind, seed):
    x, y, task, w = of_kind(kind, seed, n=120, p=4)
    chosen = [
        learner(n_candidates=8).tune(
            x, y, task=task, role=Role.EFFECT, rng=np.random.default_rng(seed), weights=w
        )
        for learner in (LightGBM, Literal)
    ]
    assert chosen[0] == chosen[1]


@pytest.mark.slow
def test_tuning_keeps_groups_together():
    x, a, pi, _ = problem(1, n=40, p=2)
    unit = np.repeat(np.arange(40), 6)
    x, w = x[unit], (a - pi)[unit] ** 2
    y = np.random.default_rng(0).standard_normal(40)[unit]  # noise that only a leak could predict
    options = {"task": Task.REGRESSION, "role": Role.EFFECT, "weights": w, "groups": unit}
    a, b = (k(n_candidates=8).tune(x, y, rng=np.random.default_rng(2), **options)
            for k in (LightGBM, Literal))  # fmt: skip
    assert a == b
    leaky = LightGBM(n_candidates=8).tune(
        x, y, rng=np.random.default_rng(2), **(options | {"groups": None})
    )
    assert leaky.n_trees * leaky.rate > 10 * a.n_trees * a.rate


@pytest.mark.slow
def test_weights_count_in_tuning():
    """Half of the rows have weight 1e-6 and are pure noise of variance 1e6."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    loud = rng.random(300) < 0.5
    y = 3 * x[:, 0] + rng.standard_normal(300) * np.where(loud, 1000.0, 0.1)
    w = np.where(loud, 1e-6, 1.0)
    learner = LightGBM(n_candidates=25)
    fitted = {}
    for name, weights in (("weighted", w), ("plain", None)):
        setting = learner.tune(
            x, y, task=Task.REGRESSION, role=Role.EFFECT, rng=np.random.default_rng(1),
            weights=weights,
        )  # fmt: skip
        fitted[name] = learner.fit(setting, x, y, task=Task.REGRESSION, weights=weights)
    z = rng.standard_normal((500, 3))
    error = {name: np.mean((f.predict(z) - 3 * z[:, 0]) ** 2) for name, f in fitted.items()}
    assert error["weighted"] < 1 < 5 < error["plain"]
