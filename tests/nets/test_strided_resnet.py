"""The residual network whose stem halves the image."""

from __future__ import annotations

import torch

from retable.nets.resnet import ResNet
from retable.nets.strided_resnet import StridedResNet


def test_every_second_pixel_of_the_stem_is_all_that_differs():
    torch.manual_seed(0)
    plain = ResNet(depth=18, width=4).eval()
    strided = StridedResNet(depth=18, width=4).eval()
    strided.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 32, 32)
    kept = plain.conv1(x)[:, :, ::2, ::2]
    torch.testing.assert_close(strided.conv1(x), kept)
    plain.conv1 = torch.nn.Identity()
    torch.testing.assert_close(strided.features(x), plain.features(kept))
    assert strided.features(x).shape == (2, 32)


def test_the_stem_is_drawn_as_it_is_asked_for():
    drawn = StridedResNet(depth=18, width=64, stem_init="torch").conv1.weight
    assert drawn.abs().max() <= 27**-0.5  # PyTorch's own bound, uniform
    assert StridedResNet(depth=18, width=64).conv1.weight.abs().max() > 27**-0.5 * 0.3
