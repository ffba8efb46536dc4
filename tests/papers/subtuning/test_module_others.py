"""Active learning, Head2Toe and Auto-RGN as runs."""

from __future__ import annotations

import functools
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from retable.launch.rehearsal.rehearse import Setting, rehearse
from retable.papers.subtuning import head2toe, networks
from retable.papers.subtuning.augment import Flip
from retable.papers.subtuning.candidates import Recipe, SetTrainer, accuracy
from retable.papers.subtuning.margin import choose
from retable.papers.subtuning.module_surgical import AutoRGN
from retable.papers.subtuning.surgical import is_rated, relative_norms
from retable.training.execute import build
from retable.training.seeds import derive_seed
from support.subtuning import noisy_test, numbers, pretrained, ran, small, state_of
from support.training import attempt, stopped, substance

ACTIVE = (
    "data.n_train=40", "data.n_pool=100", "data.n_test=20", "model.budgets=[10,10,10]",
    "trainer.max_epochs=3", "model.epochs=1",
)  # fmt: skip


def pretrained_net():
    net = networks.network("resnet8", 10)
    weights = {k.removeprefix("net."): v for k, v in pretrained().weights.items()}
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def images_of(cfg):
    data, _ = build(cfg)
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def bought(tmp_path_factory):
    """By choice: a run, one that was stopped twice, and what is labelled after each budget."""
    found, start = {}, pretrained()
    for choice in ("margin", "random"):
        folder = tmp_path_factory.mktemp(choice)
        cfg = small("smoke_active", *ACTIVE, f"model.choice={choice}")
        whole = attempt(cfg, folder / "whole", start=start)[0]
        folders = stopped(cfg, folder, [1, 1], start=start)
        rest = attempt(cfg, folder / "rest", previous=folders, start=start)[0]
        states = [state_of(where) for where in (*folders[::-1], folder / "rest")]
        found[choice] = whole, rest, [state["labelled"] for state in states]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["margin", "random"])
def test_labels_are_bought_once_each_and_a_stop_changes_nothing(bought, choice):
    whole, rest, labelled = bought[choice]
    assert substance(rest) == substance(whole)
    # After the last budget nothing is bought: there are no more trainings.
    assert [int(mask.sum()) for mask in labelled] == [20, 30, 30]
    assert all(bool((before <= after).all()) for before, after in pairwise(labelled))
    found = [(r.step, r.value) for r in whole.results if r.metric == "active/accuracy"]
    rows = [(row["active/labels"], row["active/accuracy"]) for row in whole.history]
    assert [size for size, _ in rows] == [10, 20, 30]
    assert found == [(size, pytest.approx(value, abs=1e-6)) for size, value in rows]


@pytest.mark.slow
def test_what_is_bought_is_of_the_smallest_margins_of_a_training_on_what_was_labelled(bought):
    """Each time anew from the pretrained weights, computed here beside the run."""
    outcome, _, masks = bought["margin"]
    data = images_of(small("smoke_active", *ACTIVE))
    images, labels = data.train[:2]
    optimizer = functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.01)
    recipe = Recipe(1, 10, optimizer, augment=Flip())
    draws = torch.Generator().manual_seed(derive_seed(0, "first labels"))
    labelled = torch.zeros(40, dtype=torch.bool)
    labelled[torch.randperm(40, generator=draws)[:10]] = True
    values = []
    for k, after in enumerate(masks):
        chosen = labelled.nonzero()[:, 0]
        seed = derive_seed(0, "budget", k)
        sets = SetTrainer(pretrained_net(), images[chosen], labels[chosen], recipe, 10, seed)
        trained = sets.train((1,), torch.arange(len(chosen)))

        def logits(of, trained=trained, net=sets.net):
            return trained.part(net.before(of, trained.first)).detach()

        values.append(accuracy(logits(data.test[0]), data.test[1]))
        if k < 2:
            labelled[choose(logits(images).softmax(1), labelled, 10)] = True
        assert after.equal(labelled)
    assert values == [r.value for r in outcome.results]


@pytest.mark.slow
def test_random_choice_buys_other_labels_beside_the_same_first_ones(bought):
    one, _, margin = bought["margin"]
    other, _, by_chance = bought["random"]
    assert not margin[0].equal(by_chance[0])
    assert one.results[0] == other.results[0]
    assert int((margin[0] & by_chance[0]).sum()) >= 10


def test_the_test_set_buys_nothing(bought, tmp_path, monkeypatch):
    """Pitfall 7."""
    whole, _, labelled = bought["margin"]
    noisy_test(monkeypatch)
    other, noisy = ran(tmp_path / "other", "smoke_active", *ACTIVE, start=pretrained())
    assert noisy["labelled"].equal(labelled[-1])
    assert whole.results != other.results


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.budgets=[10,40]"], "model.budgets: 50 labels of model.n_pool=40"),
        (["model.n_pool=50"], "model.n_pool: 50, but there are 40 training images"),
        (["trainer.max_epochs=2"], "trainer.max_epochs: 2 for the 3 of model.budgets"),
    ],
)
def test_budgets_that_do_not_fit_are_refused_by_name(tmp_path, overrides, said):
    with pytest.raises(ValueError, match="model") as error:
        ran(tmp_path / "run", "smoke_active", *ACTIVE, *overrides)
    assert said in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smoke_active", "smoke_search", "smoke_head2toe"])
def test_a_rehearsal_leaves_what_works_on_all_images_at_once(name):
    [(_, found)] = rehearse([Setting(name, name, small(name))])
    assert (found.status, found.parameters) == ("left", 75290)
    assert "works on all images at once" in found.reason


@pytest.mark.slow
def test_head2toe_is_its_plain_functions_also_after_a_kill_in_the_test(tmp_path):
    cfg = small("smoke_head2toe", "model.size=8")
    start = pretrained()
    whole = attempt(cfg, tmp_path / "whole", start=start)[0]
    state = state_of(tmp_path / "whole")
    folders = stopped(cfg, tmp_path, [2], start=start)
    rest, resume, _ = attempt(cfg, tmp_path / "rest", previous=folders, start=start)
    assert resume.fitted
    assert substance(rest) == substance(whole)

    data, net = images_of(cfg), pretrained_net()
    images, labels = data.train[:2]
    found = head2toe.features(net, images, 64, 50, logits=False)
    draws = torch.Generator().manual_seed(derive_seed(0, "heads"))
    h = head2toe.joined(found)
    weight, _ = head2toe.fit_head(h, labels, 10, 1e-5, 0.01, 20, draws)
    chosen = head2toe.select(weight, 0.1).sort().values
    weight, bias = head2toe.fit_head(
        head2toe.joined(found, chosen), labels, 10, 0.0, 0.01, 20, draws
    )
    assert state["chosen"].equal(chosen)
    torch.testing.assert_close(state["weight"], weight)
    features = head2toe.features(net, data.test[0], 64, 50, logits=False)
    logits = head2toe.joined(features, chosen) @ weight + bias
    loss = float(F.cross_entropy(logits, data.test[1]))
    assert numbers(whole)["test/loss", ""] == pytest.approx(loss, rel=1e-4)
    assert numbers(whole)["test/accuracy", ""] == pytest.approx(accuracy(logits, data.test[1]))


@pytest.mark.slow
def test_rates_are_relative_gradient_norms_of_the_first_batches_of_an_epoch(tmp_path, monkeypatch):
    """Of the weights that the epoch begins with, in its own order; statistics have not moved."""
    seen = []
    plain = AutoRGN.on_train_epoch_start

    def noted(self):
        before = {k: v.clone() for k, v in self.net.state_dict().items()}
        plain(self)
        assert all(v.equal(before[k]) for k, v in self.net.state_dict().items())
        named = dict(self.net.named_parameters())
        gradients = []
        loader = self.trainer.datamodule.train_dataloader()
        for number, (images, labels) in enumerate(loader):
            if number < 2:
                self.net.zero_grad()
                F.cross_entropy(self.net(images), labels).backward()
                gradients.append({k: p.grad.clone() for k, p in named.items() if is_rated(k)})
        self.net.zero_grad()
        wanted = relative_norms(gradients, named)
        [optimizer] = self.trainer.optimizers
        groups = {id(p): g for g in optimizer.param_groups for p in g["params"]}
        seen.append({k: (groups[id(named[k])]["lr"], 0.01 * w) for k, w in wanted.items()})
        assert len(groups) == len(wanted)

    monkeypatch.setattr(AutoRGN, "on_train_epoch_start", noted)
    overrides = ["model.batches=2", "data.n_train=30"]
    start = pretrained()
    _, state = ran(tmp_path / "run", "smoke_rgn", *overrides, start=start)
    assert len(seen) == 2
    for rates in seen:
        assert [found for found, _ in rates.values()] == pytest.approx(
            [wanted for _, wanted in rates.values()], rel=1e-4
        )
        assert max(found for found, _ in rates.values()) == 0.01
    assert seen[0] != seen[1]
    still = {k for k, v in state.items() if v.equal(start.weights[k])}
    # Affine parameters of batch norm are not trained, its statistics are those of pretraining.
    assert still == {k for k in state if "bn" in k or k.startswith("net.stem.1.")}


def test_statistics_of_batches_move_by_training_alone(tmp_path):
    start = pretrained()
    _, state = ran(tmp_path / "run", "smoke_rgn", "model.batch_norm=train", start=start)
    key = "net.stem.1.num_batches_tracked"
    assert int(state[key] - start.weights[key]) == 4, "two epochs of two batches"


def test_a_frozen_head_is_neither_rated_nor_moved(tmp_path):
    start = pretrained()
    _, state = ran(tmp_path / "run", "smoke_rgn", "model.head=frozen", start=start)
    assert all(state[k].equal(start.weights[k]) for k in ("net.fc.weight", "net.fc.bias"))
    run = build(small("smoke_rgn", "model.head=frozen"))[1]
    assert {k for k in run.rated() if k.startswith("fc")} == set()
    assert len(run.optimized()) == len(run.rated()) > 0


@pytest.mark.slow
def test_the_optimiser_begins_anew_at_every_epoch_or_not(tmp_path):
    """The first epoch is the same; after a stop each goes on with the same bits."""
    ends = []
    for renewed in (True, False):
        cfg = small("smoke_rgn", f"model.renewed={renewed}")
        folder = tmp_path / str(renewed)
        whole = attempt(cfg, folder / "whole", start=pretrained())[0]
        folders = stopped(cfg, folder, [1], start=pretrained())
        rest = attempt(cfg, folder / "rest", previous=folders, start=pretrained())[0]
        assert substance(rest) == substance(whole)
        file = folder / "whole" / "checkpoints" / "epoch=000002.ckpt"
        [optimizer] = torch.load(file, weights_only=False)["optimizer_states"]
        assert {int(s["step"]) for s in optimizer["state"].values()} == {2 if renewed else 4}
        ends.append(whole)
    assert ends[0].history[0] == ends[1].history[0]
    assert ends[0].weights_sha256 != ends[1].weights_sha256
