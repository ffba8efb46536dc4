"""The random grid: its values, its marginals, its duplicates."""

from dataclasses import astuple

import numpy as np
import pytest

from retable.papers.r_learner.learners import grid
from retable.papers.r_learner.learners.grid import Candidate, draw_grid, marginals


def test_the_values_are_the_papers():
    values = marginals()
    ends = {name: (v[0], v[-1]) for name, v in values.items()}
    assert {name: len(v) for name, v in values.items()} == dict.fromkeys(values, 20)
    assert ends["n_trees"] == (10, 1000)
    assert ends["rate"] == pytest.approx((1e-5, 0.25))
    assert ends["leaves"] == (2, 50)
    assert ends["bagging"] == pytest.approx((0.1, 1.0))
    assert ends["min_data"] == (10, 50)
    assert ends["min_gain"] == pytest.approx((1e-10, 1e-2))
    for name in ("n_trees", "leaves", "min_data"):
        assert (values[name] == values[name].astype(int)).all()
    assert values["n_trees"][1] == round(10 * 100 ** (1 / 19))
    assert np.diff(values["bagging"]) == pytest.approx(0.9 / 19)
    assert np.diff(np.log(values["rate"])) == pytest.approx(np.log(25000) / 19)


@pytest.mark.slow
def test_each_parameter_is_uniform_on_its_values_and_independent_of_the_others():
    rng = np.random.default_rng(1)
    drawn = np.array([astuple(c) for _ in range(400) for c in draw_grid(rng)])
    assert len(drawn) > 9990  # duplicates are rare
    for column, values in zip(drawn.T, marginals().values(), strict=True):
        share = [(column == v).mean() / (values == v).sum() for v in np.unique(values)]
        assert share == pytest.approx([0.05] * len(share), abs=0.012)  # 5.5 standard deviations
    together = np.corrcoef(np.log(drawn).T) - np.eye(6)
    assert abs(together).max() < 0.05


def test_duplicates_are_dropped_and_the_order_kept(monkeypatch):
    one = {name: v[:1] for name, v in marginals().items()}
    monkeypatch.setattr(grid, "marginals", lambda: one | {"leaves": np.array([3.0, 7.0])})
    candidates = draw_grid(np.random.default_rng(0), 25)
    assert sorted(c.leaves for c in candidates) == [3, 7]
    first = np.random.default_rng(0)
    drawn = {name: first.choice(v, 25) for name, v in grid.marginals().items()}
    assert candidates[0].leaves == drawn["leaves"][0]


def test_a_generator_gives_the_same_grid_again():
    a, b = (draw_grid(np.random.default_rng(3), 5) for _ in range(2))
    assert a == b
    assert all(isinstance(c, Candidate) for c in a)
    assert a != draw_grid(np.random.default_rng(4), 5)
