"""Conv-2 to Conv-8 and the strided one: sizes as printed, and networks put together by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retable.nets.convnet import ConvNet, StridedConvNet
from support.nets import configured, conv, count, every_gradient, same_draw, size

NAME = "convnet.ConvNet"


# Without biases as kosnil/signed_supermasks counts; the convolutions' 38 K, 260 K and 1.1 M are in
# Figure 2 of Frankle & Carbin, as are 4.3 M and 2.4 M of Conv-2 and Conv-4.
@pytest.mark.parametrize(
    ("n", "exact", "convolutions"),
    [
        (2, 4_300_992, 38_592),
        (4, 2_425_024, 259_776),
        (6, 2_261_184, 1_144_512),
        (8, 5_275_840, 4_683_456),
    ],
)
def test_sizes(n, exact, convolutions):
    widths = [64, 64, 128, 128, 256, 256, 512, 512][:n]
    parts = sum(map(conv, [3, *widths], widths))
    pixels = widths[-1] * (32 // 2 ** (n // 2)) ** 2
    assert parts == convolutions
    parts += pixels * 256 + 256 * 256 + 256 * 10
    assert size(NAME, n_convolutions=n, bias=False) == parts == exact
    assert size(NAME, n_convolutions=n) == parts + sum(widths) + 256 + 256 + 10


def test_equals_the_network_put_together_by_hand():
    net = ConvNet(4, in_channels=1, size=28, width=3, hidden=5, activation="elu", bias=False)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    one, two, three, four, *dense = layers
    x = torch.randn(2, 1, 28, 28)
    elu, pool = nn.ELU(), nn.MaxPool2d(2)
    hidden = pool(elu(four(elu(three(pool(elu(two(elu(one(x)))))))))).flatten(1)
    assert hidden.shape == (2, 6 * 49)
    features = elu(dense[1](elu(dense[0](hidden))))
    assert net.features(x).equal(features)
    assert net(x).equal(dense[2](features))
    assert len(list(net.parameters())) == 7


@pytest.mark.parametrize("options", [{}, {"activation": "elu", "bias": False}])
def test_shapes_gradients_and_seeds(options):
    options = {"n_convolutions": 8, "n_classes": 5, "width": 4, "hidden": 16, **options}
    net = configured(NAME, **options)
    x = torch.randn(4, 3, 32, 32)
    assert net.features(x).shape == (4, 16)
    assert net(x).shape == (4, 5)
    every_gradient(net, x)
    same_draw(NAME, **options)
    biases = [p for p in net.parameters() if p.dim() == 1]
    assert len(biases) == (11 if options.get("bias", True) else 0)
    assert not any(p.count_nonzero() for p in biases)  # Glorot's, in dense layers as well


def test_an_image_that_cannot_be_halved_so_often():
    with pytest.raises(ValueError, match="divisible by 8"):
        ConvNet(6, size=28)


def test_the_strided_network():
    """Three layers as those of the reduced protocols; two without norm."""
    net = configured("convnet.StridedConvNet")
    parts = conv(3, 16) + conv(16, 32) + conv(32, 64) + 2 * (16 + 32 + 64) + 650
    assert count(net) == parts == 24_346
    peer = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    net.convolutions.load_state_dict(peer.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net.features(x), peer(x))
    assert net(x).shape == (2, 10)
    every_gradient(net, x)
    same_draw("convnet.StridedConvNet")
    two = StridedConvNet((16, 32), (1, 1), in_channels=1, batch_norm=False)
    assert count(two) == conv(1, 16, bias=1) + conv(16, 32, bias=1) + 330
