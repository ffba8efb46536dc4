"""VGG: sizes, and torchvision's convolutions."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.vgg import cfgs, make_layers

from retable.nets.vgg import VGG
from support.nets import configured, conv, count, every_gradient, same_draw, size

NAME = "vgg.VGG"


def test_sizes():
    """14,714,688 is Keras's VGG16 without its top; 20.04 M is known of VGG-19 with norm."""
    convolutions, norms = 14_714_688, 2 * 4224
    assert count(make_layers(cfgs["D"])) == convolutions
    hidden = 2 * 513 * 512
    assert size(NAME, depth=16) == convolutions + hidden + 5130 == 15_245_130
    plain = size(NAME, depth=16, batch_norm=True, hidden=[])
    assert plain == convolutions + norms + 5130 == 14_728_266
    extra = conv(256, 256) + 2 * conv(512, 512) + 3 * (256 + 2 * 512)  # biases and norms too
    assert size(NAME, depth=19, batch_norm=True, hidden=[]) == plain + extra == 20_040_522


@pytest.mark.parametrize(
    ("depth", "letter", "batch_norm"), [(16, "D", False), (16, "D", True), (19, "E", True)]
)
def test_equals_the_convolutions_of_torchvision(depth, letter, batch_norm):
    peer = make_layers(cfgs[letter], batch_norm=batch_norm)
    net = VGG(depth, batch_norm=batch_norm, hidden=())
    net.convolutions.load_state_dict(peer.state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net.features(x), peer(x).flatten(1))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_shapes_gradients_and_seeds(batch_norm):
    options = {"n_classes": 5, "in_channels": 1, "width": 8, "batch_norm": batch_norm}
    options |= {"hidden": [16, 12], "mean": [0.5], "std": [0.25]}
    net = configured(NAME, **options)
    x = torch.randn(8, 1, 32, 32)
    assert net.features(x).shape == (8, 12)
    assert net.features(x).min() >= 0
    assert net(x).shape == (8, 5)
    every_gradient(net, x)
    same_draw(NAME, **options)


def test_an_image_is_normalised_within():
    """The statistics are no weights: a network with others has the same state."""
    plain = VGG(width=4).eval()
    net = VGG(width=4, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)).eval()
    net.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    shifted = torch.stack([(x[:, i] - 0.1 * (i + 1)) / 2**i for i in range(3)], 1)
    torch.testing.assert_close(net(x), plain(shifted))
