"""One run: what is tested, what the history holds, when it has diverged."""

from __future__ import annotations

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.base import Result
from retable.training.execute import Context, Diverged, Interrupted, build, execute
from retable.training.tested import weights_sha256


def config(*overrides, experiment="digits/smoke", seed=0):
    with hydra_ready():
        made = compose([f"experiment={experiment}", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def run(folder, *overrides, **more):
    context = {k: more.pop(k) for k in ("should_stop", "on_epoch") if k in more}
    return execute(config(*overrides, **more), Context(folder, **context))


def test_same_seed_same_bits_other_seed_other_ones(tmp_path):
    first, second = run(tmp_path / "1"), run(tmp_path / "2")
    assert first == second
    other = run(tmp_path / "3", seed=1)
    assert other.weights_sha256 != first.weights_sha256
    assert [r.metric for r in first.results] == ["test/accuracy", "test/loss"]
    assert first.device == "cpu"
    assert first.best_epoch is None
    assert first.timing_metrics == []


def test_generators_of_the_process_do_not_matter(tmp_path):
    import random

    import numpy as np

    first = run(tmp_path / "1")
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    torch.randn(3)
    assert run(tmp_path / "2") == first


def test_the_test_leaves_the_weights_alone(tmp_path, monkeypatch):
    """Lightning calls ``configure_model`` again: a net built there would be tested untrained."""
    import pytorch_lightning as pl

    seen = []
    real = pl.Trainer.test

    def test(self, module, **kwargs):
        seen.append(weights_sha256(module.net))
        out = real(self, module, **kwargs)
        seen.append(weights_sha256(module.net))
        return out

    monkeypatch.setattr(pl.Trainer, "test", test)
    outcome = run(tmp_path)
    _, fresh = build(config())
    assert seen[0] == seen[1]
    assert seen[0] != weights_sha256(fresh.net)
    assert outcome.weights_sha256


def test_history_has_every_epoch_once_and_no_stale_validation(tmp_path):
    rows = run(tmp_path, "trainer.max_epochs=5", "trainer.check_val_every_n_epoch=2").history
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]
    for row in rows:
        validated = row["epoch"] in (1, 3)
        assert ("val/loss" in row) == validated
        assert ("val/accuracy" in row) == validated
        assert "train/loss" in row
        assert "train/lr" in row


def test_best_epoch_is_tested_and_a_tie_keeps_the_earlier(tmp_path, monkeypatch):
    from retable.papers.digits.module import Perceptron

    values = [0.5, 0.7, 0.7, 0.6]
    seen = []

    def on_validation_epoch_end(self):
        self.log("val/chosen", values[len(seen)])
        seen.append(weights_sha256(self))

    monkeypatch.setattr(
        Perceptron, "on_validation_epoch_end", on_validation_epoch_end, raising=False
    )
    outcome = run(tmp_path, "trainer.max_epochs=4", "best_epoch={monitor: val/chosen,mode: max}")
    assert outcome.best_epoch == 1
    assert outcome.weights_sha256 == seen[1]
    assert len(set(seen)) == 4


def test_best_epoch_names_what_is_logged_where_its_metric_is_not(tmp_path):
    with pytest.raises(ValueError, match=r"'val/los' is not logged.*val/loss"):
        run(tmp_path, "best_epoch={monitor: val/los,mode: min}")


def test_randomness_of_items_does_not_depend_on_who_loads_them(tmp_path):
    from retable.papers.digits.data import Digits

    def batches(workers):
        data = Digits(seed=3, paths=None, train_size=200, num_workers=workers)
        data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)
        return torch.cat([x for x, _ in loader])

    alone = batches(0)
    assert torch.equal(alone, batches(2))
    assert torch.equal(alone, batches(1))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.fail=diverge"], "train/loss is nan in epoch 0"),
        (["model.fail=late"], "train/late is nan in epoch 0"),
        (["diverged_above={train/loss: 0.5}"], r"train/loss is 2\.\d+ in epoch 0, above 0.5"),
        (["diverged_above={test/loss: 0.5}"], r"test/loss is 2\.\d+ in the test, above 0.5"),
    ],
)
def test_diverged_runs_say_which_metric_and_where(tmp_path, overrides, message):
    with pytest.raises(Diverged, match=message):
        run(tmp_path, *overrides)
    saved = list((tmp_path / "checkpoints").glob("*")) if "test/" not in message else []
    assert not saved, "a state that has diverged was saved"


def test_stages(tmp_path):
    fit_only = run(tmp_path / "fit", "stages=[fit]")
    assert fit_only.results == []
    assert len(fit_only.history) == 1
    test_only = run(tmp_path / "test", "stages=[test]", "trainer.max_epochs=null")
    assert test_only.history == []
    assert not (tmp_path / "test" / "checkpoints").exists()


def test_a_test_is_left_between_batches_but_its_last_one_ends_it(tmp_path):
    asked = []

    def stop(at):
        asked.clear()

        def should_stop():
            asked.append(1)
            return len(asked) >= at

        return should_stop

    only = ["stages=[test]", "trainer.max_epochs=null", "data.test_batch_size=100"]
    with pytest.raises(Interrupted, match="in the test"):
        run(tmp_path / "1", *only, should_stop=stop(3))
    # Asked after the last batch has begun: the run comes to its end.
    outcome = run(tmp_path / "2", *only, should_stop=stop(4))
    assert len(asked) == 3
    assert [r.metric for r in outcome.results] == ["test/accuracy", "test/loss"]


def test_results_are_in_long_form_and_each_address_once(tmp_path):
    outcome = run(tmp_path, "model.results=3")
    assert Result("extra/steps", 2.0, "", 2) in outcome.results
    assert outcome.results == sorted(outcome.results, key=lambda r: (r.metric, r.row, r.step or 0))


def test_two_results_with_one_address_are_refused(tmp_path, monkeypatch):
    from retable.papers.digits.module import Perceptron

    monkeypatch.setattr(
        Perceptron, "on_test_end", lambda self: self.add_result("test/loss", 1.0), raising=False
    )
    with pytest.raises(ValueError, match=r"\('test/loss', '', None\) was recorded twice"):
        run(tmp_path)


def test_weights_hash_sees_names_types_shapes_and_values():
    def module(**tensors):
        made = torch.nn.Module()
        for name, tensor in tensors.items():
            made.register_buffer(name, tensor)
        return weights_sha256(made)

    one = torch.ones(2, 3)
    assert module(a=one) == module(a=one.clone())
    assert module(a=one.t().contiguous().t()) == module(a=one), "strides are not content"
    different = {
        module(a=one),
        module(b=one),
        module(a=one.double()),
        module(a=one.reshape(3, 2)),
        module(a=one * 2),
        module(a=one, b=one),
        module(a=torch.tensor(1.0)),
        module(a=torch.tensor(1.0, dtype=torch.bfloat16)),
    }
    assert len(different) == 8
    assert weights_sha256(torch.nn.Dropout()) is None


@pytest.mark.parametrize(("ties", "epoch"), [("earlier", 0), ("later", 2)])
def test_equally_good_epochs(tmp_path, monkeypatch, ties, epoch):
    """Without dropout, noise and a rate that learns, every epoch is as good as the first."""
    monkeypatch.setattr("torch.nn.BatchNorm1d.forward", lambda self, x: x)
    outcome = run(
        tmp_path,
        "trainer.max_epochs=3",
        "model.optimizer.lr=1.0e-30",
        "model.dropout=0.0",
        f"best_epoch={{monitor: val/accuracy,mode: max,ties: {ties}}}",
    )
    assert len({row["val/accuracy"] for row in outcome.history}) == 1
    assert outcome.best_epoch == epoch


def test_a_module_sees_the_whole_history_after_the_fit(tmp_path, monkeypatch):
    from retable.papers.digits.module import Perceptron

    def on_history(self, rows):
        assert self.trainer.state.stage != "train"
        self.add_result("curve/epochs", len(rows))

    monkeypatch.setattr(Perceptron, "on_history", on_history)
    outcome = run(tmp_path, "trainer.max_epochs=3")
    assert {r.metric: r.value for r in outcome.results}["curve/epochs"] == 3
