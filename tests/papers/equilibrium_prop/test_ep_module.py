"""The module of a run: gradients of the three rules, what is logged and recorded, refusals."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from retable.papers.equilibrium_prop.activations import activate
from retable.papers.equilibrium_prop.homeostasis import angle, expected
from retable.papers.equilibrium_prop.module import Equilibrium
from retable.papers.equilibrium_prop.module_error import DerivativeError
from retable.papers.equilibrium_prop.phases import relax
from support.equilibrium import images, small

LABELS = torch.arange(6) % 5


def module(kind="mlp", degrees=0.0, **options):
    """In training, as in an epoch's last batch but one."""
    steps = {"free_steps": 400, "nudged_steps": 200} | options
    # Of this seed all states converge, without which nothing here would hold.
    found = Equilibrium(seed=0, net=small(kind, degrees), n_classes=5, **steps).double()
    found._trainer = SimpleNamespace(is_last_batch=False, testing=False, global_step=0)
    return found.train()


def gradients(one, x):
    one.zero_grad()
    output = one.shared_step((x, LABELS))
    output.loss.backward()
    return {name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None}


def free_loss(one, x):
    system = one.net.bind(x).detached()
    u = relax(system, system.zeros(), 3000, stop=1e-15)
    out = activate(one.net.activation, u[:, one.net.layers["out"]])
    return float(F.cross_entropy(one.readout(out), LABELS).detach())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "degrees", "options"),
    [
        ("mlp", 0.0, {"rule": "ep"}),
        ("mlp", 0.0, {"rule": "ep", "points": 6, "amplitude": 0.01}),
        ("mlp", 90.0, {"rule": "rbp"}),
        ("loop", 0.0, {"rule": "rbp"}),
        ("mlp", 90.0, {"rule": "bp"}),
        ("conv", 0.0, {"rule": "ep"}),
        ("conv", 90.0, {"rule": "rbp"}),
    ],
)
def test_gradients_are_finite_differences_of_the_loss_at_the_free_state(kind, degrees, options):
    """The sign of the nudge, the slope and the readout's part are all in it."""
    one, x = module(kind, degrees, **options), images(small(kind))
    found = gradients(one, x)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in one.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator).double()
        with torch.no_grad():
            parameter.add_(direction, alpha=1e-5)
            more = free_loss(one, x)
            parameter.sub_(direction, alpha=2e-5)
            less = free_loss(one, x)
            parameter.add_(direction, alpha=1e-5)
        by_hand = (more - less) / 2e-5
        assert float((found[name] * direction).sum()) == pytest.approx(by_hand, rel=1e-4, abs=1e-8)


def test_the_three_rules_agree_on_a_symmetric_network_and_ep_alone_leaves_on_another():
    x = images(small())
    for degrees, agree in ((0.0, True), (90.0, False)):
        by_rule = {
            rule: gradients(module("mlp", degrees, rule=rule), x) for rule in ("ep", "rbp", "bp")
        }
        for name, exact in by_rule["rbp"].items():
            torch.testing.assert_close(by_rule["bp"][name], exact, atol=1e-9, rtol=1e-5)
            same = torch.allclose(by_rule["ep"][name], exact, atol=1e-9, rtol=1e-5)
            assert same is (agree or name.startswith("readout"))


def test_the_loss_that_is_logged_is_that_of_the_free_state():
    x = images(small())
    one = module(homeostasis=2.0)
    output = one.shared_step((x, LABELS))
    assert float(output.loss.detach()) == pytest.approx(free_loss(one, x))
    assert set(output.logs) == {"unconverged", "log10_residual", "homeostasis"}


def test_the_homeostatic_gradient_is_added_times_its_coefficient_and_takes_the_state_as_given():
    x = images(small("mlp", 90.0))
    plain = gradients(module("mlp", 90.0), x)
    one = module("mlp", 90.0, homeostasis=0.7, draws=0)
    both = gradients(one, x)
    one.zero_grad()
    expected(one.net.jacobian()).backward()
    for name, parameter in one.named_parameters():
        added = torch.zeros_like(parameter) if parameter.grad is None else 0.7 * parameter.grad
        torch.testing.assert_close(both[name], plain[name] + added)
    drawn = module("mlp", 90.0, homeostasis=0.7)
    again, same = gradients(drawn, x), gradients(drawn, x)
    for name, gradient in again.items():
        assert torch.equal(gradient, same[name])  # the draws are the step's
    drawn._trainer.global_step = 1
    other = gradients(drawn, x)
    assert not torch.equal(other["net.weight.l1_l2"], again["net.weight.l1_l2"])
    assert torch.equal(other["net.input"], plain["net.input"])


def test_weights_are_never_tied_again():
    one, x = module(free_steps=30, nudged_steps=10), images(small())
    start = float(angle(one.net))
    optimizer = torch.optim.SGD(one.parameters(), lr=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        one.shared_step((x, LABELS)).loss.backward()
        optimizer.step()
    assert start == pytest.approx(0, abs=1e-3)
    assert float(angle(one.net)) > 0.1


def test_backpropagation_goes_through_the_last_steps_alone(monkeypatch):
    """The tape of the free phase would hold 400 states more, and give another gradient early on."""
    x = images(small("mlp", 90.0))
    short = gradients(module("mlp", 90.0, rule="bp", free_steps=3, nudged_steps=2), x)
    one = module("mlp", 90.0, rule="bp", free_steps=3, nudged_steps=2)
    system = one.net.bind(x)
    u = system.zeros()
    for k in range(5):
        u = system.field(activate("sigmoid", u))
        u = u.detach() if k == 2 else u
    out = activate("sigmoid", u[:, one.net.layers["out"]])
    F.cross_entropy(one.readout(out), LABELS).backward()
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(short[name], parameter.grad)


def test_the_online_variant_needs_no_free_phase(monkeypatch):
    one = module(points=4, turns=2, nudged_steps=10, amplitude=0.1)
    monkeypatch.setattr(one, "free", None)
    assert gradients(one, images(small()))


def test_half_precision_is_of_the_free_phase_of_training_alone():
    x = images(small("conv")).float()
    one = module("conv", half_free=True, free_steps=40).float()
    system = one.net.bind(x).detached()
    lower, whole = one.free(system), one.eval().free(system)
    assert lower.dtype == whole.dtype == torch.float32
    assert 1e-6 < float((lower - whole).abs().max()) < 2e-2
    assert torch.equal(lower, lower.half().float())


def test_rates_and_decay_of_single_layers():
    net = small("conv")
    net.rate_factors = [25.0, 8.0]
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, weight_decay=0.01)
    one = Equilibrium(
        seed=0, net=net, n_classes=5, readout_rate=5.0, readout_decay=2.0, optimizer=optimizer
    )
    found = {}
    for group in one.optimized():
        for p in group["params"]:
            found[id(p)] = group["lr"], group["weight_decay"]
    rates = {name: found[id(p)] for name, p in one.named_parameters()}
    assert rates["net.input"] == rates["net.input_bias"] == (2.5, 0.01)
    assert rates["net.up.0"] == rates["net.down.0"] == rates["net.bias.0"] == (0.8, 0.01)
    assert rates["readout.weight"] == rates["readout.bias"] == (0.5, 0.02)


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        ("mlp", {"turns": 2}, "model.turns"),
        ("mlp", {"turns": 2, "points": 4, "rule": "bp"}, "model.turns"),
        ("conv", {"homeostasis": 1.0, "draws": 0}, "model.draws"),
        ("mlp", {"half_free": True}, "model.half_free"),
    ],
)
def test_refusals(kind, options, key):
    with pytest.raises(ValueError, match=key):
        Equilibrium(seed=0, net=small(kind), n_classes=5, **options)
    with pytest.raises(ValueError, match=r"model\.net"):
        Equilibrium(seed=0, net=torch.nn.Linear(2, 2))


@pytest.mark.parametrize("degrees", [0.0, 90.0])
def test_derivative_errors_fall_with_n_on_converged_images_alone(degrees):
    net = small("mlp", degrees)
    one = DerivativeError(
        seed=0, net=net, n_classes=5, points=[1, 2, 4], amplitudes=[0.05, 0.5], n_images=8
    )
    x = images(net, 18)
    labels = torch.arange(18) % 5
    for part in (slice(6), slice(6, 12), slice(12, 18)):  # the last has none of the first eight
        assert one.shared_step((x[part], labels[part])).items == 6
    one.log_dict = lambda *given, **options: None
    one.on_test_epoch_end()
    found = {(r.row, r.step): r.value for r in one.results}
    assert one._counts[0] == 8
    for beta in (5, 50):
        of_n = [found[f"n{n}", beta] for n in (1, 2, 4)]
        assert of_n[0] > of_n[1] > of_n[2]
    # the one-sided difference suffers more from a larger nudge than four points do
    growth = {n: found[f"n{n}", 50] - found[f"n{n}", 5] for n in (1, 4)}
    assert growth[1] > 2 * growth[4]
