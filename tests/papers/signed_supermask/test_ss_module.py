"""The module in the harness: what is trained, what stays, what is recorded, and when a fit ends."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retable.config.compose import compose, hydra_ready
from retable.papers.signed_supermask import packed
from retable.papers.signed_supermask.initial import Initial
from retable.papers.signed_supermask.masks import Threshold, mask_of, scores_of
from retable.papers.signed_supermask.module import Supermask
from retable.papers.signed_supermask.networks import FCN
from retable.training.execute import Context, build, execute
from support.training import IDENTITY

SMOKE = "signed_supermask/smoke"


def config(*overrides, experiment=SMOKE, seed=0):
    with hydra_ready():
        made = compose([f"experiment={experiment}", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def module(*overrides, experiment=SMOKE, seed=0):
    return build(config(*overrides, experiment=experiment, seed=seed))[1]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run's outcome, and the weights that it ends with."""
    folder = tmp_path_factory.mktemp("run")
    outcome = execute(config(), Context(folder, IDENTITY, None, None))
    *_, file = sorted(folder.glob("checkpoints/*.ckpt"))
    saved = torch.load(file, weights_only=False)
    return outcome, saved["state_dict"], saved["optimizer_states"][0]["param_groups"]


def test_weights_and_thresholds_stay_and_scores_move(done):
    fresh = module()
    before, after = fresh.state_dict(), done[1]
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    scores = {name for name in before if name.endswith("parametrizations.weight.original")}
    assert moved == scores == {name for name, _ in fresh.named_parameters()}
    assert len(scores) == 3
    for layer in fresh.layers:
        assert len(layer.parametrizations.weight[0].weight.abs().unique()) == 1
    for name in scores:
        # Not recomputed: it would follow the scores, which decay shrinks.
        tau = after[name.replace("original", "0.threshold")]
        assert tau == 0.4 * before[name].abs().max() != 0.4 * after[name].abs().max()


def test_the_schedule_knows_how_many_steps_an_epoch_has(done):
    """Ten of 32 images; after two epochs the rate has fallen twice."""
    for group in done[2]:
        assert group["lr"] == pytest.approx(0.05 * 0.9**2, rel=1e-12)
        assert group["weight_decay"] == pytest.approx(0.0005 * 0.9**2, rel=1e-12)


def test_what_is_recorded(done):
    outcome, state, _ = done
    found = {(r.metric, r.step): r.value for r in outcome.results}
    net = module()
    net.load_state_dict(state)
    masks = [mask_of(layer) for layer in net.layers]
    n = [m.numel() for m in masks]
    assert n == [784 * 16, 16 * 12, 120]
    assert found["weights/parameters", None] == sum(n)
    remaining = sum(int(m.abs().sum()) for m in masks)
    assert found["weights/remaining", None] == pytest.approx(remaining / sum(n), rel=1e-12)
    assert found["weights/remaining_thousands", None] == remaining / 1000
    last = outcome.history[-1]  # after the epoch's last step
    assert last["train/remaining"] == pytest.approx(remaining / sum(n), rel=1e-6)
    for number, mask in enumerate(masks, start=1):
        for name, sign in (("kept", 1), ("inverted", -1)):
            share = float((mask == sign).double().mean())
            assert found[f"weights/{name}", number] == pytest.approx(share, rel=1e-12)
            assert last[f"train/{name}_{number}"] == pytest.approx(share, rel=1e-6)
    assert torch.equal(outcome.artifacts["first_layer"]["mask"], masks[0].to(torch.int8))
    for name, sign in (("kept", 1), ("inverted", -1)):
        shares = (masks[0] == sign).double().mean(0).view(28, 28).float()
        assert torch.equal(outcome.artifacts["masks"][name], shares)


def test_the_trained_network_is_packed_and_exported(done, tmp_path):
    outcome, state, _ = done
    found = {r.metric: r.value for r in outcome.results if r.metric.startswith("packed/")}
    net = module()
    net.load_state_dict(state)
    said = net.export(tmp_path / "net", None)
    sizes = packed.save(net.net, tmp_path / "again")
    assert found == {"packed/changed_predictions": 0} | {
        f"packed/{name}": value for name, value in sizes.items()
    }
    assert said == f"{found['packed/bytes']:.0f} bytes, {found['packed/ratio']:.1f} times less" + (
        " than in float32"
    )
    read = packed.load(FCN(widths=[16, 12]), tmp_path / "net")
    images = torch.randn(5, 1, 28, 28)
    assert torch.equal(read(images), net.net(images))


def test_changed_predictions_are_counted(tmp_path, monkeypatch):
    """Of a packing that loses the signs."""
    unpack = packed.unpack
    monkeypatch.setattr(
        "retable.papers.signed_supermask.module.unpack",
        lambda *given: {k: v.abs() for k, v in unpack(*given).items()},
    )
    outcome = execute(config("trainer.max_epochs=1"), Context(tmp_path, IDENTITY, None, None))
    found = {r.metric: r.value for r in outcome.results}
    assert 0 < found["packed/changed_predictions"] <= 100


def test_trained_weights_are_not_exported(tmp_path):
    with pytest.raises(ValueError, match="the weights are trained"):
        module(experiment="signed_supermask/smoke_trained").export(tmp_path / "net", None)


def frozen(layer):
    return layer.parametrizations.weight[0].weight


class Two(nn.Module):
    """Layers of 10 and 1000 weights."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 5, bias=False), nn.Linear(5, 200, bias=False)


def test_remaining_is_of_all_layers_together():
    net = Supermask(seed=0, net=Two(), weights=Initial(), mask=Threshold(Initial("he", "uniform")))
    first, second = net.layers
    with torch.no_grad():
        scores_of(first).fill_(9.0)
        scores_of(second).fill_(0.0)
        scores_of(second)[0, 0] = -9.0
    kept, inverted = net._counts()
    assert (kept.tolist(), inverted.tolist()) == ([10, 0], [0, 1])
    assert float(kept.sum() + inverted.sum()) / net.n_weights == 11 / 1010


def test_draws_follow_the_seed_and_masks_do_not_move_weights():
    one, other = module(), module(seed=1)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert not torch.equal(scores_of(a), scores_of(b))
        assert not torch.equal(frozen(a), frozen(b))
    he = module("model.mask.initial.kind=he")
    for a, b in zip(one.layers, he.layers, strict=True):
        assert not torch.equal(scores_of(a), scores_of(b))
        assert torch.equal(frozen(a), frozen(b))


def test_the_baseline_trains_weights_within_their_bound():
    net = module(experiment="signed_supermask/smoke_trained")
    assert [name for name, _ in net.named_parameters()] == [
        "net.hidden.1.weight",
        "net.hidden.3.weight",
        "net.fc.weight",
    ]
    bound = (4.5 / 784) ** 0.5
    assert 0.99 * bound < net.net.hidden[1].weight.abs().max() <= bound


def test_peers_have_their_masks():
    zhou = module(experiment="signed_supermask/smoke_zhou")
    assert all(scores_of(layer).count_nonzero() == 0 for layer in zhou.layers)
    popup = module(experiment="signed_supermask/smoke_edge_popup")
    for layer in popup.layers:
        assert mask_of(layer).sum() == scores_of(layer).numel() / 2


def test_a_fit_ends_with_the_last_reduction(tmp_path):
    schedule = "{_target_: retable.papers.signed_supermask.sgdw.Plateau, _partial_: true"
    schedule += ", patience: 1, begin: 1, cooldown: 0, reductions: 2, delta: 9.0}"
    options = ["~model.scheduler", f"+model.scheduler={schedule}", "model.scheduler_interval=epoch"]
    made = config(*options, "trainer.max_epochs=9")
    outcome = execute(made, Context(tmp_path, IDENTITY, None, None))
    # Epochs 1 and 2 are waited, the second of them reduces, and so does epoch 3.
    assert len(outcome.history) == 4


def test_many_layers_have_no_shares_of_their_own(monkeypatch):
    monkeypatch.setattr("retable.papers.signed_supermask.module._BY_LAYER", 2)
    assert module()._by_layer(torch.ones(3), torch.ones(3)) == []
