"""A run that follows the bias and variance of minibatch gradients along training."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from pytorch_lightning.utilities.types import STEP_OUTPUT

from retable.papers.subtb.gradients import cosine, per_trajectory, quality
from retable.papers.subtb.losses import modified_db_loss, potential, subtb_loss, tb_loss
from retable.papers.subtb.module import GridGFlowNet
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.trajectories import steps_within

ROWS = ("db", "subtb", "tb")
QUANTITIES = ("to_itself", "to_tb", "variance")
LIMIT_TRAJECTORIES = 256


class GradientGrid(GridGFlowNet):
    """The hypergrid with a table of parameters; every validation looks at gradients.

    Of trajectories of the present policy, ``sample`` in minibatches and ``reference`` others as a
    very large batch, for DB, SubTB(lambda) and TB at the same parameters (log Z = log F(s_0)), with
    respect to the logits of P_F. As result rows ``db``, ``subtb`` and ``tb``:

    - along training, the step is the percentage of the epochs, at ``batch``:
      ``gradients/to_itself`` (mean cosine with the own large-batch gradient),
      ``gradients/to_tb`` (with TB's), ``gradients/variance`` (mean squared distance from it), and
      ``gradients/agreement``, the cosine of the two large-batch gradients;
    - in the middle of training, the step is the size of the minibatches (1, 4, 16, ...):
      ``gradients/to_itself_by_size``, ``gradients/to_tb_by_size``.

    ``test/limit`` has the losses of one batch that limits of lambda equate, as rows
    ``subtb_zero`` (lambda 1e-9), ``modified_db``, ``subtb_infinite`` (1e6), ``tb``,
    ``subtb_one`` (1) and ``variance`` (unbiased, of u).

    Args:
        seed: the run's seed.
        sample: trajectories in minibatches, a power of two.
        reference: trajectories of the large batch.
        batch: minibatch of the courses, a power of two.

    The other arguments are those of :class:`GridGFlowNet`.
    """

    def __init__(
        self,
        *,
        seed: int,
        n_dims: Annotated[int, Field(ge=1)] = 2,
        height: Annotated[int, Field(ge=2)] = 8,
        r0: Annotated[float, Field(gt=0)] = 1e-4,
        r1: Annotated[float, Field(ge=0)] = 0.5,
        r2: Annotated[float, Field(ge=0)] = 2.0,
        lam: Annotated[float, Field(ge=0)] = 0.8,
        batch_size: Annotated[int, Field(ge=1)] = 16,
        sample: Annotated[int, Field(ge=2)] = 1024,
        reference: Annotated[int, Field(ge=2)] = 8192,
        batch: Annotated[int, Field(ge=1)] = 16,
        optimizer: Any = None,
    ) -> None:
        for name, value in (("sample", sample), ("batch", batch)):
            if value & (value - 1):
                raise ValueError(f"model.{name}: {value} is not a power of two")
        if batch >= sample:
            raise ValueError(f"model.batch: {batch} has to be less than model.sample, {sample}")
        self.sample, self.reference, self.batch = sample, reference, batch
        self.sizes = [2**k for k in range(sample.bit_length() - 1)]
        self.measured = {
            "db": Objective("db"),
            "subtb": Objective("subtb", lam),
            "tb": Objective("tb"),
        }
        super().__init__(
            seed=seed,
            n_dims=n_dims,
            height=height,
            r0=r0,
            r1=r1,
            r2=r2,
            objective="subtb",
            lam=lam,
            network="table",
            batch_size=batch_size,
            optimizer=optimizer,
        )

    def gradients(self) -> dict[str, float]:
        """All quantities now, as ``<quantity>/<row>/<size>`` and ``agreement/<row>``."""
        small, large = (self.policy.sample(n) for n in (self.sample, self.reference))
        own = {
            row: per_trajectory(self.policy, large, objective).whole()
            for row, objective in self.measured.items()
        }
        found: dict[str, float] = {}
        for row, objective in self.measured.items():
            gradients = per_trajectory(self.policy, small, objective)
            found[f"agreement/{row}"] = float(cosine(own[row], own["tb"]))
            for size in self.sizes:
                values = quality(gradients, size, own[row], own["tb"])
                for quantity in QUANTITIES:
                    found[f"{quantity}/{row}/{size}"] = getattr(values, quantity)
        return found

    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Distances, then gradients."""
        output = super().validation_step(batch, batch_idx)
        # Lightning's validation runs without gradients.
        with torch.enable_grad():
            found = self.gradients()
        self.log_dict(
            {f"val/{k}": torch.tensor(v, dtype=torch.float64) for k, v in found.items()},
            batch_size=1,
        )
        return output

    def limits(self, n: int = LIMIT_TRAJECTORIES) -> dict[str, float]:
        """Losses of one batch of ``n`` trajectories that the limits of lambda equate."""
        with torch.no_grad():
            found = self.policy.evaluate(self.policy.sample(n, epsilon=0.5))
            flow, pf, pb = (x.double() for x in (found.log_flow, found.log_pf, found.log_pb))
            found = replace(found, log_flow=flow, log_pf=pf, log_pb=pb)
            lengths = found.lengths
            parts = flow, pf, pb, lengths
            real = steps_within(lengths + 1, flow.shape[1])
            # Centred, and 0 in the padding: the sum of squares over n is the unbiased variance.
            squares = potential(flow, pf, pb, real).square().sum(1)
            losses = {
                "subtb_zero": subtb_loss(*parts, 1e-9),
                "modified_db": modified_db_loss(*parts),
                "subtb_infinite": subtb_loss(*parts, 1e6),
                "tb": tb_loss(flow[:, 0], pf, pb, found.log_reward.double(), lengths),
                "subtb_one": subtb_loss(*parts, 1.0),
                "variance": (squares / lengths).mean(),
            }
        return {name: float(value) for name, value in losses.items()}

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Distances, and the losses at the limits."""
        super().test_step(batch, batch_idx)
        for row, value in self.limits().items():
            self.add_result("test/limit", value, row)

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """The courses, and the middle of training by size of the minibatch."""
        # Not the curves of the base: a record has room for 200 results.
        measured = [row for row in rows if "val/agreement/tb" in row]
        for percent in range(10, 101, 10):
            done = [row for row in measured if row["epoch"] < len(rows) * percent // 100]
            for name in ROWS if done else ():
                if name != "tb":
                    value = done[-1][f"val/agreement/{name}"]
                    self.add_result("gradients/agreement", value, name, percent)
                for quantity in QUANTITIES:
                    value = done[-1][f"val/{quantity}/{name}/{self.batch}"]
                    self.add_result(f"gradients/{quantity}", value, name, percent)
        middle = [row for row in measured if row["epoch"] < max(1, len(rows) // 2)][-1:]
        for row in middle:
            for name in ROWS:
                for quantity in ("to_itself", "to_tb"):
                    for size in self.sizes[::2]:
                        value = row[f"val/{quantity}/{name}/{size}"]
                        self.add_result(f"gradients/{quantity}_by_size", value, name, size)
