"""The network as learner: the R-loss is the weighted loss, when it stops, and what it leaves."""

from __future__ import annotations

import random
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from retable.config.compose import compose, hydra_ready
from retable.papers.r_learner.crossfit import Units
from retable.papers.r_learner.estimate import estimate
from retable.papers.r_learner.learners.base import RLossLearner, Role, Task
from retable.papers.r_learner.learners.kernel_ridge import KernelRidge
from retable.papers.r_learner.learners.linear import Linear
from retable.papers.r_learner.learners.mlp import MLP, Setting, held_out
from retable.papers.r_learner.learners.mlp_training import (
    Regressor,
    Schedule,
    alone,
    loss_of,
    network,
    train,
)
from retable.papers.r_learner.por import fit_r_learner, fit_weighted_por, pseudo_u, weight
from retable.papers.r_learner.rows import ROWS, Weight
from retable.papers.r_learner.setups import draw

SMALL = {"steps": 3, "max_epochs": 4}


def problem(seed: int = 0, n: int = 60):
    """Covariates, treatment, outcome, and nuisances as they might be estimated."""
    rng = np.random.default_rng(seed)
    sample = draw("a", n, rng)
    pi = np.clip(sample.e + 0.2 * rng.standard_normal(n), 0.01, 0.99)
    return sample.x, sample.a, sample.y, pi, sample.m + 0.3 * rng.standard_normal(n)


def fit(learner: MLP, x, y, *, seed: int = 3, task=Task.REGRESSION, weights=None, groups=None):
    setting = learner.tune(
        x, y, task=task, role=Role.EFFECT, rng=np.random.default_rng(seed), groups=groups
    )
    return learner.fit(setting, x, y, task=task, weights=weights)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_loss_and_gradients_of_the_r_loss_are_those_of_the_weighted_loss_of_u(seed):
    x, a, y, pi, m = problem(seed, n=12)
    g, w = pseudo_u(y, a, pi, m), weight(Weight.U_AX, a, pi, 1 - pi)
    net = network(10, 8, 2, torch.Generator().manual_seed(seed)).double()
    found = []
    for residual, contrast in ((y - m, a - pi), (np.sqrt(w) * g, np.sqrt(w))):
        net.zero_grad()
        output = net(torch.from_numpy(x))[:, 0]
        loss = loss_of("square", output, torch.from_numpy(residual), torch.from_numpy(contrast))
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in net.parameters())])
    plain = np.mean(w * (g - net(torch.from_numpy(x))[:, 0].detach().numpy()) ** 2)
    assert float(found[0][0]) == pytest.approx(plain, rel=1e-10)
    for direct, weighted in zip(*found, strict=True):
        torch.testing.assert_close(direct, weighted, rtol=1e-9, atol=1e-11)


def test_the_log_loss_is_that_of_the_logistic():
    logit, y, w = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.5])
    p = torch.sigmoid(logit)
    expected = (-2 * torch.log(p[0]) - 0.5 * torch.log(1 - p[1])) / 2
    torch.testing.assert_close(loss_of("log", logit, y, w), expected)


@pytest.mark.slow
def test_r_learning_by_either_form_is_the_same_fit():
    x, a, y, pi, m = problem()
    learner = MLP(steps=10, max_epochs=10)
    assert isinstance(learner, RLossLearner)
    direct = fit_r_learner(x, y, a, pi, m, learner, np.random.default_rng(5))
    g, w = pseudo_u(y, a, pi, m), weight(Weight.U_AX, a, pi, 1 - pi)
    weighted = fit_weighted_por(x, g, w, learner, np.random.default_rng(5))
    np.testing.assert_allclose(direct.predict(x), weighted.predict(x), rtol=1e-3, atol=1e-4)
    other = fit_weighted_por(x, g, np.ones_like(w), learner, np.random.default_rng(5))
    assert np.abs(other.predict(x) - direct.predict(x)).max() > 0.1


def test_the_r_loss_needs_no_division():
    """A unit whose treatment is its propensity says nothing, where U would be infinite."""
    x, a, y, pi, m = problem()
    pi[0] = a[0]
    found = fit_r_learner(x, y, a, pi, m, MLP(**SMALL), np.random.default_rng(0)).predict(x)
    assert np.isfinite(found).all()
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="not finite"):
        fit_r_learner(x, y, a, pi, m, Linear(), np.random.default_rng(0))
    with pytest.raises(ValueError, match="nothing to learn"):
        fit_r_learner(x, y, a, a, m, MLP(), np.random.default_rng(0))
    y[0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_r_learner(x, y, a, pi, m, MLP(), np.random.default_rng(0))


class Spy(Linear):
    """A linear learner that can do the R-loss and notes where it did."""

    def __init__(self) -> None:
        self.asked: list[tuple[np.ndarray, ...]] = []
        self.effects = 0

    def tune(self, x, y, *, task, role, rng, weights=None, groups=None):
        self.effects += role is Role.EFFECT

    def fit_r_loss(self, x, residual, contrast, *, rng, groups=None):
        self.asked.append((x, residual, contrast, rng.random(), groups))
        w = contrast**2
        return self.fit(None, x, residual / contrast, task=Task.REGRESSION, weights=w)


@pytest.mark.parametrize(("order", "copies"), [(2, 1), (4, 6)])
def test_only_the_r_learners_row_asks_for_the_r_loss(order, copies):
    sample = draw("a", 80, np.random.default_rng(0))
    data = Units(sample.x, sample.a, sample.y)
    spy = Spy()
    found = estimate(data, ROWS, spy, 0, order=order, folds=4)
    ((x, residual, contrast, _, groups),) = spy.asked
    assert spy.effects == 12
    n, unit = found.cross.nuisances, np.repeat(np.arange(80), copies)
    assert np.array_equal(x, data.x[unit])
    assert np.array_equal(residual, data.y[unit] - n.m)
    assert np.array_equal(contrast, data.a[unit] - n.pi)
    assert groups is None if order == 2 else np.array_equal(groups, unit)
    plain = estimate(data, ["u-u_ax"], Linear(), 0, order=order, folds=4)
    np.testing.assert_allclose(
        found.effects["u-u_ax"].predict(data.x), plain.effects["u-u_ax"].predict(data.x)
    )
    assert not isinstance(Linear(), RLossLearner)
    assert not isinstance(KernelRidge(bandwidths=[1.0], ridges=[1.0]), RLossLearner)


def state():
    return (
        torch.random.get_rng_state().numpy().tobytes(),
        str(np.random.get_state()),
        random.getstate(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_fit_leaves_no_trace_and_needs_nothing_around_it(around, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x, _, y, *_ = problem()
    learner = MLP(**SMALL)
    expected = fit(learner, x, y).predict(x)
    torch.manual_seed(random.randrange(2**31))  # whatever the global generators are at
    capfd.readouterr()
    with around():
        before = state()
        found = fit(learner, x, y)
        assert state() == before
        assert np.array_equal(found.predict(x), expected)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""


def test_seeds_are_those_of_the_tuning():
    x, _, y, *_ = problem()
    learner = MLP(**SMALL)
    one, other = fit(learner, x, y, seed=1).predict(x), fit(learner, x, y, seed=2).predict(x)
    assert not np.allclose(one, other)
    assert np.array_equal(fit(learner, x, y, seed=1).predict(x), one)


def test_training_stops_when_held_out_rows_have_had_enough_and_the_best_weights_stay():
    """Held-out rows with another truth: the first looks are the best, the rest gets worse."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 3))).float()
    one = torch.ones(50)
    net = network(3, 8, 1, torch.Generator().manual_seed(0))
    looks: list[float] = []

    class Noting(Regressor):
        def validation_step(self, batch, batch_idx):
            looks.append(float(self._loss(batch)))
            super().validation_step(batch, batch_idx)

    fitted, held = (x, x[:, 0] + 0.2, one), (x, -x[:, 0] + 0.2, one)
    regressor = Noting(net, "square", Schedule(rate=0.01, steps=4, patience=3, max_epochs=50))
    with alone():
        train(regressor, fitted, held, seed=0)
    best = int(np.argmin(looks))
    assert len(looks) == best + 1 + 3 < 50
    assert looks[-1] > looks[best]
    with torch.no_grad():
        output = net(x)[:, 0]
    assert float(loss_of("square", output, *held[1:])) == looks[best]


@pytest.mark.slow
def test_it_learns_a_smooth_effect_and_a_propensity():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    y = np.sin(2 * x[:, 0]) + 0.1 * rng.standard_normal(400)
    fresh = rng.standard_normal((400, 3))
    learner = MLP(rate=5e-3)
    found = fit(learner, x, y).predict(fresh)
    assert np.mean((found - np.sin(2 * fresh[:, 0])) ** 2) < 0.1
    e = 1 / (1 + np.exp(-2 * fresh[:, 0]))
    a = (rng.random(400) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
    pi = fit(learner, x, a, task=Task.PROBABILITY).predict(fresh)
    assert 0 < pi.min() < pi.max() < 1
    assert np.mean((pi - e) ** 2) < 0.02 < np.mean((0.5 - e) ** 2)


def test_units_of_outcome_and_weight_do_not_matter():
    x, a, y, pi, _ = problem()
    w = (a - pi) ** 2
    learner = MLP(**SMALL)
    found = fit(learner, x, y, weights=w).predict(x)
    scaled = fit(learner, x, 100 * y + 7, weights=1e-3 * w).predict(x)
    np.testing.assert_allclose(scaled, 100 * found + 7, rtol=1e-3)
    assert not np.allclose(fit(learner, x, y).predict(x), found, rtol=1e-2)
    constant = fit(learner, x, np.full(len(x), 2.5)).predict(x)
    assert np.isfinite(constant).all()


def test_rows_without_weight_say_nothing():
    x, _, y, *_ = problem()
    w = np.ones(len(x))
    w[:20] = 0
    spoiled = y.copy()
    spoiled[:20] = 1e6
    learner = MLP(**SMALL)
    assert np.array_equal(
        fit(learner, x, y, weights=w).predict(x), fit(learner, x, spoiled, weights=w).predict(x)
    )


def test_held_out_rows_are_a_share_and_groups_stay_together():
    held = held_out(50, 0.2, Setting(1))
    assert held.sum() == 10
    assert not np.array_equal(held, held_out(50, 0.2, Setting(2)))
    groups = np.repeat(np.arange(10), 6)
    held = held_out(60, 0.3, Setting(1, groups))
    assert held.sum() == 18
    assert all(len(set(held[groups == k])) == 1 for k in range(10))
    assert held_out(2, 0.01, Setting(0)).sum() == held_out(2, 0.99, Setting(0)).sum() == 1
    with pytest.raises(ValueError, match="one row"):
        held_out(1, 0.2, Setting(0))
    with pytest.raises(ValueError, match="60 groups for 50"):
        held_out(50, 0.2, Setting(0, groups))


def test_initial_weights_have_torchs_law_and_a_generator_of_their_own():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    net = network(40, 64, 2, torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    shapes = [tuple(p.shape) for p in net.parameters()]
    assert shapes == [(64, 40), (64,), (64, 64), (64,), (1, 64), (1,)]
    assert [type(part).__name__ for part in net] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    first = net[0].weight.detach()
    assert first.abs().max() <= 40**-0.5
    assert float(first.var()) == pytest.approx(1 / 40 / 3, rel=0.1)
    x = torch.ones(2, 40)
    by_hand = F.linear(x, net[0].weight, net[0].bias).clamp(min=0)
    by_hand = F.linear(by_hand, net[2].weight, net[2].bias).clamp(min=0)
    torch.testing.assert_close(net(x), F.linear(by_hand, net[4].weight, net[4].bias))


def test_the_experiment_is_the_neural_protocol():
    with hydra_ready():
        config = compose(["experiment=r_learner/mlp", "seed=0"])
    assert config.protocol == "neural"
    assert (config.data["setup"], config.data["n"]) == ("a", 1000)
    learner = config.model["learner"]
    assert (learner["hidden"], learner["layers"], learner["rate"]) == (64, 2, 1e-3)
