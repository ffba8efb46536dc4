"""Layers with binary weights: which weights they compute with, and the gradients of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retable.papers.binary_connect.layers import BinaryConv2d, BinaryLinear

MODES = ["none", "det", "stoch"]


def dense(mode, n_in=2, n_out=3, **options):
    torch.manual_seed(0)
    return BinaryLinear(n_in, n_out, mode=mode, **options)


def convolution(mode, n_in=2, n_out=3, **options):
    torch.manual_seed(0)
    return BinaryConv2d(n_in, n_out, mode=mode, **options)


def spikes(n):
    """One image per channel with a one in its middle: outputs are the kernels, turned round."""
    images = torch.zeros(n, n, 3, 3)
    images[range(n), range(n), 1, 1] = 1
    return images


def run(layer, rest):
    """Outputs for some inputs, and the weights that this very pass computed with."""
    if isinstance(layer, BinaryLinear):
        out = layer(torch.cat([torch.eye(layer.in_features, dtype=rest.dtype), rest]))
        n = layer.in_features
        used = (out[:n] - layer.bias).detach().T
    else:
        n = layer.in_channels
        out = layer(torch.cat([spikes(n).to(rest.dtype), rest]))
        used = (out[:n] - layer.bias.view(1, -1, 1, 1)).detach().flip(2, 3).transpose(0, 1)
    return out[n:], used.contiguous()


def inputs(layer, size=4):
    generator = torch.Generator().manual_seed(1)
    shape = (size, 2) if isinstance(layer, BinaryLinear) else (size, 2, 3, 3)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def plain(layer, weight, x):
    return F.linear(x, weight) if weight.dim() == 2 else F.conv2d(x, weight, padding=1)


@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.parametrize("mode", ["det", "stoch"])
def test_a_step_subtracts_the_gradient_of_a_plain_network_with_the_binary_weights(make, mode):
    """And the gradient of the inputs is taken with the draw of the forward pass."""
    layer = make(mode).double()
    x, eta = inputs(layer), 0.01
    out, w_b = run(layer, x)
    assert torch.allclose(w_b.abs(), torch.full_like(w_b, layer.scale))
    if mode == "det":
        assert torch.equal(w_b > 0, layer.weight >= 0)
    (out.square() * torch.linspace(0.5, 2, out.numel()).view(out.shape)).sum().backward()

    w = w_b.sign().mul(layer.scale).requires_grad_()
    x_plain = x.detach().clone().requires_grad_()
    expected = plain(layer, w, x_plain)
    (expected.square() * torch.linspace(0.5, 2, out.numel()).view(out.shape)).sum().backward()
    torch.testing.assert_close(x.grad, x_plain.grad)
    assert w.grad.abs().min() > 0
    before = layer.weight.detach().clone()
    torch.optim.SGD(layer.parameters(), lr=eta).step()
    torch.testing.assert_close(layer.weight.detach() - before, -eta * w.grad)


@pytest.mark.parametrize("make", [dense, convolution])
def test_gradient_of_the_inputs_uses_the_draw_of_the_forward_pass(make):
    layer = make("stoch").double()
    layer.weight.data.zero_()  # every sign is a fair coin
    for _ in range(10):
        x = inputs(layer)
        out, w_b = run(layer, x)
        gradient = torch.randn_like(out)
        out.backward(gradient)
        if w_b.dim() == 2:
            expected = gradient @ w_b
        else:
            expected = F.conv_transpose2d(gradient, w_b, padding=1)
        torch.testing.assert_close(x.grad, expected)


def test_a_mini_batch_shares_one_draw_and_the_next_one_has_another():
    layer = dense("stoch", n_in=64, n_out=64)
    layer.weight.data.zero_()
    eye = torch.eye(64)
    first, copy = layer(torch.cat([eye, eye])).chunk(2)
    assert torch.equal(first, copy)
    assert not torch.equal(first, layer(eye))


@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.parametrize("magnitude", ["glorot", "one"])
def test_evaluation_of_the_stochastic_version_uses_the_real_weights(make, magnitude):
    layer = make("stoch", magnitude=magnitude).eval()
    x = inputs(layer).float()
    first, second = layer(x), layer(x)
    assert torch.equal(first, second)
    assert torch.equal(first - 0, plain(layer, layer.weight, x))
    assert layer.propagated().unique().numel() == layer.weight.numel()


@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.parametrize("magnitude", ["glorot", "one"])
def test_evaluation_of_the_deterministic_version_uses_exactly_two_values(make, magnitude):
    layer = make("det", magnitude=magnitude).eval()
    layer.weight.data.view(-1)[:2] = torch.tensor([0.0, -0.0])
    used = layer.propagated()
    scale = torch.tensor(layer.scale).item()
    assert used.unique().tolist() == [-scale, scale]
    assert (used.view(-1)[:2] > 0).all()
    x = inputs(layer).float()
    assert torch.equal(layer(x), plain(layer, used, x))
    assert torch.equal(layer(x), layer.train()(x)), "training computes with the same weights"


@pytest.mark.parametrize("make", [dense, convolution])
def test_a_layer_without_regulariser_is_a_plain_one(make):
    layer = make("none")
    x = inputs(layer).float()
    for _ in (layer.train(), layer.eval()):
        assert torch.equal(layer(x), plain(layer, layer.weight, x))
    layer.weight.data.fill_(7)
    layer.clip()
    assert (layer.weight == 7).all(), "real weights are not clipped"


@pytest.mark.parametrize("magnitude", ["glorot", "one"])
def test_clipping_brings_binary_layers_weights_back_to_the_bound_and_no_bias(magnitude):
    layer = dense("stoch", magnitude=magnitude)
    scale = torch.tensor(layer.scale).item()
    layer.weight.data.copy_(scale * torch.tensor([[2.0, -2.0], [1.0, -1.0], [0.5, -0.5]]))
    layer.bias.data.fill_(5)
    layer.clip()
    assert layer.weight.tolist() == [
        [scale, -scale],
        [scale, -scale],
        [0.5 * scale, -0.5 * scale],
    ]
    assert (layer.bias == 5).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("magnitude", ["glorot", "one"])
@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_weights_start_uniform_in_the_range_of_their_kind(mode, magnitude, spread):
    for layer, fans in (
        (dense(mode, 100, 80, magnitude=magnitude, spread=spread), 180),
        (convolution(mode, 10, 20, magnitude=magnitude, spread=spread), 9 * 30),
    ):
        g = (1.5 / fans) ** 0.5
        assert layer.glorot == pytest.approx(g)
        assert layer.scale == pytest.approx(g if magnitude == "glorot" else 1.0)
        bound = 2 * g if mode == "none" else spread * layer.scale
        weights = layer.weight.detach().double()
        assert 0.99 * bound < weights.abs().max() <= bound * (1 + 1e-6)
        # Of a uniform distribution: mean 0 and standard deviation bound / sqrt(3).
        n = weights.numel()
        assert abs(weights.mean()) < 4 * bound / (3 * n) ** 0.5
        assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert (layer.bias == 0).all()


def reference_dense(x, w, b, scale):
    """Outputs of a dense layer with deterministic binary weights, one sum at a time."""
    out = np.zeros((len(x), len(w)))
    for n in range(len(x)):
        for o in range(len(w)):
            out[n, o] = b[o] + sum(
                x[n, i] * (scale if w[o, i] >= 0 else -scale) for i in range(len(w[o]))
            )
    return out


def reference_convolution(x, w, b, scale):
    """The same for a convolution: stride 1, zeros around the image."""
    n_images, n_in, height, width = x.shape
    size = w.shape[-1]
    half = size // 2
    padded = np.zeros((n_images, n_in, height + 2 * half, width + 2 * half))
    padded[:, :, half : half + height, half : half + width] = x
    w_b = np.where(w >= 0, scale, -scale)
    out = np.zeros((n_images, len(w), height, width))
    for row in range(height):
        for column in range(width):
            patch = padded[:, :, row : row + size, column : column + size]
            for o in range(len(w)):
                out[:, o, row, column] = (patch * w_b[o]).sum((1, 2, 3)) + b[o]
    return out


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("magnitude", ["glorot", "one"])
def test_deterministic_forward_equals_an_independent_implementation(training, magnitude):
    rng = np.random.default_rng(0)
    for make, shape, reference in (
        (dense, (5, 7), reference_dense),
        (convolution, (2, 3, 6, 5), reference_convolution),
    ):
        layer = make("det", shape[1], 4, magnitude=magnitude).double().train(training)
        layer.bias.data.copy_(torch.from_numpy(rng.standard_normal(4)))
        x = rng.standard_normal(shape)
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        expected = reference(x, w, b, layer.scale)
        found = layer(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolutions_keep_the_size_of_the_image(size):
    layer = BinaryConv2d(2, 3, size, mode="det")
    assert layer(torch.zeros(1, 2, 7, 6)).shape == (1, 3, 7, 6)
    assert layer.glorot == pytest.approx((1.5 / (5 * size**2)) ** 0.5)
