"""APGD-CE and AutoAttack (Croce and Hein, ICML 2020) by their library (extra ``converge-smooth``).

The library is the authors' code as a package, ``pyautoattack``. ``torchattacks`` has the same
attacks, and holds ``requests`` at a version of 2020. ``scripts/bench_fat.py --compare`` runs both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.base import StepOutput
from retable.papers.converge_smooth.checks import refuse_pixels, refuse_sizes
from retable.papers.converge_smooth.module import AdversarialTraining
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
"""Attacks of AutoAttack's standard version, in its order."""


def installed() -> bool:
    """Whether the library is there."""
    return importlib.util.find_spec("pyautoattack") is not None


def unbroken(
    net: nn.Module, images: Tensor, labels: Tensor, *, budget: float, seed: int
) -> dict[str, Tensor]:
    """Which images each attack of the standard version leaves, ``(B,)``, given only what is left.

    After ``apgd-ce`` that is robustness against APGD-CE (100 steps, one start), after ``square``
    that against AutoAttack.

    Args:
        net: in evaluation mode.
        images: in [0, 1].
        labels: of the images.
        budget: L-infinity radius.
        seed: of the attacks' starts.

    Raises:
        ValueError: for a network in training mode, images that are not in [0, 1], or a budget in
            another unit.
    """
    if net.training:
        raise ValueError("net: is in training mode; robustness is measured in evaluation mode")
    refuse_sizes(budget=budget)
    refuse_pixels(images, read=True)
    from pyautoattack import AutoAttack

    found: dict[str, Tensor] = {}
    with _apart(net, images):
        attack: Any = AutoAttack(net, device=images.device, eps=budget, seed=seed)
        with torch.no_grad():
            logits = net(images.float())
        left = logits.argmax(1) == labels
        for targeted in (attack.apgd_targeted, attack.fab):
            targeted.n_target_classes = min(9, logits.shape[1] - 1)
        for name in STANDARD:
            attack.attacks_to_run = [name]
            if left.any():
                _, given = attack.run_standard_evaluation(
                    # The library takes views of gradients: no images with the channels last.
                    images[left].float().contiguous(),
                    labels[left],
                    batch_size=len(images),
                )
                left = left.clone()
                left[left.clone()] = given == labels[left]
            found[name] = left
    return found


@contextmanager
def _apart(net: nn.Module, images: Tensor) -> Generator[None]:
    """Nothing of the run changes: weights have no gradients, and draws go on as without.

    Projections of FAB have no deterministic form on a GPU, which is a warning in here.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    mode = torch.get_deterministic_debug_mode()
    devices = [images.device] if images.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.autocast(images.device.type, enabled=False):
        torch.set_deterministic_debug_mode(min(mode, 1))
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            torch.set_deterministic_debug_mode(mode)


class StronglyTested(AdversarialTraining):
    """:class:`AdversarialTraining` whose test has ``test/apgd_ce`` and ``test/autoattack`` as well.

    Args:
        autoattack: test batches, the first ones, on which both are run; of all their images.
        **options: of :class:`AdversarialTraining`.

    Raises:
        UserError: where the library is not installed.
    """

    def __init__(self, *, autoattack: Annotated[int, Field(ge=0)] = 0, **options: Any) -> None:
        if autoattack and not installed():
            raise UserError(
                "model.autoattack: needs pyautoattack: install the extra 'converge-smooth'"
            )
        self.autoattack = autoattack
        self._left: list[dict[str, Tensor]] = []
        super().__init__(**options)

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        super().on_test_epoch_start()
        self._left = []

    def _evaluated(self, batch: tuple[Tensor, Tensor, Tensor]) -> StepOutput:
        output = super()._evaluated(batch)
        if self.trainer.testing and (number := len(self._left)) < self.autoattack:
            images, labels, _ = batch
            seed = derive_seed(self.seed, "autoattack", number)
            self._left.append(unbroken(self.net, images, labels, budget=self.budget, seed=seed))
        return output

    def on_test_epoch_end(self) -> None:
        """Record the share of images that either attack leaves."""
        super().on_test_epoch_end()
        for metric, last in (("apgd_ce", "apgd-ce"), ("autoattack", "square")):
            if self._left:
                left = torch.cat([found[last] for found in self._left])
                self.add_result(f"test/{metric}", float(left.double().mean()))
        self._left = []
