"""Several seeds of one setting trained as one batch of networks, against one after the other.

The FCN of signed_supermask (784-300-100-10, batches of 128, SGDW), its weights trained or masked; k
seeds are k networks with batches of their own, their products one batched product. Both do the same
in float64, checked over 20 steps. Printed is processor time per seed and step in float32, best of
the interleaved repeats, and its ratio to that of one seed alone; with --profile also what the time
of one seed goes into. On a GPU it is the time of the clock.

Example: python scripts/bench_seed_batch.py --seeds 1 2 5 10
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from retable.papers.signed_supermask.initial import Initial
from retable.papers.signed_supermask.masks import straight_through, ternary
from retable.papers.signed_supermask.sgdw import SGDW

WIDTHS = (784, 300, 100, 10)
BATCH = 128


class Networks:
    """k networks side by side: every layer's weights ``(k, in, out)``."""

    def __init__(self, seeds: list[int], masked: bool, device: str, dtype: torch.dtype) -> None:
        shapes = list(zip(WIDTHS[1:], WIDTHS[:-1], strict=True))
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]

        def drawn(initial: Initial) -> list[Tensor]:
            layers = [[initial.draw(torch.empty(s), g) for g in draws] for s in shapes]
            return [torch.stack(layer).mT.contiguous().to(device, dtype) for layer in layers]

        scores = drawn(Initial("xavier", "uniform"))
        self.fixed = drawn(Initial("elus", "constant")) if masked else None
        # One threshold a network and layer: 0.4 of its largest score.
        self.taus = [0.4 * s.abs().amax((1, 2), keepdim=True) for s in scores]
        self.trained = [s.requires_grad_() for s in scores]
        self.optimizer = SGDW(self.trained, 0.05, 5e-4)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One step on ``(k, B, 784)`` images and ``(k, B)`` labels."""
        x = images
        for number, scores in enumerate(self.trained):
            weight = scores
            if self.fixed is not None:
                mask = ternary(scores, self.taus[number])
                weight = straight_through(scores, mask, self.fixed[number])
            # One network alone takes the product that it would take without any of this.
            x = (x[0] @ weight[0])[None] if len(x) == 1 else torch.bmm(x, weight)
            x = F.elu(x) if number < len(self.trained) - 1 else x
        k, b, n = x.shape
        # A sum over networks: each has the gradient of its own mean.
        loss = F.cross_entropy(x.view(k * b, n), labels.reshape(k * b), reduction="sum") / b
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def trainer(
    seeds: list[int], masked: bool, device: str, dtype: torch.dtype
) -> tuple[Networks, Callable[[], None]]:
    """Networks, and a step of theirs on batches that each seed draws from the same images."""
    data = torch.Generator().manual_seed(0)
    images = torch.randn(10_000, WIDTHS[0], generator=data).to(device, dtype)
    labels = torch.randint(0, WIDTHS[-1], (10_000,), generator=data).to(device)
    orders = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    networks = Networks(seeds, masked, device, dtype)

    def step() -> None:
        at = torch.stack([torch.randint(0, 10_000, (BATCH,), generator=g) for g in orders])
        at = at.to(device)
        networks.step(images[at], labels[at])

    return networks, step


def check(masked: bool, device: str) -> float:
    """Largest difference of five networks together and alone, after 20 steps in float64."""
    together, step = trainer(list(range(5)), masked, device, torch.float64)
    for _ in range(20):
        step()
    largest = 0.0
    for seed in range(5):
        alone, step = trainer([seed], masked, device, torch.float64)
        for _ in range(20):
            step()
        for one, other in zip(alone.trained, together.trained, strict=True):
            largest = max(largest, float((one[0] - other[seed]).detach().abs().max()))
    return largest


def seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """Seconds of so many steps: of the processor, on a GPU of the clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    begin = clock()
    for _ in range(steps):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for masked in (True, False):
        apart = check(masked, options.device)
        assert apart < 1e-10, apart
        steps = {
            k: trainer(list(range(k)), masked, options.device, torch.float32)[1]
            for k in sorted({1, *options.seeds})
        }
        times: dict[int, list[float]] = {k: [] for k in steps}
        for repeat in range(options.repeats + 1):
            for k, step in steps.items():
                taken = seconds(step, options.steps, options.device) / options.steps / k
                times[k] += [1000 * taken] if repeat else []  # the first warms up
        best = {k: min(found) for k, found in times.items()}
        found = {
            "trained": "masks" if masked else "weights",
            "ms_per_seed_and_step": {k: round(v, 3) for k, v in best.items()},
            "times_as_fast_as_alone": {k: round(best[1] / v, 2) for k, v in best.items()},
            "apart_in_float64": apart,
            "device": options.device,
            "threads": options.threads,
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        }
        print(json.dumps(found))
        if options.profile:
            with torch.profiler.profile() as profile:
                seconds(steps[1], options.steps, options.device)
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


if __name__ == "__main__":
    main()
