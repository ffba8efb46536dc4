"""Adversarial training in the harness: its terms, what it records, and that it can be resumed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from retable.papers.converge_smooth.smoothing import Smoothing
from retable.training.execute import build
from retable.util.errors import UserError
from support.fat import SMOKE, batch, made, step
from support.training import attempt, config, stopped, substance

# What each base of the paper's code is, and each baseline, on the smoke run's network.
SETTINGS = {
    "mep_cs": [
        "model.attack.kind=momentum", "model.attack.labels=soft", "model.attack.reset=3",
        "model.match=10", "model.smoothing.weight=1", "model.smoothing.on=clean",
    ],
    "rs_cs": ["model.smoothing.weight=1"],
    "rs_initial": ["model.smoothing.weight=1", "model.smoothing.on=initial",
                   "model.smoothing.level=example"],
    "bp": ["model.attack.kind=batch", "model.match=10"],
    "free": ["model.replays=3", "model.attack.noise=0", "model.smoothing.weight=1"],
    "wc": ["model.centralise=0.1"],
    "pgd": ["model.attack.kind=pgd", "model.attack.steps=3", "model.attack.step=0.4"],
    "align": ["model.align=0.2", "model.attack.project=true"],
    "zero": ["model.attack.quantile=0.35", "model.attack.starts=2"],
}  # fmt: skip
STATEFUL = ("mep_cs", "free", "wc", "bp")


def slope(module, loss):
    return torch.autograd.grad(loss, module.net.fc.weight)[0]


def literal(module, *, match, detached=False):
    """Loss of a step without smoothing, as the authors' code has it."""
    images, labels, _ = batch()
    module._draws.manual_seed(0)
    perturbed = module.attack(
        module.net, images, lambda z: F.cross_entropy(z, labels, reduction="none"), module._draws,
        budget=module.budget, keep=True,
    )  # fmt: skip
    logits = module.net(perturbed.images)
    targets = torch.full((8, 10), 0.4 / 9).scatter_(1, labels[:, None], 0.6)
    loss = -(targets * logits.log_softmax(1)).sum(1).mean()
    first = perturbed.logits.detach() if detached else perturbed.logits
    return loss + match * F.mse_loss(logits, first), perturbed, targets


@pytest.mark.parametrize(
    "option",
    [
        "model.match=10",
        "model.smoothing.on=initial",
        "model.attack.kind=momentum",
        "model.attack.quantile=0.35",
        "model.attack.starts=2",
    ],
)
def test_what_replays_would_not_do_is_refused_by_name(option):
    key, _, value = option.partition("=")
    without_noise = [] if key == "model.attack.kind" else ["model.attack.noise=0"]
    with pytest.raises(Exception, match=rf"{key}: {value}(\.0)? is not possible"):
        made("model.replays=3", "model.smoothing.weight=1", option, *without_noise)


def test_the_squared_distance_of_logits_has_gradients_through_both():
    """Pitfall 8."""
    module = made("model.match=10")
    found = slope(module, step(module).loss)
    assert torch.allclose(found, slope(module, literal(module, match=10)[0]), atol=1e-6)
    detached = slope(module, literal(module, match=10, detached=True)[0])
    assert not torch.allclose(found, detached, atol=1e-4)


@pytest.mark.parametrize(("previous", "sign"), [(0.0, 1), (9.0, -1), (None, 0)])
@pytest.mark.parametrize("on", ["start", "clean", "initial"])
def test_smoothing_adds_or_takes_the_gradient_of_the_loss_that_is_smoothed(
    previous, sign, on, monkeypatch
):
    """Pitfall 1: with the band's middle below, above and at the batch's loss."""
    monkeypatch.setattr(Smoothing, "active", lambda *_: True)
    module = made("model.smoothing.weight=2", f"model.smoothing.on={on}")
    loss, perturbed, targets = literal(module, match=0)
    base = slope(module, loss)
    at = batch()[0] if on == "clean" else perturbed.start
    smoothed = -(targets * module.net(at).log_softmax(1)).sum(1).mean()
    module.mean_loss.previous = smoothed.item() if previous is None else previous
    found = slope(module, step(module).loss)
    assert torch.allclose(found, base + 2 * sign * slope(module, smoothed), atol=1e-5)


def test_without_a_weight_there_is_no_further_pass():
    module, passes = made(), []
    module.net.register_forward_hook(lambda *_: passes.append(1))
    step(module)
    assert len(passes) == 2
    assert module.mean_loss._parts == []


def test_an_evaluation_is_in_float32_and_leaves_the_statistics_alone(monkeypatch):
    """Pitfall 9; low precision would make gradients vanish, which is no robustness."""
    module = made().eval()
    seen, before = [], {n: b.clone() for n, b in module.net.named_buffers()}
    module.net.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    monkeypatch.setattr(
        type(module), "trainer", property(lambda _: type("T", (), {"testing": True}))
    )
    module.on_test_epoch_start()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = module.shared_step(batch())
    assert set(seen) == {torch.float32}
    assert all(torch.equal(before[n], b) for n, b in module.net.named_buffers())
    logs = {name: float(value) for name, value in found.logs.items()}
    assert set(logs) == {"clean", "fgsm", "pgd_10", "pgd_20", "pgd_50", "cw"}
    assert logs["pgd_50"] <= logs["pgd_20"] <= logs["pgd_10"]


def test_a_history_says_whether_and_when_training_collapsed():
    """Pitfall 12: the choice by test images stands apart from the harness's own."""
    robust, fast = [0.2, 0.3, 0.4, 0.4, 0.1], [0.3, 0.4, 0.5, 0.5, 0.9]
    rows = [
        {"epoch": i, "val/pgd_10": r, "val/fgsm": f, "train/adversarial_loss": loss,
         "watched/pgd_10": r, "watched/clean": 2 * r}
        for i, (r, f, loss) in enumerate(zip(robust, fast, [2.0, 1.9, 1.8, 1.7, 1.2], strict=True))
    ]  # fmt: skip
    module = made()
    module.on_history(rows)
    found = {one.metric: one.value for one in module.results}
    assert found == pytest.approx(
        {
            "overfitting/collapsed": 1, "overfitting/epoch": 4, "overfitting/kept": 0.25,
            "overfitting/share": 1.0, "overfitting/jump": 5, "watched/best_pgd_10": 0.4,
            "overfitting/best": 0.4, "overfitting/best_epoch": 2,
            "watched/best_clean": 0.8, "watched/best_epoch": 3,
        }
    )  # fmt: skip
    later = made()
    later.on_history([*rows, rows[-1] | {"epoch": 5}])
    share = {one.metric: one.value for one in later.results}["overfitting/share"]
    assert share == pytest.approx(5 / 6)  # the fifth of six
    steady = made()
    steady.on_history(rows[:4])
    names = {one.metric: one.value for one in steady.results}
    assert names["overfitting/collapsed"] == 0
    assert "overfitting/epoch" not in names


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_every_base_and_baseline_runs_and_goes_on_bit_for_bit(name, tmp_path):
    """Perturbations of images, of batches, mean losses and mean weights are in the checkpoint."""
    cfg = config(*SETTINGS[name], experiment=SMOKE)
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    assert any(
        one.metric == "overfitting/kept" or one.metric == "watched/best_epoch"
        for one in whole.results
    )
    if name in STATEFUL:
        before = stopped(cfg, tmp_path, (2,))
        resumed, found, _ = attempt(cfg, tmp_path / "again", previous=before)
        assert found.epoch == 2
        assert substance(resumed) == substance(whole)


@pytest.mark.slow
def test_smoothing_is_only_there_in_some_epochs(tmp_path):
    cfg = config(*SETTINGS["rs_cs"], experiment=SMOKE)
    outcome, _, _ = attempt(cfg, tmp_path / "1")
    pushed = [row["train/lowered"] + row["train/raised"] for row in outcome.history]
    assert [share > 0 for share in pushed] == [False, False, True, False]
    assert max(pushed) <= 1
    assert all(row["train/smoothed_loss"] > 1.5 for row in outcome.history)
    losses = [row["train/adversarial_loss"] for row in outcome.history]
    changes = [abs(b - a) for a, b in pairwise(losses)]
    assert "train/loss_change" not in outcome.history[0]
    assert [row["train/loss_change"] for row in outcome.history[1:]] == pytest.approx(changes)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.n_images=10", r"model\.n_images: is 10, and the set has an image 1\d\d"),
        ("data.with_ids=false", r"data\.with_ids: has to be true"),
    ],
)
def test_images_need_a_place_for_their_perturbations(override, said, tmp_path):
    with pytest.raises(UserError, match=said):
        attempt(config(override, experiment=SMOKE), tmp_path / "1")


@pytest.mark.parametrize("name", ["attack", "smoothing"])
def test_parts_of_another_kind_are_refused(name):
    other = {"_target_": "torch.nn.Identity"}
    cfg = config(experiment=SMOKE)
    with pytest.raises(ValueError, match=rf"model\.{name}: expected"):
        build({**cfg, "model": {**cfg["model"], name: other}})
