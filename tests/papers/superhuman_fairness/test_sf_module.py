"""A run: each iteration against the formulas, what is recorded, that it repeats and resumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.superhuman_fairness import stopping
from retable.papers.superhuman_fairness.alpha import closed_form
from retable.papers.superhuman_fairness.data import Halves
from retable.papers.superhuman_fairness.gradient import Sampler, gradient, probability
from retable.papers.superhuman_fairness.losses import MEASURES, losses
from retable.papers.superhuman_fairness.module import SuperhumanFairness, base_rate
from retable.papers.superhuman_fairness.references import MAKERS, References, make_references
from retable.papers.superhuman_fairness.rows import BASELINE_ROWS, METHODS
from retable.papers.superhuman_fairness.start import initial
from retable.papers.superhuman_fairness.subdominance import (
    gamma_joint,
    gamma_per_measure,
    subdominance,
)
from retable.papers.superhuman_fairness.units import Units
from retable.runs import records
from retable.runs.history import history_text
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, build, execute
from retable.training.seeds import derive_seed

IDENTITY = {"key": "k", "fingerprint": "f", "device": "cpu"}


def config(*overrides, seed=0):
    with hydra_ready():
        made = compose(["experiment=superhuman_fairness/smoke", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def attempt(cfg, folder, previous=(), should_stop=None):
    folder.mkdir(parents=True, exist_ok=True)
    resume = find_resume(previous, IDENTITY, pytest.fail)
    return execute(cfg, Context(folder, IDENTITY, resume, should_stop))


def substance(outcome):
    return history_text(outcome.history), outcome.weights_sha256, outcome.results


def values(outcome):
    return {(r.metric, r.row, r.step): r.value for r in outcome.results}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return attempt(config(), tmp_path_factory.mktemp("run"))


def halves(cfg):
    data, _ = build(cfg)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    return batch.units()


def by_hand(cfg, iterations):
    """Weights, alpha and the references after some iterations of the published algorithm."""
    model, seed = cfg["model"], cfg["seed"]
    train, test = halves(cfg)
    maker, n = MAKERS["post_proc_dp"], model["n_references"]
    references = make_references(maker, train, n, 0.0, derive_seed(seed, "references"))
    theta, bias = initial(train, "logistic", derive_seed(seed, "start"))
    alpha = np.ones(4)
    sampler = Sampler(train, references.index)
    for t in range(iterations):
        rng = np.random.default_rng(derive_seed(seed, "sample", t))
        sample = sampler.draw(probability(train.x, theta, bias), rng)
        parts = subdominance(sample.losses, references.losses, alpha)
        step = gradient(parts, sample.total, sampler.size, sampler.n)
        theta = theta - model["optimizer"]["lr"] * step
        alpha = closed_form(sample.losses, references.losses)
    return train, test, references, theta, bias, alpha


@pytest.mark.slow
def test_a_run_is_the_published_algorithm_step_by_step(outcome):
    cfg = config()
    train, test, references, theta, bias, alpha = by_hand(cfg, 12)
    found = values(outcome)
    rate = train.y.mean()
    for row, half in (("ours", test), ("ours_train", train)):
        decisions = probability(half.x, theta, bias) >= rate
        expected = losses(decisions, half.y, half.a)[0]
        assert [found[f"test/{m}", row, None] for m in MEASURES] == expected.tolist()
        dominated = gamma_joint(expected, references.losses)
        assert found["test/dominated", row, None] == dominated
    shares = gamma_per_measure(expected, references.losses)
    assert [found["test/gamma", m, None] for m in MEASURES] == shares.tolist()
    margins = [found["test/margin", m, None] for m in MEASURES]
    marked = [found[f"test/{m}", "ours_margin", None] for m in MEASURES]
    np.testing.assert_allclose(marked, expected + margins, rtol=1e-15)
    means = [found[f"test/{m}", "references", None] for m in MEASURES]
    np.testing.assert_allclose(means, references.losses.mean(axis=0), rtol=1e-15)
    second = [found[f"test/{m}", "reference_set", 2] for m in MEASURES]
    assert second == references.losses[1].tolist()
    np.testing.assert_allclose(margins, 1 / alpha, rtol=1e-15)


def test_the_first_step_is_taken_with_unit_margins_and_the_bias_stays(tmp_path):
    cfg = config("trainer.max_epochs=1")
    data, module = build(cfg)
    import pytorch_lightning as pl

    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    _, _, _, theta, bias, alpha = by_hand(cfg, 1)
    np.testing.assert_allclose(module.theta.detach().numpy(), theta, rtol=1e-12)
    np.testing.assert_array_equal(module.alpha.numpy(), alpha)
    assert float(module.bias) == bias
    assert module.theta.dtype == torch.float64


def test_the_threshold_is_the_base_rate(tmp_path):
    """Probabilities 0.3 and 0.6 at a base rate of 0.24: all positive, not one of two."""
    module = SuperhumanFairness(seed=0, in_features=1)
    logits = np.log(np.array([0.3, 0.6]) / np.array([0.7, 0.4]))
    with torch.no_grad():
        module.theta.fill_(1.0)
    assert module.decide(logits[:, None], 0.24).tolist() == [1, 1]
    assert module.decide(logits[:, None], 0.5).tolist() == [0, 1]
    y = np.zeros(25, np.int8)
    y[:6] = 1
    train = Units(np.zeros((25, 1)), y, np.zeros(25, np.int8))
    assert base_rate(train) == 0.24
    at = module.decide(np.zeros((1, 1)), 0.5)
    assert at.tolist() == [1]  # at the threshold is above


def test_a_run_records_what_the_module_says_it_does(outcome):
    found = set(values(outcome))
    expected = {(f"test/{m}", row, None) for m in MEASURES for row in METHODS}
    expected |= {("test/dominated", row, None) for row in ("ours", "ours_train", *BASELINE_ROWS)}
    for metric in ("test/gamma", "test/gamma_held_out", "test/margin"):
        expected |= {(metric, m, None) for m in MEASURES}
    for name in ("bound", "fresh_gamma", "bound_slack", "subdominance", "iterations"):
        expected.add((f"test/{name}", "", None))
    expected |= {(f"test/{m}", "reference_set", j) for m in MEASURES for j in range(1, 7)}
    expected |= {(f"test/{m}", "ours_margin", None) for m in MEASURES}
    steps = sorted({12 * k // 10 for k in range(1, 11)})
    curves = (*MEASURES, "gamma_joint", "subdominance")
    expected |= {(f"curve/{name}", "ours", step) for name in curves for step in steps}
    assert found == expected


@pytest.mark.slow
def test_the_papers_protocol_fits_into_a_record(tmp_path):
    """Ten points of the curves and twelve reference sets, which smoke has not."""
    cfg = config("trainer.max_epochs=30", "model.n_references=12", "model.marks=12")
    outcome = attempt(cfg, tmp_path)
    assert sum(r.metric.startswith("curve/") for r in outcome.results) == 60
    assert sum(r.row == "reference_set" for r in outcome.results) == 48
    assert len(outcome.results) <= records.MAX_RESULTS - 20


def test_curves_are_those_of_the_history(outcome):
    found = values(outcome)
    for step in (1, 2, 6, 12):
        for name in MEASURES:
            row = outcome.history[step - 1]
            assert found[f"curve/{name}", "ours", step] == row[f"train/{name}"]
    assert found["test/iterations", "", None] == len(outcome.history) == 12


@pytest.mark.slow
def test_two_runs_are_equal_to_the_bit_and_another_seed_is_another_run(outcome, tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    assert substance(attempt(config(), tmp_path / "1")) == substance(outcome)
    other = attempt(config(seed=1), tmp_path / "2")
    assert other.weights_sha256 != outcome.weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 5, 11])
def test_a_resumed_run_is_the_run_that_was_not_stopped(outcome, after, tmp_path):
    asked = iter(range(after - 1))
    with pytest.raises(Interrupted):
        attempt(config(), tmp_path / "1", should_stop=lambda: next(asked, None) is None)
    assert find_resume([tmp_path / "1"], IDENTITY, pytest.fail).epoch == after
    assert substance(attempt(config(), tmp_path / "2", [tmp_path / "1"])) == substance(outcome)


@pytest.mark.slow
def test_a_resumed_run_takes_its_references_from_the_checkpoint(tmp_path, monkeypatch):
    cfg = config("model.fresh=0")
    with pytest.raises(Interrupted):
        attempt(cfg, tmp_path / "1", should_stop=lambda: True)
    from retable.papers.superhuman_fairness import module as sf_module

    def never(*_, **__):
        raise AssertionError("references were made again")

    monkeypatch.setattr(sf_module, "make_references", never)
    attempt(cfg, tmp_path / "2", [tmp_path / "1"])


@pytest.mark.slow
def test_a_fit_that_is_finished_is_tested_only(outcome, tmp_path):
    """Killed in the test: the weights come from the checkpoint, the references are made again."""
    attempt(config(), tmp_path / "1")
    again = attempt(config(), tmp_path / "2", [tmp_path / "1"])
    assert substance(again) == substance(outcome)


SHORT = ["model.optimizer.lr=0.02", "model.n_references=20", "model.baselines=[]", "model.fresh=0"]


@pytest.fixture
def impatient(monkeypatch):
    """Falls count from the second iteration on: these items are fitted within a few."""
    monkeypatch.setattr(stopping, "WARM", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_an_early_stop_ends_the_fit_and_can_be_switched_off(tmp_path):
    rows = attempt(config(*SHORT, seed=3), tmp_path / "on").history
    shares = [sum(row[f"train/gamma_{m}"] for m in MEASURES) for row in rows]
    assert 3 < len(rows) < 12, shares
    assert shares[-1] < shares[-2] < shares[-3] < shares[-4]
    whole = attempt(config(*SHORT, "model.early_stop=false", seed=3), tmp_path / "off")
    assert len(whole.history) == 12
    assert whole.history[: len(rows)] == rows


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_what_an_early_stop_leaves_is_the_last_iterate_or_the_one_before(tmp_path):
    last = attempt(config(*SHORT, seed=3), tmp_path / "last")
    kept = attempt(config(*SHORT, "model.keep=before", seed=3), tmp_path / "before")
    assert last.history == kept.history
    assert last.weights_sha256 != kept.weights_sha256
    for outcome, row in ((last, last.history[-1]), (kept, last.history[-2])):
        found = values(outcome)
        for m in MEASURES:
            assert found[f"test/{m}", "ours_train", None] == pytest.approx(row[f"train/{m}"])


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_resumed_run_stops_where_the_whole_one_does(tmp_path):
    whole = attempt(config(*SHORT, seed=3), tmp_path / "whole")
    with pytest.raises(Interrupted):
        attempt(config(*SHORT, seed=3), tmp_path / "1", should_stop=lambda: True)
    assert substance(
        attempt(config(*SHORT, seed=3), tmp_path / "2", [tmp_path / "1"])
    ) == substance(whole)


def test_rows_do_not_depend_on_each_other(outcome, tmp_path):
    fewer = attempt(config("model.baselines=[fair_logloss_dp]", "model.fresh=0"), tmp_path)
    found, all_of_them = values(fewer), values(outcome)
    assert found.items() <= all_of_them.items()
    assert ("test/dominated", "fair_logloss_dp", None) in found
    assert ("test/dominated", "post_proc_dp", None) not in found


@pytest.mark.slow
def test_our_losses_are_by_clean_labels_and_groups(tmp_path):
    """Noise changes references and baselines; ours is measured on the data as it is."""
    cfg = config("model.noise=0.2", "model.optimizer.lr=1e-12", "model.baselines=[]")
    noisy = values(attempt(cfg, tmp_path / "1"))
    clean = values(
        attempt(config("model.optimizer.lr=1e-12", "model.baselines=[]"), tmp_path / "2")
    )
    for m in MEASURES:
        assert noisy[f"test/{m}", "ours", None] == clean[f"test/{m}", "ours", None]
    assert noisy["test/error", "references", None] != clean["test/error", "references", None]


def test_the_bound_is_the_share_of_references_beaten_by_all_margins():
    module = SuperhumanFairness(seed=0, in_features=1, baselines=[])
    module.alpha.fill_(10.0)
    reference = np.array([[0.5] * 4, [0.25] * 4, [0.15] * 4, [0.05] * 4])
    train = Units(np.zeros((2, 1)), np.zeros(2, np.int8), np.zeros(2, np.int8))
    ours = np.full(4, 0.1)
    module._add_ours(ours, ours, train, References(np.zeros((4, 1), np.int64), reference))
    found = {(r.metric, r.row): r.value for r in module.results}
    assert found["test/bound", ""] == 0.5  # 0.5 and 0.25 are better by 0.1, 0.15 is not
    assert found["test/gamma", "dp"] == 0.75


def test_data_with_another_number_of_inputs_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"model.in_features: 5, but the data has 8 inputs"):
        attempt(config("model.in_features=5"), tmp_path)


def test_the_fit_does_not_look_at_the_test_half(tmp_path):
    cfg = config("model.baselines=[]")
    data, module = build(cfg)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    spoilt = Halves(*batch[:3], batch.x_test * 0, 1 - batch.y_test, 1 - batch.a_test)
    data._halves = spoilt
    import pytorch_lightning as pl

    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    theta = by_hand(cfg, 3)[3]
    np.testing.assert_allclose(module.theta.detach().numpy(), theta, rtol=1e-12)
