"""What a training of a language model leaves besides its weights, in its ``state_dict``.

A run whose fit was done by an earlier attempt gets its weights back and nothing else, so that
norms and snapshots have to be among them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retable.papers.base import Arrays
from retable.papers.weight_decay.snapshots import Snapshots


class Kept(nn.Module):
    """Norms and rates by iteration, and snapshots.

    Args:
        snapshots: kept by it.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        super().__init__()
        self.snapshots = snapshots
        self.clear()

    def clear(self) -> None:
        """Forget norms and rates."""
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

    def artifacts(self) -> dict[str, Arrays]:
        """``norms``, and ``snapshot_<share>`` for each."""
        return {"norms": self.gather(), **self.snapshots.artifacts()}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, array in self.gather().items():
            destination[f"{prefix}{name}"] = array
        for share, weights in self.snapshots.state_dict().items():
            for name, weight in weights.items():
                destination[f"{prefix}{share}.{name}"] = weight

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any, **__: Any) -> None:
        found = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        if "norm" not in found:
            return
        self.clear()
        self._norms, self._rates = found.pop("norm").cpu(), found.pop("rate").cpu()
        snapshots: dict[str, Arrays] = {}
        for name, weight in found.items():
            share, _, parameter = name.partition(".")
            snapshots.setdefault(share, {})[parameter] = weight
        self.snapshots.load_state_dict(snapshots)
