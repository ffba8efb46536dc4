"""Initial weights and scores of a layer: their scale by the layer's fans, and their form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

Kind = Literal["xavier", "he", "elu", "elus"]
Form = Literal["constant", "uniform", "normal"]


def fans(weight: Tensor) -> tuple[int, int]:
    """Fan in and fan out of a weight ``(out, in)`` or ``(out, in, h, w)``."""
    n_in = weight[0].numel()
    return n_in, weight.shape[0] * n_in // weight.shape[1]


def deviation(kind: Kind, fan_in: int, fan_out: int, factor: float = 1.0) -> float:
    """Standard deviation of initial weights, which is also the signed constant.

    ``xavier`` is √(2 / (fan in + fan out)), the others are √(2 f / fan in): ``he`` has f = 1,
    ``elu`` 0.75, and ``elus`` the factor that is given. ELU with α = 1 keeps the variance at
    Var(w) = 1.5 / fan in, and a mask that leaves a share q of the weights at 1.5 / (q fan in), so
    that f = 1.5 belongs to q = 1/2 and f = 3 to q = 1/4.
    """
    match kind:
        case "xavier":
            return (2 / (fan_in + fan_out)) ** 0.5
        case "he":
            return (2 / fan_in) ** 0.5
        case "elu":
            return (1.5 / fan_in) ** 0.5
        case "elus":
            return (2 * factor / fan_in) ** 0.5


@dataclass(frozen=True)
class Initial:
    """A distribution of initial values.

    Attributes:
        kind: of the deviation.
        form: ``constant``: plus or minus the deviation, by the sign of a normal draw; ``uniform``:
            up to √3 deviations; ``normal``.
        factor: of ``elus``.
    """

    kind: Kind = "elus"
    form: Form = "constant"
    factor: Annotated[float, Field(gt=0)] = 3.0

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Values of a weight's shape, on the CPU."""
        scale = deviation(self.kind, *fans(like), self.factor)
        if self.form == "uniform":
            bound = 3**0.5 * scale
            return torch.empty(like.shape).uniform_(-bound, bound, generator=generator)
        normal = torch.randn(like.shape, generator=generator)
        if self.form == "normal":
            return normal * scale
        return torch.where(normal < 0, -scale, scale)
