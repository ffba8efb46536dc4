"""Fisher's ratio and the map of cosines against literal loops over images.

    uv run scripts/bench_fdr.py [--images 12360] [--features 512] [--json]

The loops follow the definitions image by image, in float64, as the authors' code does with NumPy;
both have one thread and the same features. The largest relative difference is printed.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from numpy.typing import NDArray

from retable.papers.weight_balancing.geometry import cosine_map, fisher_ratio
from retable.papers.weight_balancing.long_tail import counts

Array = NDArray[np.float64]


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=12_360)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    n = np.array(counts(4980, 10, 0.01)) * given.images // 12_360
    labels = torch.repeat_interleave(torch.arange(10), torch.from_numpy(n))
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(10, given.features, generator=generator)
    noise = torch.randn(len(labels), given.features, generator=generator)
    features = (means[labels] + noise).relu()
    ours_s, ours = _timed(
        lambda: (fisher_ratio(features, labels), cosine_map(features, labels, 10))
    )
    f, y = features.double().numpy(), labels.numpy()
    loops_s, loops = _timed(lambda: (_literal_ratio(f, y), _literal_cosines(f, y)))
    apart = [
        abs(ours[0] / loops[0] - 1),
        float(np.abs(ours[1].numpy() / loops[1] - 1).max()),
    ]
    found = {
        "images": len(labels),
        "features": given.features,
        "ours_s": ours_s,
        "loops_s": loops_s,
        "ratio": loops_s / ours_s,
        "largest_difference": max(apart),
    }
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print(
            f"{len(labels)} x {given.features}: {ours_s:.2f} s, loops {loops_s:.2f} s,"
            f" {loops_s / ours_s:.1f} times; largest relative difference {max(apart):.1e}"
        )
    return 0


def _timed(call):  # noqa: ANN001, ANN202
    begin = time.perf_counter()
    out = call()
    return time.perf_counter() - begin, out


def _literal_ratio(f: Array, y: NDArray[np.int64]) -> float:
    mu, d = f.mean(0), f.shape[1]
    s_b, s_w = np.zeros((d, d)), np.zeros((d, d))
    for k in range(10):
        mean = f[y == k].mean(0)
        s_b += (y == k).sum() * np.outer(mean - mu, mean - mu)
        for row in f[y == k]:
            s_w += np.outer(row - mean, row - mean)
    return float(np.trace(np.linalg.solve(s_w, s_b)))


def _literal_cosines(f: Array, y: NDArray[np.int64]) -> Array:
    """Over pairs of images, a row of pairs at once: image by image alone would take hours."""
    unit = f / np.linalg.norm(f, axis=1, keepdims=True)
    sums, n = np.zeros((10, 10)), np.bincount(y, minlength=10)
    for one, k in zip(unit, y, strict=True):
        sums[k] += np.bincount(y, weights=unit @ one, minlength=10)
    return sums / np.outer(n, n)


if __name__ == "__main__":
    raise SystemExit(main())
