"""Devices by name, and the time that a run's training steps take on one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from retable.launch.rehearsal.records import PROCESSOR, Rehearsed
from retable.util.errors import UserError, nearest

HERE = "cpu"
GPU_OPERATION_S = 1e-5
"""What a GPU is taken to need for each operation of a step: torch starts them one by one from
Python. Our assumption, no vendor's figure; small networks are bound by it, not by their FLOPs."""


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes:
        name: by which it is chosen.
        title: for people.
        peak: FLOP/s of dense products by ``trainer.precision``.
        operation_s: least seconds of an operation.
        source: of the peaks.
    """

    name: str
    title: str
    peak: dict[str, float] = field(hash=False)
    operation_s: float
    source: str


def _gpu(name: str, title: str, f64: float, f32: float, half: float, source: str) -> Device:
    mixed = dict.fromkeys(("16-mixed", "bf16-mixed"), half)
    peak = {"64-true": f64, "32-true": f32, **mixed}
    return Device(name, title, peak, GPU_OPERATION_S, source)


GPUS = {
    device.name: device
    for device in (
        _gpu("v100", "V100 SXM2", 7.8e12, 15.7e12, 125e12, "NVIDIA V100 data sheet, 2020"),
        _gpu("a100", "A100 SXM", 9.7e12, 19.5e12, 312e12, "NVIDIA A100 data sheet, 2021"),
        # The sheet's 1,979 TFLOP/s of 16 bits are with sparsity, twice those of dense products.
        _gpu("h100", "H100 SXM", 34e12, 67e12, 989.4e12, "NVIDIA H100 data sheet, 2023"),
    )
}
"""Without TensorFloat-32, which torch uses for convolutions of 32 bits unless it is told not to."""


def device_named(name: str, threads: int) -> Device:
    """A device by name; the processor of this machine is measured.

    Args:
        name: ``cpu``, or one of :data:`GPUS`, in any capitals.
        threads: of a run on the processor.

    Raises:
        UserError: for a name that is not known.
    """
    known = check_device(name)
    return _here(threads) if known == HERE else GPUS[known]


def check_device(name: str) -> str:
    """The device that a name stands for, whatever its capitals.

    Raises:
        UserError: with the nearest, where the name is not known.
    """
    lower = name.strip().lower()
    if lower == HERE or lower in GPUS:
        return lower
    # One that is called by its full title is meant, and no processor where somebody wants a GPU.
    inside = [known for known in GPUS if known in lower]
    other = [] if "gpu" in lower or "cuda" in lower else [HERE]
    hint = f"; did you mean '{inside[0]}'?" if inside else nearest(lower, [*other, *GPUS])
    raise UserError(f"--device {name}: not known{hint}")


def _here(threads: int) -> Device:
    import torch

    types = {"64-true": torch.float64, "32-true": torch.float32}
    types |= dict.fromkeys(("16-mixed", "bf16-mixed"), torch.bfloat16)  # as Lightning does here
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        by_type = {kind: _peak(kind) for kind in set(types.values())}
        small = torch.zeros(1)
        operation_s = _fastest(lambda: small.add(1), 2000)
    finally:
        torch.set_num_threads(before)
    title = f"{PROCESSOR}, {threads} thread{'s' if threads > 1 else ''}"
    peak = {precision: by_type[kind] for precision, kind in types.items()}
    return Device(HERE, title, peak, operation_s, "a product of 512 x 512 matrices, measured")


def _peak(kind: object) -> float:
    import torch

    n = 512
    a, b = (torch.ones(n, n).to(kind) for _ in range(2))  # type: ignore[arg-type]
    return 2 * n**3 / _fastest(lambda: a @ b, 1)


def _fastest(call: object, times: int) -> float:
    """Least seconds of a call over five tries, the first of which warms up."""
    assert callable(call)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(times):
            call()
        best = min(best, (time.perf_counter() - begin) / times)
    return best


def run_seconds(found: Rehearsed, precision: str, device: Device, share: float) -> float | None:
    """Seconds of a run's training steps; validations and the test come on top.

    A step takes its FLOPs at the share of the peak, or its operations one after another, whichever
    is longer. One that could be timed only takes that time, on this machine.

    Returns:
        None where it cannot be told.
    """
    if found.steps is None:
        return None
    if found.flops is not None and found.operations is not None:
        computing = found.flops / (share * device.peak[precision])
        return found.steps * max(computing, found.operations * device.operation_s)
    if found.step_s is not None and device.name == HERE:
        return found.steps * found.step_s
    return None
