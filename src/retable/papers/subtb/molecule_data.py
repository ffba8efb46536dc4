"""Which fragments a run has and what rewards its molecules: made up, or the sEH task's files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from retable.papers.subtb.molecules import TYPE, Fragments
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

TOY = Fragments((3, 2, 2, 1, 1))
"""A branching fragment, two links and two caps."""


class MoleculeReward(Protocol):
    """Reward of molecules."""

    def log_reward(self, objects: Tensor) -> Tensor:
        """Return log R ``(B,)`` of molecules ``(B, blocks, 4)``."""
        ...


@dataclass(frozen=True)
class ToyReward:
    """Made up: log R is a sum over fragments of weights drawn once, so it needs no data.

    Args:
        kinds: number of fragments.
        scale: standard deviation of a weight.
        problem: number of the draw.
    """

    kinds: int
    scale: float = 1.0
    problem: int = 0

    @cached_property
    def weights(self) -> Tensor:
        """``(kinds,)``."""
        seed = derive_seed(self.problem, "molecules", self.kinds)
        return self.scale * torch.randn(self.kinds, generator=torch.Generator().manual_seed(seed))

    def log_reward(self, objects: Tensor) -> Tensor:
        """Sum of the fragments' weights, ``(B,)``."""
        kinds = objects[..., TYPE]
        each = self.weights.to(objects.device)[kinds.clamp_min(0)]
        return torch.where(kinds >= 0, each, 0.0).sum(1)


@dataclass(frozen=True)
class ProxyReward:
    """``(max(proxy, r_min) / norm)^exponent`` of a program of torch.export.

    Args:
        module: maps ``(B, blocks, 4)`` int64 to ``(B,)``.
        exponent: beta; 10 by default in the authors' code.
        norm: 8 there.
        r_min: 0.1 there.
    """

    module: Any
    exponent: float = 10.0
    norm: float = 8.0
    r_min: float = 0.1

    @torch.no_grad()
    def log_reward(self, objects: Tensor) -> Tensor:
        """Return log R ``(B,)``."""
        proxy = cast("Tensor", self.module(objects)).float()
        return self.exponent * (proxy.clamp_min(self.r_min) / self.norm).log()


def read_fragments(path: Path) -> Fragments:
    """Fragments of the authors' file: ``block_smi`` and ``block_rs`` by number.

    An entry of the file is a fragment with the atoms of its ports, the one it is joined by first;
    entries with the same SMILES are one fragment joined by different atoms.

    Raises:
        UserError: where the file has another form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        smiles, atoms = ([*content[name].values()] for name in ("block_smi", "block_rs"))
        names = list(dict.fromkeys(smiles))
        ports: list[int] = [0] * len(names)
        entries: list[tuple[int, int]] = []
        order: dict[str, list[int]] = {}
        for name, places in zip(smiles, atoms, strict=True):
            kind = names.index(name)
            known = order.setdefault(name, sorted(places))
            ports[kind] = len(known)
            entries.append((kind, known.index(places[0])))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: is no file of fragments with block_smi and block_rs ({error})"
        ) from None
    return Fragments(tuple(ports), tuple(dict.fromkeys(entries)))


def read_proxy(path: Path, exponent: float) -> ProxyReward:
    """The user's proxy.

    Raises:
        UserError: where the file is no program of torch.export.
    """
    try:
        module = torch.export.load(path).module()
    except Exception as error:
        raise UserError(f"{path}: is no program of torch.export ({error})") from None
    return ProxyReward(module, exponent)
