"""Several weights of one run as result rows, a start with another run's weights, artefacts."""

from __future__ import annotations

import pytest
import torch
from retable.papers.digits.averaged import Averaged
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from retable.papers.base import PaperModule, Start
from retable.training.execute import Context, Interrupted, build, execute
from retable.training.tested import tensors_sha256, weights_sha256
from retable.util.errors import UserError
from support.training import IDENTITY, attempt, config, stopped, substance

EMA = "model._target_=retable.papers.digits.averaged.Averaged"
BEST = "best_epoch={monitor: val/loss,mode: max}"  # an early one, so that it is not the last
FAST = "model.optimizer={_target_: torch.optim.SGD,_partial_: true,lr: 0.8}"
ALL = "tested={last: {}, best: {epoch: best}, ema: {weights: ema}}"


def values(outcome, row):
    return {r.metric: r.value for r in outcome.results if r.row == row}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    cfg = config(EMA, FAST, BEST, ALL, "trainer.max_epochs=6")
    return cfg, execute(cfg, Context(tmp_path_factory.mktemp("several")))


@pytest.mark.slow
def test_each_row_is_the_run_that_tests_those_weights_only(several, tmp_path):
    _, outcome = several
    assert {r.row for r in outcome.results} == {"last", "best", "ema"}
    last = execute(config(EMA, FAST, "trainer.max_epochs=6"), Context(tmp_path / "last"))
    best = execute(config(EMA, FAST, BEST, "trainer.max_epochs=6"), Context(tmp_path / "best"))
    assert best.best_epoch < 5, "the best epoch is the last: the test tells nothing apart"
    for row, alone, epoch in (("last", last, 5), ("best", best, best.best_epoch)):
        assert values(outcome, row) == {**values(alone, ""), "test/epoch": epoch}
    assert values(last, "") != values(best, "")
    # What a record calls the weights is those of the first row by name.
    assert outcome.weights_sha256 == best.weights_sha256
    assert outcome.best_epoch == best.best_epoch


def test_an_average_is_that_of_a_plain_loop_with_statistics_of_its_own(
    several, monkeypatch, tmp_path
):
    cfg, outcome = several
    average, step = {}, Averaged.on_train_batch_end
    nets = []

    def followed(self, *args):
        for name, p in self.net.named_parameters():
            old = average.get(name)
            average[name] = p.detach().clone() if old is None else 0.9 * old + 0.1 * p.detach()
        step(self, *args)

    monkeypatch.setattr(Averaged, "on_train_batch_end", followed)
    monkeypatch.setattr(Averaged, "on_test_end", lambda self: nets.append(self), raising=False)
    execute(cfg, Context(tmp_path))
    data, module = build(cfg)
    data.setup("fit")
    data.setup("test")
    net = module.net
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(average[name])
    loader = data.train_dataloader()
    loader.sampler.set_epoch(6)  # that after the tested one
    update_bn((images for images, _ in loader), net)
    x, y = (torch.stack(list(part)) for part in zip(*data.test, strict=True))
    net.eval()
    found = values(outcome, "ema")
    assert found["test/loss"] == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-5)
    accuracy = (net(x).argmax(1) == y).float().mean().item()
    assert found["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert found["test/loss"] != values(outcome, "last")["test/loss"]


@pytest.mark.parametrize("stops", [[2], [1, 3]])
def test_stopped_and_resumed_all_rows_are_the_same(several, stops, tmp_path):
    cfg, outcome = several
    folders = stopped(cfg, tmp_path / "parts", stops)
    resumed, _, _ = attempt(cfg, tmp_path / "last", previous=folders)
    assert substance(resumed) == substance(outcome)
    # After the fit: nothing is trained again, and the last weights come from the checkpoint.
    again, resume, _ = attempt(cfg, tmp_path / "again", previous=[tmp_path / "last", *folders])
    assert resume.fitted
    assert substance(again) == substance(outcome)
    assert tensors_sha256(again.artifacts["average"]) == tensors_sha256(
        outcome.artifacts["average"]
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([EMA, "tested={x: {epoch: best}}"], "tested.x.epoch: best needs best_epoch"),
        ([EMA, BEST, "tested={x: {}}"], "best_epoch: no row of tested has epoch=best; add one"),
        ([EMA, "tested={x: {epoch: first}}"], "tested.x.epoch: 'first' is neither last nor best"),
        ([EMA, "tested={x: {weights: emma}}"], "keeps no weights 'emma'.*'ema'"),
        (["tested={x: {weights: ema}}"], "Perceptron keeps no weights 'ema', it has those"),
        ([EMA, "tested={x: {wieghts: ema}}"], "tested"),
        ([EMA, "tested={a-b: {}}"], "one word"),
        ([EMA, "tested={a: {}}", "stages=[fit]"], "tested: contradicts stages.*no 'test'"),
        ([EMA, "tested={a: {}}", "stages=[test]", "trainer.max_epochs=null"], "has no 'fit'"),
    ],
)
def test_what_cannot_be_tested_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        config(*overrides)


def test_the_order_in_which_rows_are_written_changes_nothing(several, tmp_path):
    _, outcome = several
    turned = "tested={ema: {weights: ema}, last: {}, best: {epoch: best}}"
    cfg = config(EMA, FAST, BEST, turned, "trainer.max_epochs=6")
    assert substance(execute(cfg, Context(tmp_path))) == substance(outcome)


def test_results_with_rows_of_their_own_stay_apart(tmp_path):
    rows = "tested={a: {}, b: {}}"
    cfg = config(EMA, "model.results=2", "trainer.max_epochs=1", rows)
    outcome = execute(cfg, Context(tmp_path))
    steps = [(r.row, r.step) for r in outcome.results if r.metric == "extra/steps"]
    assert steps == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_a_module_that_adds_rows_of_its_own_has_them_below_the_tested_ones():
    module = PaperModule(seed=0)
    module.row_prefix = "ema"
    module.add_result("test/error", 1.0, "attack")
    module.add_result("test/error", 2.0)
    assert [r.row for r in module.results] == ["ema/attack", "ema"]


def start_of(cfg):
    _, other = build({**cfg, "seed": 5})
    return Start(other.state_dict(), {"found": {"x": torch.ones(2)}})


def test_a_start_is_taken_before_there_are_optimisers(monkeypatch, tmp_path):
    cfg = config(EMA, "trainer.max_epochs=2")
    seen, take = [], Averaged.take_start

    def noted(self, start):
        seen.append(self._trainer)
        take(self, start)
        self.ema.module.load_state_dict(self.net.state_dict())

    monkeypatch.setattr(Averaged, "take_start", noted)
    start = start_of(cfg)
    begun = execute(cfg, Context(tmp_path / "begun", start=start))
    assert seen == [None]

    # The same as a module that is built with those weights.
    build_model = Averaged.build_model

    def built(self):
        build_model(self)
        inner = {k[4:]: v for k, v in start.weights.items() if k.startswith("net.")}
        self.net.load_state_dict(inner)
        self.ema.module.load_state_dict(inner)

    monkeypatch.setattr(Averaged, "build_model", built)
    same = execute(cfg, Context(tmp_path / "same"))
    assert same.weights_sha256 == begun.weights_sha256
    assert same.history == begun.history


def test_a_resumed_run_takes_its_start_again_and_its_own_weights(tmp_path):
    cfg = config(EMA, "trainer.max_epochs=3")
    start = start_of(cfg)
    whole, _, _ = attempt(cfg, tmp_path / "whole", start=start)
    folders = stopped(cfg, tmp_path / "parts", [1], start=start)
    resumed, _, _ = attempt(cfg, tmp_path / "last", previous=folders, start=start)
    assert substance(resumed) == substance(whole)
    alone, _, _ = attempt(cfg, tmp_path / "alone")
    assert alone.weights_sha256 != whole.weights_sha256


def test_a_run_that_only_tests_tests_its_start(monkeypatch, tmp_path):
    fitted = config(EMA, "trainer.max_epochs=2")
    kept = []
    monkeypatch.setattr(
        Averaged, "on_test_start", lambda self: kept.append(self.state_dict()), raising=False
    )
    parent = execute(fitted, Context(tmp_path / "parent"))
    cfg = config(EMA, "stages=[test]", "trainer.max_epochs=null", seed=0)
    child = execute(cfg, Context(tmp_path / "child", start=Start(kept[0])))
    assert child.results == parent.results
    assert child.weights_sha256 == parent.weights_sha256


def test_weights_that_do_not_fit_are_named(tmp_path):
    cfg = config(EMA)
    weights = start_of(cfg).weights
    with pytest.raises(RuntimeError, match=r"net\.0\.weight"):
        execute(cfg, Context(tmp_path, start=Start({**weights, "net.0.weight": torch.ones(3)})))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"../up": {"x": torch.ones(1)}}, "one word"),
        ({"empty": {}}, "holds nothing"),
        ({"odd": {"x": 3.0}}, "which is no tensor"),
        ({"flat": torch.ones(2)}, "is a Tensor; artifacts has to return"),
        (torch.ones(2), "has to return {name: {name: tensor}}, not a Tensor"),
    ],
)
def test_what_is_no_artefact_is_refused(given, message, monkeypatch, tmp_path):
    monkeypatch.setattr(Averaged, "artifacts", lambda self: given)
    with pytest.raises(ValueError, match=message):
        execute(config(EMA, "trainer.max_epochs=1"), Context(tmp_path))


def test_weights_that_nobody_puts_in_place_are_not_tested_as_if(monkeypatch, tmp_path):
    monkeypatch.setattr(Averaged, "finish_weights", PaperModule.finish_weights)
    cfg = config(EMA, "tested={ema: {weights: ema}}", "trainer.max_epochs=1")
    with pytest.raises(NotImplementedError, match="keeps the weights 'ema', but has no"):
        execute(cfg, Context(tmp_path))


def test_weights_are_hashed_before_they_are_made_ready(monkeypatch, tmp_path):
    """What a checkpoint holds can be checked without the data that statistics come from."""
    before, finish = [], Averaged.finish_weights

    def noted(self, name, data):
        assert not self.training
        assert not torch.is_grad_enabled()
        before.append(weights_sha256(self))
        finish(self, name, data)

    monkeypatch.setattr(Averaged, "finish_weights", noted)
    rows = "tested={ema: {weights: ema}}"
    outcome = execute(config(EMA, rows, "trainer.max_epochs=1"), Context(tmp_path))
    assert [outcome.weights_sha256] == before


def test_a_run_that_is_stopped_in_its_test_finishes_its_weights_as_if_it_were_not(
    several, tmp_path
):
    """The order of the batches that statistics come from is that of an epoch; so is the step."""
    cfg, outcome = several
    seen = []

    def asked():
        seen.append(1)
        return len(seen) > 6 + 1  # after six epochs and the first batch of the test

    with pytest.raises(Interrupted, match="in the test"):
        execute(cfg, Context(tmp_path / "1", IDENTITY, None, asked))
    again, resume, _ = attempt(cfg, tmp_path / "2", previous=[tmp_path / "1"])
    assert resume.fitted
    assert substance(again) == substance(outcome)


def test_a_module_is_told_the_epoch_and_step_of_the_weights_that_it_finishes(monkeypatch, tmp_path):
    told, finish = [], Averaged.finish_weights

    def noted(self, name, data):
        told.append((name, self.current_epoch, self.global_step))
        finish(self, name, data)

    monkeypatch.setattr(Averaged, "finish_weights", noted)
    rows = "tested={a: {epoch: best, weights: ema}, b: {}}"
    cfg = config(EMA, FAST, BEST, rows, "trainer.max_epochs=6")
    attempt(cfg, tmp_path / "whole")
    first = list(told)
    told.clear()
    attempt(cfg, tmp_path / "again", previous=[tmp_path / "whole"])
    assert told == first
    assert first[1] == (None, 6, 72)
    assert first[0][1] < 6


def test_an_average_of_an_early_epoch_is_that_of_the_run_that_ends_there(several, tmp_path):
    _, outcome = several
    rows = "tested={a: {epoch: best, weights: ema}}"
    early = execute(config(EMA, FAST, BEST, rows, "trainer.max_epochs=6"), Context(tmp_path / "1"))
    end = f"trainer.max_epochs={outcome.best_epoch + 1}"
    rows = "tested={a: {weights: ema}}"
    short = execute(config(EMA, FAST, rows, end), Context(tmp_path / "2"))
    assert values(early, "a") == values(short, "a")


def test_artefacts_are_those_of_the_first_row_whatever_is_loaded_after_it(several):
    _, outcome = several
    assert outcome.artifacts["average"]["count"] == 12 * (outcome.best_epoch + 1)


def test_weights_that_are_finished_by_doing_nothing_are_warned_of(monkeypatch, tmp_path):
    monkeypatch.setattr(Averaged, "finish_weights", lambda self, name, data: None)
    cfg = config(EMA, "tested={a: {weights: ema}}", "trainer.max_epochs=1")
    with pytest.warns(UserWarning, match=r"finish_weights\('ema'\) has changed nothing"):
        execute(cfg, Context(tmp_path))
