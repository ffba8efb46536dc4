"""What the code of the noise figures had: other noise, another alpha, other references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retable.papers.superhuman_fairness.noise_figures import averaged, noisy
from retable.papers.superhuman_fairness.references import MAKERS, make_references
from retable.papers.superhuman_fairness.units import Units
from retable.training.execute import build
from support.training import attempt, config, stopped, substance

SMOKE = "superhuman_fairness/smoke_noise_figures"


def test_alpha_is_that_of_the_last_reference_gone_through():
    """f is .3 and .2, mean .25; of the references .1 and .5 the mean is .1, then .3: both are."""
    ours, reference = np.array([[0.2], [0.3]]), np.array([[0.5], [0.1]])
    assert averaged(np.array([7.0]), ours, reference) == pytest.approx([1 / 0.3])
    # The first reference ends it, and is not beaten: the mean of all, itself.
    assert averaged(np.array([7.0]), ours - 0.2, reference - 0.05) == pytest.approx([7.0])


def test_where_no_margin_counts_it_becomes_the_mean_of_all_in_place():
    """f = ft everywhere, one reference: a_1 = mean(2, 6) and so on with itself in it."""
    same = np.full((1, 2), 0.3)
    first = np.mean([np.mean([2.0, 6.0]), 6.0])
    second = np.mean([first, np.mean([first, 6.0])])
    assert averaged(np.array([2.0, 6.0]), same, same) == pytest.approx([first, second])


def literally(alpha, ours, reference):
    alpha = list(alpha)
    for k in range(len(alpha)):
        pairs = sorted(zip(reference[:, k], ours[:, k], strict=True), key=lambda pair: pair[0])
        alpha[k] = sum(alpha) / len(alpha)
        seen = []
        for ft, f in pairs:
            seen.append(ft)
            better = ft > f and 1 / (ft - f) < 100
            alpha[k] = 1 / (ft - f) if better else sum(alpha) / len(alpha)
            if ours[:, k].mean() <= sum(seen) / len(seen):
                break
    return alpha


LOSSES = arrays(np.float64, (5, 3), elements=st.sampled_from([0.0, 0.1, 0.15, 0.4, 0.405, 1.0]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LOSSES, LOSSES, arrays(np.float64, 3, elements=st.floats(0.1, 90)))
def test_it_is_the_literal_loop(ours, reference, before):
    # Means of tens may differ in the last bit, which must not decide where the search ends.
    ours = ours + 1e-6
    assert averaged(before, ours, reference) == pytest.approx(literally(before, ours, reference))


def test_of_a_noisy_maker_a_share_of_the_decisions_is_flipped_and_nothing_else():
    rng = np.random.default_rng(0)
    x, bits = rng.normal(size=(60, 3)), rng.integers(0, 2, (2, 60)).astype(np.int8)
    items = Units(x, *bits)
    seen = []

    def maker(fit, decide, seed):
        seen.append((fit, decide, seed))
        return np.zeros(len(decide), np.int8)

    made = noisy(maker, 0.25)(items, items, 5)
    assert made.sum() == 15
    assert seen[0][:2] == (items, items)
    assert seen[0][2] == 5
    assert (noisy(maker, 0.0)(items, items, 5) == 0).all()
    # Groups and labels of the items stay: without a share it is what is made without noise.
    plain = make_references(MAKERS["post_proc_dp"], items, 3, 0.0, 1)
    same = make_references(noisy(MAKERS["post_proc_dp"], 0.0), items, 3, 0.0, 1)
    assert (plain.losses == same.losses).all()


@pytest.fixture
def results(tmp_path):
    """Results of a smoke run, by metric, row and step."""

    def of(*overrides, experiment=SMOKE):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        outcome, _, _ = attempt(config(*overrides, experiment=experiment), folder)
        return {(r.metric, r.row, r.step): r.value for r in outcome.results}

    return of


NEUTRAL = ("model.noise_on=everything", "model.alpha_rule=penalised", "model.scored_against=null")


@pytest.mark.slow
def test_without_its_options_it_is_the_published_method(results):
    same = ("model.noise=0.1", "model.early_stop=false", "model.baselines=[]")
    base = results(*same, "trainer.max_epochs=6", experiment="superhuman_fairness/smoke")
    assert results(*NEUTRAL) == base


@pytest.mark.slow
def test_every_option_changes_what_it_is_for(results):
    whole = results()
    assert {row for metric, row, _ in whole if metric == "test/gamma_other"} == {
        "error", "dp", "eqodds", "prp"
    }  # fmt: skip
    other = results("model.alpha_rule=penalised")
    margins = [key for key in whole if key[0] == "test/margin"]
    assert any(whole[key] != other[key] for key in margins)
    noise = results("model.noise_on=everything")
    references = [key for key in whole if key[1] == "references"]
    assert references
    assert any(whole[key] != noise[key] for key in references)


@pytest.mark.slow
def test_stopped_and_gone_on_it_has_the_same_bits(tmp_path):
    cfg = config(experiment=SMOKE)
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    folders = stopped(cfg, tmp_path / "stopped", [2, 1])
    again, resume, _ = attempt(cfg, tmp_path / "again", previous=folders)
    assert resume is not None
    assert substance(again) == substance(whole)


def test_noise_of_nothing_is_refused():
    cfg = config("model.flip_decisions=false", experiment=SMOKE)
    with pytest.raises(Exception, match="flip_decisions: false leaves nothing to flip"):
        build(cfg)
