"""Runs in the harness: what they record, chains of them, precision, and stops."""

from __future__ import annotations

import math

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.weight_decay.schedule import rate
from retable.papers.weight_decay.text import Batches
from retable.papers.weight_decay.text_markov import MarkovText
from retable.training.checkpointing import find_resume
from retable.training.execute import Context, Interrupted, build, execute
from retable.training.start import Start
from support.training import IDENTITY, substance

pytestmark = pytest.mark.slow

PLAIN = (
    "trainer.max_epochs=1",
    "trainer.gradient_clip_val=null",
    "model.warmup=0",
    "model.horizon=4",
)


def config(experiment, *overrides, seed=0):
    with hydra_ready():
        made = compose([f"experiment=weight_decay/{experiment}", f"seed={seed}", *overrides])
    return made.model_dump(mode="json")


def attempt(cfg, folder, start=None, previous=(), should_stop=None):
    folder.mkdir(parents=True, exist_ok=True)
    resume = find_resume(previous, IDENTITY, pytest.fail)
    return execute(cfg, Context(folder, IDENTITY, resume, should_stop, start=start))


def left(outcome, folder):
    """What a child begins with: as the harness reads it, from the last checkpoint."""
    found = find_resume([folder], IDENTITY, pytest.fail)
    return Start(found.weights, outcome.artifacts, found.history)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    outcome = attempt(config("lm_smoke_const", "model.decay=0.5"), folder)
    return outcome, left(outcome, folder)


def test_what_a_run_records(parent):
    outcome, _ = parent
    found = {r.metric: r.value for r in outcome.results}
    assert set(found) == {"test/loss", "test/excess", "test/train_loss", "test/gap"}
    data, module = build(config("lm_smoke_const"))
    assert found["test/excess"] == pytest.approx(found["test/loss"] - data.floor, abs=1e-6)
    assert found["test/gap"] == pytest.approx(found["test/loss"] - found["test/train_loss"])
    stages = {f"{s}/{m}" for s in ("train", "val") for m in ("loss", "excess")}
    assert set(outcome.history[0]) == {"epoch", "train/norm", "train/rate", *stages}
    assert len(outcome.history) == 5
    norms = outcome.artifacts["norms"]
    assert norms["rate"].tolist() == [
        rate(t, lr=module.lr, min_lr=module.lr, warmup=4, horizon=20) for t in range(20)
    ]
    assert norms["norm"][19] == outcome.history[4]["train/norm"]
    begin = math.sqrt(sum(float(p.detach().square().sum()) for p in module.decayed()))
    assert float(norms["norm"][0]) == pytest.approx(begin, rel=1e-5)
    assert float(norms["norm"][1]) == float(norms["norm"][0])  # the first rate is 0
    assert set(outcome.artifacts) == {"norms"}


def test_a_stopped_run_with_snapshots_is_the_run_that_was_not(parent, tmp_path):
    outcome, _ = parent
    cfg = config("lm_smoke_const", "model.decay=0.5")
    asked = iter(range(2))
    with pytest.raises(Interrupted):
        attempt(cfg, tmp_path / "1", should_stop=lambda: next(asked, None) is None)
    resumed = attempt(cfg, tmp_path / "2", previous=[tmp_path / "1"])
    assert substance(resumed) == substance(outcome)
    same(resumed.artifacts, outcome.artifacts)
    # Killed in the test: the fit is not done again, what it has left is there all the same.
    again = attempt(cfg, tmp_path / "3", previous=[tmp_path / "2"])
    assert substance(again) == substance(outcome)
    same(again.artifacts, outcome.artifacts)


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, arrays in wanted.items():
        assert found[name].keys() == arrays.keys()
        assert all(torch.equal(found[name][key], array) for key, array in arrays.items())


def test_a_child_begins_with_the_snapshot_that_it_names(parent):
    _, start = parent
    for percent in (40, 100):
        _, module = build(config("lm_smoke_const_tiny", f"model.snapshot={percent / 100}"))
        module.take_start(start)
        taken = kept(start, percent)
        assert all(torch.equal(p, taken[name]) for name, p in module.net.named_parameters())
        assert module.net.lm_head.weight is module.net.wte.weight
        assert not module.snapshots.state_dict()  # the parent's
        assert not len(module.norms.gather()["norm"])
    assert not torch.equal(kept(start, 40)["wte.weight"], kept(start, 100)["wte.weight"])
    _, last = build(config("lm_smoke_tiny"))
    last.take_start(start)
    assert torch.equal(last.net.wte.weight, module.net.wte.weight)


def test_a_tiny_rate_goes_on_from_there_on_other_batches(parent, tmp_path):
    _, start = parent
    cfg = config("lm_smoke_const_tiny")
    outcome = attempt(cfg, tmp_path, start)
    _, begun = build(cfg)
    begun.take_start(start)
    assert outcome.artifacts["norms"]["rate"].tolist() == [1e-4] * 8
    assert float(outcome.artifacts["norms"]["norm"][0]) == pytest.approx(
        math.sqrt(sum(float(p.detach().square().sum()) for p in begun.decayed())), rel=1e-6
    )
    own, parents = (build(config(name))[0] for name in ("lm_smoke_const_tiny", "lm_smoke_const"))
    [mine, theirs] = (next(iter(data.train_dataloader())) for data in (own, parents))
    assert not torch.equal(mine[0], theirs[0])


def kept(start, percent):
    before = f"snapshots.kept.{percent}."
    return {k.removeprefix(before): w for k, w in start.weights.items() if k.startswith(before)}


def test_a_matched_child_follows_norms_and_is_resumed_to_the_bit(tmp_path):
    cfg = config("lm_smoke", "model.decay=20")
    outcome = attempt(cfg, tmp_path / "parent")
    start = left(outcome, tmp_path / "parent")
    child = config("lm_smoke_match")
    whole = attempt(child, tmp_path / "whole", start)
    followed, own = outcome.artifacts["norms"], whole.artifacts["norms"]
    assert torch.allclose(own["rate"] / own["norm"], followed["rate"] / followed["norm"].double())
    assert own["norm"][0] == followed["norm"][0]  # initial weights and batches are the parent's
    assert whole.history[0]["train/loss"] == pytest.approx(outcome.history[0]["train/loss"], 1e-3)
    assert float(own["norm"][-1]) > float(followed["norm"][-1])
    with pytest.raises(Interrupted):
        attempt(child, tmp_path / "1", start, should_stop=lambda: True)
    assert substance(attempt(child, tmp_path / "2", start, [tmp_path / "1"])) == substance(whole)


@pytest.mark.parametrize("parts", [4, 32])
def test_a_batch_in_parts_is_the_batch(parts, tmp_path, monkeypatch):
    """The harness divides by the parts: a batch of 32 is that of 4 x 8, in double precision. SGD
    without clipping, as Adam would not see a factor."""
    plain = "+model.l2=0.1", "trainer.precision=64-true", *PLAIN
    whole = attempt(config("lm_smoke_sgd", "data.batch_size=32", *plain), tmp_path / "whole")

    class Parts:
        def __init__(self, data):
            self.whole = Batches(data.draw(False), 4, 32, data._seed)

        def __len__(self):
            return parts * len(self.whole)

        def __iter__(self):
            for tokens, targets in self.whole:
                yield from zip(tokens.chunk(parts), targets.chunk(parts), strict=True)

    monkeypatch.setattr(MarkovText, "train_dataloader", lambda self: Parts(self))
    split = f"data.batch_size={32 // parts}", f"data.iterations={4 * parts}"
    accumulated = f"trainer.accumulate_grad_batches={parts}"
    found = attempt(config("lm_smoke_sgd", *plain, *split, accumulated), tmp_path / "parts")
    assert len(found.artifacts["norms"]["norm"]) == len(whole.artifacts["norms"]["norm"]) == 4
    norms = (outcome.artifacts["norms"]["norm"] for outcome in (found, whole))
    torch.testing.assert_close(*norms, rtol=1e-6, atol=0)
    for key in ("train/loss", "train/penalty", "val/loss"):
        assert found.history[0][key] == pytest.approx(whole.history[0][key], rel=1e-6), key


def test_in_bfloat16_weights_and_state_are_single(tmp_path):
    cfg = config("lm_smoke_bf16", "trainer.max_epochs=1")
    seen = {}
    _, module = build(cfg)
    step = type(module).shared_step

    def watched(self, batch):
        hook = self.net.h[0].mlp.c_fc.register_forward_hook(
            lambda *given: seen.update(matrix=given[2].dtype)
        )
        out = step(self, batch)
        hook.remove()
        seen.update(weights={p.dtype for p in self.parameters()}, loss=out.loss.dtype)
        if self.training:
            [optimizer] = self.trainer.optimizers
            seen.update(state={v["exp_avg"].dtype for v in optimizer.state.values()})
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(module), "shared_step", watched)
        attempt(cfg, tmp_path)
    single = {torch.float32}
    assert seen == {
        "matrix": torch.bfloat16, "weights": single, "state": single, "loss": torch.float32,
    }  # fmt: skip


def test_the_papers_protocol():
    cfg = config("lm_openwebtext")
    data, model, trainer = cfg["data"], cfg["model"], cfg["trainer"]
    every = trainer["accumulate_grad_batches"]
    assert (data["batch_size"] * every, data["context"]) == (256, 256)
    assert data["iterations"] == 200 * every
    assert trainer["max_epochs"] * 200 == model["horizon"] == 50_000
    assert (model["lr"], model["min_lr"], model["warmup"]) == (6e-4, 6e-5, 400)
    assert model["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert model["optimizer"]["betas"] == [0.9, 0.95]
    assert (trainer["gradient_clip_val"], trainer["precision"]) == (1.0, "bf16-mixed")
    tiny = config("lm_openwebtext_tiny")
    assert (tiny["model"]["lr"], tiny["trainer"]["max_epochs"] * 200) == (1e-5, 10_000)
