"""Names of the estimators: a pseudo-outcome with a weight, or the T-learner.

The same names stand in records, as result rows, and in table files.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Pseudo(StrEnum):
    """A pseudo-outcome; DR comes with one outcome model of (A, X), or with one per arm."""

    DR = "dr"
    DR_SEPARATE = "dr_separate"
    COV = "cov"
    U = "u"


class Weight(StrEnum):
    """A weight, named after the pseudo-outcome whose inverse variance it is, given X or A and X."""

    ONE = "one"
    U_AX = "u_ax"
    U_X = "u_x"
    DR_X = "dr_x"
    DR_AX = "dr_ax"
    DR_AX_ADHOC = "dr_ax_adhoc"


T_LEARNER = "t"
"""The row that is no pseudo-outcome regression."""


@dataclass(frozen=True)
class Row:
    """An estimator: the regression of a pseudo-outcome on X with a weight."""

    pseudo: Pseudo
    weight: Weight

    def __str__(self) -> str:
        return f"{self.pseudo}-{self.weight}"


R_LEARNER = Row(Pseudo.U, Weight.U_AX)
"""The row whose loss is the R-loss."""


def parse(name: str) -> Row | None:
    """The row of that name; ``None`` for the T-learner.

    Raises:
        ValueError: for any other name.
    """
    if name == T_LEARNER:
        return None
    pseudo, _, weight = name.partition("-")
    if pseudo not in set(Pseudo) or weight not in set(Weight):
        raise ValueError(
            f"no row {name!r}: a row is {T_LEARNER!r} or <pseudo>-<weight>, with pseudo one of "
            f"{', '.join(Pseudo)} and weight one of {', '.join(Weight)}"
        )
    return Row(Pseudo(pseudo), Weight(weight))


ROWS = (
    *(
        str(Row(pseudo, weight))
        for pseudo in (Pseudo.DR, Pseudo.DR_SEPARATE)
        for weight in (Weight.ONE, Weight.DR_X, Weight.DR_AX, Weight.DR_AX_ADHOC)
    ),
    *(str(Row(Pseudo.COV, weight)) for weight in (Weight.ONE, Weight.DR_X)),
    *(str(Row(Pseudo.U, weight)) for weight in (Weight.ONE, Weight.U_AX, Weight.U_X)),
    T_LEARNER,
)
"""The 14 rows of the authors' released results."""
