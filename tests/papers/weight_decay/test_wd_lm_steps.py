"""One step of a language model: what is decayed, by how much, at which rate, how precisely."""

from __future__ import annotations

import itertools
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from retable.nets.gpt import GPT
from retable.papers.weight_decay.language import LanguageModel, norm_of
from retable.papers.weight_decay.schedule import rate
from retable.util.errors import UserError

ADAMW = partial(torch.optim.AdamW, betas=(0.9, 0.95))


def small():
    torch.manual_seed(0)
    return GPT(vocabulary=7, context=5, layers=2, heads=2, width=8)


def model(optimizer=ADAMW, **options):
    return LanguageModel(seed=0, net=small(), lr=0.01, optimizer=optimizer, **options)


def in_trainer(module, **trainer):
    data = SimpleNamespace(floor=None, context=5, vocabulary=7, iterations=4)
    given = {"max_epochs": 1, "accumulate_grad_batches": 1, "global_step": 0, "datamodule": data,
             "num_training_batches": 4}  # fmt: skip
    module._trainer = SimpleNamespace(**given, **trainer)
    module._fabric = None
    return module


def test_what_is_decayed_goes_by_names():
    module = model(decay=0.1)
    decayed, rest = module.optimized()
    names = {id(p): name for name, p in module.net.named_parameters()}
    assert {names[id(p)].rpartition(".")[0].rpartition(".")[2] for p in rest["params"]} == {
        "ln_1", "ln_2", "ln_f",
    }  # fmt: skip
    of_a_block = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    wanted = ["wte", "wpe", *(f"h.{k}.{part}" for k in (0, 1) for part in of_a_block)]
    # The output layer is the embedding: it is there once, so that it is decayed once.
    assert sorted(names[id(p)] for p in decayed["params"]) == sorted(f"{n}.weight" for n in wanted)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    [everything] = model(decay=0.1, decay_on="all").optimized()
    assert len(everything["params"]) == len(names)
    assert model(decay=0.1, decay_times=2.5).optimized()[0]["weight_decay"] == 0.25


@pytest.mark.parametrize("decay_on", ["matrices", "all"])
def test_without_a_gradient_decay_is_a_factor(decay_on):
    module = model(decay=0.5, decay_on=decay_on)
    optimizer = module.configure_optimizers()
    before = {n: p.detach().clone() for n, p in module.net.named_parameters()}
    for _ in range(3):
        for p in module.net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for name, p in module.net.named_parameters():
        expected = before[name]
        for _ in range(0 if "ln_" in name and decay_on == "matrices" else 3):
            expected = expected * (1 - 0.01 * 0.5)
        assert torch.equal(p, expected), name
    gains = [p for n, p in module.net.named_parameters() if "ln_" in n]
    assert all(bool(p.eq(1).all()) is (decay_on == "matrices") for p in gains)


def test_an_l2_penalty_is_no_such_factor_and_is_not_in_the_loss():
    module = in_trainer(model(l2=0.5), current_epoch=0, is_last_batch=False, testing=False)
    optimizer = module.configure_optimizers()
    batch = torch.randint(7, (2, 5)), torch.randint(7, (2, 5))
    minimised = module.training_step(batch, 0)
    plain = in_trainer(model()).shared_step(batch)
    decayed = module.decayed()
    penalty = 0.5 * sum(p.detach().square().sum() for p in decayed)
    cross_entropy = plain.loss.detach()
    assert torch.allclose(minimised, cross_entropy + penalty)
    values = module._meters["train"].close({})
    assert float(values["loss"]) == pytest.approx(float(cross_entropy))  # cross-entropy alone
    assert float(values["penalty"]) == pytest.approx(float(penalty))
    assert not module.eval().shared_step(batch).logs
    # Adam takes the size out of it: the first step is the rate, whatever a weight is.
    before = [p.detach().clone() for p in decayed]
    for p in decayed:
        p.grad = 2 * 0.5 * p.detach()
    optimizer.step()
    for p, old in zip(decayed, before, strict=True):
        large = old.abs() > 1e-3  # beside Adam's eps
        assert torch.allclose(p[large], (old - 0.01 * old.sign())[large], atol=1e-6)


def test_the_ends_of_the_schedule():
    paper = partial(rate, lr=6e-4, min_lr=6e-5, warmup=400, horizon=50_000)
    assert [paper(t) for t in (0, 200, 400, 50_000, 60_000)] == [0, 3e-4, 6e-4, 6e-5, 6e-5]
    assert paper(25_200) == pytest.approx(3.3e-4)
    falls = [paper(t) for t in range(400, 50_001, 100)]
    assert all(a > b for a, b in itertools.pairwise(falls))
    # What the reduced protocol's lambda is scaled to.
    assert 0.1 * sum(map(paper, range(50_000))) == pytest.approx(1.649, abs=1e-3)
    reduced = partial(rate, lr=6e-3, min_lr=6e-4, warmup=100, horizon=2000)
    assert 0.251 * sum(map(reduced, range(2000))) == pytest.approx(1.649, abs=1e-3)
    assert rate(0, lr=1e-5, min_lr=1e-5, warmup=0, horizon=0) == 1e-5


def follow(eta, decay, steps, seed=0):
    """Plain steps along gradients of a function of w / ||w||, at the rate ``eta(t, w)``; norms and
    directions."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(20, generator=generator, dtype=torch.float64)
    a = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    norms, directions = [], []
    for t in range(steps):
        norms.append(float(w.norm()))
        u, step = w / w.norm(), eta(t, w)
        g = a @ u
        tangent = (g - (g @ u) * u) / g.norm()  # sign-like: its size does not depend on w
        w = w * (1 - step * decay) - step * tangent
        directions.append(w / w.norm())
    return norms, directions


def matched_rates(norms):
    """The rate that a model which follows these norms, at 0.05 throughout, sets for w."""
    module = in_trainer(model(match=True))
    followed = {
        "norm": torch.tensor(norms, dtype=torch.float64), "rate": torch.full((len(norms),), 0.05),
    }  # fmt: skip
    module.take_start(SimpleNamespace(artifacts={"norms": followed}, weights={}))

    def eta(t, w):
        module.trainer.global_step = t
        optimizer = SimpleNamespace(param_groups=[{"params": [w]}])
        module.on_before_optimizer_step(optimizer)
        return optimizer.param_groups[0]["lr"]

    return eta


def test_matching_the_effective_rate_gives_the_direction_to_first_order():
    """(1 - a) w - eta v points as w - eta / (1 - a) v: matching is off by a = eta lambda."""
    off = []
    for decay in (0.1, 0.05, 0.025):
        norms, wanted = follow(lambda t, w: 0.05, decay, 200)
        _, found = follow(matched_rates(norms), 0.0, 200)
        _, plain = follow(lambda t, w: 0.05, 0.0, 200)
        off.append(float((found[-1] - wanted[-1]).norm()))
        assert off[-1] < 0.1 * float((plain[-1] - wanted[-1]).norm())
    assert off[0] / off[1] == pytest.approx(2, rel=0.2)
    assert off[1] / off[2] == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("match_rest", [False, True])
def test_the_matched_rate_is_what_the_followed_run_says(match_rest):
    module = in_trainer(model(match=True, match_rest=match_rest))
    norms = {"norm": torch.tensor([2.0, 4.0]), "rate": torch.tensor([0.0, 0.3])}
    module.take_start(SimpleNamespace(artifacts={"norms": norms}, weights={}))
    optimizer = module.configure_optimizers()
    for t, eta in enumerate((0.0, 0.3)):
        module.trainer.global_step = t
        module.on_before_optimizer_step(optimizer)
        own = float(norm_of(module.decayed()))
        expected = eta * own / (2.0, 4.0)[t]
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [expected, expected if match_rest else eta]
        )
    assert module.norms.gather()["norm"].tolist() == pytest.approx([own, own])


def test_the_norm_is_global():
    parts = [torch.full((2, 2), 3.0), torch.full((3,), 2.0), torch.tensor([-1.0])]
    assert float(norm_of(parts)) == pytest.approx((4 * 9 + 3 * 4 + 1) ** 0.5)


def test_sums_that_bfloat16_loses():
    one = torch.tensor(1.0, dtype=torch.bfloat16)
    assert float(one + 1e-3) == 1.0  # the next number is 2^-7 away
    assert float(one + 2.0**-7) > 1.0
    assert float(torch.tensor(0.1, dtype=torch.bfloat16) + 1e-3) > 0.1001
    assert float(torch.tensor(1.0) + 1e-3) > 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"match": True, "decay": 0.1}, r"model\.match: takes no decay, no l2 and no snapshot"),
        ({"match": True, "snapshot": 0.2}, r"model\.match: takes no decay"),
        ({"min_lr": 0.001, "warmup": 5}, r"model\.horizon: has to be after the warm-up, 5, not 0"),
    ],
)
def test_options_that_contradict_each_other(options, said):
    with pytest.raises(UserError, match=said):
        model(**options)


def test_start_and_data_that_do_not_fit():
    with pytest.raises(UserError, match=r"has left no artefact 'norms' \(left: \['cosines'\]\)"):
        model(match=True).take_start(SimpleNamespace(artifacts={"cosines": {}}, weights={}))
    kept = model(snapshots=[20, 100]).state_dict()
    with pytest.raises(UserError, match=r"nothing at 30 % of its epochs; kept: \[20, 100\]"):
        model(snapshot=0.3).take_start(SimpleNamespace(artifacts={}, weights=kept))
    module = in_trainer(model(snapshots=[50]))
    with pytest.raises(UserError, match=r"50 % of 1 epochs is no whole number; 1 epochs are"):
        module.on_fit_start()
    module = in_trainer(model())
    for name, found in (("context", 6), ("vocabulary", 8)):
        setattr(module.trainer.datamodule, name, found)
        with pytest.raises(UserError, match=rf"model\.net\.{name}: is .*, the data needs {found}"):
            module.on_fit_start()
        setattr(module.trainer.datamodule, name, 5)
    module = in_trainer(model(match=True))
    norms = {"norm": torch.ones(3), "rate": torch.ones(3)}
    module.take_start(SimpleNamespace(artifacts={"norms": norms}, weights={}))
    with pytest.raises(UserError, match=r"has 3 iterations, 4 are needed"):
        module.on_train_start()
