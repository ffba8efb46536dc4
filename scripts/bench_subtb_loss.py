"""Cost of SubTB(lambda) with its gradient: both forms, and one tensor over all pairs of states.

    uv run scripts/bench_subtb_loss.py [--seconds 1]

One thread, CPU seconds, batches of 16 with lengths from half of T to T.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from retable.papers.subtb.losses import subtb_loss
from retable.runs.provenance import cpu_model

BATCH = 16


def cpu_seconds(work: Callable[[], Any], seconds: float, least: int = 3) -> float:
    """Mean CPU seconds of a call, over about so many seconds."""
    work()
    begin, calls = time.process_time(), 0
    while calls < least or time.process_time() - begin < seconds:
        work()
        calls += 1
    return (time.process_time() - begin) / calls


def loss_alone(steps: int, seconds: float) -> None:
    """Print the cost of the loss with its gradient."""
    generator = torch.Generator().manual_seed(0)
    flow, pf, pb = (
        torch.randn(BATCH, n, generator=generator, requires_grad=True)
        for n in (steps + 1, steps, steps)
    )
    lengths = torch.randint(steps // 2, steps + 1, (BATCH,), generator=generator)
    lengths[0] = steps
    found = {
        form: cpu_seconds(
            lambda form=form: subtb_loss(flow, pf, pb, lengths, 0.9, form=form).backward(), seconds
        )
        for form in ("recursion", "matrix")
    }
    found["one broadcast over pairs"] = cpu_seconds(
        lambda: broadcast(flow, pf, pb, lengths, 0.9).backward(), seconds
    )
    listed = ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in found.items())
    print(f"loss with gradient, T = {steps}, B = {BATCH}: {listed}", flush=True)


def broadcast(flow: Tensor, pf: Tensor, pb: Tensor, lengths: Tensor, lam: float) -> Tensor:
    """The loss written down with one tensor over pairs of states, differentiated by torch."""
    step = torch.arange(flow.shape[1])
    u = flow - nn.functional.pad((pf - pb).cumsum(1), (1, 0))
    delta = u.unsqueeze(2) - u.unsqueeze(1)
    distance = step - step.unsqueeze(1)
    real = (distance > 0) & (step <= lengths.view(-1, 1, 1))
    weight = torch.where(real, lam ** (distance - 1).clamp(min=0).float(), 0.0)
    return ((weight * delta.square()).sum((1, 2)) / weight.sum((1, 2))).mean()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Cost of SubTB(lambda) with its gradient.")
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds per measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{cpu_model()}, torch {torch.__version__}, one thread")
    for steps in (45, 237, 1000):
        loss_alone(steps, options.seconds)


if __name__ == "__main__":
    main()
