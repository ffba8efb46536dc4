"""A run: what it records, from which data, and that rows do not depend on each other."""

from __future__ import annotations

import numpy as np
import pytest

from retable.data.base import DataPaths
from retable.papers.r_learner.crossfit import CrossFit, Units
from retable.papers.r_learner.data import Problem, Simulated
from retable.papers.r_learner.estimate import estimate, nuisance_losses
from retable.papers.r_learner.learners.base import Role
from retable.papers.r_learner.learners.linear import Linear
from retable.papers.r_learner.module import RLearner
from retable.papers.r_learner.por import Nuisances, pseudo_outcome, weight
from retable.papers.r_learner.rows import ROWS, Pseudo, Weight
from retable.papers.r_learner.setups import draw
from retable.util.errors import UserError

LOSSES = {
    "test/propensity_nll",
    "test/outcome_mse",
    *(f"test/mu{a}_{kind}_mse" for a in (0, 1) for kind in ("single", "separate")),
}


def problem(tmp_path, seed: int = 0, **options) -> Problem:
    options = {"setup": "a", "n": 80, "n_test": 40, **options}
    data = Simulated(seed=seed, paths=DataPaths(tmp_path / "cache"), **options)
    (batch,) = list(data.test_dataloader())
    return batch


def results(batch: Problem, seed: int = 0, **options) -> dict[tuple[str, str], float]:
    module = RLearner(seed=seed, **{"learner": Linear(), "folds": 4, **options})
    module.test_step(batch, 0)
    found = {(r.metric, r.row): r.value for r in module.results}
    assert len(found) == len(module.results)
    return found


def units(seed: int = 0, n: int = 80) -> Units:
    sample = draw("a", n, np.random.default_rng(seed))
    return Units(sample.x, sample.a, sample.y)


def test_one_run_gives_all_rows_and_the_losses_of_its_nuisances(tmp_path):
    found = results(problem(tmp_path))
    for metric in ("test/cate_mse", "test/ate_error"):
        assert {row for m, row in found if m == metric} == set(ROWS)
    assert {m for m, row in found if row == ""} == LOSSES
    assert len(found) == 2 * 14 + 6


def test_errors_are_against_the_true_effect_and_as_they_are(tmp_path):
    """A mean square, not its logarithm: a table takes the mean over seeds first."""
    batch = problem(tmp_path)
    found = results(batch)
    data = Units(*(part.numpy() for part in batch[:3]))
    effects = estimate(data, ["t", "u-u_ax"], Linear(), 0, folds=4).effects
    for row, effect in effects.items():
        error = effect.predict(batch.x_test.numpy()) - batch.tau_test.numpy()
        assert found["test/cate_mse", row] == np.mean(error**2)
        assert found["test/ate_error", row] == np.mean(error)
    # Shifted truth, shifted error: nothing else of the test set is looked at.
    moved = results(batch._replace(tau_test=batch.tau_test - 1))
    for row in ROWS:
        expected = found["test/ate_error", row] + 1
        assert moved["test/ate_error", row] == pytest.approx(expected)


class Chance(Linear):
    """Adds a number drawn in tuning to what it predicts."""

    def tune(self, x, y, *, task, role, rng, weights=None, groups=None):
        return rng.random()

    def fit(self, setting, x, y, *, task, weights=None):
        fit = super().fit(setting, x, y, task=task, weights=weights)
        fit.beta[0] += setting
        return fit


def test_a_row_is_the_same_whatever_stands_beside_it(tmp_path):
    batch = problem(tmp_path)
    every = results(batch, learner=Chance())
    one = results(batch, learner=Chance(), rows=["cov-dr_x"])
    assert one["test/cate_mse", "cov-dr_x"] == every["test/cate_mse", "cov-dr_x"]
    assert {row for _, row in one} == {"cov-dr_x", ""}


def test_seed_and_options_matter(tmp_path):
    batch = problem(tmp_path)
    base = results(batch)
    assert results(batch) == base
    for other in ({"seed": 1}, {"order": 3}, {"order": 4}, {"folds": 5}, {"clip": 0.3}):
        assert results(batch, **other)["test/cate_mse", "u-u_ax"] != pytest.approx(
            base["test/cate_mse", "u-u_ax"], rel=1e-9
        )


class Spy(Linear):
    """Notes with what the effect models are tuned and fitted."""

    def __init__(self) -> None:
        self.tuned: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]] = []
        self.fitted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def tune(self, x, y, *, task, role, rng, weights=None, groups=None):
        if role is Role.EFFECT:
            self.tuned.append((x, y, weights, groups))

    def fit(self, setting, x, y, *, task, weights=None):
        if weights is not None:
            self.fitted.append((x, y, weights))
        return super().fit(setting, x, y, task=task, weights=weights)


@pytest.mark.parametrize(("order", "copies"), [(2, 1), (3, 2), (4, 6)])
def test_effects_see_covariates_only_and_tune_with_the_weights_of_the_fit(order, copies):
    spy, data = Spy(), units()
    found = estimate(data, ROWS, spy, 0, order=order, folds=4)
    assert len(spy.tuned) == len(spy.fitted) == 13
    unit = np.repeat(np.arange(80), copies)
    for (x, g, w, groups), fitted in zip(spy.tuned, spy.fitted, strict=True):
        # Neither treatment nor outcome is among the inputs.
        assert np.array_equal(x, data.x[unit])
        for tuned, used in zip((x, g, w), fitted, strict=True):
            assert np.array_equal(tuned, used)
        assert groups is None if order == 2 else np.array_equal(groups, unit)
    n, a, y = found.cross.nuisances, data.a[unit], data.y[unit]
    index = list(ROWS).index("u-u_ax")
    assert np.array_equal(spy.tuned[index][1], pseudo_outcome(Pseudo.U, y, a, n))
    assert np.array_equal(spy.tuned[index][2], weight(Weight.U_AX, a, n.pi, n.kappa))


def test_losses_of_nuisances_by_hand():
    data = Units(np.zeros((3, 1)), np.array([1.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    pi = np.array([0.5, 0.2, 0.0])
    half, zero, one = np.full(3, 0.5), np.zeros(3), np.ones(3)
    found = nuisance_losses(
        data, CrossFit(np.arange(3), Nuisances(pi, 1 - pi, zero, one, half, half, zero))
    )
    assert found == pytest.approx(
        {
            "propensity_nll": (np.log(2) - np.log(0.8) + 100) / 3,
            "outcome_mse": 14 / 3,
            "mu1_single_mse": 2,
            "mu0_single_mse": 2.25,
            "mu1_separate_mse": (0.25 + 6.25) / 2,
            "mu0_separate_mse": 4,
        }
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [(["dr-x"], "model.rows: no row 'dr-x'"), (["t", "t"], "once"), ([], "once")],
)
def test_rows_that_mean_nothing_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        RLearner(seed=0, learner=Linear(), rows=rows)


@pytest.mark.parametrize(
    ("learner", "override", "message"),
    [
        ("kernel_ridge", "data.setup=g", "data.setup"),
        ("kernel_ridge", "data.n=5", "data.n"),
        ("kernel_ridge", "model.order=5", "model.order"),
        ("kernel_ridge", "model.clip=0.5", "model.clip"),
        ("kernel_ridge", "model.learner.ridge=1", "no argument 'ridge'.*ridges"),
        ("lightgbm", "model.learner.engine=xgb", "model.learner.engine.*compiled"),
        ("lightgbm", "model.learner.n_candidates=0", "model.learner.n_candidates"),
        ("lightgbm", "model.learner.n_folds=1", "model.learner.n_folds"),
        ("lightgbm", "model.learner.burn_in=1", "model.learner.burn_in"),
        ("lightgbm", "model.learner.alpha=1", "model.learner.alpha"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_runs(learner, override, message):
    from retable.config.compose import compose, hydra_ready

    with hydra_ready(), pytest.raises(UserError, match=f"(?s){message}"):
        compose([f"experiment=r_learner/{learner}", "seed=0", override])
