"""Ternary weights in few bytes: codes by hand and by a round trip, the same outputs, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from retable.nets.convnet import ConvNet
from retable.papers.signed_supermask import packed as packing
from retable.papers.signed_supermask.initial import Initial
from retable.papers.signed_supermask.masks import Sampled, Threshold, mask_layer, weighted
from retable.papers.signed_supermask.networks import FCN
from retable.util.errors import UserError

CONSTANT, UNIFORM = Initial("elus", "constant"), Initial("xavier", "uniform")
RECIPE = Threshold(UNIFORM)


def masked(net, recipe=RECIPE, weights=CONSTANT, remaining=1.0):
    """Its scores are uniform, and all but a share of them 0."""
    generator = torch.Generator().manual_seed(0)
    for _, layer in weighted(net):
        with torch.no_grad():
            layer.weight.copy_(weights.draw(layer.weight, generator))
        mask_layer(layer, recipe, generator)
        scores = layer.parametrizations.weight.original
        with torch.no_grad():
            scores.mul_(torch.rand(scores.shape, generator=generator) < remaining)
    return net


def conv():
    return ConvNet(2, n_classes=5, size=8, width=4, hidden=6, activation="elu", bias=False)


def test_codes_by_hand():
    entries = np.array([0, 1, -1, 0, 0, 1], dtype=np.int8)
    assert packing.sparse(entries).tolist() == [2 * 1, 2 * 0 + 1, 2 * 2]
    # As value plus 1 the first four are 1, 2, 0, 1, and the last two 1, 2.
    assert packing.two_bits(entries).tolist() == [0b01100001, 0b01100000]


@given(
    st.lists(st.tuples(st.integers(0, 70_000), st.sampled_from([-1, 1])), max_size=6),
    st.integers(0, 40_000),
)
def test_codes_come_back(steps, rest):
    """Distances on either side of what a code can say."""
    entries = np.zeros(sum(gap + 1 for gap, _ in steps) + rest, dtype=np.int8)
    at = -1
    for gap, sign in steps:
        at += gap + 1
        entries[at] = sign
    n = len(entries)
    assert np.array_equal(packing.from_sparse(packing.sparse(entries), n), entries)
    assert np.array_equal(packing.from_two_bits(packing.two_bits(entries), n), entries)


@pytest.mark.parametrize("gap", [packing._FAR - 1, packing._FAR, packing._FAR + 1, 65_535])
def test_far_entries_come_back(gap):
    entries = np.zeros(gap + 2, dtype=np.int8)
    entries[-1] = -1
    assert np.array_equal(packing.from_sparse(packing.sparse(entries), gap + 2), entries)


@pytest.mark.parametrize("remaining", [0.02, 1.0])
@pytest.mark.parametrize("make", [lambda: FCN(widths=[30, 20]), conv])
def test_a_file_gives_the_same_outputs_bit_for_bit_in_few_bytes(tmp_path, make, remaining):
    net = masked(make(), remaining=remaining)
    shape = (1, 28, 28) if isinstance(net, FCN) else (3, 8, 8)
    images = torch.randn(9, *shape)
    file = tmp_path / "net.safetensors"
    size = packing.save(net, file)
    read = packing.load(make(), file)
    with torch.no_grad():
        assert torch.equal(read(images), net(images))
        assert torch.equal(packing.plain(net)(images), net(images))
    tensors = load_file(file)
    n = sum(layer.weight.numel() for _, layer in weighted(net))
    assert size["bytes"] == sum(t.nbytes for t in tensors.values())
    assert size["dense_bytes"] == 4 * n
    assert size["ratio"] == pytest.approx(4 * n / size["bytes"])
    # 1.2 % of the entries remain, 16 bits each; else two bits an entry.
    assert size["ratio"] > (100 if remaining < 1 else 15.5)
    assert file.stat().st_size < size["bytes"] + 2000


def test_what_is_not_ternary_is_refused(tmp_path):
    drawn = masked(FCN(widths=[4, 3]), recipe=Sampled())
    real = masked(FCN(widths=[4, 3]), weights=Initial("he", "uniform"))
    for net in (drawn, real, FCN(widths=[4, 3])):
        layers = [layer for _, layer in weighted(net)]
        assert not packing.can_pack(layers)
        with pytest.raises(ValueError, match="not ternary"):
            packing.save(net, tmp_path / "net")
    assert not packing.can_pack([])
    assert packing.can_pack([layer for _, layer in weighted(masked(FCN(widths=[4, 3])))])


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "net.safetensors"
    with pytest.raises(UserError, match="no such file"):
        packing.load(FCN(), file)
    packing.save(masked(FCN(widths=[4, 3])), file)
    with pytest.raises(UserError, match="is no packed network of this kind"):
        packing.load(FCN(widths=[5, 3]), file)
    save_file(load_file(file), file, {"format": "other 1", "layers": json.dumps({})})
    with pytest.raises(UserError, match="format 'other 1', expected 'signed_supermask 1'"):
        packing.load(FCN(widths=[4, 3]), file)
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no packed network"):
        packing.load(FCN(), file)
