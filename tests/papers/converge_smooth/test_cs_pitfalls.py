"""The dossier's pitfalls where they are wired up: in the module, in the evaluation, in tables."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from retable.papers.converge_smooth.evaluation import survivors
from retable.papers.converge_smooth.smoothing import Smoothing
from retable.tables import spec
from retable.tables.grid import plan
from support.fat import SMOKE, batch, made, step
from support.training import attempt, config, substance

XI = 16 / 255
TABLES = ("main", "budgets", "band", "other_sets")
RUN = {name: spec.load(f"converge_smooth/{name}").protocols() for name in TABLES}
MOMENTUM = ["model.attack.kind=momentum", "model.attack.labels=soft", "model.attack.reset=40"]


def at_epoch(module, epoch, monkeypatch):
    monkeypatch.setattr(type(module), "current_epoch", property(lambda _: epoch))


# 4: the width of the band.


@pytest.mark.parametrize(("change", "raised"), [(-0.2, 1), (0.02, 0)])
def test_the_band_is_as_wide_as_the_last_change_of_the_mean_loss_says(change, raised, monkeypatch):
    """Pitfall 4: a loss 0.01 below the last mean is outside of 0.003 and inside of 0.02."""
    monkeypatch.setattr(Smoothing, "active", lambda *_: True)
    module = made("model.smoothing.weight=1", "model.smoothing.ratio=10")
    loss = float(step(module).logs["smoothed_loss"])
    module.mean_loss.previous, module.mean_loss.change = loss + 0.01, change
    logs = step(module).logs
    assert (float(logs["lowered"]), float(logs["raised"])) == (0, raised)


# 5: labels of the attack.


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_an_attack_raises_the_loss_on_its_own_labels(labels):
    """Pitfall 5: FGSM-MEP's on soft targets, FGSM-RS's on hard ones."""
    module = made(f"model.attack.labels={labels}")
    logits, y = torch.randn(8, 10), torch.arange(8)
    targets = torch.full((8, 10), 0.4 / 9).scatter_(1, y[:, None], 0.6)
    expected = {
        "hard": F.cross_entropy(logits, y, reduction="none"),
        "soft": -(targets * logits.log_softmax(1)).sum(1),
    }
    assert torch.allclose(module._raised(y, targets)(logits), expected[labels])


# 6: perturbations of images.


def test_perturbations_begin_anew_when_it_is_time_and_not_else(monkeypatch):
    """Pitfall 6: in epochs 0, 40 and 80 of 110."""
    module = made(*MOMENTUM)
    begun = []
    for epoch in range(110):
        at_epoch(module, epoch, monkeypatch)
        module.on_train_epoch_start()
        if module._anew:
            begun.append(epoch)
        module._begin(module.prior, batch()[0])
        assert not module._anew, "once an epoch"
        if epoch in (0, 40):
            first = module.prior.kept.clone()
            module.prior.kept.zero_()
            module.prior.momentum += 1
            module._begin(module.prior, batch()[0])
            assert module.prior.kept.count_nonzero() == 0, "kept within the epoch"
            assert first.abs().min() > 0, "in the corners again"
    assert begun == [0, 40, 80]


# 9 and 10: attacks of training and of the evaluation.


def test_an_attack_of_training_moves_the_statistics_of_its_network():
    """Pitfall 9: it is made in training mode, so that a step is two passes that count."""
    module = made()
    norms = [m for m in module.net.modules() if isinstance(m, nn.BatchNorm2d)]
    step(module)
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_an_attack_ends_in_the_corner_of_its_budget_and_of_the_images(loss):
    """Pitfall 10: |delta| is at most the budget, pixels are in [0, 1], and both bounds are met."""

    class Linear(nn.Module):
        """Never broken, with one gradient wherever it is taken."""

        def forward(self, x):
            seen.append(x.detach().clone())
            right = 1 + (x.flatten(1) * weights).sum(1)
            return torch.stack([right, torch.zeros_like(right)], 1)

    seen, draws = [], torch.Generator().manual_seed(3)
    weights = torch.randn(3 * 8 * 8, generator=draws) / 1000
    images = torch.rand(4, 3, 8, 8, generator=draws)
    net, labels = Linear().eval(), torch.zeros(4, dtype=torch.long)
    draws.manual_seed(0)
    left = survivors(net, images, labels, draws, budget=XI, step=2 / 255, after=(10, 50), loss=loss)
    assert left[50].all(), "whoever classifies an image rightly without it may still with it"
    for at in seen:
        assert 0 <= at.min() <= at.max() <= 1
        assert (at - images).abs().max() <= XI + 1e-6
    corner = (images - XI * weights.sign().view(1, 3, 8, 8)).clamp(0, 1)
    assert torch.allclose(seen[-1], corner, atol=1e-6)


def test_no_image_that_is_wrong_before_an_attack_is_right_after_it():
    """Pitfall 10: accuracy under PGD is at most the clean one, but for what noise alone mends."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()
    images = torch.rand(200, 3, 8, 8)
    labels = torch.where(torch.arange(200) % 2 == 0, net(images).argmax(1), 0)
    wrong = net(images).argmax(1) != labels
    left = survivors(net, images, labels, torch.Generator(), budget=XI, step=2 / 255, after=(1, 5))
    assert wrong.sum() > 50
    assert not any((mask & wrong).any() for mask in left.values())


# 12: the epoch by test images.


def test_the_epoch_by_test_images_is_by_those_alone():
    """Pitfall 12, on a history in which the two choices are two epochs."""
    validation, tested = [0.2, 0.4, 0.3], [0.25, 0.31, 0.35]
    rows = [
        {"epoch": i, "val/pgd_10": v, "val/fgsm": v, "train/adversarial_loss": 2.0,
         "watched/pgd_10": t, "watched/clean": 2 * t}
        for i, (v, t) in enumerate(zip(validation, tested, strict=True))
    ]  # fmt: skip
    module = made()
    module.on_history(rows)
    found = {one.metric: one.value for one in module.results}
    assert (found["overfitting/best_epoch"], found["overfitting/best"]) == (1, 0.4)
    assert (found["watched/best_epoch"], found["watched/best_pgd_10"]) == (2, 0.35)
    assert found["watched/best_clean"] == 0.7


@pytest.mark.slow
def test_watching_test_images_changes_nothing_else(tmp_path):
    """Pitfall 12: what is watched are the test images, and the harness's choice is blind to it."""
    cfg = config("trainer.max_epochs=2", "model.smoothing.phases=[0,2]", experiment=SMOKE)
    seen, _, _ = attempt(cfg, tmp_path / "watched")
    blind, _, _ = attempt({**cfg, "model": {**cfg["model"], "watch": 0}}, tmp_path / "blind")

    def others(outcome):
        outcome.results = [r for r in outcome.results if not r.metric.startswith("watched/")]
        outcome.history = [
            {k: v for k, v in row.items() if not k.startswith("watched/")}
            for row in outcome.history
        ]
        return substance(outcome)

    last = {r.metric: r.value for r in seen.results if r.row == "last"}
    assert seen.history[-1]["watched/clean"] == pytest.approx(last["test/clean"])
    assert seen.history[-1]["watched/clean"] != seen.history[-1]["val/clean"]
    assert others(seen) == others(blind)


# 13 and 15: what claims compare.


@pytest.mark.parametrize("name", TABLES)
def test_no_claim_is_judged_on_one_seed(name):
    """Pitfall 13: of two runs that begin nearly alike one may collapse."""
    for protocol in RUN[name]:
        if protocol == "smoke":
            continue
        grid = plan(f"converge_smooth/{name}", protocol)
        seeds = [len(grid.cell_seeds(cell)) for cell in grid.cells.values()]
        assert min(seeds) >= 2, protocol


@pytest.mark.parametrize(("name", "protocol"), [(n, p) for n in TABLES for p in RUN[n]])
def test_arms_that_are_compared_differ_in_what_is_claimed_alone(name, protocol):
    """Pitfall 15: the same attack, budget, labels and regulariser with the term and without."""
    grid = plan(f"converge_smooth/{name}", protocol)
    pairs = [
        ("fgsm", "fgsm_cs", {"smoothing"}), ("rs_open", "rs_cs", {"smoothing"}),
        ("mep", "mep_cs", {"smoothing"}), ("rs_cs", "rs_e", {"smoothing"}),
        ("rs_open", "rs_wc", {"centralise"}), ("band_1", "band_3", {"smoothing"}),
        ("band_100", "band_3", {"smoothing"}),
    ]  # fmt: skip
    compared = 0
    for column in grid.spec.columns:
        for one, other, apart in pairs:
            if {(one, column), (other, column)} <= grid.cells.keys():
                configs = [grid.cells[row, column].setting.config for row in (one, other)]
                a, b = (c.model_dump(mode="json") for c in configs)
                assert {k for k in a if a[k] != b[k]} == {"model"}
                assert {k for k in a["model"] if a["model"][k] != b["model"][k]} == apart
                compared += 1
    assert compared


# 16: on how many batches the term acts.


@pytest.mark.parametrize(("previous", "said"), [(0.0, (1, 0)), (9.0, (0, 1)), (None, (0, 0))])
def test_a_step_logs_the_side_on_which_the_term_acts(previous, said, monkeypatch):
    """Pitfall 16: lowered above the band, raised below it, neither within."""
    monkeypatch.setattr(Smoothing, "active", lambda *_: True)
    module = made("model.smoothing.weight=1")
    if previous is None:
        previous = float(step(module).logs["smoothed_loss"])
    module.mean_loss.previous = previous
    logs = step(module).logs
    assert (float(logs["lowered"]), float(logs["raised"])) == said


def test_by_example_the_shares_are_those_of_the_images(monkeypatch):
    """Pitfall 16, with the losses of one batch on both sides of a narrow band."""
    monkeypatch.setattr(Smoothing, "active", lambda *_: True)
    module = made(
        "model.smoothing.weight=1", "model.smoothing.level=example", "model.smoothing.on=clean",
        "model.smoothing.band=0.01",
    )  # fmt: skip
    images, labels, _ = batch()
    targets = torch.full((8, 10), 0.4 / 9).scatter_(1, labels[:, None], 0.6)
    losses = -(targets * module.net(images).detach().log_softmax(1)).sum(1)
    middle = losses.sort().values[4]
    module.mean_loss.previous = float(middle)
    logs = step(module).logs
    assert float(logs["lowered"]) == pytest.approx(((losses - middle) > 0.01).float().mean())
    assert float(logs["raised"]) == pytest.approx(((middle - losses) > 0.01).float().mean())
    assert 0 < float(logs["lowered"]) < 1


# Weight centralisation, an interpretation.


def test_weights_are_drawn_to_the_mean_of_their_own_phase_alone(monkeypatch):
    module = made("model.centralise=0.1", "model.smoothing.phases=[0,6,10]")
    module.schedule.step_plateau = lambda _: None
    monkeypatch.setattr(type(module), "log", lambda *_, **__: None)
    monkeypatch.setattr(type(module), "trainer", None)
    drawn, counts = [], []
    for epoch in range(10):
        at_epoch(module, epoch, monkeypatch)
        drawn.append(module._centred())
        module.on_train_epoch_end()
        counts.append(module.centre.count)
    assert drawn == [e in {2, 3, 4, 5, 8, 9} for e in range(10)], "not in its first two epochs"
    assert counts == [1, 2, 3, 4, 5, 0, 1, 2, 3, 0], "a phase begins with no mean"
