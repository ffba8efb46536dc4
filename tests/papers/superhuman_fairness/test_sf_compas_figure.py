"""What the code of the figure of COMPAS with noise had: another start, a third rule for alpha."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retable.papers.superhuman_fairness.compas_figure import balanced, by_mean_loss
from retable.papers.superhuman_fairness.start import initial
from retable.papers.superhuman_fairness.units import Units
from support.training import attempt, config, stopped, substance

SMOKE = "superhuman_fairness/smoke_compas_figure"


def test_alpha_is_that_of_the_last_better_one_gone_through():
    """f is .2 and .3, mean .25; of the references .1 and .5 the mean is .1, then .3: both are."""
    before, ours, reference = np.array([7.0]), np.array([[0.2], [0.3]]), np.array([[0.5], [0.1]])
    assert by_mean_loss(before, ours, reference, lam=0.01) == pytest.approx([1 / 0.3])
    # The first reference ends it, and ours is better there by a hundredth of a hundredth.
    near = np.array([[0.5], [0.3001]])
    assert by_mean_loss(before, ours, near, lam=0.01) == pytest.approx([100])


def test_where_no_reference_is_worse_it_is_the_mean_of_the_last_ones():
    ours, reference = np.array([[0.5, 0.2]]), np.array([[0.4, 0.45]])
    found = by_mean_loss(np.array([2.0, 8.0]), ours, reference, lam=0.01)
    assert found == pytest.approx([5.0, 4.0])


def test_the_penalty_lets_the_search_go_on():
    """Without it the first reference ends it (.2 <= .2), with it the second does."""
    ours, reference = np.array([[0.1], [0.3]]), np.array([[0.2], [0.9]])
    assert by_mean_loss(np.ones(1), ours, reference, lam=0.0) == pytest.approx([10])
    assert by_mean_loss(np.ones(1), ours, reference, lam=0.01) == pytest.approx([1 / 0.6])


def literally(alpha, ours, reference, lam):
    found = []
    for k in range(len(alpha)):
        pairs = sorted(zip(reference[:, k], ours[:, k], strict=True), key=lambda pair: pair[0])
        value, seen = sum(alpha) / len(alpha), []
        for ft, f in pairs:
            seen.append(ft)
            if ft > f:
                value = min(100, 1 / (ft - f))
            if ours[:, k].mean() + lam <= sum(seen) / len(seen):
                break
        found.append(value)
    return found


LOSSES = arrays(np.float64, (5, 3), elements=st.sampled_from([0.0, 0.1, 0.15, 0.4, 0.405, 1.0]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LOSSES, LOSSES, arrays(np.float64, 3, elements=st.floats(0.1, 90)))
def test_it_is_the_literal_loop(ours, reference, before):
    # Means of tens may differ in the last bit, which must not decide where the search ends.
    ours = ours + 1e-6
    found = by_mean_loss(before, ours, reference, lam=0.01)
    assert found == pytest.approx(literally(before, ours, reference, 0.01))


def items(n=400, share=0.25):
    rng = np.random.default_rng(3)
    y = (rng.random(n) < share).astype(np.int8)
    x = np.column_stack([np.ones(n), rng.normal(size=n) + y])
    return Units(x, y, rng.integers(0, 2, n).astype(np.int8))


@pytest.mark.parametrize("start", ["logistic", "fair_logloss_dp"])
def test_a_balanced_start_decides_on_one_half_where_a_plain_one_follows_the_base_rate(start):
    """Its intercept moves by the log odds of what is left out, here of 3 to 1."""
    train = items()
    plain, fitted = initial(train, start, 0), balanced(train, start, 0)
    assert fitted[1] - plain[1] == pytest.approx(np.log(3), abs=0.4)
    assert plain[0][1] == pytest.approx(fitted[0][1], abs=0.5)
    assert balanced(train, start, 0)[1] == fitted[1]
    assert balanced(train, start, 1)[1] != fitted[1]


def test_of_a_frequent_positive_label_some_are_left_out():
    assert balanced(items(share=0.75), "logistic", 0)[1] == pytest.approx(-0.5, abs=0.5)


@pytest.fixture
def results(tmp_path):
    """Results of a smoke run, by metric, row and step."""

    def of(*overrides, experiment=SMOKE):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        outcome, _, _ = attempt(config(*overrides, experiment=experiment), folder)
        return {(r.metric, r.row, r.step): r.value for r in outcome.results}

    return of


@pytest.mark.slow
def test_without_its_options_it_is_the_published_method(results):
    same = ("model.noise=0.1", "model.start=fair_logloss_dp", "model.baselines=[]")
    base = results(*same, "trainer.max_epochs=6", experiment="superhuman_fairness/smoke")
    neutral = ("model.balanced_start=false", "model.alpha_rule=penalised", "model.lam=0.001")
    assert results(*neutral) == base
    whole = results()
    for option in neutral[:2]:
        assert results(option) != whole


@pytest.mark.slow
def test_stopped_and_gone_on_it_has_the_same_bits(tmp_path):
    cfg = config(experiment=SMOKE)
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    folders = stopped(cfg, tmp_path / "stopped", [2, 1])
    again, resume, _ = attempt(cfg, tmp_path / "again", previous=folders)
    assert resume is not None
    assert substance(again) == substance(whole)
