"""Cross-fitting: no model has seen the unit it predicts, and the rows of each order."""

from __future__ import annotations

from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest

from retable.papers.r_learner.crossfit import (
    CrossFit,
    Settings,
    Units,
    assign_folds,
    cross_fit,
    fit_predict,
    t_learner,
    tune_nuisances,
    with_treatment,
)
from retable.papers.r_learner.learners.base import Role, Task
from retable.papers.r_learner.learners.kernel_ridge import KernelRidge
from retable.papers.r_learner.learners.lightgbm import LightGBM
from retable.papers.r_learner.learners.linear import Linear, basis
from retable.papers.r_learner.por import Nuisances
from retable.papers.r_learner.setups import draw

NONE = Settings(None, None, None, None, None)
NAMES = [field.name for field in fields(Nuisances)]
FOLDS = {2: 5, 3: 3, 4: 4}


def units(n: int = 60, seed: int = 0) -> Units:
    sample = draw("a", n, np.random.default_rng(seed))
    return Units(sample.x, sample.a, sample.y)


def folds(n: int, order: int) -> np.ndarray:
    return assign_folds(n, FOLDS[order], np.random.default_rng(7))


def rows_of(cross: CrossFit, chosen: np.ndarray) -> np.ndarray:
    return np.stack([getattr(cross.nuisances, name)[chosen] for name in NAMES])


@pytest.fixture(params=["linear", "kernel_ridge", "lightgbm"])
def learner(request):
    if request.param == "linear":
        return Linear()
    if request.param == "lightgbm":
        return LightGBM(n_candidates=2, n_folds=3, burn_in=2)
    return KernelRidge(bandwidths=[1.0], ridges=[0.1, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("unit", [0, 17, 59])
def test_a_units_nuisances_do_not_move_with_its_own_outcome_or_treatment(order, unit, learner):
    before = units()
    settings = tune_nuisances(before, learner, seed=0)
    fold = folds(60, order)
    first = cross_fit(before, learner, settings, fold, order=order)
    y, a = before.y.copy(), before.a.copy()
    y[unit] = 1e9
    a[unit] = 1 - a[unit]
    second = cross_fit(Units(before.x, a, y), learner, settings, fold, order=order)
    own = first.unit == unit
    assert own.sum() == {2: 1, 3: 2, 4: 6}[order]
    assert np.array_equal(rows_of(first, own), rows_of(second, own))
    # Others do move: the huge outcome is in their models.
    moved = rows_of(first, ~own) != rows_of(second, ~own)
    assert moved.any(axis=1).all()
    assert np.abs(second.nuisances.m[~own]).max() > 1e4


def test_order_two_is_ordinary_cross_fitting():
    data, fold = units(), folds(60, 2)
    found = cross_fit(data, Linear(), NONE, fold)
    assert np.array_equal(found.unit, np.arange(60))
    for i in (3, 31):
        seen = fold != fold[i]
        phi = basis(data.x[seen])
        m = np.linalg.lstsq(phi, data.y[seen], rcond=None)[0]
        assert found.nuisances.m[i] == pytest.approx((basis(data.x[[i]]) @ m)[0])
        with_a = basis(np.column_stack([data.x[seen], data.a[seen]]))
        both = np.linalg.lstsq(with_a, data.y[seen], rcond=None)[0]
        # In a linear model without interactions the two arms differ by the coefficient of A.
        single = found.nuisances.mu1[i] - found.nuisances.mu0[i]
        assert single == pytest.approx(both[-1])
        treated = seen & (data.a == 1)
        mu1 = np.linalg.lstsq(basis(data.x[treated]), data.y[treated], rcond=None)[0]
        assert found.nuisances.mu1_separate[i] == pytest.approx((basis(data.x[[i]]) @ mu1)[0])


@pytest.mark.parametrize("order", [3, 4])
def test_inverted_roles_take_each_nuisance_from_a_fold_of_its_own(order):
    data, fold = units(90), folds(90, order)
    found = cross_fit(data, Linear(), NONE, fold, order=order)
    by = [fit_predict(Linear(), NONE, data.at(fold == k), data.x) for k in range(order)]
    for i in (0, 41, 89):
        others = [k for k in range(order) if k != fold[i]]
        # (pi, kappa, outcomes): kappa's source is pi's own where there are two.
        sources = [(s[0], s[-2], s[-1]) for s in permutations(others)]
        expected = sorted((by[p].pi[i], 1 - by[k].pi[i], by[o].m[i]) for p, k, o in sources)
        own = np.flatnonzero(found.unit == i)
        n = found.nuisances
        assert sorted((n.pi[r], n.kappa[r], n.m[r]) for r in own) == expected
        assert len(own) == (2 if order == 3 else 6)
        assert len({(p, k, o) for p, k, o in sources}) == len(own)
        assert all((p == k) == (order == 3) and o not in (p, k) for p, k, o in sources)
        # All models of the outcome in a row come from one fold.
        source = {by[k].m[i]: k for k in others}
        for r in own:
            k = source[n.m[r]]
            for name in NAMES[3:]:
                assert getattr(n, name)[r] == getattr(by[k], name)[i]


@pytest.mark.parametrize("order", [2, 3, 4])
def test_propensities_are_clipped_before_the_complement_is_taken(order):
    found = cross_fit(units(), Linear(), NONE, folds(60, order), order=order, bound=0.3)
    pi, kappa = found.nuisances.pi, found.nuisances.kappa
    for each in (pi, kappa):
        assert each.min() == pytest.approx(0.3)
        assert each.max() == pytest.approx(0.7)
    if order < 4:
        assert np.array_equal(kappa, 1 - pi)


class Spy(Linear):
    """A linear learner that notes what it was asked."""

    def __init__(self) -> None:
        self.tuned: list[tuple[int, int, Task, Role]] = []
        self.fitted: list[tuple[int, int, Task]] = []
        self.used: list[tuple] = []

    def tune(self, x, y, *, task, role, rng, weights=None, groups=None):
        self.tuned.append((*x.shape, task, role))

    def fit(self, setting, x, y, *, task, weights=None):
        self.fitted.append((*x.shape, task))
        self.used.append((setting, *x.shape))
        return super().fit(setting, x, y, task=task, weights=weights)


def test_nuisances_are_tuned_once_on_all_units_and_fitted_once_per_fold():
    spy, data = Spy(), units()
    treated = int(data.a.sum())
    settings = tune_nuisances(data, spy, seed=0)
    assert spy.tuned == [
        (60, 10, Task.PROBABILITY, Role.NUISANCE),
        (60, 10, Task.REGRESSION, Role.NUISANCE),
        (60, 11, Task.REGRESSION, Role.NUISANCE),
        (treated, 10, Task.REGRESSION, Role.NUISANCE),
        (60 - treated, 10, Task.REGRESSION, Role.NUISANCE),
    ]
    cross_fit(data, spy, settings, folds(60, 2))
    assert len(spy.tuned) == 5
    assert len(spy.fitted) == 5 * 5
    assert [shape[:2] for shape in spy.fitted[:3]] == [(48, 10), (48, 10), (48, 11)]


def test_every_model_is_fitted_with_the_setting_that_was_chosen_for_it():
    spy, data = Spy(), units()
    treated = int(data.a.sum())
    settings = Settings("pi", "m", "mu", "mu1", "mu0")
    fit_predict(spy, settings, data, data.x)
    t_learner(data, spy, settings)
    arms = [("mu1", treated, 10), ("mu0", 60 - treated, 10)]
    assert treated != 30
    assert spy.used == [("pi", 60, 10), ("m", 60, 10), ("mu", 60, 11), *arms, *arms]


def test_the_t_learner_fits_each_arm_whole():
    data = units()
    effect = t_learner(data, Linear(), NONE)
    betas = [
        np.linalg.lstsq(basis(data.x[data.a == k]), data.y[data.a == k], rcond=None)[0]
        for k in (1, 0)
    ]
    expected = basis(data.x) @ (betas[0] - betas[1])
    np.testing.assert_allclose(effect.predict(data.x), expected, rtol=1e-9, atol=1e-9)


def test_treatment_is_one_column_behind_the_covariates():
    x = np.arange(6.0).reshape(3, 2)
    assert with_treatment(x, np.array([1.0, 0.0, 1.0]))[:, 2].tolist() == [1, 0, 1]
    assert with_treatment(x, 0.0)[:, 2].tolist() == [0, 0, 0]


def test_folds_are_random_and_even():
    fold = assign_folds(23, 5, np.random.default_rng(0))
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    assert not np.array_equal(fold, assign_folds(23, 5, np.random.default_rng(1)))
    with pytest.raises(ValueError, match="1 folds"):
        assign_folds(23, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="5 folds of 4"):
        assign_folds(4, 5, np.random.default_rng(0))


def test_what_cannot_be_split_is_refused():
    data = units()
    with pytest.raises(ValueError, match="order 5"):
        cross_fit(data, Linear(), NONE, folds(60, 2), order=5)
    with pytest.raises(ValueError, match="has 4 folds, not 3"):
        cross_fit(data, Linear(), NONE, folds(60, 3), order=4)
    with pytest.raises(ValueError, match="30 folds for 60"):
        cross_fit(data, Linear(), NONE, folds(30, 2))
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        Units(data.x, data.a + 0.5, data.y)
    with pytest.raises(ValueError, match="shapes"):
        Units(data.x, data.a[:-1], data.y)
    with pytest.raises(ValueError, match="no control unit"):
        tune_nuisances(Units(data.x, np.ones(60), data.y), Linear(), 0)
