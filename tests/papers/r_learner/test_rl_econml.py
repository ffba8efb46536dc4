"""EconML on the same folds with the same nuisances and a linear final model: equal coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression

from retable.papers.r_learner.crossfit import Settings, Units, assign_folds, cross_fit, t_learner
from retable.papers.r_learner.learners.base import Task
from retable.papers.r_learner.learners.kernel_ridge import KernelRidge, Setting
from retable.papers.r_learner.learners.linear import Linear, LinearFit
from retable.papers.r_learner.por import clip, fit_weighted_por, pseudo_outcome, weight
from retable.papers.r_learner.rows import Pseudo, Weight
from retable.papers.r_learner.setups import draw

RIDGE = Setting(bandwidth=2.5, ridge=1.0)
NUISANCES = {
    "linear": (Linear(), Settings(None, None, None, None, None)),
    "kernel_ridge": (
        KernelRidge(bandwidths=[1.0], ridges=[1.0]),
        Settings(RIDGE, RIDGE, RIDGE, RIDGE, RIDGE),
    ),
}


class Outcome(RegressorMixin, BaseEstimator):
    """A learner of ours as scikit-learn's regressor; weights are the effect's, not its own."""

    def __init__(self, name="linear"):
        self.name = name

    def fit(self, X, y, sample_weight=None):
        learner, settings = NUISANCES[self.name]
        self.model_ = learner.fit(settings.m, np.asarray(X), np.ravel(y), task=Task.REGRESSION)
        return self

    def predict(self, X):
        return self.model_.predict(np.asarray(X))


class Propensity(ClassifierMixin, BaseEstimator):
    """The same for the treatment, clipped here: EconML's own bound leaves pi and kappa apart."""

    def __init__(self, name="linear"):
        self.name = name

    def fit(self, X, y, sample_weight=None):
        learner, settings = NUISANCES[self.name]
        self.classes_ = np.array([0, 1])
        a = np.ravel(y).astype(float)
        self.model_ = learner.fit(settings.pi, np.asarray(X), a, task=Task.PROBABILITY)
        return self

    def predict_proba(self, X):
        pi = clip(self.model_.predict(np.asarray(X)))
        return np.column_stack([1 - pi, pi])

    def predict(self, X):
        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)


@pytest.fixture(params=["a", "c"])
def units(request) -> Units:
    sample = draw(request.param, 200, np.random.default_rng(3))
    return Units(sample.x, sample.a, sample.y)


@pytest.fixture(params=list(NUISANCES))
def name(request) -> str:
    return request.param


def folds_of(units: Units):
    """Five folds as ours, and as the pairs that EconML iterates over."""
    fold = assign_folds(len(units), 5, np.random.default_rng(11))
    return fold, [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]


def ours(units: Units, name: str, fold, pseudo: Pseudo, kind: Weight):
    """Coefficients of the row, the intercept first, and its weights."""
    learner, settings = NUISANCES[name]
    n = cross_fit(units, learner, settings, fold).nuisances
    g = pseudo_outcome(pseudo, units.y, units.a, n)
    w = weight(kind, units.a, n.pi, n.kappa)
    fit = fit_weighted_por(units.x, g, w, Linear(), np.random.default_rng(0))
    assert isinstance(fit, LinearFit)
    return fit.beta, w


def coefficients(model: LinearRegression) -> np.ndarray:
    return np.concatenate([np.ravel(model.intercept_), np.ravel(model.coef_)])


@pytest.mark.slow
def test_r_learning_is_nonparamdml(units, name):
    from econml.dml import NonParamDML

    fold, splits = folds_of(units)
    peer = NonParamDML(
        model_y=Outcome(name),
        model_t=Propensity(name),
        model_final=LinearRegression(),
        discrete_treatment=True,
        cv=splits,
    ).fit(units.y, units.a.astype(int), X=units.x)
    beta, _ = ours(units, name, fold, Pseudo.U, Weight.U_AX)
    np.testing.assert_allclose(coefficients(peer.model_cate), beta, rtol=1e-6, atol=1e-6)
    plain, _ = ours(units, name, fold, Pseudo.U, Weight.ONE)
    assert np.abs(plain - beta).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Weight.ONE, Weight.DR_X, Weight.DR_AX])
def test_dr_is_drlearner_with_any_weight(units, name, kind):
    """EconML's DR-learner has no weights; ours are given to it as those of a sample."""
    from econml.dr import DRLearner

    fold, splits = folds_of(units)
    beta, w = ours(units, name, fold, Pseudo.DR, kind)
    peer = DRLearner(
        model_propensity=Propensity(name),
        model_regression=Outcome(name),
        model_final=LinearRegression(),
        min_propensity=1e-12,
        cv=splits,
    ).fit(
        units.y,
        units.a.astype(int),
        X=units.x,
        sample_weight=None if kind is Weight.ONE else w,
    )
    np.testing.assert_allclose(coefficients(peer.model_cate(T=1)), beta, rtol=1e-6, atol=1e-6)


def test_the_t_learner_is_tlearner(units, name):
    from econml.metalearners import TLearner

    learner, settings = NUISANCES[name]
    peer = TLearner(models=Outcome(name)).fit(units.y, units.a.astype(int), X=units.x)
    found = t_learner(units, learner, settings).predict(units.x)
    np.testing.assert_allclose(np.ravel(peer.effect(units.x)), found, rtol=1e-6, atol=1e-6)
