"""Both stages in the harness: what is trained and decayed, at which rates, and what is recorded."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file

from retable.config.compose import compose, hydra_ready
from retable.launch.dispatch import launch
from retable.papers.weight_balancing.classifiers import max_norm_radius
from retable.papers.weight_balancing.geometry import fisher_ratio
from retable.papers.weight_balancing.module import OneStage, SecondStage
from retable.papers.weight_balancing.probe import probed
from retable.runs import frozen, starts
from retable.training.execute import Context, build, execute
from support.runs import record_of
from support.training import IDENTITY

SMOKE = "weight_balancing/smoke"


def run(*overrides, experiment=SMOKE, seed=0):
    with hydra_ready():
        made = compose([f"experiment={experiment}", f"seed={seed}", *overrides])
    return frozen.freeze(made)


def module(*overrides, experiment=SMOKE):
    return build(run(*overrides, experiment=experiment).config.model_dump(mode="json"))[1]


def values(record):
    return {(r.metric, r.result_row, r.step): r.value for r in record.results}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A second stage that was run, and the first one under it."""
    runs = tmp_path_factory.mktemp("runs")
    child = run(f"paths.runs={runs}", experiment="weight_balancing/smoke_stage2")
    assert launch([child]).done == 2
    return child.parent, child


def test_rates_are_those_of_a_cosine_that_is_stepped_first():
    """Epoch e trains at lr (1 + cos(pi (e + 1) / E)) / 2, so that the last has rate 0."""
    node = run(experiment="weight_balancing/cifar10").config.model["scheduler"]
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    scheduler = instantiate(node)(optimizer)
    rates = []
    for _ in range(320):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    wanted = [0.01 * (1 + math.cos(math.pi * (e + 1) / 320)) / 2 for e in range(320)]
    assert rates == pytest.approx(wanted, abs=1e-12)
    assert rates[-1] == pytest.approx(0, abs=1e-18)


def test_the_last_rate_is_0_in_a_run(tmp_path):
    seen = []

    class Watched(OneStage):
        def on_train_batch_start(self, *_):
            seen.append((self.current_epoch, self.optimizers().param_groups[0]["lr"]))

    import retable.papers.weight_balancing.module as place

    original = place.OneStage
    place.OneStage = Watched
    try:
        config = run("trainer.max_epochs=2").config.model_dump(mode="json")
        execute(config, Context(tmp_path, IDENTITY, None, None))
    finally:
        place.OneStage = original
    assert [rate for _, rate in sorted(set(seen))] == pytest.approx([0.025, 0.0], abs=1e-9)


@pytest.mark.parametrize("norms", [True, False])
def test_decay_is_that_of_the_loss_and_reaches_what_it_should(norms):
    """One step without a gradient of the data: theta becomes theta (1 - lr lambda)."""
    net = module("model.decay=0.1", f"model.decay_norms={norms}")
    optimizer = net._optimizer(net.optimized())
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    sum((0 * p).sum() for p in net.parameters()).backward()
    optimizer.step()
    batch_norms = {f"net.convolutions.{i}.{kind}" for i in (1, 4, 7) for kind in ("weight", "bias")}
    for name, p in net.named_parameters():
        kept = not norms and name in batch_norms
        factor = 1.0 if kept else 1 - 0.05 * 0.1
        assert torch.allclose(p, before[name] * factor, rtol=1e-6), name


def test_norms_can_be_left_at_1_and_0():
    net = module("model.train_norms=false")
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {f"net.convolutions.{i}.weight" for i in (0, 3, 6)} | {
        "net.fc.weight",
        "net.fc.bias",
    }
    assert {id(p) for group in net.optimized() for p in group["params"]} == {
        id(p) for p in net.parameters() if p.requires_grad
    }


def test_an_etf_stays_under_decay_and_its_bias_moves(tmp_path):
    overrides = ("model.classifier=etf", "model.decay=1.0", "model.feature_decay=0.01")
    config = run(*overrides).config.model_dump(mode="json")
    _, fresh = build(config)
    outcome = execute(config, Context(tmp_path, IDENTITY, None, None))
    found = {(r.metric, r.row, r.step): r.value for r in outcome.results}
    assert all(found["weights/norm", "", k] == pytest.approx(1, abs=1e-6) for k in range(10))
    [file] = sorted(tmp_path.glob("checkpoints/epoch=*.ckpt"))[-1:]
    state = torch.load(file, weights_only=False)["state_dict"]
    assert torch.equal(state["net.fc.weight"], fresh.net.fc.weight)
    assert not torch.equal(state["net.fc.bias"], fresh.net.fc.bias)
    other = build({**config, "seed": 1})[1]
    assert not torch.equal(other.net.fc.weight, fresh.net.fc.weight)  # one draw per seed


def test_drw_begins_with_cross_entropy():
    net = module("model.loss=focal", "model.reweight_from=3")
    logits, labels = torch.randn(4, 10), torch.tensor([0, 1, 2, 3])
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    assert torch.equal(net._loss(logits, logits, labels), cross_entropy)
    net.reweight_from = 0
    assert not torch.equal(net._loss(logits, logits, labels), cross_entropy)


@pytest.mark.slow
def test_the_second_stage_moves_the_classifier_alone(both):
    first, second = (starts.left_by(one, record_of(one)).weights for one in both)
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert moved == {"net.fc.weight", "net.fc.bias"}
    assert record_of(both[1]).started_from.key == both[0].key


@pytest.mark.slow
def test_its_rows_are_as_long_as_max_norm_lets_them(both):
    first, second = (starts.left_by(one, record_of(one)).weights for one in both)
    radius = max_norm_radius(first["net.fc.weight"], 0.1)
    assert float(second["radius"]) == pytest.approx(radius)
    assert second["net.fc.weight"].norm(dim=1).max() <= radius * (1 + 1e-6)


def test_batch_norm_s_statistics_move_where_they_are_to():
    net = module("model.norms_move=true", experiment="weight_balancing/smoke_stage2")
    assert isinstance(net, SecondStage)
    assert net.train().net.training
    net.norms_move = False
    assert not net.train().net.training
    assert net.training


def test_what_is_recorded(both):
    record = record_of(both[0])
    found = values(record)
    for row in ("", "additive", "multiplicative", "l2", "tau"):
        groups = [found[f"test/{name}", row, None] for name in ("many", "medium", "few")]
        # 40 31 24 19 14 11 9 7 5 4 images: three, four and three classes
        mean = (3 * groups[0] + 4 * groups[1] + 3 * groups[2]) / 10
        assert found["test/accuracy", row, None] == pytest.approx(mean, abs=1e-6)
    assert found["test/accuracy", "additive", None] is not None
    folder = both[0].folder / "attempts/1/artifacts"
    cosines = load_file(folder / "cosines.safetensors")
    for stage in ("train", "test"):
        off = cosines[stage][~torch.eye(10, dtype=torch.bool)].mean()
        assert found[f"{stage}/cosine", "", None] == pytest.approx(float(off), abs=1e-6)
    norms = load_file(folder / "norms.safetensors")["rows"]
    assert [found["weights/norm", "", k] for k in range(10)] == norms.tolist()
    assert found["weights/few", "", None] == pytest.approx(float(norms[-3:].mean()))
    accuracy = load_file(folder / "accuracy.safetensors")
    assert float(accuracy["plain"].mean()) == pytest.approx(found["test/accuracy", "", None])


def test_the_random_probe_is_drawn_from_its_seed():
    features = torch.rand(60, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3
    layers = list(probed(features, 1))
    assert len(layers) == 3
    assert all(torch.equal(a, b) for a, b in zip(layers, probed(features, 1), strict=True))
    assert not torch.equal(layers[0], next(iter(probed(features, 2))))
    assert min(float(layer.min()) for layer in layers) == 0
    assert math.isfinite(fisher_ratio(layers[0], labels))
