"""Fully connected networks: layered with feedback, and with one loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field as Bound
from torch import Tensor, nn

from retable.papers.equilibrium_prop.systems import Block, DenseSystem, Net

Link = tuple[str, str]
"""Layer that is driven, and layer that drives it."""


def lecun_normal(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """A normal of variance 1 / fan_in, cut at two deviations before the cut (as in Flax)."""
    std = fan_in**-0.5 / 0.87962566103423978  # deviation of the standard normal cut at 2
    inside = math.erf(2**0.5)  # probability within the cut
    # By the inverse of its distribution: torch's trunc_normal_ draws again what it rejects.
    with torch.no_grad():
        weight.uniform_(-inside, inside, generator=generator).erfinv_().mul_(2**0.5 * std)
        weight.clamp_(-2 * std, 2 * std)


@torch.no_grad()
def rotate(forward: Tensor, backward: Tensor, degrees: float) -> None:
    """``B <- sin(a) B + cos(a) W``, of backward weights in the order of the forward ones."""
    angle = math.radians(degrees)
    backward.mul_(math.sin(angle)).add_(forward, alpha=math.cos(angle))


class Dense(Net):
    """Layers ``l1``, ``l2``, ..., ``out`` with connections between them; the input drives ``l1``.

    Args:
        n_in: numbers of an image.
        widths: neurons of each layer.
        links: connections; the first of a layer from the one below it is its forward one.
        groups: layers that lie together in a state; those of a group are driven by one other group.
        angle: between forward weights and the transpose of backward ones, in degrees; None leaves
            them as they are drawn.
    """

    def __init__(
        self,
        n_in: int,
        widths: dict[str, int],
        links: Sequence[Link],
        groups: Sequence[Sequence[str]],
        angle: float | None,
    ) -> None:
        super().__init__()
        self.activation, self.angle = "sigmoid", angle
        self.links, self.groups = list(links), [list(group) for group in groups]
        self.layers, start = {}, 0
        for name in (name for group in groups for name in group):
            self.layers[name] = slice(start, start + widths[name])
            start += widths[name]
        self.n, self.n_out, self.n_in = start, widths["out"], n_in
        self.input = nn.Parameter(torch.empty(widths["l1"], n_in))
        self.weight = nn.ParameterDict(
            {f"{post}_{pre}": torch.empty(widths[post], widths[pre]) for post, pre in links}
        )
        self.bias = nn.Parameter(torch.zeros(self.n))  # of forward connections, one a layer

    def draw(self, generator: torch.Generator) -> None:
        """Draw initial weights, and turn the backward ones to the angle."""
        for weight in (self.input, *self.weight.values()):
            lecun_normal(weight, weight.shape[1], generator)
        if self.angle is not None:
            for forward, backward in self.pairs():
                rotate(forward, backward, self.angle)

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Forward weights, and the transpose of backward ones."""
        both = [(post, pre) for post, pre in self.links if (pre, post) in self.links]
        upwards = both[: len(both) // 2]  # links name forward connections first
        return [(self.weight[f"{i}_{j}"], self.weight[f"{j}_{i}"].T) for i, j in upwards]

    def _blocks(self) -> list[Block]:
        """W by groups, of zeros where layers of two groups are not connected."""
        found: list[Block] = []
        for posts in self.groups:
            pres = next(g for g in self.groups if any((posts[0], p) in self.links for p in g))
            rows = [torch.cat([self._one(i, j) for j in pres], 1) for i in posts]
            found.append((self._span(posts), self._span(pres), torch.cat(rows)))
        return found

    def _one(self, post: str, pre: str) -> Tensor:
        if (post, pre) in self.links:
            return self.weight[f"{post}_{pre}"]
        sizes = [self.layers[name].stop - self.layers[name].start for name in (post, pre)]
        return self.input.new_zeros(sizes)

    def _span(self, names: Sequence[str]) -> slice:
        return slice(self.layers[names[0]].start, self.layers[names[-1]].stop)

    def bind(self, x: Tensor) -> DenseSystem:
        """``B x + b``, and the blocks of W."""
        first = self.layers["l1"]
        driven = torch.addmm(self.bias[first], x.flatten(1), self.input.T)
        before = self.bias[: first.start].expand(len(x), -1)
        after = self.bias[first.stop :].expand(len(x), -1)
        drive = torch.cat([before, driven, after], 1)
        return DenseSystem(drive, self.layers, self.activation, self.n, self._blocks())

    def jacobian(self) -> Tensor:
        """W, ``(n, n)``."""
        found = self.input.new_zeros(self.n, self.n)
        for post, pre, weight in self._blocks():
            found[post, pre] = weight
        return found


class MLP(Dense):
    """Layers that are connected with those above and below.

    Args:
        n_in: numbers of an image.
        widths: neurons of ``l1``, ``l2``, ...
        n_out: neurons of ``out``.
        angle: initial angle between forward and backward weights, in degrees.
    """

    def __init__(
        self,
        n_in: Annotated[int, Bound(ge=1)] = 784,
        widths: tuple[int, ...] = (256, 256),
        n_out: Annotated[int, Bound(ge=1)] = 10,
        angle: Annotated[float, Bound(ge=0, le=180)] = 0.0,
    ) -> None:
        names = [*(f"l{k}" for k in range(1, len(widths) + 1)), "out"]
        up = list(zip(names[1:], names, strict=False))
        # Layers with an odd and with an even number drive each other alone: two products a step.
        groups = [names[::2], names[1::2]]
        sizes = dict(zip(names, [*widths, n_out], strict=True))
        super().__init__(n_in, sizes, [*up, *((j, i) for i, j in up)], groups, angle)


class Loop(Dense):
    """``l1`` drives ``l2``, ``l2`` drives ``out``, ``out`` drives ``l1``; nothing goes back.

    Args:
        n_in: numbers of an image.
        widths: neurons of ``l1`` and ``l2``.
        n_out: neurons of ``out``.
    """

    def __init__(
        self,
        n_in: Annotated[int, Bound(ge=1)] = 784,
        widths: tuple[int, int] = (256, 256),
        n_out: Annotated[int, Bound(ge=1)] = 10,
    ) -> None:
        sizes = {"l1": widths[0], "l2": widths[1], "out": n_out}
        links = [("l2", "l1"), ("out", "l2"), ("l1", "out")]
        super().__init__(n_in, sizes, links, [["l1"], ["l2"], ["out"]], None)
