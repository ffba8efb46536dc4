"""Norms and rates of all iterations, which a training of a language model leaves.

A run whose fit was done by an earlier attempt gets its weights back and nothing else, so that they
have to be among them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retable.papers.base import Arrays


class Norms(nn.Module):
    """Norms and rates by iteration, part of the ``state_dict`` in their length of the moment."""

    def __init__(self) -> None:
        super().__init__()
        self._norms = torch.zeros(0)
        self._rates = torch.zeros(0, dtype=torch.float64)
        self._new: list[Tensor] = []
        self._new_rates: list[float] = []

    def add(self, norm: Tensor, rate: float) -> None:
        """Note an iteration; the norm stays where it is until :meth:`gather`."""
        self._new.append(norm)
        self._new_rates.append(rate)

    def gather(self) -> Arrays:
        """``norm`` and ``rate``, ``(iterations,)`` on the CPU; one transfer for all new norms."""
        if self._new:
            self._norms = torch.cat([self._norms, torch.stack(self._new).float().cpu()])
            rates = torch.tensor(self._new_rates, dtype=torch.float64)
            self._rates = torch.cat([self._rates, rates])
            self._new, self._new_rates = [], []
        return {"norm": self._norms, "rate": self._rates}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, array in self.gather().items():
            destination[f"{prefix}{name}"] = array

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any, **__: Any) -> None:
        if f"{prefix}norm" in state_dict:
            self._new, self._new_rates = [], []
            self._norms = state_dict[f"{prefix}norm"].cpu()
            self._rates = state_dict[f"{prefix}rate"].cpu()
