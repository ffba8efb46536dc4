"""Cosines between the error vectors of equilibrium propagation and of recurrent backpropagation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from retable.papers.equilibrium_prop.homeostasis import cosines


class Alignment:
    """Cosines by layer of the images that were added.

    A vector of zeros, as of saturated neurons, has no direction: it is counted, and left out.

    Args:
        layers: places of the layers in a state.
    """

    def __init__(self, layers: Mapping[str, slice]) -> None:
        self.layers = layers
        self._found: dict[str, list[Tensor]] = {name: [] for name in layers}
        self._converged: list[Tensor] = []
        self.n = 0

    def add(self, found: Tensor, exact: Tensor, converged: Tensor) -> None:
        """Vectors ``(B, n)`` of images, and whether their states have converged, ``(B,)``."""
        for name, place in self.layers.items():
            self._found[name].append(cosines(found[:, place], exact[:, place]).double().cpu())
        self._converged.append(converged.cpu())
        self.n += len(found)

    def means(self, prefix: str, *, converged: bool = False) -> dict[str, float]:
        """Mean by layer over images, or over those that have converged; without what has none."""
        chosen = torch.cat(self._converged)
        means: dict[str, float] = {}
        for name, parts in sorted(self._found.items()):
            values = torch.cat(parts)
            values = values[chosen] if converged else values
            values = values[values.isfinite()]
            if len(values):
                means[f"{prefix}{name}"] = float(values.mean())
        return means

    def results(self) -> dict[str, float]:
        """What a test records."""
        zero = sum(int((~torch.cat(parts).isfinite()).sum()) for parts in self._found.values())
        share = float((~torch.cat(self._converged)).double().mean())
        return {
            **self.means("cosine/"),
            **self.means("converged/", converged=True),
            "cosine/unconverged": share,
            "cosine/zero": float(zero),
        }
