"""Errors of the estimates of s' in a network that is not trained."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.base import PaperModule, StepOutput
from retable.papers.equilibrium_prop.module import Equilibrium
from retable.papers.equilibrium_prop.phases import nudged, relax, residual, tangent


class DerivativeError(PaperModule):
    """Relative errors ``||s'_N - s'|| / ||s'||`` of images whose states have converged.

    Result ``derivative/error`` in row ``n<N>`` is the median over those test images, in double
    precision; its step is |beta| in hundredths. s' is the derivative in forward mode, and
    ``derivative/converged`` the share of the images.

    Args:
        seed: the run's seed, of the weights.
        net: the network.
        n_classes: labels.
        free_steps: of the free phase.
        nudged_steps: T2.
        converged: an image counts up to this norm of the field.
        points: N, each a row.
        amplitudes: |beta|, each a step.
        n_images: the first of the test.
    """

    def __init__(
        self,
        *,
        seed: int,
        net: nn.Module,
        n_classes: Annotated[int, Field(ge=2)] = 10,
        free_steps: Annotated[int, Field(ge=1)] = 400,
        nudged_steps: Annotated[int, Field(ge=1)] = 20,
        converged: Annotated[float, Field(gt=0)] = 1e-6,
        points: list[Annotated[int, Field(ge=1)]],
        amplitudes: list[Annotated[float, Field(gt=0)]],
        n_images: Annotated[int, Field(ge=1)] = 500,
    ) -> None:
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.n_classes, self.free_steps, self.nudged_steps = n_classes, free_steps, nudged_steps
        self.converged, self.points, self.amplitudes = converged, points, amplitudes
        self.n_images = n_images
        self._errors: dict[tuple[int, float], list[Tensor]] = {}
        self._counts = [0, 0]
        super().__init__(seed=seed)

    def build_model(self) -> None:
        """The network as a run would begin with it."""
        (net,) = self._given
        del self._given
        self.model = Equilibrium(seed=self.seed, net=net, n_classes=self.n_classes).double()

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Errors of a batch ``(B, C, H, W), (B,)``."""
        nothing = StepOutput(batch[0].new_zeros(()), items=len(batch[1]))
        rest = self.n_images - self._counts[0]
        if rest <= 0:
            return nothing
        images, labels = batch[0][:rest].double(), batch[1][:rest]
        system, readout = self.model.net.bind(images).detached(), self.model.readout_of(labels)
        u = relax(system, system.zeros(), self.free_steps)
        good = residual(system, u) <= self.converged
        exact = tangent(system, u, self.nudged_steps, readout)
        for points in self.points:
            for amplitude in self.amplitudes:
                found = nudged(system, u, self.nudged_steps, readout, points, amplitude)
                errors = (found - exact).norm(dim=1) / exact.norm(dim=1)
                self._errors.setdefault((points, amplitude), []).append(errors[good])
        self._counts[0] += len(images)
        self._counts[1] += int(good.sum())
        return nothing

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self._errors, self._counts = {}, [0, 0]

    def on_test_epoch_end(self) -> None:
        """Record medians."""
        super().on_test_epoch_end()
        n, good = self._counts
        self.add_result("derivative/converged", good / n)
        for (points, amplitude), parts in self._errors.items():
            errors = torch.cat(parts)
            if len(errors):
                median = float(errors.median())
                self.add_result("derivative/error", median, f"n{points}", round(100 * amplitude))
