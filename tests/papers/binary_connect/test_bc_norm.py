"""Batch normalisation: both kinds, moving averages, and statistics recomputed for evaluation."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.binary_connect.binarize import straight_through
from retable.papers.binary_connect.layers import BatchNorm
from retable.papers.binary_connect.losses import square_hinge
from retable.papers.binary_connect.module import recompute
from retable.papers.binary_connect.networks import (
    Recipe,
    binary_layers,
    cnn,
    mlp,
    norms,
    use_statistics,
)

KINDS = ["variance", "deviation"]
SHAPES = [(8, 3), (4, 3, 5, 2)]
NO_EPS = 1e-300  # torch refuses 0


def data(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64).view(1, 3, *[1] * (len(shape) - 2))
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64) + scale**2


def norm(kind, **options):
    layer = BatchNorm(3, spread=kind, **options).double()
    layer.weight.data.copy_(torch.tensor([1.0, -2.0, 0.5]))
    layer.bias.data.copy_(torch.tensor([0.0, 3.0, -1.0]))
    return layer


def channel(x, c):
    return x[:, c].reshape(-1).tolist()


def moments(values):
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / len(values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_training_batch_is_normalised_by_its_own_statistics(kind, shape):
    layer, x = norm(kind, eps=0.01), data(shape)
    out = layer(x)
    assert out.shape == x.shape
    for c in range(3):
        mean, var = moments(channel(x, c))
        below = (var + 0.01) ** 0.5 if kind == "variance" else var**0.5 + 0.01
        gamma, beta = layer.weight[c].item(), layer.bias[c].item()
        expected = [gamma * (v - mean) / below + beta for v in channel(x, c)]
        assert channel(out, c) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_moving_averages_follow_the_batches_and_serve_evaluation(kind, shape):
    layer, alpha = norm(kind, eps=0.01, momentum=0.15), 0.15
    means, spreads = [0.0] * 3, [1.0] * 3
    for seed in range(4):
        x = data(shape, seed)
        layer(x)
        for c in range(3):
            values = channel(x, c)
            mean, var = moments(values)
            unbiased = var * len(values) / (len(values) - 1)
            spread = unbiased if kind == "variance" else var**0.5
            means[c] = (1 - alpha) * means[c] + alpha * mean
            spreads[c] = (1 - alpha) * spreads[c] + alpha * spread
    assert layer.running_mean.tolist() == pytest.approx(means, rel=1e-10)
    assert layer.running_spread.tolist() == pytest.approx(spreads, rel=1e-10)
    assert (layer.recomputed_mean == 0).all()
    out = layer.eval()(x)
    for c in range(3):
        below = (spreads[c] + 0.01) ** 0.5 if kind == "variance" else spreads[c] + 0.01
        gamma, beta = layer.weight[c].item(), layer.bias[c].item()
        expected = [gamma * (v - means[c]) / below + beta for v in channel(x, c)]
        assert channel(out, c) == pytest.approx(expected, rel=1e-10)
    assert torch.equal(layer(x), out), "evaluation changes nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_recomputed_statistics_are_means_over_the_batches(kind, shape):
    layer = norm(kind)
    layer(data(shape, 99))  # training before
    running = layer.running_mean.clone(), layer.running_spread.clone()
    for _ in range(2):  # the second time starts anew
        layer.measure(True)
        layer.eval()
        for seed in range(5):
            layer(data(shape, seed))
        layer.measure(False)
    for c in range(3):
        found = []
        for seed in range(5):
            values = channel(data(shape, seed), c)
            mean, var = moments(values)
            unbiased = var * len(values) / (len(values) - 1)
            found.append((mean, unbiased if kind == "variance" else var**0.5))
        mean, spread = (sum(column) / 5 for column in zip(*found, strict=True))
        assert layer.recomputed_mean[c].item() == pytest.approx(mean, rel=1e-10)
        assert layer.recomputed_spread[c].item() == pytest.approx(spread, rel=1e-10)
    assert torch.equal(layer.running_mean, running[0])
    assert torch.equal(layer.running_spread, running[1])
    x = data(shape, 0)
    by_running = layer(x)
    layer.source = "recomputed"
    assert not torch.allclose(layer(x), by_running)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.integers(2, 6),
    image=st.sampled_from([(), (2, 3)]),
    seed=st.integers(0, 1000),
)
def test_training_output_has_mean_zero_and_deviation_one(kind, size, image, seed):
    layer = BatchNorm(3, spread=kind, eps=NO_EPS).double()
    out = layer(data((size, 3, *image), seed))
    flat = out.transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(flat.std(1, correction=0), torch.ones(3).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2, 2)])
def test_gradients_are_those_of_finite_differences(kind, shape):
    layer = norm(kind, eps=0.1)

    def outputs(x, weight, bias):
        fresh = copy.deepcopy(layer)
        return torch.func.functional_call(fresh, {"weight": weight, "bias": bias}, (x,))

    x = data(shape).requires_grad_()
    assert torch.autograd.gradcheck(outputs, (x, layer.weight, layer.bias))
    layer.eval()
    assert torch.autograd.gradcheck(outputs, (x, layer.weight, layer.bias))


def test_the_two_kinds_put_epsilon_in_different_places():
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    variance, deviation = (BatchNorm(1, spread=k, eps=0.44).double() for k in KINDS)
    assert variance(x).flatten().tolist() == pytest.approx([1 / 1.2, -1 / 1.2])
    assert deviation(x).flatten().tolist() == pytest.approx([1 / 1.44, -1 / 1.44])


def trained(kind, mode, make, images, labels, steps=40):
    torch.manual_seed(0)
    recipe = Recipe(mode=mode, weight_spread=1.0, normalization=kind, momentum=0.1)
    network = make(recipe)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03)
    for step in range(steps):
        chosen = torch.arange(200) + 200 * (step % (len(images) // 200))
        optimizer.zero_grad()
        square_hinge(network(images[chosen]), labels[chosen], reduction="mean").backward()
        optimizer.step()
        for layer in binary_layers(network):
            layer.clip()
    return network


def deviations(network, images):
    """Of every norm's output before scale and shift, over all images, in evaluation mode."""
    found, hooks = [], []

    def keep(layer, _, out):
        shape = [1, -1, *[1] * (out.dim() - 2)]
        plain = (out - layer.bias.view(shape)) / layer.weight.view(shape)
        found.append(plain.detach().transpose(0, 1).flatten(1).double().std(1, correction=0))

    for layer in norms(network):
        hooks.append(layer.register_forward_hook(keep))
    with torch.no_grad():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (2000,), generator=generator)
    centres = torch.randn(10, 1, 8, 8, generator=generator)
    noise = torch.randn(2000, 1, 8, 8, generator=generator)
    return centres[labels] + noise, labels


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "det", "stoch"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_recomputed_statistics_bring_every_output_to_deviation_one(pictures, mode, kind, network):
    """With the weights of evaluation; the moving averages of drawn weights do not."""
    images, labels = pictures

    def make(recipe):
        if network == "mlp":
            return mlp(recipe, 64, [48, 32])
        return cnn(recipe, (1, 8, 8), [4], [32])

    net = trained(kind, mode, make, images, labels, steps=40 if network == "mlp" else 15)
    # Batches of 500: the mean of deviations of small ones is too small by about 3 / (4 n).
    recompute(net, images.split(500))
    assert not net.training
    use_statistics(net, "recomputed")
    for found in deviations(net, images):
        torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-2)
    use_statistics(net, "running")
    off = max((found - 1).abs().max().item() for found in deviations(net, images))
    if mode == "stoch":
        assert off > 0.1


def test_moving_averages_of_drawn_weights_are_too_wide_for_real_ones():
    torch.manual_seed(0)
    net = mlp(Recipe(mode="stoch", weight_spread=1.0), 64, [64])
    images = torch.randn(2000, 64)
    with torch.no_grad():
        for batch in images.split(100):
            net(batch)
    # Var of a sum of n terms w x: H^2 with w in {-H, H}, E[w^2] = H^2 / 3 with the stored ones.
    use_statistics(net, "running")
    first = deviations(net, images)[0]
    assert first.mean().item() == pytest.approx(3**-0.5, abs=0.12)


def test_recomputing_draws_nothing_and_leaves_weights_and_averages_alone(pictures):
    images, labels = pictures
    net = trained("variance", "stoch", lambda r: mlp(r, 64, [16]), images, labels, steps=3)
    kept = {k: v.clone() for k, v in net.state_dict().items() if "recomputed" not in k}
    state = torch.get_rng_state()
    recompute(net.train(), images.split(200))
    assert torch.equal(torch.get_rng_state(), state)
    now = net.state_dict()
    assert all(torch.equal(now[name], value) for name, value in kept.items())
    assert all(layer.measured is None for layer in norms(net))
    once = {k: v.clone() for k, v in now.items()}
    recompute(net, images.split(200))
    assert all(torch.equal(once[k], v) for k, v in net.state_dict().items())


def test_straight_through_and_norm_make_the_magnitude_irrelevant():
    """With epsilon 0 the outputs are the same for any H."""
    torch.manual_seed(0)
    w, x = torch.randn(3, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    outputs = [
        BatchNorm(3, eps=NO_EPS).double()(x @ straight_through(w, scale, "det").T)
        for scale in (1.0, 0.01)
    ]
    torch.testing.assert_close(*outputs)
