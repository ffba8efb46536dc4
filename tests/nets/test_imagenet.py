"""Networks of ImageNet's size come from torchvision, by name and with any number of classes."""

from __future__ import annotations

import hydra.utils
import pytest
import torch

from retable.config.targets import check
from retable.util.errors import UserError
from support.nets import conv, count


def built(name: str, **arguments):
    node = {"_target_": f"torchvision.models.{name}", **arguments}
    assert check(node, "model.net") == node
    with torch.device("meta"):
        return hydra.utils.instantiate(node)


def bottlenecks(groups: int, width_per_group: int) -> int:
    """Parameters of 3, 4, 6 and 3 bottlenecks, by their formula (He et al. 2016, Table 1)."""
    total, n_in = 0, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, out = groups * width_per_group * 2**stage, 256 * 2**stage
        for block in range(blocks):
            total += conv(n_in, inner, 1) + conv(inner, inner) // groups + conv(inner, out, 1)
            total += 2 * (2 * inner + out)
            total += conv(n_in, out, 1) + 2 * out if block == 0 else 0
            n_in = out
    return total


@pytest.mark.parametrize(
    ("name", "groups", "width", "known"),
    [("resnet50", 1, 64, 25_557_032), ("resnext50_32x4d", 32, 4, 25_028_904)],
)
@pytest.mark.parametrize("n_classes", [1000, 10])
def test_sizes_of_bottleneck_networks(name, groups, width, known, n_classes):
    stem, head = conv(3, 64, 7) + 2 * 64, conv(2048, n_classes, 1, bias=1)
    size = count(built(name, num_classes=n_classes))
    assert size == stem + bottlenecks(groups, width) + head
    assert n_classes != 1000 or size == known


@pytest.mark.parametrize("n_classes", [1000, 10])
def test_size_of_vit_b_16(n_classes):
    d = 768
    layer = 4 * (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d
    embedding = conv(3, d, 16, bias=1) + d + (14 * 14 + 1) * d
    size = count(built("vit_b_16", num_classes=n_classes))
    assert size == embedding + 12 * layer + 2 * d + n_classes * (d + 1)
    assert n_classes != 1000 or size == 86_567_656


@pytest.mark.parametrize("weights", ["IMAGENET1K_V2", "DEFAULT"])
def test_weights_that_the_run_itself_would_fetch_are_refused(weights):
    node = {"_target_": "torchvision.models.resnet50", "weights": weights}
    with pytest.raises(UserError, match=r"model\.net\.weights: would be downloaded by every run"):
        check(node, "model.net")
    assert check({**node, "weights": None}, "model.net")["weights"] is None
