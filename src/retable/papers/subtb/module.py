"""A run on the hypergrid: on-policy training, and how far the policy is from the target."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from retable.papers.base import PaperModule, StepOutput
from retable.papers.subtb.hypergrid import HyperGrid, l1, noise_floor
from retable.papers.subtb.networks import MLP, Table
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy

CURVE_POINTS = 20


class GridGFlowNet(PaperModule):
    """A GFlowNet on the hypergrid, trained on trajectories that it draws itself.

    One update is one call of the training step; the epoch's length is the data module's. Every
    validation measures, and so does the test:

    - ``l1_exact``: sum over cells of the difference between the policy's distribution, computed
      exactly, and the target (``test/l1_exact_mean``: over the number of cells);
    - ``l1_histogram``: the same of the histogram of the last ``window`` objects drawn in training,
      as the paper measures; it lags, and has a floor of noise (``test/noise_floor``);
    - ``mode_cells``: cells with the full reward among the objects drawn so far;
      ``mode_corners``: corners of the grid that such a cell lies in; ``states_found``: cells;
    - ``log_z_error``: absolute error of log F(s_0), or of TB's log Z.

    Of the whole fit: ``test/log_l1_area``, mean of ln ``l1_exact`` over the validations, and
    ``test/trajectories_to_threshold``, trajectories drawn until ``l1_exact`` is first at most
    ``threshold``; where it never is, all of them, and ``test/reached`` is 0 instead of 1. Curves
    are ``curve/<name>``; the step is the percentage of the epochs.

    Args:
        seed: the run's seed.
        n_dims: D.
        height: H.
        r0: reward of every cell.
        r1: added in the corners.
        r2: added in the modes.
        objective: ``subtb``, ``tb``, ``db`` or ``modified_db``.
        lam: lambda of SubTB.
        weighting: of subtrajectories, see :func:`~retable.papers.subtb.losses.subtb_loss`.
        form: of SubTB's sums.
        max_length: of SubTB's subtrajectories.
        network: ``mlp``, or ``table``: a free parameter per cell and output.
        widths: of the MLP's hidden layers.
        slope: of its leaky ReLU.
        learned_pb: P_B from the network, else uniform over parents.
        batch_size: trajectories of an update.
        epsilon: share of uniform choices while sampling.
        temperature: of the policy while sampling.
        log_z_init: TB's log Z before training.
        lr_log_z: its learning rate.
        window: objects in the histogram.
        threshold: see above.
        optimizer: ``_partial_`` of an optimiser.
        scheduler: ``_partial_`` of a scheduler.
    """

    window: Tensor
    drawn: Tensor
    found: Tensor

    def __init__(
        self,
        *,
        seed: int,
        n_dims: Annotated[int, Field(ge=1)] = 2,
        height: Annotated[int, Field(ge=2)] = 8,
        r0: Annotated[float, Field(gt=0)] = 1e-3,
        r1: Annotated[float, Field(ge=0)] = 0.5,
        r2: Annotated[float, Field(ge=0)] = 2.0,
        objective: Literal["subtb", "tb", "db", "modified_db"] = "subtb",
        lam: Annotated[float, Field(ge=0)] = 0.9,
        weighting: Literal["within", "pooled", "geometric", "equal_within", "equal"] = "within",
        form: Literal["recursion", "matrix"] = "recursion",
        max_length: Annotated[int, Field(ge=1)] | None = None,
        network: Literal["mlp", "table"] = "mlp",
        widths: list[int] | None = None,
        slope: Annotated[float, Field(ge=0)] = 0.01,
        learned_pb: bool = True,
        batch_size: Annotated[int, Field(ge=1)] = 16,
        epsilon: Annotated[float, Field(ge=0, le=1)] = 0.0,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        log_z_init: float = 0.0,
        lr_log_z: Annotated[float, Field(gt=0)] = 0.1,
        window: Annotated[int, Field(ge=1)] = 200_000,
        threshold: Annotated[float, Field(gt=0, lt=2)] = 0.5,
        optimizer: Any = None,
        scheduler: Any = None,
    ) -> None:
        if max_length is not None and form != "matrix":
            raise ValueError("model.max_length: a truncated sum needs model.form=matrix")
        self.objective = Objective(objective, lam, weighting, form, max_length)
        self._grid = n_dims, height, r0, r1, r2
        self._network: Literal["mlp", "table"] = network
        self._widths = [256, 256] if widths is None else widths
        self._slope, self._learned_pb = slope, learned_pb
        self.batch_size, self.epsilon, self.temperature = batch_size, epsilon, temperature
        self._log_z_init, self.lr_log_z = log_z_init, lr_log_z
        self._window, self.threshold = window, threshold
        super().__init__(seed=seed, optimizer=optimizer, scheduler=scheduler)

    def build_model(self) -> None:
        """Environment, network, and what has been drawn: part of every checkpoint."""
        grid = HyperGrid(*self._grid)
        n_outputs = 2 * grid.n_dims + 2
        network = (
            Table(grid.size, n_outputs)
            if self._network == "table"
            else MLP(grid.n_dims, grid.height, self._widths, n_outputs, self._slope)
        )
        self.policy = GridPolicy(grid, network, learned_pb=self._learned_pb)
        if self.objective.has_log_z:
            self.log_z = nn.Parameter(torch.tensor(self._log_z_init))
        # Objects in the order drawn, as a ring; -1 where there is none yet.
        self.register_buffer("window", torch.full((self._window,), -1, dtype=torch.int32))
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("found", torch.zeros(grid.size, dtype=torch.bool))

    @property
    def grid(self) -> HyperGrid:
        """The environment."""
        return self.policy.grid

    def optimized(self) -> Iterable[Any]:
        """The policy's parameters; TB's log Z is a group with a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": list(self.policy.parameters())}]
        if self.objective.has_log_z:
            groups.append({"params": [self.log_z], "lr": self.lr_log_z, "weight_decay": 0.0})
        return groups

    def shared_step(self, batch: Any) -> StepOutput:
        """Draw, remember the objects, evaluate, and the objective's loss."""
        visited = self.policy.sample(
            self.batch_size, epsilon=self.epsilon, temperature=self.temperature
        )
        objects = visited.objects(self.grid.n_dims)
        self._remember(objects)
        found = self.policy.evaluate(visited, self.log_z if self.objective.has_log_z else None)
        return StepOutput(self.objective.loss(found), objects, objects)

    def _remember(self, objects: Tensor) -> None:
        self.found[objects] = True
        kept = objects[-self._window :]
        first = int(self.drawn) + len(objects) - len(kept)
        at = torch.arange(first, first + len(kept), device=objects.device) % self._window
        self.window[at] = kept.int()
        self.drawn += len(objects)

    def histogram(self) -> Tensor:
        """Shares of the cells among the last objects drawn, ``(S,)``, float64."""
        last = self.window[: min(int(self.drawn), self._window)]
        return last.long().bincount(minlength=self.grid.size).double() / max(len(last), 1)

    @torch.no_grad()
    def log_partition(self) -> float:
        """The model's log Z: TB's parameter, or log F(s_0)."""
        if self.objective.has_log_z:
            return float(self.log_z)
        return self.policy.log_flow_at_start()

    def measure(self) -> dict[str, float]:
        """Distances and counts, as the class describes them."""
        grid = self.grid
        target = grid.target()
        modes = grid.mode_cells()
        found = modes[self.found[modes]]
        exact = grid.terminating_distribution(self.policy.probabilities())
        return {
            "l1_exact": l1(exact, target),
            "l1_histogram": l1(self.histogram(), target),
            "mode_cells": float(len(found)),
            "mode_corners": float(len(grid.corner(found).unique())),
            "states_found": float(self.found.sum()),
            "log_z_error": abs(self.log_partition() - grid.log_z()),
        }

    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Measure, with the weights at the epoch's end."""
        values = {f"val/{name}": value for name, value in self.measure().items()}
        # Counted here, so that a curve's x is known where an epoch's length is not.
        values["val/trajectories"] = float(self.drawn)
        self.log_dict(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()},
            batch_size=1,
        )
        return None

    def on_validation_epoch_end(self) -> None:
        """Nothing is collected over batches: there is one."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure once more."""
        values = self.measure()
        values["l1_exact_mean"] = values["l1_exact"] / self.grid.size
        kept = max(1, min(int(self.drawn), self._window))
        values["noise_floor"] = noise_floor(self.grid.target(), kept)
        for name, value in values.items():
            self.add_result(f"test/{name}", value)

    def on_test_epoch_end(self) -> None:
        """Nothing is collected over batches: there is one."""

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Curves, area and threshold."""
        measured = [row for row in rows if "val/l1_exact" in row]
        if not measured:
            return
        logs = [math.log(max(row["val/l1_exact"], 1e-12)) for row in measured]
        self.add_result("test/log_l1_area", sum(logs) / len(logs))
        reached = [r for r in measured if r["val/l1_exact"] <= self.threshold]
        at = (reached or measured[-1:])[0]["val/trajectories"]
        self.add_result("test/trajectories_to_threshold", at)
        self.add_result("test/reached", float(bool(reached)))
        for point in range(1, CURVE_POINTS + 1):
            percent = 100 * point // CURVE_POINTS
            done = [row for row in measured if row["epoch"] < len(rows) * percent // 100]
            for name in ("l1_exact", "l1_histogram", "mode_cells") if done else ():
                self.add_result(f"curve/{name}", done[-1][f"val/{name}"], step=percent)
