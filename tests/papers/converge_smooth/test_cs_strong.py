"""APGD-CE and AutoAttack by their library, and that a run goes on as without them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retable.papers.converge_smooth import strong
from retable.papers.converge_smooth.evaluation import survivors
from retable.papers.converge_smooth.strong import STANDARD, StronglyTested, installed, unbroken
from retable.training.execute import build
from retable.util.errors import UserError
from support.training import attempt, config

pytestmark = pytest.mark.skipif(not installed(), reason="needs the extra converge-smooth")
SMOKE = "converge_smooth/smoke"


@pytest.fixture(scope="module")
def linear():
    """Four classes that a dense layer tells apart, images from the middle of the range."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(4, 12, generator=generator) / 4)
        net[1].bias.zero_()
    images = 0.3 + 0.4 * torch.rand(48, 3, 2, 2, generator=generator)
    return net, images, net(images).argmax(1)


def least_budget(net, images, labels):
    """Budget from which a linear network errs: the gap of two logits by their weights' distance."""
    weight, logits = net[1].weight, net(images)
    gaps = logits.gather(1, labels[:, None]) - logits
    rates = (weight[labels][:, None] - weight).abs().sum(2)
    return torch.where(rates > 0, gaps / rates.clamp(min=1e-9), torch.inf).min(1).values


def test_a_linear_network_falls_as_far_as_it_can_and_nothing_else_changes(linear):
    net, images, labels = linear
    budget = 0.05
    exact = least_budget(net, images, labels) > budget
    net[1].bias.requires_grad_(False)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    torch.set_deterministic_debug_mode("error")
    try:
        found = unbroken(net, images, labels, budget=budget, seed=3)
        assert torch.get_deterministic_debug_mode() == 2
    finally:
        torch.set_deterministic_debug_mode("default")
    assert list(found) == list(STANDARD)
    counts = [int(found[name].sum()) for name in STANDARD]
    assert counts == sorted(counts, reverse=True)
    # Targeted steps find the nearest other class; those on cross-entropy not always.
    assert torch.equal(found["square"], exact)
    assert 0 < counts[-1] < counts[0] < len(images)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [p.requires_grad for p in net.parameters()] == [True, False]
    assert all(p.grad is None for p in net.parameters())
    draws = torch.Generator().manual_seed(0)
    own = survivors(net, images, labels, draws, budget=budget, step=budget / 4, after=[50])[50]
    assert abs(int(own.sum()) - counts[0]) <= 1


def test_what_is_wrong_already_is_not_attacked(linear):
    net, images, labels = linear
    wrong = (labels + 1) % 4
    found = unbroken(net, images[:4], wrong[:4], budget=0.01, seed=0)
    assert not any(mask.any() for mask in found.values())


def test_a_network_with_the_channels_last_is_attacked(linear):
    dense, images, labels = linear
    net = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten()).eval()
    with torch.no_grad():
        net[0].weight.copy_(dense[1].weight.view(4, 3, 2, 2))
        net[0].bias.zero_()
    net = net.to(memory_format=torch.channels_last)
    last = images.to(memory_format=torch.channels_last)
    found = unbroken(net, last, labels, budget=0.05, seed=3)
    assert torch.equal(found["square"], least_budget(dense, images, labels) > 0.05)


def test_a_missing_library_is_said_before_a_run(monkeypatch):
    monkeypatch.setattr(strong, "installed", lambda: False)
    with pytest.raises(UserError, match="pyautoattack: install the extra 'converge-smooth'"):
        build(config("model.autoattack=1", experiment=SMOKE))
    build(config(experiment=SMOKE))  # without it nothing is needed


@pytest.mark.slow
def test_both_weights_of_a_run_are_attacked_and_the_rest_of_it_stays(tmp_path):
    short = ["trainer.max_epochs=2", "model.smoothing.phases=[0,2]"]
    plain, *_ = attempt(config(*short, experiment=SMOKE), tmp_path / "plain")
    tested = config(*short, "model.autoattack=1", experiment=SMOKE)
    found, *_ = attempt(tested, tmp_path / "strong")
    rest = [r for r in found.results if r.metric not in {"test/apgd_ce", "test/autoattack"}]
    assert rest == plain.results
    assert found.weights_sha256 == plain.weights_sha256
    numbers = {(r.row, r.metric): r.value for r in found.results}
    for row in ("best", "last"):
        assert numbers[row, "test/autoattack"] <= numbers[row, "test/apgd_ce"]
        assert numbers[row, "test/apgd_ce"] <= numbers[row, "test/clean"]


def test_the_experiments_are_tested_by_it():
    _, module = build(config(experiment="converge_smooth/reduced"))
    assert isinstance(module, StronglyTested)
    assert module.autoattack == 1
