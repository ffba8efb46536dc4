"""Networks with weights packed to bits: the same outputs, a file that is data only, sizes."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from retable.papers.binary_connect import packed as packing
from retable.papers.binary_connect.layers import BatchNorm
from retable.papers.binary_connect.module import recompute
from retable.papers.binary_connect.networks import (
    Recipe,
    binary_layers,
    cnn,
    mlp,
    norms,
    use_statistics,
)
from retable.papers.binary_connect.packed import PackedLayer, load, pack, save, sizes
from retable.util.errors import UserError


def trained(kind="mlp", *, mode="det", statistics="recomputed", **options):
    """A network whose biases, scales, shifts and statistics are not those of the beginning."""
    torch.manual_seed(0)
    recipe = Recipe(mode=mode, **options)
    shape = (3, 4, 8)
    network = mlp(recipe, 96, [13, 7], 5) if kind == "mlp" else cnn(recipe, shape, [3, 5], [9], 5)
    for layer in (*binary_layers(network), *norms(network)):
        layer.bias.data.normal_()
    for layer in norms(network):
        layer.weight.data.uniform_(0.5, 2)
    batches = [torch.randn(30, *shape) + 0.3 for _ in range(3)]
    with torch.no_grad():
        for batch in batches:
            network(batch)
    recompute(network, batches[:2])
    use_statistics(network, statistics)
    binary_layers(network)[0].weight.data.view(-1)[:2] = torch.tensor([0.0, -0.0])
    return network, torch.randn(11, *shape)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("normalization", ["variance", "deviation"])
@pytest.mark.parametrize("statistics", ["running", "recomputed"])
@pytest.mark.parametrize("magnitude", ["glorot", "one"])
def test_packed_network_gives_the_same_outputs_bit_for_bit(
    tmp_path, kind, normalization, statistics, magnitude
):
    network, x = trained(
        kind, statistics=statistics, normalization=normalization, magnitude=magnitude
    )
    with torch.no_grad():
        expected = network(x)
        packed = pack(network)
        assert torch.equal(packed(x), expected)
        save(packed, tmp_path / "net.safetensors")
        read = load(tmp_path / "net.safetensors")
        assert torch.equal(read(x), expected)
    assert not read.training
    assert not any(p.requires_grad for p in packed.parameters())
    other = "running" if statistics == "recomputed" else "recomputed"
    use_statistics(network, other)
    assert not torch.equal(network(x), expected), "the two statistics do not differ"


def test_unpacked_weights_are_the_binary_ones():
    network, _ = trained()
    packed = [m for m in pack(network) if isinstance(m, PackedLayer)]
    for layer, small in zip(binary_layers(network), packed, strict=True):
        assert torch.equal(small.weight(), layer.propagated())
        n_out, n_in = layer.weight.shape
        assert small.bits.shape == (n_out, (n_in + 7) // 8)


def test_bits_are_in_the_documented_order():
    network = mlp(Recipe(mode="det", magnitude="one"), 10, [], 1)
    signs = [1, -1, -1, 1, 1, 1, -1, 1, -1, 1]
    binary_layers(network)[0].weight.data.copy_(torch.tensor([signs]) * 0.3)
    first = pack(network)[1]
    assert first.bits.tolist() == [[0b10011101, 0b01000000]]
    assert first.weight().tolist() == [signs]


def test_packing_leaves_the_network_alone_and_does_not_share_statistics():
    network, x = trained()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        packed = pack(network)
        expected = packed(x)
        for norm in norms(network):
            norm.bias.add_(1)
            norm.running_mean.add_(1)
            norm.recomputed_mean.add_(1)
        for layer in binary_layers(network):
            layer.weight.neg_()
            layer.bias.add_(1)
        assert torch.equal(packed(x), expected)
    assert set(before) == set(network.state_dict())


def test_dropout_is_left_out():
    network = mlp(Recipe(mode="det", dropout=0.5), 96, [13])
    packed = pack(network)
    assert not any(isinstance(m, nn.Dropout) for m in packed)
    x = torch.randn(3, 96)
    assert torch.equal(packed(x), network.eval()(x))


def test_a_stochastically_trained_network_is_packed_by_its_signs():
    network, x = trained(mode="stoch")
    packed = pack(network)
    for layer in binary_layers(network):
        layer.mode = "det"
    with torch.no_grad():
        assert torch.equal(packed(x), network.eval()(x))


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_real_weights_are_not_packed(kind):
    network, _ = trained(kind, mode="none")
    with pytest.raises(ValueError, match="not binary"):
        pack(network)


def test_sizes_are_those_of_the_closed_form():
    network = mlp(Recipe(mode="det"), 64, [32, 16], 8)
    found = sizes(network, pack(network))
    n = 64 * 32 + 32 * 16 + 16 * 8
    rest = 4 * 5 * (32 + 16 + 8)  # bias; scale, shift and two statistics of a norm; 32 bits each
    assert found == {
        "weight_bytes": n / 8,
        "weight_bytes_16": 2 * n,
        "weight_ratio": 16,
        "bytes": n / 8 + rest,
        "ratio": (2 * n + rest) / (n / 8 + rest),
    }


def test_rows_are_padded_to_whole_bytes_and_convolutions_are_rows_too():
    network = mlp(Recipe(mode="det"), 9, [3], 2)
    assert sizes(network, pack(network))["weight_bytes"] == 3 * 2 + 2 * 1
    network = cnn(Recipe(mode="det"), (3, 2, 2), [5], [], 2)
    # Rows of 27, 45 and 5 weights.
    assert sizes(network, pack(network))["weight_bytes"] == 5 * 4 + 5 * 6 + 2 * 1


def test_the_file_is_about_as_large_as_what_is_counted(tmp_path):
    network = mlp(Recipe(mode="det"), 256, [128, 128], 10)
    packed = pack(network)
    save(packed, tmp_path / "net")
    counted = sizes(network, packed)["bytes"]
    assert counted < (tmp_path / "net").stat().st_size < counted + 3000


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    network, _ = trained()
    file = tmp_path / "net"
    save(pack(network), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="is no packed network"):
        load(file)


class Trap:
    """Unpickling one would write a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_none_of_its_code_runs(tmp_path, writer):
    trap, file = Trap(tmp_path / "it ran"), tmp_path / "net"
    if writer == "pickle":
        file.write_bytes(pickle.dumps(trap))
    else:
        torch.save(trap, file)
    with pytest.raises(UserError, match="is no packed network"):
        load(file)
    assert not (tmp_path / "it ran").exists()
    pickle.loads(pickle.dumps(trap)).close()
    assert (tmp_path / "it ran").exists(), "the trap is none"


def layers_of(*nodes):
    return {"format": packing.FORMAT, "layers": json.dumps(nodes)}


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "other"},
        {"format": packing.FORMAT},
        {"format": packing.FORMAT, "layers": "["},
        {"format": packing.FORMAT, "layers": "3"},
        layers_of({"kind": "os.system"}),
        layers_of({"no": "kind"}),
        layers_of({"kind": "packed", "shape": [3, 8], "scale": 1.0}),
        layers_of({"kind": "packed", "shape": [], "scale": 1.0}),
        layers_of({"kind": "packed", "shape": "ab", "scale": 1.0}),
        layers_of({"kind": "norm", "n": -1, "eps": 0, "spread": "variance"}),
        layers_of({"kind": "relu"}),
    ],
)
def test_a_foreign_safetensors_file_is_refused(tmp_path, metadata):
    file = tmp_path / "net"
    safetensors.torch.save_file({"weights": torch.zeros(3)}, file, metadata)
    with pytest.raises(UserError, match="is no packed network"):
        load(file)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError):
        load(tmp_path)


def test_a_layer_of_another_kind_is_not_written(tmp_path):
    network, _ = trained()
    strange = nn.Sequential(*pack(network), nn.Tanh())
    with pytest.raises(ValueError, match="Tanh: cannot be written"):
        save(strange, tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_evaluation_keeps_one_set_of_statistics():
    network, _ = trained()
    for layer in pack(network):
        if isinstance(layer, BatchNorm):
            assert set(layer.state_dict()) == {"weight", "bias", "running_mean", "running_spread"}
