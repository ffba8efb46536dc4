"""Training on more classes than a record has room for."""

from __future__ import annotations

from retable.papers.weight_balancing.module import OneStage


class ManyClasses(OneStage):
    """One stage whose numbers of single classes are in its artefacts alone.

    A record holds 200 results: not the norms of the classifier's rows of a thousand classes.
    """

    def add_result(self, metric: str, value: float, row: str = "", step: int | None = None) -> None:
        """Record a number, unless it is one class's."""
        if metric not in ("weights/norm", "test/of_class"):
            super().add_result(metric, value, row, step)
