"""Public weight files in networks of blocks."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
import torchvision.models
from torchvision.models.vision_transformer import VisionTransformer

from retable.nets.resnet import CifarResNet
from retable.papers.subtuning import networks
from retable.papers.subtuning.weights import load, renamed
from retable.runs.weight_files import read
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")
FILES = {20: "cifar10_resnet20-12fca82f.th", 56: "cifar10_resnet56-4bfd9763.th"}


def images(n=2, side=32):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def disturbed(net):
    """Weights and statistics that no network begins with."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, w in net.state_dict().items():
            if w.is_floating_point():
                noise = torch.rand(w.shape, generator=generator)
                w.copy_(noise + 0.5 if name.endswith("running_var") else w + 0.1 * noise)
    return net.eval()


def small_vit():
    return disturbed(VisionTransformer(32, 8, 3, 4, 24, 48, num_classes=10))


def of_timm(weights):
    """Names of timm's ViT for those of torchvision's."""
    steps = [
        (r"encoder\.layers\.encoder_layer_", "blocks."),
        (r"^encoder\.ln\.", "norm."),
        ("encoder.pos_embedding", "pos_embed"),
        ("class_token", "cls_token"),
        ("conv_proj", "patch_embed.proj"),
        ("heads.head", "head"),
        (r"\.ln_", ".norm"),
        (r"self_attention\.in_proj_", "attn.qkv."),
        (r"self_attention\.out_proj", "attn.proj"),
        (r"mlp\.0", "mlp.fc1"),
        (r"mlp\.3", "mlp.fc2"),
    ]
    found = {}
    for name, w in weights.items():
        for pattern, new in steps:
            name = re.sub(pattern, new, name)
        found[name] = w
    return found


@pytest.mark.skipif(not MIRROR, reason="needs the data sets: set RETABLE_MIRROR")
@pytest.mark.parametrize("depth", FILES)
def test_trained_resnets_for_small_images_give_the_same_outputs(depth):
    file = Path(MIRROR) / "weights" / FILES[depth]
    weights = read(file)
    net = networks.network(f"resnet{depth}", 10).eval()
    load(net, renamed(weights, f"resnet{depth}"), "kept")
    plain = CifarResNet(depth).eval()
    own = {k.removeprefix("state_dict.module."): w for k, w in weights.items()}
    own = {k.replace("linear.", "fc."): w for k, w in own.items()}
    missed = plain.load_state_dict(own, strict=False)
    assert not missed.unexpected_keys
    assert all(k.endswith("num_batches_tracked") for k in missed.missing_keys)
    found = net(images())
    assert torch.equal(found, plain(images()))
    assert found.std() > 1  # the network has learnt something


@pytest.mark.slow
@pytest.mark.parametrize("above", ["", "state_dict.module."])
def test_a_resnet_of_torchvision(above):
    plain = disturbed(torchvision.models.resnet18(num_classes=7))
    weights = {above + k: w for k, w in plain.state_dict().items()}
    if above:
        weights |= {"optimizer.state.0.exp_avg": torch.ones(3), "best_prec1": torch.ones(())}
    net = networks.network("resnet18", 7).eval()
    load(net, renamed(weights, "resnet18"), "kept")
    assert torch.allclose(net(images()), plain(images()), atol=1e-5)


@pytest.mark.slow
def test_bottlenecks_by_name_and_shape():
    plain = torchvision.models.resnet50(num_classes=3)
    net = networks.network("resnet50", 3)
    load(net, renamed(plain.state_dict(), "resnet50"), "kept")
    assert torch.equal(net.blocks[3].downsample[0].weight, plain.layer2[0].downsample[0].weight)
    assert torch.equal(net.blocks[15].conv3.weight, plain.layer4[2].conv3.weight)


@pytest.mark.parametrize("old", [False, True])
def test_a_vit_of_torchvision(old):
    plain = small_vit()
    weights = plain.state_dict()
    if old:  # as the files that are published have it
        weights = {
            k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): w
            for k, w in weights.items()
        }
    net = networks.network("vit_tiny", 10).eval()
    load(net, renamed(weights, "vit_tiny"), "kept")
    assert torch.allclose(net(images()), plain(images()), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_vit_of_timm_with_and_without_a_bias_of_the_attention(bias):
    plain = small_vit()
    if not bias:
        for block in plain.encoder.layers:
            torch.nn.init.zeros_(block.self_attention.in_proj_bias)
    weights = of_timm(plain.state_dict())
    assert {"blocks.0.attn.qkv.bias", "norm.weight", "head.bias"} < {*weights}
    if not bias:
        weights = {k: w for k, w in weights.items() if not k.endswith("qkv.bias")}
    net = networks.network("vit_tiny", 10).eval()
    torch.nn.init.ones_(net.blocks[0].self_attention.in_proj_bias)
    load(net, renamed(weights, "vit_tiny"), "kept")
    assert torch.allclose(net(images()), plain(images()), atol=1e-5)


def test_a_new_head_stays_as_it_was_drawn_and_a_kept_one_has_to_fit():
    weights = renamed(CifarResNet(8, n_classes=10).state_dict(), "resnet8")
    net = networks.network("resnet8", 4)
    before = net.fc.weight.clone()
    with pytest.raises(
        UserError, match=r"model\.head: kept, but 'fc\.weight' is \(10, 64\).*\(4, "
    ):
        load(net, weights, "kept")
    load(net, weights, "new")
    assert torch.equal(net.fc.weight, before)
    assert torch.equal(net.stem[0].weight, weights["stem.0.weight"])
    headless = {k: w for k, w in weights.items() if not k.startswith("fc.")}
    load(net, headless, "new")
    with pytest.raises(UserError, match=r"model\.head: kept, but the weights have no 'fc\.weight'"):
        load(net, headless, "kept")


def test_a_file_without_counters_of_batches_sets_them_to_0():
    weights = renamed(CifarResNet(8).state_dict(), "resnet8")
    older = {k: w for k, w in weights.items() if not k.endswith("num_batches_tracked")}
    assert len(older) < len(weights)
    net = networks.network("resnet8", 10)
    net.blocks[1].bn1.num_batches_tracked.fill_(3)
    load(net, older, "kept")
    assert net.blocks[1].bn1.num_batches_tracked == 0


def test_what_does_not_fit_is_named_and_nothing_is_loaded():
    weights = renamed(CifarResNet(8).state_dict(), "resnet8")
    net = networks.network("resnet8", 10)
    before = {k: w.clone() for k, w in net.state_dict().items()}
    lacking = {k: w for k, w in weights.items() if k != "blocks.1.bn2.bias"}
    with pytest.raises(UserError, match=r"the weights lack 'blocks\.1\.bn2\.bias'"):
        load(net, lacking, "new")
    wide = weights | {"blocks.2.conv1.weight": torch.zeros(64, 64, 3, 3)}
    shapes = r"'blocks\.2\.conv1\.weight' is \(64, 64, 3, 3\) in the weights and \(64, 32, 3, 3\)"
    with pytest.raises(UserError, match=shapes):
        load(net, wide, "new")
    more = weights | {"blocks.0.bn3.bias": torch.zeros(1)}
    with pytest.raises(UserError, match=r"no 'blocks\.0\.bn3\.bias'; did you mean 'blocks\.0\.bn"):
        load(net, more, "new")
    assert all(torch.equal(w, before[k]) for k, w in net.state_dict().items())


@pytest.mark.parametrize(
    ("weights", "name", "match"),
    [
        (lambda: CifarResNet(14).state_dict(), "resnet8", r"\[2, 2, 2\] blocks, .*\[1, 1, 1\]"),
        (lambda: CifarResNet(8).state_dict(), "vit_tiny", "of a ResNet, not of 'vit_tiny'"),
        (lambda: small_vit().state_dict(), "resnet8", "of a ViT, not of 'resnet8'"),
        (lambda: {"weight": torch.ones(1)}, "resnet8", "among 1 names such as 'weight'"),
        (
            lambda: CifarResNet(8).state_dict() | {"lineer.bias": torch.ones(1)},
            "resnet8",
            "no network here has a 'lineer.bias'; did you mean 'linear'",
        ),
        (
            lambda: of_timm(small_vit().state_dict()) | {"fc_norm.bias": torch.ones(1)},
            "vit_tiny",
            "no network here has a 'fc_norm.bias'",
        ),
    ],
)
def test_files_of_other_networks_are_refused(weights, name, match):
    with pytest.raises(UserError, match=match):
        renamed(weights(), name)
