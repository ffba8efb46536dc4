"""Fine-tuning of some blocks in the harness: what is frozen stays as it is, what is tuned moves."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from retable.nets.resnet import CifarResNet
from retable.papers.base import Start
from retable.papers.subtuning.module import FineTune
from retable.training.execute import build
from retable.util.errors import UserError
from support.subtuning import noisy_test, numbers, pretrained, ran, small, state_of
from support.training import attempt, stopped, substance

MIRROR = os.environ.get("RETABLE_MIRROR")


def module(*overrides):
    return build(small("smoke", *overrides))[1]


def moved(start, state):
    """Names of what is not bit-identical to what the run has started from."""
    return {
        k.removeprefix("net.")
        for k, v in state.items()
        if k.startswith("net.") and not torch.equal(v, start.weights[k])
    }


def within(start, *parts, statistics=True):
    names = [k.removeprefix("net.") for k in start.weights]
    names = [k for k in names if statistics or ("running" not in k and "num_batches" not in k)]
    return {k for k in names if k.startswith(parts)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model.blocks=[2]"], ("blocks.1.", "fc.")),
        (["model.blocks=stage3", "model.head=frozen"], ("blocks.2.",)),
        (["model.blocks=[1,3]", "model.stem=true"], ("stem.", "blocks.0.", "blocks.2.", "fc.")),
        (["model.blocks=none", "model.head=kept"], ("fc.",)),
    ],
    ids=str,
)
def test_after_two_epochs_with_validation_only_what_is_tuned_has_other_bits(
    tmp_path, overrides, parts
):
    """Statistics included, whatever mode Lightning sets or restores (pitfalls 1, 3 and 4)."""
    start = pretrained()
    outcome, state = ran(tmp_path / "run", "smoke", *overrides, start=start)
    assert moved(start, state) == within(start, *parts)
    assert {"val/accuracy", "train/loss"} <= outcome.history[1].keys()
    counters = {k: int(v - start.weights[k]) for k, v in state.items() if k.endswith("tracked")}
    tuned = {k: n for k, n in counters.items() if k.removeprefix("net.").startswith(parts)}
    assert {*tuned.values()} <= {4}, "two epochs of two batches"
    size, whole = (
        sum(start.weights[f"net.{k}"].numel() for k in within(start, *some, statistics=False))
        for some in (parts, ("",))
    )
    found = numbers(outcome)
    assert found["tuned/parameters", ""] == size
    assert found["tuned/share", ""] == pytest.approx(size / whole)


def test_statistics_of_tuned_blocks_move_with_batch_norm_train_alone(tmp_path):
    """Pitfall 2: kept as they are it is another method."""
    start = pretrained()
    _, state = ran(
        tmp_path / "run", "smoke", "model.blocks=[2]", "model.batch_norm=eval", start=start
    )
    assert moved(start, state) == within(start, "blocks.1.", "fc.", statistics=False)


def test_modes_are_set_at_the_start_of_every_epoch(tmp_path, monkeypatch):
    """Pitfall 3, at every training step: with a validation between the epochs."""
    seen = []
    plain = FineTune.shared_step

    def noted(self, batch):
        modes = {n for n, m in self.net.named_modules() if m.training}
        seen.append((self.trainer.training, modes))
        return plain(self, batch)

    monkeypatch.setattr(FineTune, "shared_step", noted)
    ran(tmp_path / "run", "smoke", "model.blocks=[2]")
    own = {n for n, _ in module().net.named_modules() if f"{n}.".startswith("blocks.1.")}
    assert [modes for training, modes in seen if training] == [own] * 4
    assert {len(modes) for training, modes in seen if not training} == {0}


def test_only_what_is_tuned_is_given_to_the_optimiser():
    """Pitfall 4: no weight decay of frozen tensors."""
    net = module("model.blocks=[3]")
    [group] = net.configure_optimizers()["optimizer"].param_groups
    wanted = [*net.net.blocks[2].parameters(), *net.net.fc.parameters()]
    assert {id(p) for p in group["params"]} == {id(p) for p in wanted}


def test_the_test_set_changes_nothing_but_the_test(tmp_path, monkeypatch):
    """Pitfall 7."""
    one, _ = ran(tmp_path / "one", "smoke", "trainer.max_epochs=1")
    noisy_test(monkeypatch)
    other, _ = ran(tmp_path / "other", "smoke", "trainer.max_epochs=1")
    assert one.history == other.history
    assert one.weights_sha256 == other.weights_sha256
    assert numbers(one)["test/loss", ""] != numbers(other)["test/loss", ""]


def test_all_blocks_are_the_set_of_all(tmp_path):
    """Pitfall 9, bit for bit."""
    one, _ = ran(tmp_path / "one", "smoke", "trainer.max_epochs=1", start=pretrained())
    other, _ = ran(
        tmp_path / "other",
        "smoke",
        "trainer.max_epochs=1",
        "model.blocks=[3,1,2]",
        start=pretrained(),
    )
    assert substance(one) == substance(other)


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_the_cosine_is_stepped_once_an_epoch_so_the_last_one_has_a_rate(
    tmp_path, monkeypatch, interval
):
    """Pitfall 14: with T_max = 4 epochs; by steps the same T_max gives other rates."""
    rates = []
    monkeypatch.setattr(
        FineTune, "on_train_batch_start",
        lambda self, *_: rates.append(self.trainer.optimizers[0].param_groups[0]["lr"]),
        raising=False,
    )  # fmt: skip
    overrides = ["trainer.max_epochs=4", "model.scheduler.T_max=4"]
    ran(tmp_path / "run", "smoke", *overrides, f"model.scheduler_interval={interval}")
    steps = [t // 2 if interval == "epoch" else t for t in range(8)]
    wanted = [0.01 * (1 + math.cos(math.pi * t / 4)) / 2 for t in steps]
    assert rates == pytest.approx(wanted, abs=1e-9)


def chosen(*blocks):
    return {"chosen": torch.tensor([i in blocks for i in range(3)]), "steps": torch.tensor(blocks)}


@pytest.mark.slow
def test_found_is_the_set_of_the_search(tmp_path):
    """The same bits as with the set's numbers, also after a stop."""
    start = pretrained(search=chosen(0, 2))
    named, _ = ran(tmp_path / "named", "smoke", "model.blocks=[1,3]", start=start)
    cfg = small("smoke", "model.blocks=found")
    folders = stopped(cfg, tmp_path / "found", [1], start=start)
    rest = attempt(cfg, tmp_path / "rest", previous=folders, start=start)[0]
    assert substance(rest) == substance(named)


def test_found_without_a_choice_is_refused_by_name(tmp_path):
    net = module("model.blocks=found")
    for artifacts in ({}, {"search": {"map": torch.zeros(3, 3)}}):
        with pytest.raises(UserError, match=r"model\.blocks: found, .* chosen none; .*greedy"):
            net.take_start(Start({}, artifacts))
    with pytest.raises(UserError, match=r"model\.blocks: found, but start is empty"):
        ran(tmp_path / "run", "smoke", "model.blocks=found")


def test_the_blocks_of_a_stage():
    assert module("model.blocks=stage2", "model.network=resnet20").tuned == (3, 4, 5)
    assert module("model.blocks=none").tuned == ()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.blocks=[4]"], "model.blocks: 4, but resnet8 has 3 blocks"),
        (["model.blocks=stage4"], "model.blocks: stage4, but resnet8 has 3 stages"),
        (["model.siamese=true", "model.head=kept"], "model.head: kept is not possible with siam"),
        (["model.blocks=[1]", "model.rank=2"], "model.rank: LoRA is for the blocks of a ViT"),
        (["model.network=vit_tiny", "model.pruned=0.5"], "model.pruned: channels of ResNets"),
        (["model.blocks=none", "model.head=frozen"], "model.head: frozen, with model.blocks: none"),
    ],
)
def test_what_cannot_be_is_refused_by_name(overrides, said):
    with pytest.raises(Exception, match=r"model\.") as error:
        module(*overrides).configure_optimizers()
    assert said in str(error.value)


VARIANTS = {
    "plain": [],
    "pruned": ["model.pruned=0.5"],
    "reinitialised": ["model.reinitialised=true"],
    "siamese": ["model.siamese=true", "model.channels_last=true"],
    "rank": ["model.network=vit_tiny", "model.size=32", "model.rank=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_bits_after_a_stop_and_after_a_kill_in_the_test(tmp_path, variant):
    """Stopped after the first epoch, then when fitted, at the first batch of the test."""
    overrides = VARIANTS[variant]
    start = pretrained("vit_tiny" if variant == "rank" else "resnet8")
    cfg = small("smoke", "model.blocks=[2]", *overrides)
    whole = attempt(cfg, tmp_path / "whole", start=start)[0]
    folders = stopped(cfg, tmp_path, [1, 2], start=start)
    rest, resume, _ = attempt(cfg, tmp_path / "rest", previous=folders, start=start)
    assert resume.fitted
    assert substance(rest) == substance(whole)
    state = state_of(tmp_path / "whole")
    own = {k: v for k, v in start.weights.items() if not k.startswith("net.blocks.1.")}
    if variant == "siamese":
        assert state["net.fc.weight"].shape == (10, 128)
        for which, wanted in (("frozen", set()), ("tuned", within(start, "blocks.1."))):
            kept = within(start, "stem.", "blocks.")
            own = {k: state[f"net.{which}.{k}"] for k in kept}
            assert {k for k, v in own.items() if not v.equal(start.weights[f"net.{k}"])} == wanted
    elif variant == "pruned":
        assert state["net.fc.weight"].shape == (10, 32)
    else:
        same = {k for k, v in own.items() if torch.equal(state[k], v)}
        assert same == {k for k in own if not k.startswith("net.fc.")}
    if variant == "rank":
        attention = state["net.blocks.1.self_attention.frozen.in_proj_weight"]
        assert attention.equal(start.weights["net.blocks.1.self_attention.in_proj_weight"])
        assert state["net.blocks.1.self_attention.b_qkv.weight"].any()


def test_a_block_drawn_anew_is_not_the_pretrained_one():
    start = pretrained()
    for drawn in (False, True):
        net = module("model.blocks=[2]", f"model.reinitialised={drawn}")
        net.take_start(start)
        state = net.net.state_dict()
        others = {k for k in state if not torch.equal(state[k], start.weights[f"net.{k}"])}
        assert ("blocks.1.conv1.weight" in others) == drawn
        assert {k.split(".")[1] for k in others if k.startswith("blocks")} <= {"1"}


def test_weights_that_are_taken_have_the_memory_format_asked_for():
    net = module("model.channels_last=true")
    net.take_start(pretrained())
    weight = net.net.blocks[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(MIRROR is None, reason="RETABLE_MIRROR is not set")
def test_a_kept_head_on_real_weights_is_the_pretrained_network():
    """Before training the logits are the public network's; a new head's are not."""
    file = Path(str(MIRROR)) / "weights" / "cifar10_resnet20-12fca82f.th"
    given = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    public = CifarResNet(20)
    own = {k.removeprefix("module.").replace("linear.", "fc."): w for k, w in given.items()}
    public.load_state_dict(own)
    public.eval()
    images = torch.randn(4, 3, 32, 32)
    start = Start({f"state_dict.{k}": w for k, w in given.items()})
    for head in ("kept", "new"):
        net = module("model.network=resnet20", "model.blocks=none", f"model.head={head}").eval()
        net.take_start(start)
        net.eval()
        with torch.no_grad():
            same = torch.allclose(net.net(images), public(images), atol=1e-5)
        assert same == (head == "kept")
