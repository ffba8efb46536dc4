"""The module in the harness: what a run records, that it repeats, and that it can be resumed."""

from __future__ import annotations

import copy

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.binary_connect.module import BinaryConnect, recompute
from retable.papers.binary_connect.networks import binary_layers, norms
from retable.papers.binary_connect.packed import load, pack
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, build, execute
from support.training import IDENTITY, substance

REGULARIZERS = ["none", "det", "stoch", "dropout"]
LONG = ["trainer.max_epochs=4", "trainer.check_val_every_n_epoch=1"]


def config(*overrides, experiment="mnist_smoke", seed=0):
    with hydra_ready():
        made = compose([f"experiment=binary_connect/{experiment}", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def attempt(cfg, folder, previous=(), should_stop=None):
    folder.mkdir(parents=True, exist_ok=True)
    resume = find_resume(previous, IDENTITY, pytest.fail)
    return execute(cfg, Context(folder, IDENTITY, resume, should_stop))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """One run of four epochs per regularizer."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: attempt(config(f"model.regularizer={name}", *LONG), folder / name)
        for name in REGULARIZERS
    }


def values(outcome):
    return {(r.metric, r.row, r.step): r.value for r in outcome.results}


@pytest.mark.slow
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_run_records_what_the_module_says_it_does(outcomes, name):
    found = values(outcomes[name])
    expected = {("test/error", "", None), ("test/loss", "", None), ("test/error_running", "", None)}
    for percent in range(10, 101, 10):
        expected.add(("curve/train_loss", "", percent))
    expected |= {("curve/val_error", "", percent) for percent in range(10, 101, 10)}
    if name in ("det", "stoch"):
        expected |= {("weights/histogram", "", number) for number in range(1, 101)}
        rows = ["at_bounds", "near_zero", "elsewhere", *(f"bin_{i:02}" for i in range(1, 12))]
        expected |= {("weights/share", row, None) for row in rows}
        parts = ["error", "changed_predictions", "weight_bytes", "bytes", "weight_bytes_16"]
        expected |= {(f"packed/{p}", "", None) for p in (*parts, "weight_ratio", "ratio")}
    assert set(found) == expected
    row = outcomes[name].history[0]
    assert set(row) == {
        "epoch",
        "train/loss",
        "train/error",
        "val/loss",
        "val/error",
        "val/error_running",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", REGULARIZERS)
def test_curve_points_are_those_of_the_history(outcomes, name):
    found, rows = values(outcomes[name]), outcomes[name].history
    for percent in range(10, 101, 10):
        row = rows[max(0, len(rows) * percent // 100 - 1)]
        assert found["curve/train_loss", "", percent] == row["train/loss"]
        assert found["curve/val_error", "", percent] == row["val/error"]


def test_an_epoch_without_validation_gives_no_point_before_the_first_one(tmp_path):
    outcome = attempt(config("trainer.max_epochs=4"), tmp_path)
    assert [("val/error" in row) for row in outcome.history] == [False, True, False, True]
    found = values(outcome)
    points = [percent for metric, _, percent in found if metric == "curve/val_error"]
    assert sorted(points) == [50, 60, 70, 80, 90, 100]
    assert found["curve/val_error", "", 90] == outcome.history[1]["val/error"]
    assert found["curve/train_loss", "", 90] == outcome.history[2]["train/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REGULARIZERS)
def test_two_runs_are_equal_to_the_bit(outcomes, name, tmp_path):
    cfg = config(f"model.regularizer={name}", *LONG)
    torch.manual_seed(5)
    assert substance(attempt(cfg, tmp_path / "1")) == substance(outcomes[name])


def test_another_seed_gives_another_run(outcomes, tmp_path):
    other = attempt(config("model.regularizer=det", *LONG, seed=1), tmp_path)
    assert other.weights_sha256 != outcomes["det"].weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "after"), [("none", 2), ("det", 1), ("stoch", 1), ("stoch", 3), ("dropout", 2)]
)
def test_a_resumed_run_is_the_run_that_was_not_stopped(outcomes, name, after, tmp_path):
    cfg = config(f"model.regularizer={name}", *LONG)
    asked = iter(range(after - 1))
    with pytest.raises(Interrupted):
        attempt(cfg, tmp_path / "1", should_stop=lambda: next(asked, None) is None)
    assert find_resume([tmp_path / "1"], IDENTITY, pytest.fail).epoch == after
    resumed = attempt(cfg, tmp_path / "2", [tmp_path / "1"])
    assert substance(resumed) == substance(outcomes[name])


@pytest.mark.slow
def test_scaled_rates_and_their_decay_survive_a_resume(tmp_path):
    adam = [
        "model.optimizer={_target_: torch.optim.Adam,_partial_: true,lr: 0.003}",
        "model.rate_scaling=glorot",
        "model.magnitude=one",
        "model.normalization=deviation",
        "model.regularizer=stoch",
    ]
    cfg = config(*adam, *LONG)
    whole = attempt(cfg, tmp_path / "whole")
    with pytest.raises(Interrupted):
        attempt(cfg, tmp_path / "1", should_stop=lambda: True)
    assert substance(attempt(cfg, tmp_path / "2", [tmp_path / "1"])) == substance(whole)


@pytest.mark.parametrize("name", ["none", "det"])
def test_of_equally_good_epochs_the_later_one_is_tested(outcomes, name):
    outcome = outcomes[name]
    errors = [row["val/error"] for row in outcome.history]
    best = [k for k, error in enumerate(errors) if error == min(errors)]
    assert len(best) > 1, "there is no tie"
    assert outcome.best_epoch == best[-1]


def run_and_keep(monkeypatch, cfg, folder):
    """The outcome, and the module as it was after the test."""
    kept = []
    real = BinaryConnect.on_test_epoch_end

    def end(self):
        real(self)
        kept.append((self, self.trainer.datamodule))

    monkeypatch.setattr(BinaryConnect, "on_test_epoch_end", end)
    outcome = attempt(cfg, folder)
    module, data = kept[0]
    return outcome, module.eval(), data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "det", "stoch"])
def test_statistics_of_the_test_belong_to_the_tested_weights(monkeypatch, tmp_path, name):
    """Those of the best epoch, not of the last; nothing is left from another epoch."""
    cfg = config(f"model.regularizer={name}", *LONG, "best_epoch={monitor: val/loss,mode: max}")
    outcome, module, data = run_and_keep(monkeypatch, cfg, tmp_path)
    assert outcome.best_epoch == 0, "the worst, here the first, is taken for the best"
    assert {n.source for n in norms(module.network)} == {"recomputed"}
    before = [n.recomputed_mean.clone() for n in norms(module.network)]
    spreads = [n.recomputed_spread.clone() for n in norms(module.network)]
    recompute(module.network, data.training_inputs())
    for n, mean, spread in zip(norms(module.network), before, spreads, strict=True):
        assert (mean != 0).all()
        assert torch.equal(n.recomputed_mean, mean)
        assert torch.equal(n.recomputed_spread, spread)


def test_error_by_hand_of_the_tested_network_and_of_its_packed_form(monkeypatch, tmp_path):
    cfg = config("model.regularizer=det", "model.widths=[12, 9]", "data.batch_size=20")
    outcome, module, data = run_and_keep(monkeypatch, cfg, tmp_path)
    found = values(outcome)
    images, labels = data.test
    with torch.no_grad():
        outputs = module.network(images)
        assert found["test/error", "", None] == (outputs.argmax(1) != labels).double().mean()
        assert torch.equal(pack(module.network)(images), outputs)
    assert found["packed/error", "", None] == found["test/error", "", None]
    assert found["packed/changed_predictions", "", None] == 0
    # Rows of 784, 12 and 9 weights are 98, 2 and 2 bytes.
    assert found["packed/weight_bytes", "", None] == 12 * 98 + 9 * 2 + 10 * 2
    assert found["packed/weight_bytes_16", "", None] == 2 * (784 * 12 + 12 * 9 + 9 * 10)


def test_a_stochastic_network_is_packed_with_its_signs_and_recomputed_statistics(
    monkeypatch, tmp_path
):
    cfg = config("model.regularizer=stoch", *LONG)
    outcome, module, data = run_and_keep(monkeypatch, cfg, tmp_path)
    found = values(outcome)
    assert {layer.mode for layer in module.binary} == {"stoch"}, "a copy was packed"
    images, labels = data.test
    with torch.no_grad():
        real = (module.network(images).argmax(1) != labels).double().mean()
    assert found["test/error", "", None] == real, "real weights are tested"
    for layer in binary_layers(module.network):
        layer.mode = "det"
    recompute(module.network, data.training_inputs())
    with torch.no_grad():
        error = (module.network(images).argmax(1) != labels).double().mean()
    assert found["packed/error", "", None] == error
    assert found["packed/changed_predictions", "", None] == 0


@pytest.mark.parametrize("name", ["det", "stoch"])
def test_an_exported_network_predicts_as_the_packed_one_of_the_run(monkeypatch, tmp_path, name):
    outcome, module, data = run_and_keep(
        monkeypatch, config(f"model.regularizer={name}"), tmp_path / "run"
    )
    state = {key: value.clone() for key, value in module.state_dict().items()}
    said = module.export(tmp_path / "net.safetensors", data)
    found = values(outcome)
    assert f"{found['packed/bytes', '', None]:.0f} bytes" in said
    images, labels = data.test
    outputs = load(tmp_path / "net.safetensors")(images)
    assert (outputs.argmax(1) != labels).double().mean() == found["packed/error", "", None]
    expected = copy.deepcopy(module.network)
    if name == "stoch":  # evaluated with its real weights so far
        for layer in binary_layers(expected):
            layer.mode = "det"
        recompute(expected, data.training_inputs())
    assert torch.equal(outputs, expected(images))
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key]), f"export changed {key}"


@pytest.mark.parametrize("name", ["none", "dropout"])
def test_real_weights_are_not_exported(name, tmp_path):
    data, module = build(config(f"model.regularizer={name}"))
    with pytest.raises(ValueError, match=f"{name}: the weights are not binary"):
        module.export(tmp_path / "net", data)
    assert not (tmp_path / "net").exists()


def test_histogram_of_a_run_is_that_of_its_first_layer(outcomes):
    for name in ("det", "stoch"):
        found = values(outcomes[name])
        bins = [found["weights/histogram", "", k] for k in range(1, 101)]
        assert sum(bins) == pytest.approx(1), "clipped weights lie inside"
        share = [found["weights/share", r, None] for r in ("at_bounds", "near_zero", "elsewhere")]
        assert sum(share) == pytest.approx(1)


def test_binary_weights_slow_the_descent_of_the_training_cost(outcomes):
    last = {name: outcomes[name].history[-1]["train/loss"] for name in REGULARIZERS}
    assert last["none"] < last["det"] < last["stoch"] < last["dropout"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["cifar10_smoke", "svhn_smoke", "small_cnn_smoke"])
def test_convolutional_experiments_run_and_pack_without_changing_a_prediction(tmp_path, experiment):
    cfg = config("model.regularizer=det", experiment=experiment)
    found = values(attempt(cfg, tmp_path))
    assert found["packed/changed_predictions", "", None] == 0
    assert found["packed/error", "", None] == found["test/error", "", None]


def test_evaluation_by_moving_averages_records_no_second_error(tmp_path):
    outcome = attempt(config("model.statistics=running", "model.regularizer=stoch"), tmp_path)
    names = {r.metric for r in outcome.results} | set(outcome.history[-1])
    assert not any("error_running" in name for name in names)
    assert ("packed/error", "", None) in values(outcome)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_only_the_row_of_dropout_drops_activations(name):
    _, module = build(config(f"model.regularizer={name}"))
    dropped = [m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropped == ([0.5] * 3 if name == "dropout" else [])
    mode = "none" if name == "dropout" else name
    assert {layer.mode for layer in module.binary} == {mode}


def test_weights_start_the_same_for_every_magnitude_up_to_the_magnitude():
    _, one = build(config("model.regularizer=det", "model.magnitude=one"))
    _, small = build(config("model.regularizer=det"))
    for u, w in zip(one.binary, small.binary, strict=True):
        torch.testing.assert_close(u.weight * w.scale, w.weight)
        assert 1.9 * w.scale < w.weight.abs().max() <= 2 * w.scale * (1 + 1e-6)
