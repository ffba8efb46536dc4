"""Which objective a run trains: names, options, and the loss of an evaluated batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from retable.papers.subtb import losses
from retable.papers.subtb.trajectories import Evaluation

Name = Literal["subtb", "tb", "db", "modified_db"]
NAMES: tuple[Name, ...] = ("subtb", "tb", "db", "modified_db")


@dataclass(frozen=True)
class Objective:
    """An objective and its options; the last four are read by SubTB alone.

    Attributes:
        name: ``subtb``; ``tb`` (trajectory balance), ``db`` (detailed balance, mean over all
            transitions), ``modified_db`` (mean over each trajectory's transitions, then over them).
        lam: lambda.
        weighting: see :func:`~retable.papers.subtb.losses.subtb_loss`.
        form: ``recursion`` or ``matrix``.
        max_length: of the subtrajectories that count; needs ``matrix``.
    """

    name: Name = "subtb"
    lam: float = 0.9
    weighting: losses.Weighting = "within"
    form: losses.Form = "matrix"
    max_length: int | None = None

    @property
    def has_log_z(self) -> bool:
        """Whether log Z is a parameter of its own."""
        return self.name == "tb"

    def loss(self, found: Evaluation) -> Tensor:
        """Scalar loss of a batch."""
        log_flow, log_pf, log_pb = found.log_flow, found.log_pf, found.log_pb
        match self.name:
            case "subtb":
                return losses.subtb_loss(
                    log_flow,
                    log_pf,
                    log_pb,
                    found.lengths,
                    self.lam,
                    self.weighting,
                    self.form,
                    self.max_length,
                )
            case "tb":
                if found.log_z is None:
                    raise ValueError("objective tb: the model has no log_z")
                return losses.tb_loss(found.log_z, log_pf, log_pb, found.log_reward, found.lengths)
            case "db":
                return losses.db_loss(log_flow, log_pf, log_pb, found.lengths)
            case "modified_db":
                return losses.modified_db_loss(log_flow, log_pf, log_pb, found.lengths)
