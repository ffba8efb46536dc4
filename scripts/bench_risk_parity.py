"""Risk parity solvers against their peers, on the same matrices and tolerance, side by side.

    uv run --all-extras --group bench-risk-parity scripts/bench_risk_parity.py [--sizes 25 100]

Peers: riskparityportfolio (C++/Eigen) and pyfeng (the authors' own, interpreted). Prints sweeps and
milliseconds per solve (best and median of 7 rounds, the solvers taking turns within a round), each
peer's time as a ratio to ours, and the largest error of a risk share, because stop rules differ.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import importlib.metadata
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from retable.papers.risk_parity.batched import ccd_improved_batched
from retable.papers.risk_parity.compiled_batch import ccd_improved_batch
from retable.papers.risk_parity.matrices import random_correlation
from retable.papers.risk_parity.solvers import ccd_improved, ccd_original, risk_shares
from retable.runs.provenance import cpu_model

warnings.filterwarnings("ignore")
import pyfeng
import riskparityportfolio.vanilla as cpp

PEERS = {"riskparityportfolio": "0.6.0", "pyfeng": "0.5.0"}
TOL = 1e-6
ROUNDS = 7

# riskparityportfolio compares its method's name the wrong way round: "spinu" runs the improved CCD
# of Choi and Chen, any other name runs the CCD on Spinu's formulation.
CPP_IMPROVED, CPP_SPINU = "spinu", "choi"


def check_versions() -> None:
    """Print the peers' versions and refuse others: what is measured must be what is named."""
    for name, version in PEERS.items():
        found = importlib.metadata.version(name)
        print(f"{name} {found}")
        assert found == version, f"{name} {version} is needed"
    print(f"numpy {np.__version__}, torch {torch.__version__}, {cpu_model()}, one thread")
    print(
        f"Python {platform.python_version()}, tolerance {TOL:g}, best / median of {ROUNDS} rounds\n"
    )


def measure(tasks: dict[str, Callable[[], Any]], min_s: float = 0.02) -> dict[str, list[float]]:
    """Milliseconds per call, one figure per round; tasks take turns within a round."""
    repeats: dict[str, int] = {}
    for name, task in tasks.items():
        task()
        begin = time.perf_counter()
        task()
        repeats[name] = max(1, int(min_s / max(time.perf_counter() - begin, 1e-7)))
    out: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                task()
            out[name].append(1000 * (time.perf_counter() - begin) / repeats[name])
    return out


def cpp_solve(cov: np.ndarray, method: str) -> np.ndarray:
    """One solve by the C++ package."""
    n = len(cov)
    return cpp.design(cov, np.full(n, 1 / n), TOL, 1000, method)


def pyfeng_solve(cov: np.ndarray, method: str) -> tuple[np.ndarray, int]:
    """One solve by the authors' package; its constructor needs a positive definite matrix."""
    model = pyfeng.RiskParity(cov_m=cov)
    weights = getattr(model, method)()
    return weights, model._result["n_iter"]


def singles(sizes: list[int]) -> None:
    """One matrix at a time, both tests."""
    for test in (1, 2):
        for n in sizes:
            cov = random_correlation(n, test, np.random.default_rng(n))
            tasks: dict[str, Callable[[], Any]] = {
                "improved, compiled": lambda c=cov: ccd_improved(c, implementation="compiled"),
                "original, compiled": lambda c=cov: ccd_original(c, implementation="compiled"),
                "improved, literal": lambda c=cov: ccd_improved(c),
                "original, literal": lambda c=cov: ccd_original(c),
                "C++ improved": lambda c=cov: cpp_solve(c, CPP_IMPROVED),
                "C++ spinu": lambda c=cov: cpp_solve(c, CPP_SPINU),
            }
            if test == 1:
                tasks["pyfeng improved"] = lambda c=cov: pyfeng_solve(c, "fit_ccd")
                tasks["pyfeng original"] = lambda c=cov: pyfeng_solve(c, "fit_ccd_original")
            times = measure(tasks)
            ours = min(times["improved, compiled"])
            print(f"Test {test}, N = {n}")
            for name, task in tasks.items():
                result = task()
                weights = (
                    result[0] if isinstance(result, tuple) else getattr(result, "weights", result)
                )
                sweeps = result[1] if isinstance(result, tuple) else getattr(result, "n_iter", "-")
                error = np.abs(risk_shares(cov, weights) - 1 / n).max()
                best, middle = min(times[name]), statistics.median(times[name])
                print(
                    f"    {name:20} {sweeps!s:>4} sweeps {best:10.4f} / {middle:10.4f} ms"
                    f"  x {best / ours:8.2f}  error {error:.1e}"
                )


def batch(count: int, n: int) -> None:
    """Many matrices at once against a loop over them."""
    rng = np.random.default_rng(0)
    covs = np.stack([random_correlation(n, 1, rng) for _ in range(count)])
    tensor = torch.from_numpy(covs)
    tasks = {
        "batched, compiled": lambda: ccd_improved_batch(covs),
        "batched, tensors": lambda: ccd_improved_batched(tensor),
        "loop, compiled": lambda: [ccd_improved(c, implementation="compiled") for c in covs],
        "loop, C++ improved": lambda: [cpp_solve(c, CPP_IMPROVED) for c in covs],
        "loop, C++ spinu": lambda: [cpp_solve(c, CPP_SPINU) for c in covs],
    }
    times = measure(tasks)
    ours = min(times["batched, compiled"])
    print(f"\n{count} matrices of {n} x {n}")
    for name, values in times.items():
        best, middle = min(values), statistics.median(values)
        print(f"    {name:20} {best:10.1f} / {middle:10.1f} ms  x {best / ours:8.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 100, 250, 600])
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    check_versions()
    singles(options.sizes)
    batch(options.batch, 100)


if __name__ == "__main__":
    main()
