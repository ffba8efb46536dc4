"""Trace of a Hessian by Hutchinson's estimate, against PyHessian.

    uv run --isolated --with pyhessian --with setuptools python scripts/bench_hessian.py

The network is that of the reduced protocol (three convolutions with batch norm, in evaluation
mode) on random images of 16 x 16 in batches of 50, on one thread, the median of rounds in turn.
PyHessian draws the same signs for all batches, retable others for each, whose noise averages over
the batches. What counts is the time to an accuracy, which goes with time x variance; both stand
there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nets.convnet import StridedConvNet
from retable.papers.weight_decay.curvature import hessian_trace

BATCH = 50


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description="Hutchinson's trace beside PyHessian")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--probes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = torch.randn(given.images, 3, 16, 16), torch.arange(given.images) % 10
    net = StridedConvNet()
    net(images)  # statistics of batch norm
    net.eval()
    ways: dict[str, Callable[[int], float]] = {
        "retable": lambda seed: _ours(net, images, labels, given.probes, seed)
    }
    try:
        from pyhessian import hessian  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("pyhessian is not installed: uv run --isolated --with pyhessian", file=sys.stderr)
    else:
        batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))

        def theirs(seed: int) -> float:
            torch.manual_seed(seed)
            made: Any = hessian(net, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
            found = made.trace(maxIter=given.probes, tol=0.0)
            return sum(found) / len(found)

        ways["pyhessian"] = theirs
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    traces: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            traces[name].append(way(number))
            seconds[name].append(time.perf_counter() - begin)
    found: dict[str, Any] = {
        "images": given.images,
        "probes": given.probes,
        "weights": sum(p.numel() for p in net.parameters()),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "deviations": {name: statistics.stdev(values) for name, values in traces.items()},
        "traces": {name: statistics.mean(values) for name, values in traces.items()},
        **_check(images[:BATCH], labels[:BATCH]),
    }
    if "pyhessian" in ways:
        ratio = found["seconds"]["pyhessian"] / found["seconds"]["retable"]
        narrower = found["deviations"]["pyhessian"] / found["deviations"]["retable"]
        found |= {"times_as_fast": ratio, "to_an_accuracy": ratio * narrower**2}
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    for name in ways:
        spread = f"{min(traces[name]):.2f} to {max(traces[name]):.2f}"
        print(
            f"{name}: {found['seconds'][name]:.2f} s, trace {found['traces'][name]:.2f} ({spread})"
        )
    print(f"a smaller network: exact {found['exact']:.3f}, 2,000 probes {found['estimate']:.3f}")
    if "times_as_fast" in found:
        print(
            f"{found['times_as_fast']:.2f} times as fast as PyHessian by the clock,"
            f" {found['to_an_accuracy']:.1f} times to the same accuracy"
        )
    return 0


def _ours(net: nn.Module, images: Tensor, labels: Tensor, probes: int, seed: int) -> float:
    draws = torch.Generator().manual_seed(seed)
    return hessian_trace(net, images, labels, draws, probes=probes, batch_size=BATCH)


def _check(images: Tensor, labels: Tensor) -> dict[str, float]:
    """The estimate beside the trace itself, of a network of which every weight is gone through."""
    net = StridedConvNet((4, 4), (2, 2))
    net(images)
    net.eval()
    weights = list(net.parameters())
    loss = F.cross_entropy(net(images), labels)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    exact = 0.0
    for weight, gradient in zip(weights, gradients, strict=True):
        for i, one in enumerate(gradient.flatten()):
            exact += float(torch.autograd.grad(one, weight, retain_graph=True)[0].flatten()[i])
    return {"exact": exact, "estimate": _ours(net, images, labels, 2000, 0)}


if __name__ == "__main__":
    sys.exit(main())
