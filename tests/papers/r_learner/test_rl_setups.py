"""The simulated set-ups: every formula at points worked by hand, and how samples are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from retable.data.base import DataPaths
from retable.papers.r_learner.data import Simulated
from retable.papers.r_learner.setups import SETUPS, draw


@pytest.fixture
def rl_paths(tmp_path) -> DataPaths:
    return DataPaths(tmp_path / "cache")


def point(*values: float) -> np.ndarray:
    return np.array([[*values, *([0.0] * (10 - len(values)))]])


def test_setup_a_by_hand():
    x = point(0.5, 1.0, 0.25, 0.3, 0.4)
    setup = SETUPS["a"]
    assert setup.b(x)[0] == pytest.approx(np.sin(np.pi / 2) + 2 * 0.0625 + 0.3 + 0.2)
    assert setup.tau(x)[0] == pytest.approx(0.75)
    # sin(pi x1 x2) is 1, 0 and sin(pi/6): clipped above, clipped below, left alone.
    assert setup.e(x)[0] == 0.9
    assert setup.e(point(0.0, 1.0))[0] == 0.1
    assert setup.e(point(1 / 3, 0.5))[0] == pytest.approx(0.5)


def test_setup_b_by_hand():
    setup = SETUPS["b"]
    # The greatest of the three is in turn x1 + x2, x3, and 0.
    assert setup.b(point(1.0, 0.5, 1.2, 0.4, 0.2))[0] == pytest.approx(1.5 + 0.6)
    assert setup.b(point(1.0, 0.5, 1.7, -1.0, 0.2))[0] == pytest.approx(1.7)
    assert setup.b(point(-1.0, 0.5, -0.1, 0.5, 0.0))[0] == pytest.approx(0.5)
    assert setup.tau(point(0.3, 1.0))[0] == pytest.approx(0.3 + np.log(1 + np.e))
    assert setup.e(point(3.0))[0] == 0.5


def test_setup_c_by_hand():
    setup = SETUPS["c"]
    x = point(0.2, 0.3, 0.5)
    assert setup.b(x)[0] == pytest.approx(2 * np.log(1 + np.e))
    assert setup.e(x)[0] == pytest.approx(1 / (1 + np.exp(0.8)))
    assert setup.tau(x)[0] == 1


def test_setup_d_by_hand():
    setup = SETUPS["d"]
    x = point(0.5, 1.0, 0.25, -1.0, 0.5)
    assert setup.b(x)[0] == pytest.approx(1.75 / 2)
    assert setup.tau(x)[0] == pytest.approx(1.75)
    assert setup.tau(-x)[0] == pytest.approx(-0.5)
    assert setup.e(x)[0] == pytest.approx(1 / (1 + np.exp(-0.5) + np.exp(-1.0)))


@pytest.mark.parametrize(
    ("x", "b", "e"),
    [
        (-1.0, 0.5, 0.1),
        (-0.5, 1.125, 0.1),
        (-0.4, 0.675, 0.1),
        (0.0, 0.0, 0.1),
        (0.2, 1.075, 0.9),
        (0.4, 0.875, 0.9),
        (0.5, 0.0, 0.9),
        (0.6, 0.725, 0.9),
        (1.0, 1.125, 0.9),
    ],
)
def test_setup_e_by_hand(x, b, e):
    setup = SETUPS["e"]
    at = np.array([[x]])
    assert setup.b(at)[0] == pytest.approx(b)
    assert setup.e(at)[0] == pytest.approx(e)
    assert setup.tau(at)[0] == 0


def test_setup_f_is_pure_noise():
    setup = SETUPS["f"]
    at = np.array([[0.05], [0.5], [0.95]])
    assert (setup.b(at) == 0).all()
    assert (setup.tau(at) == 0).all()
    assert np.array_equal(setup.e(at), at[:, 0])


@pytest.mark.parametrize(
    ("name", "p", "mean", "low", "high"),
    [
        ("a", 10, 0.5, 0, 1),
        ("b", 10, 0, -9, 9),
        ("c", 10, 0, -9, 9),
        ("d", 10, 0, -9, 9),
        ("e", 1, 0, -1, 1),
        ("f", 1, 0.5, 0.05, 0.95),
    ],
)
def test_covariates_have_the_right_law(name, p, mean, low, high):
    x = draw(name, 4000, np.random.default_rng(0)).x
    assert x.shape == (4000, p)
    assert x.min() >= low
    assert x.max() <= high
    variance = 1 if high == 9 else (high - low) ** 2 / 12
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=5 * np.sqrt(variance / 4000))
    np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.15)


@pytest.mark.parametrize("name", list(SETUPS))
def test_outcomes_have_the_means_and_the_noise_that_the_truth_says(name):
    """The full contrast is tau: Y has (A - 1/2) tau, not A tau."""
    n = 40000
    s = draw(name, n, np.random.default_rng(1))
    np.testing.assert_allclose(s.mu1 - s.mu0, s.tau, atol=1e-12)
    np.testing.assert_allclose(s.m, s.e * s.mu1 + (1 - s.e) * s.mu0, atol=1e-12)
    assert set(np.unique(s.a)) == {0.0, 1.0}
    # Each mean of a quantity with mean 0 has to lie within 5 standard errors.
    noise = s.y - np.where(s.a == 1, s.mu1, s.mu0)
    for zero in (noise, s.a - s.e, s.y - s.m, (s.a - s.e) * s.x[:, 0], noise**2 - 1):
        assert abs(zero.mean()) < 5 * zero.std() / np.sqrt(n)


def test_an_unknown_setup_or_no_units_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no set-up 'g'"):
        draw("g", 10, rng)
    with pytest.raises(ValueError, match="n = 0"):
        draw("a", 0, rng)


def test_samples_depend_on_seed_setup_and_n_alone(rl_paths):
    def train(seed: int = 0, **options) -> np.ndarray:
        return Simulated(seed=seed, paths=rl_paths, **options).samples()[0].x

    assert np.array_equal(train(n=30), train(n=30))
    assert np.array_equal(train(n=30, n_test=5), train(n=30, n_test=70))
    assert not np.array_equal(train(n=30), train(1, n=30))
    assert not np.array_equal(train(n=30, setup="b"), train(n=30, setup="c"))
    # Another n is another sample, not a longer one.
    assert not np.isin(train(n=30), train(n=60)).any()


def test_test_units_are_fresh_and_come_with_the_true_effect(rl_paths):
    module = Simulated(seed=4, paths=rl_paths, setup="d", n=40, n_test=25)
    train, test = module.samples()
    (problem,) = list(module.test_dataloader())
    assert problem.x.shape == (40, 10)
    assert problem.x_test.shape == (25, 10)
    assert np.array_equal(problem.tau_test.numpy(), SETUPS["d"].tau(test.x))
    assert np.array_equal(problem.y.numpy(), train.y)
    assert problem.y.numpy().dtype == np.float64
    assert not np.isin(test.x, train.x).any()
