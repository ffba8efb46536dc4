"""Latency of a further task as a run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from retable.papers.subtuning import module_latency, networks
from retable.papers.subtuning.two_stream import block_flops
from retable.training.execute import build
from support.runs import freeze


def latency(*overrides):
    run = freeze(*overrides, experiment="subtuning/smoke_latency")
    _, module = build(run.config.model_dump(mode="json"))
    return module


def by_row(module):
    module.test_step((), 0)
    module.test_step((), 1)  # the images of a test are many, the measurement is one
    found = {}
    for result in module.results:
        assert result.metric not in found.setdefault(result.row, {})
        found[result.row][result.metric.removeprefix("latency/")] = result.value
    return found


def test_what_is_told_of_three_times_in_turn(monkeypatch):
    module = latency("model.rounds=2", "model.warm_up=1", "model.script=false")
    turns = {"one": [9.0, 10.0, 20.0], "separate": [9.0, 20.0, 40.0], "two": [99.0, 12.0, 30.0]}
    times = [time for round_ in zip(*turns.values(), strict=True) for time in round_]
    calls = iter(5 * times)
    monkeypatch.setattr(module, "_timed", lambda _: next(calls))
    found = by_row(module)
    assert next(calls, None) is None
    rows = ["B1", "B2", "B3", "B1+B2", "B2+B3"]
    assert [*found] == [*rows, "one"]
    for row in rows:
        operations = found[row].pop("operations")
        assert 0 < operations < 1
        assert found[row] == pytest.approx(
            {"ms": 21, "added": (0.2 + 0.5) / 2, "of_both": (0.6 + 0.75) / 2}
        )
    assert found["one"] == {"ms": 15}
    assert module.timing_metrics == {f"latency/{name}" for name in found["B1"]}


@pytest.mark.parametrize("script", [pytest.param(True, marks=pytest.mark.slow), False])
def test_operations_are_those_of_the_blocks_from_the_first_tuned_one_on(script):
    found = by_row(latency("model.rounds=1", f"model.script={script}"))
    flops = block_flops(networks.network("resnet8", 10), torch.randn(1, 3, 32, 32))
    for row, first in {"B1": 0, "B2": 1, "B3": 2, "B1+B2": 0, "B2+B3": 1}.items():
        expected = (sum(flops.blocks[first:]) + flops.head) / flops.total
        assert found[row]["operations"] == pytest.approx(expected)
        assert found[row]["ms"] > 0


def test_outputs_that_are_not_those_of_both_networks_are_no_measurement(monkeypatch):
    class Wrong(module_latency.TwoStream):
        def forward(self, x):
            old, new = super().forward(x)
            return new, old

    monkeypatch.setattr(module_latency, "TwoStream", Wrong)
    with pytest.raises(ArithmeticError, match="outputs of the two-stream network differ by"):
        by_row(latency())


def test_the_three_that_take_turns(monkeypatch):
    """One network, it and its tuned copy, and both as one."""
    module = latency("model.script=false", "model.rounds=1", "model.windows=[2]")
    ran = []
    hook = nn.modules.module.register_module_forward_hook(lambda net, *_: ran.append(type(net)))
    try:
        calls = []
        monkeypatch.setattr(module, "_timed", lambda call: calls.append(call) or 1.0)
        old = networks.network("resnet8", 10).eval()
        module.measured(old, range(1, 3), torch.randn(1, 3, 32, 32))
        outer = []
        for call in calls[:3]:
            ran.clear()
            call()
            outer.append([net for net in ran if net in (networks.Blocks, module_latency.TwoStream)])
    finally:
        hook.remove()
    assert outer == [[networks.Blocks], [networks.Blocks] * 2, [module_latency.TwoStream]]
