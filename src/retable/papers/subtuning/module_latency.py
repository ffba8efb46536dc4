"""Latency of a further task (Section 2 and Figure 7): one run measures every window of blocks."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.base import PaperModule
from retable.papers.subtuning import networks
from retable.papers.subtuning.networks import Blocks, Name
from retable.papers.subtuning.two_stream import TwoStream, block_flops
from retable.papers.subtuning.variants import reinitialise

TOLERANCE = 1e-5
"""Of the largest logit, that outputs of the two-stream network may differ by."""


class Latency(PaperModule):
    """One image at a time through a network, through it and a tuned copy, and through both as one.

    For every window of consecutive blocks a copy of the network is made in which these blocks and
    the head are others (drawn: weights do not matter for the time), and the two-stream network of
    both, whose outputs have to be theirs. In a round each of the three takes one image after the
    other, so that a change of the machine's load meets them alike.

    Results are medians over rounds, in a row for each window (``B1``, ``B1+B2``, ...):
    ``latency/ms`` of the two-stream network, ``latency/added`` to the plain one as a share of it,
    ``latency/of_both``, its share of running both one after the other; and without a measurement
    ``latency/operations``, the added products as a share of the plain network's. Row ``one`` has
    ``latency/ms`` of the plain network, the median over all windows.

    Args:
        seed: the run's seed.
        network: a ResNet, see :data:`~retable.papers.subtuning.networks.Name`.
        size: side of the image.
        windows: how many consecutive blocks are tuned.
        warm_up: rounds that are not counted.
        rounds: rounds that are.
        script: by TorchScript, as in the paper; else as they are.

    Raises:
        ArithmeticError: where outputs of the two-stream network differ from those of both.
    """

    timing_metrics: ClassVar[frozenset[str]] = frozenset(
        {"latency/ms", "latency/added", "latency/of_both"}
    )

    def __init__(
        self,
        *,
        seed: int,
        network: Name,
        size: Annotated[int, Field(ge=8)],
        windows: Annotated[list[int], Field(min_length=1)] | tuple[int, ...] = (1, 2),
        warm_up: Annotated[int, Field(ge=1)] = 300,
        rounds: Annotated[int, Field(ge=1)] = 300,
        script: bool = True,
    ) -> None:
        self.network: Name = network
        self.size, self.windows = size, windows
        self.warm_up, self.rounds, self.script = warm_up, rounds, script
        super().__init__(seed=seed)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure, at the first batch; its images are not used."""
        if batch_idx:
            return
        torch.manual_seed(self.seed)
        old = networks.network(self.network, 10).to(self.device).eval()
        x = torch.randn(1, 3, self.size, self.size, device=self.device)
        operations = block_flops(old, x)
        alone: list[float] = []
        for length in self.windows:
            for first in range(len(old) - length + 1):
                tuned = range(first, first + length)
                one, both, two = self.measured(old, tuned, x)
                alone += one
                row = "+".join(f"B{i + 1}" for i in tuned)
                added = median(a / b - 1 for a, b in zip(two, one, strict=True))
                of_both = median(a / b for a, b in zip(two, both, strict=True))
                self.add_result("latency/ms", median(two), row)
                self.add_result("latency/added", added, row)
                self.add_result("latency/of_both", of_both, row)
                share = operations.added(tuned) / operations.total
                self.add_result("latency/operations", share, row)
        self.add_result("latency/ms", median(alone), "one")

    @torch.no_grad()
    def measured(
        self, old: Blocks, tuned: range, x: Tensor
    ) -> tuple[list[float], list[float], list[float]]:
        """Milliseconds of every round: of the plain network, of it and its copy, of both as one."""
        new = copy.deepcopy(old)
        for i in tuned:
            reinitialise(new.blocks[i])
        new.fc = nn.Linear(old.fc.in_features, old.fc.out_features, device=self.device)
        new.eval()
        one, other, both = (self._made(net, x) for net in (old, new, TwoStream(old, new, tuned)))
        for found, expected in zip(both(x), (one(x), other(x)), strict=True):
            error = float((found - expected).abs().max() / expected.abs().max())
            if not error < TOLERANCE:
                raise ArithmeticError(f"outputs of the two-stream network differ by {error:.1e}")
        calls = (lambda: one(x), lambda: (one(x), other(x)), lambda: both(x))
        rounds = [[self._timed(call) for call in calls] for _ in range(self.warm_up + self.rounds)]
        plain, separate, two = map(list, zip(*rounds[self.warm_up :], strict=True))
        return plain, separate, two

    def _made(self, net: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
        if not self.script:
            return net
        with warnings.catch_warnings():
            # Newer releases of torch advise against TorchScript; the paper's latencies are its.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast("Callable[[Tensor], Any]", torch.jit.trace(net, x))

    def _timed(self, call: Callable[[], Any]) -> float:
        wait = torch.cuda.synchronize if self.device.type == "cuda" else int
        wait()
        begin = time.perf_counter()
        call()
        wait()
        return 1000 * (time.perf_counter() - begin)
