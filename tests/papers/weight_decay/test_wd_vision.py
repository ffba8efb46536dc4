"""Decay, drop, average, sphere and snapshots in the harness."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import update_bn

from retable.config.compose import compose, hydra_ready
from retable.launch.dispatch import launch
from retable.papers.base import Start
from retable.papers.weight_decay import curvature
from retable.papers.weight_decay.images import per_class
from retable.papers.weight_decay.sphere import norm
from retable.papers.weight_decay.vision import Classifier
from retable.runs import frozen
from retable.training.execute import build
from retable.training.seeds import derive_seed
from retable.util.errors import UserError
from support.runs import record_of
from support.training import attempt, config, stopped, substance

SMOKE = "weight_decay/smoke"
PLAIN = ("model.hessian_images=0", "model.snapshots=[]")
NO_DROP = ("trainer.max_epochs=2", "model.scheduler=null")


def built(*overrides, experiment=SMOKE):
    return build(config(*overrides, experiment=experiment))


def module(*overrides, experiment=SMOKE):
    return built(*overrides, experiment=experiment)[1]


def ran(tmp_path, *overrides, experiment=SMOKE):
    return attempt(config(*overrides, experiment=experiment), tmp_path / "run")[0]


def results(outcome):
    return {(r.row, r.metric): r.value for r in outcome.results}


def test_decay_is_added_to_the_gradient_of_all_that_is_trained():
    """w - eta (g + lambda w), of batch norm and biases too, and the loss is without the penalty."""
    net = module("model.optimizer.decay=0.1", "model.optimizer.rates.large=0.5")
    optimizer = net.configure_optimizers()["optimizer"]
    [group] = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in net.net.parameters()}
    assert (group["momentum"], group["nesterov"]) == (0, False)
    before = {n: p.detach().clone() for n, p in net.net.named_parameters()}
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    step = net.shared_step((images, labels))
    assert step.loss.equal(F.cross_entropy(net.net(images), labels))
    step.loss.backward()
    grads = {n: p.grad.clone() for n, p in net.net.named_parameters()}
    optimizer.step()
    for name, p in net.net.named_parameters():
        wanted = before[name] - 0.5 * (grads[name] + 0.1 * before[name])
        assert torch.allclose(p, wanted, atol=1e-6), name


def test_a_product_gives_the_decay():
    net = module("model.optimizer.decay=0", "model.optimizer.product=0.001")
    [group] = net.configure_optimizers()["optimizer"].param_groups
    assert group["weight_decay"] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.optimizer.rate=huge"], "no 'huge' in rates; valid: ['large', 'small']"),
        (["model.optimizer.product=0.1"], "model.optimizer.product: gives the decay"),
        (["model.snapshots=[0]"], "model.snapshots: 1 to 100 %"),
        (["model.scheduler.at=0"], "model.scheduler.at: an epoch from 1 on"),
    ],
)
def test_what_cannot_be_is_refused_by_name(overrides, said):
    with pytest.raises((ValueError, UserError), match="model") as error:
        module(*overrides).configure_optimizers()
    assert said in str(error.value)


def test_the_drop_is_exact_and_leaves_the_decay_as_it_is(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Classifier, "on_train_start",
        lambda self: seen.append(self.optimizers().param_groups[0]), raising=False,
    )  # fmt: skip
    outcome = ran(tmp_path, "model.scheduler.rate=0.0001", *PLAIN)
    rates = [row["train/rate"] for row in outcome.history]
    assert rates == pytest.approx([0.2, 0.2, 1e-4, 1e-4], rel=1e-6)
    assert [(group["lr"], group["weight_decay"]) for group in seen] == [(1e-4, 0.01)]


def test_images_are_the_same_in_every_epoch():
    """No augmentation: an image, known by its place in the data set, comes with the same pixels
    and its label, whenever it comes."""
    data, _ = built()
    data.setup("fit")
    known = {pixels(image): index for index, image in enumerate(data.train[0])}
    assert len(known) == len(data.train[0])
    orders = []
    for epoch in (0, 1):
        data._epoch = lambda epoch=epoch: epoch
        order = []
        for images, labels in data.train_dataloader():
            order += [known[pixels(image)] for image in images]
            assert labels.equal(data.train[1][order[-len(labels) :]])
        orders.append(order)
    assert orders[0] != orders[1], "in another order"
    assert len(set(orders[0])) == len(orders[0]) == len(set(orders[1]))


def pixels(image):
    return tuple(image.flatten().tolist())


def test_the_average_of_weights_that_do_not_move_is_the_network():
    """Weight by weight to the bit, and its outputs, once both have statistics of their own."""
    data, net = built(*PLAIN)
    data.setup("fit")
    for _ in range(20):
        net.on_train_batch_end(None, None, 0)
    averaged = net._averaged(data)
    weights = dict(averaged.named_parameters())
    assert all(p.equal(weights[name]) for name, p in net.net.named_parameters())
    update_bn((images for images, _ in data.train_dataloader()), net.net)
    images = data.train[0][:10]
    assert averaged(images).equal(net.net.eval()(images))


def test_the_penalty_is_that_of_the_weights_at_the_end_of_the_epoch(tmp_path):
    """lambda / 2 ||w||^2 beside the cross-entropy, of batch norm and biases too."""
    outcome = ran(tmp_path, "model.optimizer.decay=0.3", *PLAIN)
    [file] = sorted((tmp_path / "run" / "checkpoints").glob("epoch=*.ckpt"))[-1:]
    weights = torch.load(file, weights_only=False)["state_dict"]
    trained = [weights[f"net.{name}"] for name, _ in module(*PLAIN).net.named_parameters()]
    wanted = 0.3 / 2 * sum(float(w.double().square().sum()) for w in trained)
    assert outcome.history[-1]["train/penalty"] == pytest.approx(wanted, rel=1e-5)


def test_the_average_begins_at_the_initial_weights():
    """After one step it is a w0 + (1 - a) w1, not w1."""
    net = module("model.ema=0.75", *PLAIN)
    first = net.net.fc.weight.detach().clone()
    with torch.no_grad():
        net.net.fc.weight.add_(1.0)
    net.on_train_batch_end(None, None, 0)
    assert torch.allclose(net.ema.module.fc.weight, first + 0.25, atol=1e-6)


def test_statistics_of_the_average_are_those_of_all_training_images(tmp_path):
    data, net = built("data.batch_size=20", *PLAIN)
    data.setup("fit")
    averaged = net._averaged(data)
    first = averaged.convolutions[0](data.train[0])
    assert torch.allclose(averaged.convolutions[1].running_mean, first.mean((0, 2, 3)), atol=1e-3)


@pytest.mark.slow
def test_looking_at_test_images_changes_nothing(tmp_path):
    """The same weights with and without; what is looked at is what a run that ends there tests."""
    one, _, _ = attempt(config(*PLAIN, experiment=SMOKE), tmp_path / "a")
    other, _, _ = attempt(config(*PLAIN, "model.watch=false", experiment=SMOKE), tmp_path / "b")
    assert one.history == other.history
    tested = [("last", "test/loss"), ("ema", "test/loss"), ("last", "train/fitted_loss")]
    assert [results(one)[k] for k in tested] == [results(other)[k] for k in tested]
    assert not any("phase_1" in r.row for r in other.results)
    ends = config(*PLAIN, *NO_DROP, experiment=SMOKE)
    short, _, _ = attempt(ends, tmp_path / "c")
    found, ended = results(one), results(short)
    for row, tested in (("last/phase_1", "last"), ("ema/phase_1", "ema")):
        for metric in ("test/loss", "test/error"):
            assert found[row, metric] == pytest.approx(ended[tested, metric], rel=1e-5)


def test_the_first_phase_is_that_before_the_drop(tmp_path):
    outcome = ran(tmp_path, "trainer.max_epochs=25", "model.scheduler.at=21", *PLAIN)
    found, rows = results(outcome), outcome.history
    wanted = (rows[19]["train/loss"] + rows[20]["train/loss"]) / 2
    assert found["", "phase_1/loss"] == pytest.approx(wanted, rel=1e-12)
    assert found["", "phase_1/norm"] == rows[20]["train/norm"]


def test_the_same_bits_after_a_stop(tmp_path):
    """With averages, snapshots and looks, stopped before and after the drop."""
    cfg = config("model.ema=0.9", experiment=SMOKE)
    whole, _, _ = attempt(cfg, tmp_path / "whole")
    folders = stopped(cfg, tmp_path, [1, 2])
    assert substance(attempt(cfg, tmp_path / "rest", previous=folders)[0]) == substance(whole)
    # Killed in the test: the fit is not done again, and what it has looked at is there.
    again, resume, _ = attempt(cfg, tmp_path / "again", previous=[tmp_path / "whole"])
    assert resume.fitted
    assert substance(again) == substance(whole)
    assert ("last/phase_1", "test/error") in results(again)


@pytest.mark.slow
@pytest.mark.parametrize("projected", ["step", "epoch"])
def test_weights_stay_on_the_sphere(tmp_path, projected):
    sphere = "weight_decay/smoke_sphere"
    assert float(norm(module(experiment=sphere)._trained())) == pytest.approx(1, rel=1e-5)
    outcome = ran(
        tmp_path,
        f"model.projected={projected}",
        "model.optimizer.rates.large=0.5",
        experiment=sphere,
    )
    norms = [row["train/norm"] for row in outcome.history]
    assert norms == pytest.approx([1, 1], rel=1e-5)


def test_the_two_projections_differ():
    """Once an epoch, the norm grows in between, so that later steps turn the weights less."""
    ends = []
    for projected in ("step", "epoch"):
        net = module(f"model.projected={projected}", experiment="weight_decay/smoke_sphere")
        with torch.no_grad():
            for p in net._trained():
                p.mul_(2.0)
        net.on_train_batch_end(None, None, 0)
        ends.append(float(norm(net._trained())))
    assert ends == pytest.approx([1.0, 2.0], rel=1e-5)


@pytest.mark.slow
def test_a_child_goes_on_from_a_snapshot_and_leaves_its_parent_alone(tmp_path):
    """Record and every file of the parent, its weights and states of random numbers among them."""
    runs = tmp_path / "runs"
    with hydra_ready():
        made = compose([f"experiment={SMOKE}_flow", "seed=0", f"paths.runs={runs}"])
    child = frozen.freeze(made)
    assert launch([child.parent]).done == 1
    before, left = record_of(child.parent), files(runs)
    assert any(file.suffix == ".ckpt" for file in left)
    assert launch([child]).done == 1
    assert record_of(child).started_from.weights_sha256 == before.weights_sha256
    assert record_of(child.parent) == before
    assert {file: text for file, text in files(runs).items() if file in left} == left


def files(runs):
    """Contents of all files of runs."""
    found = (file for file in runs.glob("weight_decay/**/*") if file.is_file())
    return {file: file.read_bytes() for file in found}


def test_looking_and_keeping_snapshots_draw_no_random_numbers(tmp_path, monkeypatch):
    states = []
    look = Classifier._look

    def watched(self):
        before = torch.get_rng_state(), copy.deepcopy(self.net.state_dict())
        look(self)
        self.snapshots.take(2, 4, self.net)
        states.append((before, (torch.get_rng_state(), copy.deepcopy(self.net.state_dict()))))

    monkeypatch.setattr(Classifier, "_look", watched)
    ran(tmp_path, "model.hessian_images=0")
    [((drawn, weights), (after, same))] = states
    assert drawn.equal(after)
    assert all(value.equal(same[name]) for name, value in weights.items())


def test_a_snapshot_is_the_network_of_its_epoch(tmp_path):
    """That of half of four epochs is what a run of two epochs ends with."""
    ran(tmp_path, "model.scheduler.at=3")
    short = config(*NO_DROP, *PLAIN, experiment=SMOKE)
    attempt(short, tmp_path / "short")
    ends = []
    for folder in ("run", "short"):
        [file] = sorted((tmp_path / folder / "checkpoints").glob("epoch=*.ckpt"))[-1:]
        ends.append(torch.load(file, weights_only=False)["state_dict"])
    before = "snapshots.kept.50."
    kept = {k.removeprefix(before): v for k, v in ends[0].items() if k.startswith(before)}
    for name, value in kept.items():
        assert value.equal(ends[1][f"net.{name}"]), name
    net = module("model.snapshots=[]")
    net.snapshot = 0.5  # a config with a share has to name the run
    net.take_start(Start(ends[0]))
    assert net.net.fc.weight.equal(ends[1]["net.fc.weight"])
    assert net.ema.module.fc.weight.equal(ends[1]["net.fc.weight"])


def test_a_share_that_was_not_kept_is_refused_with_those_that_were():
    child = module()
    child.snapshot = 0.07
    with pytest.raises(UserError, match=r"keeps nothing at 7 % of its epochs; kept: \[25, 50\]"):
        child.take_start(Start(module().state_dict()))
    with pytest.raises(UserError, match="kept: none"):
        child.take_start(Start({"net.fc.weight": torch.zeros(1)}))


def test_curvature_is_recorded_of_the_tested_weights(tmp_path):
    """In evaluation mode, of the first images of each class: as its functions find it."""
    found = results(ran(tmp_path, "model.jacobian=exact", "model.snapshots=[]"))
    assert found["last", "hessian/trace"] != found["ema", "hessian/trace"]
    [file] = sorted((tmp_path / "run" / "checkpoints").glob("epoch=*.ckpt"))[-1:]
    weights = torch.load(file, weights_only=False)["state_dict"]
    data, net = built("model.snapshots=[]")
    data.setup("test")
    net.load_state_dict({k: w for k, w in weights.items() if k in net.state_dict()}, strict=False)
    images, labels = data.train[:2]
    chosen = per_class(labels, 2)
    net.net.eval()
    squares = curvature.jacobian_squares(net.net, images[chosen])
    assert found["last", "jacobian/squared"] == pytest.approx(float(squares.mean()), rel=1e-5)
    assert found["last", "jacobian/norm"] == pytest.approx(float(squares.sqrt().mean()), rel=1e-5)
    draws = torch.Generator().manual_seed(derive_seed(0, "curvature"))
    trace = curvature.hessian_trace(net.net, images[chosen], labels[chosen], draws, probes=2)
    assert found["last", "hessian/trace"] == pytest.approx(trace, rel=1e-4)


def test_the_images_of_the_curvature_are_the_first_of_each_class():
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 2])
    assert per_class(labels, 2).tolist() == [0, 1, 2, 4, 6]


def test_a_snapshot_that_would_be_missed_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"30 % of 4 epochs is no whole number; .* is 25 %"):
        ran(tmp_path, "model.snapshots=[30]")
