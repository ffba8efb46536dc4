"""Fair log loss: truncation, multiplier, losses, the fixed point, expected losses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retable.papers.superhuman_fairness.baselines import fair_logloss as fl
from retable.papers.superhuman_fairness.units import Units

PROBABILITIES = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0.001, 0.999))


def sample(n=400, seed=0, shift=1.0) -> Units:
    rng = np.random.default_rng(seed)
    a = (rng.random(n) < 0.4).astype(np.int8)
    x = rng.normal(size=(n, 3)) + shift * a[:, None]
    y = (rng.random(n) < fl.sigmoid(x @ np.array([1.0, 0.5, -0.3]) - 0.5)).astype(np.int8)
    return Units(x, y, a)


def truncated(p0, p1, lam, n):
    """The published formulas, case by case."""
    m0, m1 = len(p0) / n, len(p1) / n
    if lam > 0:
        return np.maximum(p0, 1 - m0 / lam), np.minimum(p1, m1 / lam)
    if lam < 0:
        return np.minimum(p0, -m0 / lam), np.maximum(p1, 1 + m1 / lam)
    return p0, p1


class TestMultiplier:
    @given(PROBABILITIES, PROBABILITIES, st.integers(0, 40))
    @settings(max_examples=100, deadline=None)
    def test_truncated_means_agree(self, p0, p1, others):
        n = len(p0) + len(p1) + others
        lam = fl.multiplier(p0, p1, n)
        q0, q1 = truncated(p0, p1, lam, n)
        assert abs(q0.mean() - q1.mean()) < 1e-9

    @given(PROBABILITIES, PROBABILITIES)
    @settings(max_examples=40, deadline=None)
    def test_equals_bisection(self, p0, p1):
        n = len(p0) + len(p1)
        lam = fl.multiplier(p0, p1, n)
        gap = p1.mean() - p0.mean()
        if abs(gap) < 1e-6:
            return
        sign = np.sign(gap)
        low, high = 1e-6, 1e6  # of |lambda|; the truncated gap falls as it grows
        for _ in range(100):
            middle = np.sqrt(low * high)
            q0, q1 = truncated(p0, p1, sign * middle, n)
            if sign * (q1.mean() - q0.mean()) > 0:
                low = middle
            else:
                high = middle
        assert lam == pytest.approx(sign * low, rel=1e-6)

    def test_changes_sign_with_the_groups(self):
        rng = np.random.default_rng(1)
        p0, p1 = rng.random(20), rng.random(30) * 0.5
        assert fl.multiplier(p0, p1, 60) == -fl.multiplier(p1, p0, 60) < 0

    def test_is_zero_for_equal_means(self):
        assert fl.multiplier(np.array([0.2, 0.6]), np.array([0.4]), 3) == 0

    def test_of_an_empty_cell(self):
        none, some = np.empty(0), np.array([0.5])
        assert fl.multiplier(some, none, 2, np.inf) == np.inf
        assert fl.multiplier(none, some, 2, np.inf) == -np.inf
        assert fl.multiplier(some, none, 2) == 0


class TestObjective:
    @pytest.mark.parametrize("constraint", ["none", "dp", "eqopp", "eqodds"])
    @pytest.mark.parametrize("flipped", [False, True])
    def test_equals_the_formulas_item_by_item(self, constraint, flipped):
        units = sample()
        a = 1 - units.a if flipped else units.a
        x, y = fl.with_constant(units.x), units.y.astype(float)
        theta = np.array([0.7, -0.4, 0.2, 0.3])
        cells = [pair.cells(units.y, a) for pair in fl.pairs(constraint)]
        z = x @ theta
        p = 1 / (1 + np.exp(-z))
        total, slope = 0.0, np.zeros(4)
        truncations = 0
        lams = [fl.multiplier(p[c0], p[c1], len(y)) for c0, c1 in cells]
        for i in range(len(y)):
            item, d = np.log(1 + np.exp(z[i])) - z[i] * y[i], p[i] - y[i]
            for (c0, c1), lam in zip(cells, lams, strict=True):
                m0, m1 = c0.mean(), c1.mean()
                if c1[i] and lam > 0 and p[i] > m1 / lam:
                    item, d = np.log(lam / m1) + z[i] * (1 - y[i]), 1 - y[i]
                elif c0[i] and lam > 0 and p[i] < 1 - m0 / lam:
                    item, d = np.log(lam / m0) - z[i] * y[i], -y[i]
                elif c1[i] and lam < 0 and p[i] < 1 + m1 / lam:
                    item, d = np.log(-lam / m1) - z[i] * y[i], -y[i]
                elif c0[i] and lam < 0 and p[i] > -m0 / lam:
                    item, d = np.log(-lam / m0) + z[i] * (1 - y[i]), 1 - y[i]
                else:
                    continue
                truncations += 1
            total += item / len(y)
            slope += d * x[i] / len(y)
        assert (truncations > 0) == (constraint != "none")
        value, gradient = fl.objective(theta, x, y, cells, 0.1)
        assert value == pytest.approx(total + 0.05 * theta @ theta)
        assert gradient == pytest.approx(slope + 0.1 * theta)

    def test_the_penalty_includes_the_intercept(self):
        units = sample(50)
        x, y = fl.with_constant(units.x), units.y.astype(float)
        theta = np.array([0.0, 0.0, 0.0, 2.0])
        free = fl.objective(theta, x, y, [], 0.0)
        held = fl.objective(theta, x, y, [], 0.3)
        assert held[0] - free[0] == pytest.approx(0.6)
        assert (held[1] - free[1])[-1] == pytest.approx(0.6)


class TestFit:
    @pytest.mark.parametrize("shift", [1.0, -1.0])
    def test_dp_group_means_agree(self, shift):
        units = sample(shift=shift)
        fitted = fl.fit(units, "dp", 3)
        p = fitted.probability(units.x, units.a)
        assert np.sign(fitted.pairs[0].multiplier) == shift
        assert p[units.a == 1].mean() == pytest.approx(p[units.a == 0].mean(), abs=1e-6)
        assert fitted.violation(units) < 1e-6

    @pytest.mark.parametrize(("constraint", "labels"), [("eqopp", [1]), ("eqodds", [1, 0])])
    def test_means_agree_within_the_labels(self, constraint, labels):
        units = sample()
        fitted = fl.fit(units, constraint, 3)
        for label in labels:
            p, _ = fitted.given_label(units.x, units.a, label)
            means = [p[(units.y == label) & (units.a == group)].mean() for group in (0, 1)]
            assert means[0] == pytest.approx(means[1], abs=1e-6)
        assert all(pair.multiplier != 0 for pair in fitted.pairs)

    def test_without_constraint_is_logistic_regression(self):
        from sklearn.linear_model import LogisticRegression

        units = sample()
        fitted = fl.fit(units, "none", 0, weight=0.02)
        peer = LogisticRegression(C=1 / (0.02 * len(units)), fit_intercept=False, tol=1e-10)
        peer.fit(fl.with_constant(units.x), units.y)
        assert fitted.theta == pytest.approx(peer.coef_[0], abs=2e-4)

    def test_lambda_is_zero_where_groups_are_alike(self):
        half = sample(150)
        twice = Units(
            np.concatenate([half.x, half.x]),
            np.concatenate([half.y, half.y]),
            np.repeat(np.array([0, 1], dtype=np.int8), len(half)),
        )
        for constraint in ("dp", "eqopp", "eqodds"):
            fitted = fl.fit(twice, constraint, 0)
            assert [pair.multiplier for pair in fitted.pairs] == [0.0] * len(fitted.pairs)
            assert fitted.theta == pytest.approx(fl.fit(twice, "none", 0).theta, abs=1e-9)

    def test_the_start_is_the_seeds(self):
        starts = np.stack([fl.start(200, seed) for seed in (0, 1)])
        assert (np.abs(starts) <= 0.5).all()
        assert starts.min() < -0.45 < 0.45 < starts.max()
        assert not np.array_equal(starts[0], starts[1])
        assert np.array_equal(starts[0], fl.start(200, 0))

    def test_an_infinite_lambda_lifts_the_positives_of_the_cell_that_is_left(self):
        units = sample()
        x, y, a = units.x, units.y, units.a - 1  # as if the codes had been 1 and 2
        fitted = fl.fit_arrays(x, y, a, "eqopp", 0, weight=0.1, vacuous=np.inf)
        assert fitted.pairs[0].multiplier == np.inf
        p = fl.sigmoid(fl.with_constant(x) @ fitted.theta)
        expected = np.where(units.a == 1, 2 * p / (1 + p), p)
        assert fitted.probability(x, a) == pytest.approx(expected)
        slope = np.where((units.a == 1) & (y == 1), -1.0, p - y)
        gradient = fl.with_constant(x).T @ slope / len(y) + 0.1 * fitted.theta
        assert np.abs(gradient).max() < 1e-5


class TestPrediction:
    PAIRS = (
        fl.Pair(1, (0.3, 0.2), 0.5),
        fl.Pair(0, (0.25, 0.25), -0.4),
    )

    def fitted(self, pairs=PAIRS):
        return fl.FairLogLoss(np.array([1.0, 0.0]), pairs)

    @pytest.mark.parametrize("label", [0, 1])
    def test_adversary_by_the_formulas(self, label):
        z = np.linspace(-4, 4, 41)
        for group in (0, 1):
            a = np.full(len(z), group)
            found = self.fitted().given_label(z[:, None], a, label)
            pair = self.PAIRS[0] if label else self.PAIRS[1]
            lam, (m0, m1) = pair.multiplier, pair.share
            for i, p in enumerate(1 / (1 + np.exp(-z))):
                capped = (group == 1) == (lam > 0)
                m = m1 if group else m0
                size = abs(lam)
                if capped:
                    hat = min(p, m / size)
                    check = 1.0 if p > m / size else p * (1 + size / m * (1 - p))
                else:
                    hat = max(p, 1 - m / size)
                    check = 0.0 if p < 1 - m / size else p * (1 - size / m * (1 - p))
                assert (found[0][i], found[1][i]) == pytest.approx((hat, check), abs=1e-12)

    def test_is_the_fixed_point(self):
        rng = np.random.default_rng(0)
        x, a = rng.normal(size=(60, 1)), rng.integers(0, 2, 60)
        fitted = self.fitted()
        (hat1, check1), (hat0, check0) = (fitted.given_label(x, a, v) for v in (1, 0))
        belief = np.full(60, 0.5)  # of a positive label
        for _ in range(5000):
            belief = check1 * belief + check0 * (1 - belief)
        settled = np.abs(1 - check1 + check0) > 0.01
        expected = hat1 * belief + hat0 * (1 - belief)
        assert settled.sum() > 30
        assert fitted.probability(x, a)[settled] == pytest.approx(expected[settled], abs=1e-6)

    def test_decides_positively_where_there_is_no_fixed_point(self):
        # Group 1 is capped below 0.2 given y = 1 and lifted above 0.9 given y = 0.
        pairs = (fl.Pair(1, (0.1, 0.1), 0.5), fl.Pair(0, (0.1, 0.1), -1.0))
        fitted = self.fitted(pairs)
        x, a = np.array([[0.0], [0.0]]), np.array([1, 0])
        p = fitted.probability(x, a)
        assert np.isnan(p[0])
        assert not np.isnan(p[1])
        assert fitted.decide(x, a)[0] == 1

    def test_rounds(self):
        fitted = self.fitted(())
        x = np.array([[-0.1], [0.1]])
        assert fitted.decide(x, np.zeros(2)).tolist() == [0, 1]


class TestExpectedLosses:
    def test_error_is_that_of_drawing_the_decisions(self):
        units = sample(60)
        fitted = fl.fit(units, "dp", 0)
        p = fitted.probability(units.x, units.a)
        y = units.y.astype(float)
        assert fitted.expected_error(units) == pytest.approx(np.mean(y * (1 - p) + (1 - y) * p))
        assert fitted.expected_error(units) > np.mean(fitted.decide(units.x, units.a) != y)

    def test_violation_of_equalised_odds_is_the_sum(self):
        train, test = sample(seed=0), sample(seed=1)
        fitted = fl.fit(train, "eqodds", 0)
        p = fitted.probability(test.x, test.a)
        gaps = [
            abs(p[(test.y == v) & (test.a == 1)].mean() - p[(test.y == v) & (test.a == 0)].mean())
            for v in (0, 1)
        ]
        assert fitted.violation(test) == pytest.approx(sum(gaps))
        assert max(gaps) < sum(gaps)

    def test_violation_of_an_empty_cell_is_none(self):
        fitted = fl.fit(sample(), "dp", 0)
        units = sample(20)
        one = units.at(units.a == 1)
        assert fitted.violation(one) == 0
