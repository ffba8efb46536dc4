"""Networks: their fields by hand, angles, initial weights, and the symmetry of the Jacobian."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from retable.papers.equilibrium_prop.conv import Conv, softmax_pool
from retable.papers.equilibrium_prop.dense import MLP, lecun_normal
from retable.papers.equilibrium_prop.homeostasis import angle, symmetry
from support.equilibrium import bound, images, small


def state(net, n=6):
    return torch.rand(n, net.n, generator=torch.Generator().manual_seed(3)).double()


def test_the_layered_field_by_hand():
    net = MLP(16, (10, 8, 7), 5, 60.0).double()
    net.draw(torch.Generator().manual_seed(0))
    torch.nn.init.normal_(net.bias)
    x, s = images(net), state(net)
    part = {name: s[:, place] for name, place in net.layers.items()}
    bias = {name: net.bias[place] for name, place in net.layers.items()}
    w = net.weight
    expected = {
        "l1": x.flatten(1) @ net.input.T + bias["l1"] + part["l2"] @ w["l1_l2"].T,
        "l2": part["l1"] @ w["l2_l1"].T + bias["l2"] + part["l3"] @ w["l2_l3"].T,
        "l3": part["l2"] @ w["l3_l2"].T + bias["l3"] + part["out"] @ w["l3_out"].T,
        "out": part["l3"] @ w["out_l3"].T + bias["out"],
    }
    found = net.bind(x).field(s)
    for name, place in net.layers.items():
        torch.testing.assert_close(found[:, place], expected[name])


def test_the_loop_by_hand():
    net = small("loop")
    x, s = images(net), state(net)
    w, part = net.weight, {name: s[:, place] for name, place in net.layers.items()}
    found = net.bind(x).field(s)
    first = x.flatten(1) @ net.input.T + part["out"] @ w["l1_out"].T
    torch.testing.assert_close(found[:, net.layers["l1"]], first)
    torch.testing.assert_close(found[:, net.layers["l2"]], part["l1"] @ w["l2_l1"].T)
    torch.testing.assert_close(found[:, net.layers["out"]], part["l2"] @ w["out_l2"].T)
    assert net.pairs() == []
    assert angle(net) is None


@pytest.mark.parametrize("kind", ["mlp", "loop"])
def test_the_parts_of_a_dense_system_agree_with_autograd(kind):
    net = small(kind, 90.0)
    system, s = bound(net), state(net)
    v = torch.randn(s.shape, generator=torch.Generator().manual_seed(4)).double()
    value, pushed = torch.func.jvp(system.field, (s,), (v,))
    torch.testing.assert_close(system.both(s, v), (value, pushed))
    torch.testing.assert_close(system.push(s, v), pushed)
    torch.testing.assert_close(system.pull(s)(v), torch.func.vjp(system.field, s)[1](v)[0])
    torch.testing.assert_close(v @ net.jacobian().T, pushed)
    torch.testing.assert_close(system.field(s, torch.empty_like(s)), value)
    torch.testing.assert_close(system.field(s + 1j * v), value + 1j * pushed)


def test_convolutions_by_hand():
    """What comes back is the gradient that autograd finds of the pooled convolution."""
    net = small("deep", 90.0)
    for bias in net.bias:
        torch.nn.init.normal_(bias)
    x, s = images(net), state(net)
    parts = [
        s[:, place].view(6, *shape)
        for place, shape in zip(net.layers.values(), net.shapes, strict=True)
    ]
    fields = [softmax_pool(F.conv2d(x, net.input, net.input_bias, padding=1))[0]]
    for k, padding in ((0, 1), (1, 0)):
        low = parts[k].clone().requires_grad_()
        up = softmax_pool(F.conv2d(low, net.up[k], net.bias[k], padding=padding))[0]
        down = softmax_pool(F.conv2d(low, net.down[k], padding=padding))[0]
        (back,) = torch.autograd.grad((down * parts[k + 1]).sum(), low)
        fields[k] = fields[k] + back
        fields.append(up)
    expected = torch.cat([field.flatten(1) for field in fields], 1)
    torch.testing.assert_close(net.bind(x).field(s), expected)


def test_softmax_pooling_of_a_constant_of_large_numbers_and_its_slope():
    v = torch.full((1, 1, 4, 4), 1e3, dtype=torch.float64)
    assert softmax_pool(v)[0].tolist() == [[[[1e3, 1e3], [1e3, 1e3]]]]
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(2, 3, 4, 6, generator=generator).double().requires_grad_()
    pooled, slope = softmax_pool(v)
    (gradient,) = torch.autograd.grad(pooled.sum(), v)
    torch.testing.assert_close(slope, gradient)
    window = v[1, 2, 2:4, 4:6].flatten()
    torch.testing.assert_close(pooled[1, 2, 1, 2], (window.softmax(0) * window).sum())
    z = v.detach() + 0.3j
    h = 1e-6
    along = (softmax_pool(z + h)[0] - softmax_pool(z - h)[0]) / (2 * h)
    across = (softmax_pool(z + 1j * h)[0] - softmax_pool(z - 1j * h)[0]) / (2j * h)
    torch.testing.assert_close(along, across, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize(("degrees", "symmetric"), [(0.0, True), (90.0, False)])
def test_equal_weights_make_the_jacobian_symmetric_between_layers(kind, degrees, symmetric):
    """A transposed convolution without the pooling's weights would not be its partner."""
    net = small(kind if kind == "mlp" else "deep", degrees)
    one = net.bind(images(net)[:1]).detached()
    j = torch.func.jacrev(lambda s: one.field(s[None])[0])(state(net)[0])
    # The last of the convolutions is valid, the one before keeps the size.
    names = ["l1", "l2", *(["out"] if kind == "conv" else [])]
    for low, high in itertools.pairwise(net.layers[name] for name in names):
        difference = float((j[low, high] - j[high, low].T).abs().max())
        assert (difference < 1e-12) is symmetric


def test_angles():
    for degrees in (0.0, 30.0, 90.0):
        net = MLP(784, (256, 256), 10, degrees)
        net.draw(torch.Generator().manual_seed(0))
        forward, backward = (weight.detach() for weight in net.pairs()[0])
        cosine = (forward * backward).sum() / (forward.norm() * backward.norm())
        assert math.degrees(math.acos(min(1, cosine))) == pytest.approx(degrees, abs=1.5)
        # of all pairs more: weights from ``out``, with their smaller fan in, are larger
        assert float(angle(net)) >= degrees - 1
    net = Conv((3, 16, 16), (8, 12, 16), 60.0)
    net.draw(torch.Generator().manual_seed(0))
    assert float(angle(net)) == pytest.approx(60.0, abs=4)


def test_the_rotation_by_hand():
    straight, turned = small("mlp", 90.0), small("mlp", 30.0)
    w, b = (straight.weight[name] for name in ("l2_l1", "l1_l2"))
    expected = math.sin(math.radians(30)) * b + math.cos(math.radians(30)) * w.T
    torch.testing.assert_close(turned.weight["l1_l2"], expected)
    torch.testing.assert_close(turned.weight["l2_l1"], w)


def test_initial_weights_have_the_variance_and_the_cut_of_lecun_s():
    weight = torch.empty(400, 500)
    lecun_normal(weight, 500, torch.Generator().manual_seed(0))
    assert float(weight.var() * 500) == pytest.approx(1, rel=0.02)
    assert float(weight.abs().max()) <= 2 * 500**-0.5 / 0.8796
    assert float(weight.abs().max()) > 1.99 * 500**-0.5 / 0.8797


def test_the_symmetry_score_by_hand():
    w = torch.tensor([[0.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
    s, a = math.sqrt(2 * 2**2 + 2), math.sqrt(2)
    assert float(symmetry(w)) == pytest.approx(s / (s + a))
    assert float(symmetry(w + w.T)) == 1


def test_networks_at_full_size():
    net = MLP()
    assert net.n == 522
    assert sum(w.numel() for w in net.weight.values()) == 136_192
    conv = Conv(rate_factors=[25.0, 15.0, 10.0, 8.0])
    assert conv.shapes == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 1, 1)]
    assert (conv.rates()["down.2"], conv.rates()["input_bias"]) == (8.0, 25.0)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"shape": (3, 28, 28)}, "model.net.shape"), ({"rate_factors": [1.0]}, "model.net.rate_f")],
)
def test_refusals(options, key):
    with pytest.raises(ValueError, match=key):
        Conv(**options)
