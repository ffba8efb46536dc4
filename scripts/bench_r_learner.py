"""The R-learner's LightGBM protocol, fast, against the same protocol written down literally.

    uv run --all-extras scripts/bench_r_learner.py [--setups a c e] [--sizes 250] [--seeds 1 2]

Literal (`tests/support/rl_literal.py`): one `lightgbm.train` for each candidate and fold on a data
set built anew, and one of scipy's tests for each candidate. Fast: the learner as it is shipped.
Both do all that a run does: tune and cross-fit the nuisances, tune and fit all 14 rows, predict at
10,000 test units. One thread, the two in turn on each seed, each first in its turn. Counted are CPU
seconds, which a busy machine inflates less than those of the clock (in brackets). What numba
compiles is compiled before. Exit code 1 where a setting, hence an effect, differs.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import lightgbm
import numba
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from retable.papers.r_learner.crossfit import Units
from retable.papers.r_learner.estimate import estimate
from retable.papers.r_learner.learners import lightgbm as fast
from retable.papers.r_learner.learners import racing
from retable.papers.r_learner.learners.boosting import fold
from retable.papers.r_learner.learners.grid import Candidate, marginals
from retable.papers.r_learner.rows import ROWS
from retable.papers.r_learner.setups import draw
from retable.runs.provenance import cpu_model
from support import rl_literal as literal

N_TEST = 10_000


class Recorder:
    """A learner that writes down what the one within chooses."""

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        self.chosen: list[Candidate] = []
        self.in_tuning = 0.0

    def tune(self, *args: Any, **options: Any) -> Any:
        """As the learner does."""
        begin = time.process_time()
        self.chosen.append(self.learner.tune(*args, **options))
        self.in_tuning += time.process_time() - begin
        return self.chosen[-1]

    def fit(self, *args: Any, **options: Any) -> Any:
        """As the learner does."""
        return self.learner.fit(*args, **options)


class Clock:
    """CPU seconds by part; within another part only the inner one runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.open: list[float] = []

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time on the account of a part."""

        def timed(*args: Any, **options: Any) -> Any:
            self.open.append(0.0)
            begin = time.process_time()
            try:
                return function(*args, **options)
            finally:
                spent = time.process_time() - begin
                self.seconds[part] += spent - self.open.pop()
                if self.open:
                    self.open[-1] += spent

        return timed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the parts of both protocols."""
        parts: list[tuple[Any, str, str]] = [
            (lightgbm.Dataset, "construct", "LightGBM: binning"),
            (lightgbm.Booster, "__init__", "LightGBM: a booster set up"),
            (lightgbm.Booster, "update", "LightGBM: trees"),
            (lightgbm.Booster, "predict", "LightGBM: predictions"),
            (lightgbm, "train", "LightGBM: rest of a training"),
            (literal, "ttest_ind", "tests"),
            (racing, "worse", "tests"),
            (literal, "metric", "losses"),
            (fast, "squared_loss", "losses"),
            (fast, "log_loss", "losses"),
            (fold, "tabulate", "compiled: binning"),
            (fold, "boost", "compiled: trees and predictions"),
        ]
        with ExitStack() as stack:
            for owner, name, part in parts:
                timed = self.wrap(part, getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, timed))
            yield


def protocol(learner: Any, setup: str, n: int, seed: int) -> dict[str, float]:
    """One run: the mean squared error of each row's effect at the test units."""
    rng = np.random.default_rng([seed, n])
    train, test = draw(setup, n, rng), draw(setup, N_TEST, rng)
    found = estimate(Units(train.x, train.a, train.y), ROWS, learner, seed)
    return {
        row: float(np.mean((effect.predict(test.x) - test.tau) ** 2))
        for row, effect in found.effects.items()
    }


def measure(learner: Any, setup: str, n: int, seed: int) -> tuple[Any, Recorder, float, float]:
    """Errors, choices, and seconds of CPU and clock of a run."""
    recorder = Recorder(learner)
    clock, cpu = time.perf_counter(), time.process_time()
    errors = protocol(recorder, setup, n, seed)
    return errors, recorder, time.process_time() - cpu, time.perf_counter() - clock


def compare(setup: str, n: int, seeds: list[int]) -> bool:
    """Both on each seed, in turn; whether all agrees."""
    learners = {"literal": literal.Literal(), "fast": fast.LightGBM()}
    ratios: list[float] = []
    tuning: list[float] = []
    same = True
    for turn, seed in enumerate(seeds):
        found: dict[str, Any] = {}
        for name in list(learners)[:: -1 if turn % 2 else 1]:
            found[name] = measure(learners[name], setup, n, seed)
        slow, quick = found["literal"], found["fast"]
        equal = sum(a == b for a, b in zip(slow[1].chosen, quick[1].chosen, strict=True))
        apart = max(abs(slow[0][row] - quick[0][row]) for row in ROWS)
        same = same and equal == len(slow[1].chosen) and apart == 0
        ratios.append(slow[2] / quick[2])
        tuning.append(slow[1].in_tuning / quick[1].in_tuning)
        print(
            f"{setup.upper()}  n = {n:4}  seed {seed:3}:  literal {slow[2]:6.1f} s ({slow[3]:.1f})"
            f"  fast {quick[2]:5.1f} s ({quick[3]:.1f})  x {ratios[-1]:.2f}, tuning alone x "
            f"{tuning[-1]:.2f};  {equal} of {len(slow[1].chosen)} settings equal, CATE MSEs at most"
            f" {apart:.1e} apart",
            flush=True,
        )
    if len(seeds) > 1:
        print(
            f"{setup.upper()}  n = {n:4}  median x {statistics.median(ratios):.2f}, tuning alone x "
            f"{statistics.median(tuning):.2f}, load {os.getloadavg()[0]:.1f}\n"
        )
    return same


def profile(setup: str, n: int, seed: int) -> None:
    """Print where the time of one seed went and goes."""
    print(f"\nWhere the time goes, set-up {setup.upper()}, n = {n}, seed {seed} (CPU seconds)")
    for name, learner in (("literal", literal.Literal()), ("fast", fast.LightGBM())):
        clock = Clock()
        begin = time.process_time()
        with clock.running():
            protocol(learner, setup, n, seed)
        total = time.process_time() - begin
        parts = dict(clock.seconds) | {"all else": total - sum(clock.seconds.values())}
        print(f"  {name}: {total:.1f}")
        for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
            print(f"    {part:32} {seconds:7.2f}  {100 * seconds / total:5.1f} %")


def warm(setups: list[str]) -> None:
    """Compile for the widths that occur, and ask LightGBM for the learning rates it reads."""
    begin = time.perf_counter()
    for rate in marginals()["rate"]:
        fold.rate_as_read(float(rate))
    for setup in setups:
        protocol(fast.LightGBM(n_candidates=2), setup, 100, 0)
    print(f"compiled (or loaded) in {time.perf_counter() - begin:.1f} s\n")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setups", nargs="+", default=["a", "c", "e"], choices=list("abcdef"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[250])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-profile", action="store_true", help="leave out the parts' times")
    options = parser.parse_args()
    print(f"{cpu_model()}, one thread, load {os.getloadavg()[0]:.1f}")
    print(
        f"Python {platform.python_version()}, lightgbm {lightgbm.__version__}, numba "
        f"{numba.__version__}, numpy {np.__version__}"
    )
    warm(options.setups)
    same = [compare(s, n, options.seeds) for n in options.sizes for s in options.setups]
    if not options.no_profile:
        profile(options.setups[0], options.sizes[0], options.seeds[0])
    return 0 if all(same) else 1


if __name__ == "__main__":
    raise SystemExit(main())
