"""Latency of two tasks in one network against running both networks one after the other.

A ResNet and a copy of it in which one block, or two consecutive ones, and the head are others, by
the two-stream network of the paper subtuning. One image at a time, as there; here on the CPU and
uncompiled by default. For each choice the three (the plain network, both networks, the two-stream
one) are timed in turn, and medians over the rounds are printed; before, the outputs have to agree
to 1e-5 of the largest logit. Weights are drawn; they do not matter for the time.

Example: python scripts/bench_two_stream.py --net resnet20 --rounds 50
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from retable.papers.subtuning.networks import Blocks, network
from retable.papers.subtuning.two_stream import TwoStream, added_parameters, block_flops
from retable.papers.subtuning.variants import reinitialise

SIDES = {"resnet20": 32, "resnet50": 224}


def tuned_copy(old: Blocks, tuned: range) -> Blocks:
    """The network with other weights in some blocks and in the head."""
    new = copy.deepcopy(old)
    for i in tuned:
        reinitialise(new.blocks[i])
    new.fc = nn.Linear(old.fc.in_features, old.fc.out_features, device=old.fc.weight.device)
    return new


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begin)


def medians(old: Blocks, new: Blocks, tuned: range, x: Tensor, rounds: int) -> dict[str, float]:
    """Medians of milliseconds, and of what is added and the share of both nets within a round."""
    both = TwoStream(old, new, tuned)
    for found, net in zip(both(x), (old, new), strict=True):
        expected = net(x)
        error = float((found - expected).abs().max() / expected.abs().max())
        assert error < 1e-5, f"outputs differ by {error:.1e}"
    calls: dict[str, Callable[[], Any]] = {
        "one": lambda: old(x),
        "both": lambda: (old(x), new(x)),
        "two_stream": lambda: both(x),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(timed(call, x.device))
    # A round's three are neighbours in time: a machine busy for a while moves them alike.
    two, one, separate = times["two_stream"], times["one"], times["both"]
    return {
        **{f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()},
        "added_ms": round(statistics.median(a - b for a, b in zip(two, one, strict=True)), 2),
        "of_both": round(statistics.median(a / b for a, b in zip(two, separate, strict=True)), 3),
    }


@torch.no_grad()
def main() -> None:
    """Measure and print a line per choice of blocks, then the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=SIDES, default="resnet50")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 2], help="tuned blocks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    old = network(options.net, 10).to(device).eval()
    x = torch.randn(1, 3, SIDES[options.net], SIDES[options.net], device=device)
    operations = block_flops(old, x)
    for window in options.windows:
        for first in range(len(old) - window + 1):
            tuned = range(first, first + window)
            new = tuned_copy(old, tuned).eval()
            line = {
                "blocks": "-".join(f"B{i + 1}" for i in tuned),
                **medians(old, new, tuned, x, options.rounds),
                "added_operations": round(operations.added(tuned) / operations.total, 3),
                "added_parameters": added_parameters(new, tuned),
            }
            print(json.dumps(line), flush=True)
    environment = {**vars(options), "device": str(device), "torch": torch.__version__}
    if device.type == "cuda":
        environment["device"] = torch.cuda.get_device_name(device)
    print(json.dumps(environment))


if __name__ == "__main__":
    main()
