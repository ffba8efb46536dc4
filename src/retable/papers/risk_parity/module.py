"""One run of all solvers on one matrix: sweeps, errors, times, weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from retable.papers.base import PaperModule
from retable.papers.risk_parity.matrices import bai2016
from retable.papers.risk_parity.solvers import Solution, ccd_improved, ccd_original, newton

Array = NDArray[np.float64]

SOLVERS: dict[str, Callable[[Array, Array | None, Array | None, float, int], Solution[Array]]] = {
    "newton": lambda c, b, _, tol, cap: newton(c, b, tol=tol, max_sweeps=cap, check=False),
    "original": lambda c, b, s, tol, cap: ccd_original(
        c, b, signs=s, tol=tol, max_sweeps=cap, check=False
    ),
    "improved": lambda c, b, s, tol, cap: ccd_improved(
        c, b, signs=s, tol=tol, max_sweeps=cap, check=False
    ),
    "original_compiled": lambda c, b, s, tol, cap: ccd_original(
        c, b, signs=s, tol=tol, max_sweeps=cap, check=False, implementation="compiled"
    ),
    "improved_compiled": lambda c, b, s, tol, cap: ccd_improved(
        c, b, signs=s, tol=tol, max_sweeps=cap, check=False, implementation="compiled"
    ),
    # Machine code here: its counts are those of the literal loops, and nobody reads its time.
    "improved_unscaled": lambda c, b, s, tol, cap: ccd_improved(
        c,
        b,
        signs=s,
        tol=tol,
        max_sweeps=cap,
        check=False,
        implementation="compiled",
        rescale=False,
    ),
    "newton_pure": lambda c, b, _, tol, cap: newton(
        c, b, tol=tol, max_sweeps=cap, method="pure", check=False
    ),
    "newton_plain": lambda c, b, _, tol, cap: newton(
        c, b, tol=tol, max_sweeps=min(cap, 199), method="pure", guess="plain", check=False
    ),
    "newton_damped": lambda c, b, _, tol, cap: newton(
        c, b, tol=tol, max_sweeps=cap, method="damped", guess="plain", check=False
    ),
}
"""Solvers by the name of their result row, in the order in which they are timed."""

_REPEAT_UNTIL_S = 0.02
_MAX_REPEATS = 5


class RiskParity(PaperModule):
    """Solve the test matrix with each solver.

    Results per solver, as rows: ``test/n_iter``, ``test/error`` and ``test/converged`` (0 or 1),
    ``test/time_ms``, ``test/distance`` (largest difference of a weight to the improved CCD's), and
    where asked for ``test/weight`` with the asset's number, from 1, as step. A solver that does
    not converge gives ``test/converged`` alone: its count and time would not be comparable.

    Args:
        seed: not used by the solvers; the data module's matrix depends on it.
        solvers: names from :data:`SOLVERS`.
        tol: tolerance, absolute on risk shares.
        max_sweeps: cap of every solver.
        budgets: ``(N,)`` risk budgets that sum to 1; equal where left out.
        signs: ``(N,)`` +1 long, -1 short; all long where left out.
        weights: record the weights of this solver's portfolio, for small N.
    """

    timing_metrics: ClassVar[frozenset[str]] = frozenset({"test/time_ms"})

    def __init__(
        self,
        *,
        seed: int,
        solvers: list[str],
        tol: Annotated[float, Field(gt=0, lt=1)] = 1e-6,
        max_sweeps: Annotated[int, Field(ge=1)] = 1023,
        budgets: list[float] | None = None,
        signs: list[Literal[1, -1]] | None = None,
        weights: bool = False,
    ) -> None:
        unknown = sorted(set(solvers) - set(SOLVERS))
        if unknown:
            raise ValueError(f"model.solvers: no solver {unknown[0]!r}; there are {list(SOLVERS)}")
        self.names = [name for name in SOLVERS if name in solvers]
        self.tol, self.max_sweeps, self.record_weights = tol, max_sweeps, weights
        self.budgets = None if budgets is None else np.array(budgets, dtype=np.float64)
        self.signs = None if signs is None else np.array(signs, dtype=np.float64)
        super().__init__(seed=seed)

    def solve(self, name: str, cov: Array) -> Solution[Array]:
        """One solve with the run's settings."""
        return SOLVERS[name](cov, self.budgets, self.signs, self.tol, self.max_sweeps)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        """Solve, time and record."""
        cov = batch.numpy()
        # Checked once, outside the timed solves, as in the authors' code.
        reference = ccd_improved(
            cov, self.budgets, signs=self.signs, tol=self.tol, max_sweeps=self.max_sweeps
        )
        warm = bai2016()
        for name in self.names:
            SOLVERS[name](warm, None, None, self.tol, self.max_sweeps)
            solution, milliseconds = timed(lambda name=name: self.solve(name, cov))
            self.add_result("test/converged", float(solution.converged), name)
            if not solution.converged:
                continue
            self.add_result("test/n_iter", solution.n_iter, name)
            self.add_result("test/error", solution.error, name)
            self.add_result("test/time_ms", milliseconds, name)
            distance = float(np.abs(solution.weights - reference.weights).max())
            self.add_result("test/distance", distance, name)
            if self.record_weights:
                for asset, weight in enumerate(solution.weights.tolist(), start=1):
                    self.add_result("test/weight", weight, name, asset)


def timed(solve: Callable[[], Solution[Array]]) -> tuple[Solution[Array], float]:
    """Solution of the first call, and mean milliseconds of up to five calls in 20 ms or more."""
    spent, calls = 0.0, 0
    first: Solution[Array] | None = None
    while first is None or (spent < _REPEAT_UNTIL_S and calls < _MAX_REPEATS):
        begin = time.perf_counter()
        solution = solve()
        spent += time.perf_counter() - begin
        calls += 1
        first = first or solution
    return first, 1000 * spent / calls
