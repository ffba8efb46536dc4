"""The authors' early stopping: after three iterations in a row that dominate less."""

from __future__ import annotations

from typing import NamedTuple

WARM = 10
PATIENCE = 3


class Stopping(NamedTuple):
    """State of the stopping rule.

    Attributes:
        iterations: seen so far.
        last: sum of the gammas per measure after the last of them.
        worse: how many in a row were below the one before.
    """

    iterations: int = 0
    last: float = 0.0
    worse: int = 0

    def seen(self, gamma_sum: float) -> Stopping:
        """The state after one more iteration; the first ten never count as worse."""
        iterations = self.iterations + 1
        worse = self.worse + 1 if iterations > WARM and gamma_sum < self.last else 0
        return Stopping(iterations, gamma_sum, worse)

    @property
    def stops(self) -> bool:
        """Whether the fit ends with the iteration just seen."""
        return self.worse == PATIENCE
