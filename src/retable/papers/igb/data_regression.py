"""Regression tasks that are alike but for their scales, and for a perturbation.

Chen et al.: GradNorm (ICML 2018), Section 4. A target is a vector there; here it is one number.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from retable.papers.igb.data import REGRESSION, Items, TaskData
from retable.training.seeds import derive_seed

COMMON, OWN = 10.0, 3.5
"""Standard deviations of the entries of B and E_i; GradNorm's N(0, 10), N(0, 3.5) read as such."""


class HeteroscaledRegression(TaskData):
    """``y_i = s_i (tanh((B + E_i) x / |B + E_i|) + noise)`` of standard normal x.

    Without the norm, which is the standard deviation over x, tanh would be a sign. ``log s_i`` is
    uniform. Targets are left in their units: ``units`` ``(n_tasks,)`` has s_i. Tasks: ``t0``,
    ``t1``, ..., all of regression.

    Args:
        n_tasks: their number.
        dim: of x.
        max_scale: s_i lie in [1, max_scale]; 1 takes the difference away.
        noise: deviation of the noise of training targets in units of s_i; GradNorm has none, and
            targets of validation and test are without.
        problem_seed: of B, E_i and s_i. The run's seed draws x alone, so that runs of one seed
            see the same items, whatever their method, and all runs solve one problem.
        n_train: items of training.
        n_validation: of validation.
        n_test: of the test.
        **options: of :class:`~retable.papers.igb.data.TaskData`.
    """

    def __init__(
        self,
        *,
        n_tasks: Annotated[int, Field(ge=1)] = 10,
        dim: Annotated[int, Field(ge=1)] = 250,
        max_scale: Annotated[float, Field(ge=1)] = 100.0,
        noise: Annotated[float, Field(ge=0)] = 0.0,
        problem_seed: Annotated[int, Field(ge=0)] = 0,
        n_train: Annotated[int, Field(ge=1)] = 20_000,
        n_validation: Annotated[int, Field(ge=1)] = 2_000,
        n_test: Annotated[int, Field(ge=1)] = 4_000,
        **options: Any,
    ) -> None:
        self.n_tasks, self.dim, self.noise = n_tasks, dim, noise
        super().__init__(**options)
        self.sizes = {"train": n_train, "validation": n_validation, "test": n_test}
        self.directions, self.units = problem(n_tasks, dim, max_scale, problem_seed)

    def kinds(self) -> dict[str, str]:
        """``t0`` and so on."""
        return {f"t{i}": REGRESSION for i in range(self.n_tasks)}

    def items(self) -> tuple[Items, Items, Items]:
        """Drawn with one generator for each split."""
        train, validation, test = (self._drawn(name, n) for name, n in self.sizes.items())
        return train, validation, test

    def _drawn(self, split: str, n: int) -> Items:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "inputs", split))
        x = torch.randn(n, self.dim, generator=generator)
        y = (x @ self.directions.T).tanh()
        if split == "train":
            y += self.noise * torch.randn(y.shape, generator=generator)
        y *= self.units
        return x, {task: y[:, i].contiguous() for i, task in enumerate(self.kinds())}


def problem(n_tasks: int, dim: int, max_scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """Directions ``(n_tasks, dim)`` of length 1 and scales ``(n_tasks,)``, float32."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "problem", "directions"))
    rows = COMMON * torch.randn(dim, generator=generator, dtype=torch.float64)
    rows = rows + OWN * torch.randn(n_tasks, dim, generator=generator, dtype=torch.float64)
    generator.manual_seed(derive_seed(seed, "problem", "scales"))
    scales = max_scale ** torch.rand(n_tasks, generator=generator, dtype=torch.float64)
    return (rows / rows.norm(dim=1, keepdim=True)).float(), scales.float()
