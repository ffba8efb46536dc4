"""Equal steps within a training step: few of them are counted, and the others added.

A module may name options in ``equal_steps``, each of which says how many equal steps follow one
another: FLOPs and operations are affine in it, whatever the others are, and nothing is kept of a
step that has been done, so that the peak does not depend on it. An option is an attribute of the
same name, which every training step reads anew.
"""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule

FEW = 2
"""Equal steps that are counted at first; a count with one more tells what each adds."""


def many_of(module: LightningModule) -> dict[str, int]:
    """Options of a module that ask for more equal steps than are counted."""
    names: tuple[str, ...] = getattr(module, "equal_steps", ())
    many = {name: int(getattr(module, name)) for name in names}
    return {name: steps for name, steps in many.items() if steps > FEW + 1}


def set_steps(module: LightningModule, steps: dict[str, int]) -> None:
    """Let a module take so many equal steps."""
    for name, n in steps.items():
        setattr(module, name, n)


def with_few(config: dict[str, Any], module: LightningModule) -> dict[str, Any]:
    """The config of a run, with few equal steps.

    Args:
        config: of a run.
        module: built from it.
    """
    few = dict.fromkeys(many_of(module), FEW)
    return {**config, "model": {**config["model"], **few}}
