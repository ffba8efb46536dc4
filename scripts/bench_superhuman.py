"""One iteration of superhuman fairness against a literal loop of it, and losses against fairlearn.

    uv run --extra superhuman-fairness scripts/bench_superhuman.py [--references 50] [--generated]

The literal iteration draws row by row from scikit-learn's `predict_proba`, measures each decision
vector with fairlearn's functions and `MetricFrame` on pandas columns, and sums features reference
by reference, as the published algorithm's loop does. It and ours are given the same draws once and
have to agree in losses, gradient and alpha before anything is timed; both are then timed with draws
of their own. Adult is read from RETABLE_MIRROR or the cache; `--generated` needs no data.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import importlib.metadata
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fairlearn import metrics as fl
from sklearn.metrics import zero_one_loss

from retable.data.base import DataPaths
from retable.papers.superhuman_fairness.alpha import closed_form
from retable.papers.superhuman_fairness.baselines.postproc import logistic_regression
from retable.papers.superhuman_fairness.data import Adult, Generated, halve
from retable.papers.superhuman_fairness.gradient import Sampler, gradient, probability
from retable.papers.superhuman_fairness.losses import MEASURES, losses
from retable.papers.superhuman_fairness.subdominance import subdominance
from retable.papers.superhuman_fairness.units import Units
from retable.runs.provenance import cpu_model
from retable.util.paths import default_paths

warnings.filterwarnings("ignore")
ROUNDS = 7
LAMBDA, CAP = 0.001, 100.0


def predictive_value(value: int) -> Callable[[Any, Any], float]:
    """Share of right decisions among those of one value, 0 where there is none."""

    def of(y: Any, decisions: Any) -> float:
        chosen = np.asarray(y)[np.asarray(decisions) == value]
        return float(np.mean(chosen == value)) if len(chosen) else 0.0

    return of


def peer_losses(decisions: Any, y: Any, group: Any) -> list[float]:
    """The four losses by fairlearn and scikit-learn."""
    gaps = [
        fl.MetricFrame(
            metrics=predictive_value(value), y_true=y, y_pred=decisions, sensitive_features=group
        ).difference(method="between_groups")
        for value in (0, 1)
    ]
    return [
        zero_one_loss(y, decisions),
        fl.demographic_parity_difference(y, decisions, sensitive_features=group),
        fl.equalized_odds_difference(y, decisions, sensitive_features=group),
        max(gaps),
    ]


class Literal:
    """The published loop: one row, one reference and one measure after the other."""

    def __init__(self, train: Units, index: Any, reference: Any, model: Any) -> None:
        self.x = pd.DataFrame(train.x)
        self.y = pd.Series(train.y)
        self.group = pd.Series(train.a).map({0: "first", 1: "second"})
        self.index, self.reference, self.model = index, reference, model

    def draw(self, rng: np.random.Generator) -> Any:
        """Decisions ``(N, n)``, one row of the data after the other."""
        rows = self.x.to_numpy()
        out = np.zeros((len(self.index), len(rows)))
        for i in range(len(rows)):
            chance = self.model.predict_proba(rows[i : i + 1])[0]
            out[:, i] = rng.choice([0.0, 1.0], len(self.index), p=chance)
        return out

    def step(self, decisions: Any, alpha: Any) -> tuple[Any, Any, Any]:
        """Losses ``(N, 4)``, gradient ``(d,)`` as coded, and the new alpha ``(4,)``."""
        n, found, features = len(self.x), [], []
        for j, items in enumerate(self.index):
            mine = decisions[j][items]
            found.append(peer_losses(mine, self.y.loc[items], self.group.loc[items]))
            features.append((mine.reshape(-1, 1) * self.x.loc[items]).sum(axis=0))
        mean = sum(total / n for total in features) / len(features)
        filled = np.zeros((len(self.index), len(MEASURES)))
        slope = np.zeros(self.x.shape[1])
        for j, items in enumerate(self.index):
            constant = filled.mean() if j else 0.0
            mine = decisions[j][items]
            for k in range(len(MEASURES)):
                excess = found[j][k] - self.reference[j][k]
                filled[j, k] = max(alpha[k] * excess + 1, 0) - constant
                own = (mine.reshape(-1, 1) * self.x.loc[items]).sum(axis=0) / len(items)
                slope += filled[j, k] * (own - mean).to_numpy()
        return np.array(found), slope, self._alpha(found)

    def _alpha(self, found: Any) -> Any:
        alpha = np.full(len(MEASURES), CAP)
        for k in range(len(MEASURES)):
            pairs = sorted(
                ((self.reference[j][k], found[j][k]) for j in range(len(found))), key=lambda p: p[0]
            )
            for m, (theirs, ours) in enumerate(pairs):
                if theirs > ours:
                    alpha[k] = min(CAP, 1 / (theirs - ours))
                if ours + LAMBDA <= np.mean([p[0] for p in pairs[: m + 1]]):
                    break
        return alpha


class Ours:
    """The same iteration as the module does it."""

    def __init__(self, train: Units, index: Any, reference: Any, model: Any) -> None:
        self.x, self.sampler, self.reference = train.x, Sampler(train, index), reference
        self.theta, self.bias = model.coef_[0], float(model.intercept_[0])

    def iterate(self, rng: np.random.Generator, alpha: Any) -> None:
        """Draw, measure, differentiate, and renew alpha."""
        chance = probability(self.x, self.theta, self.bias)
        self.rest(self.sampler.draw(chance, rng), alpha)

    def rest(self, sample: Any, alpha: Any) -> tuple[Any, Any, Any]:
        """All of an iteration but the draws."""
        parts = subdominance(sample.losses, self.reference, alpha)
        slope = gradient(parts, sample.total, self.sampler.size, self.sampler.n)
        return sample.losses, slope, closed_form(sample.losses, self.reference)


def timed(task: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest of some rounds, after one that is not counted."""
    task()
    spent = []
    for _ in range(rounds):
        begin = time.perf_counter()
        task()
        spent.append(time.perf_counter() - begin)
    return min(spent)


def training_half(generated: bool) -> Units:
    """Half of Adult, or of a generated set of its size."""
    found = default_paths()
    mirror, cache = found["mirror"], found["cache"] or "cache"
    paths = DataPaths(Path(cache), Path(mirror) if mirror else None)
    if generated:
        units = Generated(seed=0, paths=paths, n=48_842, columns=109).units()
    else:
        units = Adult(seed=0, paths=paths).units()
    return units.at(halve(len(units), 0)[0])


def main() -> None:
    """Check that both agree, then time them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=50)
    parser.add_argument("--generated", action="store_true", help="no data needed")
    options = parser.parse_args()
    train, rng = training_half(options.generated), np.random.default_rng(0)
    index = np.stack([halve(len(train), j)[1] for j in range(options.references)])
    model = logistic_regression(train.x, train.y)
    # Any references do: what is timed does not depend on how good they are.
    reference = np.array([0.23, 0.05, 0.21, 0.38]) + rng.normal(0, 0.015, (len(index), 4))
    literal, ours = (kind(train, index, reference, model) for kind in (Literal, Ours))
    alpha = np.array([8.0, 72.0, 13.0, 90.0])

    for name in ("fairlearn", "scikit-learn", "pandas", "numpy"):
        print(f"{name} {importlib.metadata.version(name)}", end=", ")
    print(f"{cpu_model()}, one thread")
    n, d = train.x.shape
    print(f"{n} items x {d} inputs, {len(index)} references of {index.shape[1]} items\n")

    begin = time.perf_counter()
    decisions = literal.draw(np.random.default_rng(1))
    drawing = time.perf_counter() - begin
    begin = time.perf_counter()
    expected = literal.step(decisions, alpha)
    stepping = time.perf_counter() - begin
    for name, theirs, found in zip(
        ("losses", "gradient", "alpha"),
        expected,
        ours.rest(ours.sampler.measure(decisions == 1), alpha),
        strict=True,
    ):
        np.testing.assert_allclose(found, theirs, rtol=1e-9, atol=1e-12)
        print(f"{name}: equal to {np.abs(found - theirs).max():.1e}")
    whole = timed(lambda: ours.iterate(rng, alpha))
    print(
        f"\none iteration: literal {drawing:.2f} s of draws + {stepping:.2f} s, ours {whole:.4f} s"
    )
    print(f"literal / ours: {(drawing + stepping) / whole:.0f}")

    rows = decisions[:, : index.shape[1]].astype(np.int64)
    y, a = train.y[: index.shape[1]], train.a[: index.shape[1]]
    begin = time.perf_counter()
    theirs = [peer_losses(row, y, a) for row in rows]
    peer = time.perf_counter() - begin
    np.testing.assert_allclose(losses(rows, y, a), theirs, rtol=1e-12, atol=1e-12)
    ours_losses = timed(lambda: losses(rows, y, a))
    in_step = timed(lambda: ours.sampler.measure(decisions == 1))
    print(f"\n{len(rows)} loss vectors: fairlearn {peer:.3f} s, ours {ours_losses:.4f} s")
    print(f"fairlearn / ours: {peer / ours_losses:.0f}")
    print(f"losses and feature sums of the iteration's vectors in one product: {in_step:.4f} s")


if __name__ == "__main__":
    main()
