"""One stage alone, and rates by relative gradient norms."""

from __future__ import annotations

import pytest
import torch

from retable.papers.subtuning import networks
from retable.papers.subtuning.surgical import is_rated, relative_norms


def test_relative_norms_in_closed_form():
    parameters = {
        "blocks.0.conv1.weight": torch.full((2, 2), 2.0),  # norm 4
        "blocks.0.bn1.weight": torch.ones(2),
        "stem.1.weight": torch.ones(2),
        "fc.weight": torch.tensor([[3.0, 4.0]]),  # norm 5
        "fc.bias": torch.zeros(1),
    }
    first = {k: torch.zeros_like(p) for k, p in parameters.items()}
    second = {k: p.clone() for k, p in parameters.items()}
    first["blocks.0.conv1.weight"] = torch.full((2, 2), 1.0)  # norm 2, ratio 1/2
    second["blocks.0.conv1.weight"] = torch.full((2, 2), 0.5)  # norm 1, ratio 1/4
    second["fc.weight"] = torch.tensor([[3.0, 4.0]]) / 2  # ratios 0 and 1/2
    second["fc.bias"] = torch.ones(1)
    found = relative_norms(iter([first, second]), parameters)
    assert found == pytest.approx(
        {"blocks.0.conv1.weight": 1.0, "fc.weight": (1 / 4) / (3 / 8), "fc.bias": 0.0}
    )
    zeros = {k: torch.zeros_like(p) for k, p in parameters.items()}
    assert {*relative_norms([zeros], parameters).values()} == {0.0}
    with pytest.raises(ValueError, match="no batch"):
        relative_norms([], parameters)


def test_the_mean_is_of_ratios_so_the_order_of_batches_and_their_scale_do_not_matter():
    net = networks.network("resnet8", 3)
    parameters = dict(net.named_parameters())
    generator = torch.Generator().manual_seed(0)
    batches = [
        {k: torch.randn(p.shape, generator=generator) for k, p in parameters.items()}
        for _ in range(3)
    ]
    found = relative_norms(batches, parameters)
    assert max(found.values()) == 1.0
    assert found == pytest.approx(relative_norms(batches[::-1], parameters))
    scaled = [{k: 7 * g for k, g in batch.items()} for batch in batches]
    assert found == pytest.approx(relative_norms(scaled, parameters))
    assert found.keys() == {k for k in parameters if is_rated(k)}


def test_norms_are_not_rated():
    names = dict(networks.network("resnet20", 10).named_parameters())
    out = {k for k in names if not is_rated(k)}
    assert {"stem.1.weight", "blocks.4.bn2.bias"} <= out
    assert len(out) == 2 * 19
    assert is_rated("stem.0.weight")
    assert is_rated("blocks.3.downsample.1.weight")  # no "bn" in its name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50", "vit_tiny"])
def test_stages_are_a_partition_of_the_blocks(name):
    assert sorted(i for stage in networks.stages(name) for i in stage) == [
        *range(len(networks.network(name, 10)))
    ]


def test_stages_of_resnet_20_have_the_parameters_of_the_paper():
    net = networks.network("resnet20", 10)
    sizes = [
        [sum(p.numel() for p in net.blocks[i].parameters()) for i in stage]
        for stage in networks.stages("resnet20")
    ]
    assert sizes == [[4672] * 3, [13952, 18560, 18560], [55552, 73984, 73984]]
