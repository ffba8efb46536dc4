"""Counts of a step: closed forms, and the same with and without content."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from retable.launch.rehearsal.count import LiveBytes, count_step, flop_counter, time_step
from retable.launch.rehearsal.fake import faked
from retable.training.execute import build
from support.runs import freeze

OPTIONS = {"precision": "32-true", "accumulate_grad_batches": 1}


def digits(*overrides):
    """Data and module of a perceptron 64 x 32 x 10 without batch normalisation, and a batch."""
    run = freeze("model.norm=false", *overrides, experiment="digits/base")
    data, module = build(run.config.model_dump(mode="json"))
    return data, module, (torch.rand(100, 64), torch.arange(100) % 10)


def faked_count(*overrides, options=OPTIONS):
    with faked():
        data, module, batch = digits(*overrides)
        return count_step(module, data, batch, options)


def test_weights_without_content_take_a_memory_format():
    with faked():
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(
            memory_format=torch.channels_last
        )
        assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
        assert net(torch.rand(2, 3, 8, 8)).shape == (2, 4, 6, 6)
    assert not isinstance(nn.Conv2d(3, 4, 3).double().weight, FakeTensor), "only within the block"


def test_live_bytes_are_those_of_storages_that_are_alive():
    given = torch.zeros(100)
    with LiveBytes([given]) as live:
        one = given + 1
        two = one.view(10, 10)[2:]  # no storage of its own
        assert live.now == live.peak == 800
        three = two * 2
        assert live.now == 800 + 320
        del one, two
        assert live.now == 400 + 320
        del three
        _ = torch.zeros(1, dtype=torch.float64)
    assert live.peak == 800 + 320


def test_without_content_storages_have_the_same_sizes():
    with faked(), LiveBytes() as live:
        one = torch.zeros(1000, 1000)
        two = one @ one
        del one
        assert live.now == 4_000_000
        assert live.peak == 8_000_000
    assert two.shape == (1000, 1000)


def test_flops_are_those_of_the_products_forward_and_backward():
    first, second = 64 * 32, 32 * 10
    # The first layer's input has no gradient.
    assert faked_count("model.dropout=0.0").flops == 2 * 100 * (2 * first + 3 * second)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
def test_a_convolution_of_groups_costs_three_times_its_forward_pass(kind, groups):
    """2 k^2 C_in / groups C_out multiplications and additions a pixel, and as many twice behind."""
    layer, images = kind(32, 16, 3, padding=1, groups=groups), torch.rand(2, 32, 8, 8)
    with flop_counter() as counter:
        layer(images.requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 9 * 32 * 16 // groups) * 2 * 64


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("fakes", [faked, contextlib.nullcontext])
def test_flops_beside_the_bytes_are_those_of_torchs_own_counter(mode, fakes):
    """Without gradients torch hears of what is made of others, as ``linear`` is of a product."""

    def flops_of(counter, flops):
        with fakes(), mode():
            layers = torch.nn.Linear(8, 16), torch.nn.Conv2d(4, 8, 3, groups=2)
            images = torch.rand(3, 4, 6, 6, requires_grad=mode is torch.enable_grad)
            weights = torch.rand(4, 5, 3)
            with counter() as counted:
                out = layers[1](images).sum() + layers[0](torch.rand(7, 8)).sum()
                out = out + torch.einsum("bij,bjk->", torch.rand(4, 6, 5), weights)
                if mode is torch.enable_grad:
                    out.backward()
            return flops(counted)

    own = flops_of(LiveBytes, lambda live: live.flops)
    assert own == flops_of(flop_counter, lambda counter: counter.get_total_flops()) > 0


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.manual=true"],
        ["model.optimizer._target_=torch.optim.Adam", "model.optimizer.lr=0.001"],
    ],
)
def test_a_step_without_content_counts_as_a_real_one(overrides):
    data, module, batch = digits(*overrides)
    real = count_step(module, data, batch, OPTIONS)
    assert faked_count(*overrides) == real
    weights = 4 * sum(weight.numel() for weight in module.parameters())
    assert real.peak_bytes > 2 * weights  # with its gradients


def test_the_state_of_the_optimizer_and_its_step_are_seen_also_where_gradients_add_up():
    adam = ["model.optimizer._target_=torch.optim.Adam", "model.optimizer.lr=0.001"]
    weights = 4 * (64 * 32 + 32 + 32 * 10 + 10)
    plain, kept = faked_count(), faked_count(*adam)
    assert kept.peak_bytes >= plain.peak_bytes + 2 * weights
    summed = faked_count(*adam, options={**OPTIONS, "accumulate_grad_batches": 3})
    assert summed.flops == kept.flops
    assert summed.operations >= kept.operations > plain.operations


def test_steps_are_timed():
    data, module, batch = digits("model.sleep=0.0")
    assert time_step(module, data, batch, OPTIONS, 0.05) > 0
