"""Inference with weights packed to one bit against the dense network, on the CPU.

The packed layers unpack their weights on every call and then compute as the dense ones do, so that
what is gained is memory; this says what it costs in time. Same outputs, checked. Interleaved, best
and median of the repeats.

Example: python scripts/bench_packed.py --threads 1
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import torch
from torch import nn

from retable.papers.binary_connect.layers import BinaryLinear
from retable.papers.binary_connect.networks import Recipe, mlp
from retable.papers.binary_connect.packed import pack, sizes


def dense_of(network: nn.Sequential) -> nn.Sequential:
    """The network with its binary weights written out once, as ordinary dense layers."""
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, BinaryLinear):
            plain = nn.Linear(layer.in_features, layer.out_features)
            plain.weight.data = layer.propagated().detach()
            plain.bias.data = layer.bias.detach()
            layers.append(plain)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 200, 1000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = mlp(Recipe(mode="det"), 784, [options.width] * 3).eval()
    variants = {"dense": dense_of(network), "packed": pack(network)}
    size = sizes(network, variants["packed"])
    for batch in options.batches:
        inputs = torch.rand(batch, 1, 28, 28)
        times: dict[str, list[float]] = {name: [] for name in variants}
        with torch.no_grad():
            assert torch.equal(variants["dense"](inputs), variants["packed"](inputs))
            calls = max(1, 200 // batch)
            for _ in range(options.repeats):
                for name, variant in variants.items():
                    begin = time.perf_counter()
                    for _ in range(calls):
                        variant(inputs)
                    times[name].append(1000 * (time.perf_counter() - begin) / calls)
        best = {name: min(values) for name, values in times.items()}
        median = {name: statistics.median(values) for name, values in times.items()}
        print(
            json.dumps(
                {
                    "network": f"784 - 3 x {options.width} - 10",
                    "batch": batch,
                    "threads": options.threads,
                    "best_ms": {k: round(v, 3) for k, v in best.items()},
                    "median_ms": {k: round(v, 3) for k, v in median.items()},
                    "ratio_of_medians": round(median["packed"] / median["dense"], 2),
                    "bytes": {
                        "packed": int(size["bytes"]),
                        "dense_32": int(2 * size["weight_bytes_16"] + size["bytes"])
                        - int(size["weight_bytes"]),
                    },
                    "processor": platform.processor() or platform.machine(),
                    "torch": torch.__version__,
                }
            )
        )


if __name__ == "__main__":
    main()
