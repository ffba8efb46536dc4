"""Steps of training as the module takes them: gradient, scaled rate, then the clip."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from retable.papers.binary_connect.binarize import glorot_coefficient
from retable.papers.binary_connect.layers import BatchNorm
from retable.papers.binary_connect.module import BinaryConnect
from retable.papers.binary_connect.networks import norms

SGD = torch.optim.SGD
ADAM = torch.optim.Adam


def module(optimizer=SGD, lr=0.1, *, regularizer="det", **options):
    torch.manual_seed(0)
    extra = {k: options.pop(k) for k in ("momentum", "nesterov") if k in options}
    settings = {"widths": [8], "shape": (1, 2, 3), "n_classes": 4, "weight_spread": 1.0}
    return BinaryConnect(
        seed=0,
        regularizer=regularizer,
        optimizer=partial(optimizer, lr=lr, **extra),
        **{**settings, **options},
    ).double()


def batch(seed=0, size=40):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 1, 2, 3, generator=generator, dtype=torch.float64)
    return images, torch.randint(4, (size,), generator=generator)


def optimizer_of(made):
    found = made.configure_optimizers()
    return found["optimizer"] if isinstance(found, dict) else found


def step(made, optimizer, data):
    def closure():
        optimizer.zero_grad()
        loss = made.shared_step(data).loss
        loss.backward()
        return loss

    made.optimizer_step(0, 0, optimizer, closure)


def push(made, optimizer, gradient):
    """A step with the same given gradient for every parameter."""

    def closure():
        for parameter in made.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        return torch.tensor(0.0)

    made.optimizer_step(0, 0, optimizer, closure)


def plain_gradients(made, data):
    """Of a network of plain functions whose weights are the signs: d cost / d w_b per layer."""
    images, labels = data
    weights = [
        (layer.scale * (2 * (layer.weight.detach() >= 0).double() - 1)).requires_grad_()
        for layer in made.binary
    ]
    x = images.flatten(1)
    for number, (w, norm) in enumerate(zip(weights, norms(made.network), strict=True)):
        x = F.linear(x, w, made.binary[number].bias)
        x = (x - x.mean(0)) / (x.var(0, correction=0) + norm.eps).sqrt() * norm.weight + norm.bias
        x = x if number == len(weights) - 1 else x.relu()
    targets = 2 * F.one_hot(labels, 4) - 1
    loss = (1 - targets * x).clamp_min(0).square().sum(1).mean()
    return torch.autograd.grad(loss, weights)


def test_a_step_changes_stored_weights_by_the_gradient_of_the_binary_network():
    made, data = module(lr=0.001), batch()
    expected = plain_gradients(made, data)
    before = [layer.weight.detach().clone() for layer in made.binary]
    step(made, optimizer_of(made), data)
    for layer, w, gradient in zip(made.binary, before, expected, strict=True):
        moved = (w - 0.001 * gradient).clamp(-layer.scale, layer.scale)
        torch.testing.assert_close(layer.weight.detach(), moved, rtol=0, atol=1e-14)
        assert gradient.abs().max() > 1e-3
        inside = moved.abs() < layer.scale
        assert inside.double().mean() > 0.8


@pytest.mark.parametrize("magnitude", ["glorot", "one"])
@pytest.mark.parametrize(
    ("optimizer", "scaling"), [(SGD, "none"), (SGD, "glorot"), (ADAM, "none"), (ADAM, "glorot")]
)
@pytest.mark.parametrize("regularizer", ["det", "stoch"])
def test_after_any_step_no_weight_is_beyond_its_bound(magnitude, optimizer, scaling, regularizer):
    made = module(
        optimizer, 0.5, regularizer=regularizer, magnitude=magnitude, rate_scaling=scaling
    )
    chosen = optimizer_of(made)
    for number in range(5):
        step(made, chosen, batch(number))
        for layer in made.binary:
            assert layer.weight.abs().max() <= layer.scale
    assert any((layer.weight.abs() == layer.scale).any() for layer in made.binary)


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
@pytest.mark.parametrize("scaling", ["none", "glorot"])
def test_a_weight_at_its_bound_is_kept_by_the_clip_and_not_frozen(optimizer, scaling):
    made = module(optimizer, 1e-4, magnitude="one", rate_scaling=scaling)
    chosen = optimizer_of(made)
    for layer in made.binary:
        layer.weight.data.fill_(1.0)
    push(made, chosen, -1.0)
    for layer in made.binary:
        assert (layer.weight == 1).all(), "the clip comes after the update"
    made = module(optimizer, 1e-4, magnitude="one", rate_scaling=scaling)
    chosen = optimizer_of(made)
    for layer in made.binary:
        layer.weight.data.fill_(1.0)
    push(made, chosen, 1.0)
    for layer in made.binary:
        power = 0 if scaling == "none" else {SGD: 2, ADAM: 1}[optimizer]
        expected = torch.full_like(layer.weight, 1 - 1e-4 / layer.glorot**power)
        torch.testing.assert_close(layer.weight, expected)


def test_gradients_at_the_bounds_are_not_masked():
    made, data = module(lr=1e-4, magnitude="one"), batch()
    for layer in made.binary:
        layer.weight.data.sign_()  # every weight sits on a bound
    gradients = plain_gradients(made, data)
    before = [layer.weight.detach().clone() for layer in made.binary]
    step(made, optimizer_of(made), data)
    for layer, w, gradient in zip(made.binary, before, gradients, strict=True):
        inward = (w * gradient > 0) & (gradient.abs() > 1e-9)
        assert inward.any()
        assert (layer.weight.abs()[inward] < 1).all()
        assert (layer.weight == w)[w * gradient < 0].all()


def test_biases_scales_and_shifts_are_not_clipped():
    made = module(lr=1e-3)
    for layer in made.binary:
        layer.bias.data.fill_(5)
    for norm in norms(made.network):
        norm.weight.data.fill_(3)
        norm.bias.data.fill_(-2)
    step(made, optimizer_of(made), batch())
    for layer in made.binary:
        torch.testing.assert_close(layer.bias, torch.full_like(layer.bias, 5), rtol=0, atol=0.5)
    for norm in norms(made.network):
        torch.testing.assert_close(norm.weight, torch.full_like(norm.weight, 3), rtol=0, atol=0.5)
        torch.testing.assert_close(norm.bias, torch.full_like(norm.bias, -2), rtol=0, atol=0.5)
    assert any((norm.weight != 3).any() for norm in norms(made.network)), "but they do learn"


@pytest.mark.parametrize("regularizer", ["none", "dropout"])
def test_real_weights_are_neither_clipped_nor_scaled(regularizer):
    made = module(lr=0.5, regularizer=regularizer, rate_scaling="glorot")
    optimizer = optimizer_of(made)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
    push(made, optimizer, -10.0)
    for layer in made.binary:
        assert (layer.weight > 4).all()


def test_moments_of_adam_see_the_gradient_and_not_the_clipped_move():
    made, data = module(ADAM, 1e-3), batch()
    for layer in made.binary:
        layer.weight.data.sign_().mul_(layer.scale)
    optimizer = optimizer_of(made)
    first = plain_gradients(made, data)
    step(made, optimizer, data)
    second = plain_gradients(made, data)
    step(made, optimizer, data)
    for layer, one, two in zip(made.binary, first, second, strict=True):
        state = optimizer.state[layer.weight]
        torch.testing.assert_close(state["exp_avg"], 0.9 * 0.1 * one + 0.1 * two)
        expected = 0.999 * 0.001 * one.square() + 0.001 * two.square()
        torch.testing.assert_close(state["exp_avg_sq"], expected)


@pytest.mark.parametrize(
    ("optimizer", "options", "power"),
    [(SGD, {}, 2), (SGD, {"momentum": 0.9, "nesterov": True}, 2), (ADAM, {}, 1)],
)
def test_rates_of_binary_weights_are_scaled_and_no_others(optimizer, options, power):
    def rates(made):
        return {
            id(p): group["lr"] for group in optimizer_of(made).param_groups for p in group["params"]
        }

    torch.manual_seed(0)
    made = BinaryConnect(
        seed=0,
        regularizer="stoch",
        widths=[8],
        shape=(1, 2, 3),
        n_classes=4,
        rate_scaling="glorot",
        magnitude="one",
        optimizer=partial(optimizer, lr=0.1, **options),
    )
    found = rates(made)
    assert len(found) == len(list(made.parameters())), "every parameter once"
    for layer, fans in zip(made.binary, [(6, 8), (8, 4)], strict=True):
        expected = 0.1 / glorot_coefficient(*fans) ** power
        assert found.pop(id(layer.weight)) == pytest.approx(expected)
    assert set(found.values()) == {0.1}
    made.rate_scaling = "none"
    assert set(rates(made).values()) == {0.1}


@pytest.mark.parametrize("other", [torch.optim.RMSprop, torch.optim.Adagrad])
def test_scaling_is_refused_for_an_optimizer_that_the_paper_has_no_rule_for(other):
    with pytest.raises(ValueError, match=f"not of {other.__name__}"):
        optimizer_of(module(other, rate_scaling="glorot"))
    optimizer_of(module(other, rate_scaling="none"))


@pytest.mark.parametrize("eta", [0.03, 0.3])
def test_magnitude_one_with_scaled_rates_is_magnitude_g_with_plain_ones(eta):
    """In double precision and without epsilon: the same signs, and u = w / g, for 20 steps."""
    one = module(lr=eta, magnitude="one", rate_scaling="glorot")
    small = module(lr=eta, magnitude="glorot", rate_scaling="none")
    for u, w in zip(one.binary, small.binary, strict=True):
        w.weight.data.copy_(u.weight.data * w.glorot)
    for made in (one, small):
        for norm in norms(made.network):
            norm.eps = 1e-300  # torch refuses 0
    optimizers = [optimizer_of(made) for made in (one, small)]
    start = [layer.weight.detach().clone() for layer in one.binary]
    for number in range(20):
        for made, optimizer in zip((one, small), optimizers, strict=True):
            step(made, optimizer, batch(number))
        for u, w in zip(one.binary, small.binary, strict=True):
            assert torch.equal(u.weight >= 0, w.weight >= 0)
            torch.testing.assert_close(u.weight, w.weight / w.glorot, rtol=0, atol=1e-9)
    moved = [(layer.weight >= 0) != (w >= 0) for layer, w in zip(one.binary, start, strict=True)]
    assert any(m.any() for m in moved), "no sign ever changed: nothing was compared"


def test_scaled_rate_of_adam_is_the_scaled_displacement_of_the_published_code():
    """``clip(w + s (w_opt - w))`` with s = 1 / g, where w_opt is what ADAM alone would give."""
    made = module(ADAM, 2e-3, magnitude="one", rate_scaling="glorot")
    reference = copy.deepcopy(made)
    optimizer = optimizer_of(made)
    plain = ADAM(reference.parameters(), lr=2e-3)
    for number in range(20):
        step(made, optimizer, batch(number))
        before = [layer.weight.detach().clone() for layer in reference.binary]
        plain.zero_grad()
        reference.shared_step(batch(number)).loss.backward()
        plain.step()
        for layer, w in zip(reference.binary, before, strict=True):
            moved = w + (layer.weight.detach() - w) / layer.glorot
            layer.weight.data.copy_(moved.clamp(-1, 1))
        for found, expected in zip(made.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert any((layer.weight.abs() == 1).any() for layer in made.binary)


def test_one_step_draws_once_per_weight():
    made = module(regularizer="stoch", magnitude="one")
    drawn, real = [], torch.rand

    def rand(*shape, **options):
        drawn.append(torch.Size(*shape).numel())
        return real(*shape, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", rand)
        step(made, optimizer_of(made), batch())
    assert drawn == [layer.weight.numel() for layer in made.binary]


def test_loss_of_the_module_is_reduced_as_the_recipe_says():
    summed, mean = (module(hinge=h) for h in ("sum", "mean"))
    data = batch()
    loss = summed.shared_step(data).loss
    assert loss.item() == pytest.approx(4 * mean.shared_step(data).loss.item())
    assert isinstance(summed.network[-1], BatchNorm)
