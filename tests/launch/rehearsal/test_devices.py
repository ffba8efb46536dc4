"""Time of a run from its counts, and what is kept of a rehearsal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.launch.rehearsal.devices import GPUS, Device, check_device, device_named, run_seconds
from retable.launch.rehearsal.records import Estimate, Rehearsed, keep, kept
from retable.util.errors import UserError
from support.runs import freeze

DEVICE = Device("gpu", "a GPU", {"32-true": 1e12, "16-mixed": 8e12}, 1e-5, "made up")
FOUND = Rehearsed("done", 1, flops=10**9, peak_bytes=1, operations=100, steps=50)


@given(st.integers(1, 10**15), st.integers(1, 10**4), st.integers(1, 10**6), st.floats(0.01, 1))
def test_a_step_takes_its_flops_or_its_operations_whichever_is_longer(flops, calls, steps, share):
    found = replace(FOUND, flops=flops, operations=calls, steps=steps)
    took = run_seconds(found, "32-true", DEVICE, share)
    by_flops, by_calls = steps * flops / (share * 1e12), steps * calls * 1e-5
    assert took == pytest.approx(max(by_flops, by_calls))
    assert run_seconds(found, "16-mixed", DEVICE, share) <= took


def test_a_step_that_was_timed_tells_of_this_machine_alone():
    timed = replace(FOUND, flops=None, operations=None, step_s=0.5)
    here = device_named("cpu", 1)
    assert run_seconds(timed, "32-true", here, 0.3) == 25
    assert run_seconds(timed, "32-true", DEVICE, 0.3) is None
    assert run_seconds(replace(FOUND, steps=None), "32-true", here, 0.3) is None
    assert 1e8 < here.peak["32-true"] < 1e15


def test_devices_have_every_precision_and_a_source():
    for device in GPUS.values():
        assert device.peak.keys() == {"16-mixed", "bf16-mixed", "32-true", "64-true"}
        assert device.source


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a10", "did you mean 'a100'"),
        ("H200", "did you mean 'h100'"),
        ("NVIDIA A100-SXM4-80GB", "did you mean 'a100'"),
        ("cpuu", "did you mean 'cpu'"),
        ("gpu", "valid: a100, h100, v100"),
        ("cuda:0", "valid: a100, h100, v100"),
        ("nosuch", "valid: a100, cpu, h100, v100"),
    ],
)
def test_the_nearest_device_is_named(name, hint):
    with pytest.raises(UserError, match=f"^--device {name}: not known; {hint}"):
        check_device(name)


def test_capitals_of_a_device_do_not_matter():
    assert [check_device(name) for name in ("A100", "cpu", " CPU")] == ["a100", "cpu", "cpu"]
    assert device_named("H100", 1) is GPUS["h100"]


def test_an_estimate_is_kept_for_all_seeds_and_for_the_code_that_was_rehearsed(tmp_path):
    run = freeze(f"paths.cache={tmp_path}", seed=3)
    assert kept(run) is None
    estimate = Estimate(run.fingerprint, FOUND, 12.5, "a GPU", 0.3)
    keep(run, estimate)
    assert kept(run.with_seed(4)) == estimate
    assert estimate.on() == "a GPU at 30% of its peak"
    assert kept(replace(run, fingerprint="0" * 64)) is None
    (file,) = tmp_path.rglob("*.json")
    for damage in (b"", b"\xff", b"{}", file.read_bytes()[:-3]):
        file.write_bytes(damage)
        assert kept(run) is None
