"""Checks of a run's config against what the class of its model says of itself."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, cast

from retable.config import signatures
from retable.config.targets import definition
from retable.util.errors import UserError, brief, nearest

_OF_SCHEDULE = ("scheduler_interval", "scheduler_monitor")
_OF_TORCH = "torch.optim.lr_scheduler."
_PLATEAU = f"{_OF_TORCH}ReduceLROnPlateau"
_BUILDS = "retable.papers.base.PaperModule"
"""The class whose ``configure_optimizers`` reads them only where there is a scheduler for them."""


def check_devices(model: dict[str, Any], devices: int) -> None:
    """Refuse several devices for a method whose batches cannot be split over them.

    Raises:
        UserError: where the model's class does not say that they can.
    """
    target = str(model["_target_"])
    if devices > 1 and signatures.constant(definition(target, "model"), "splits") is not True:
        raise UserError(
            f"device.devices: must be 1 here, a batch of {target} cannot be split over {devices}"
        )


def check_factories(model: dict[str, Any]) -> None:
    """Refuse an optimiser or a schedule by name, where the class takes what builds one.

    Raises:
        UserError: naming the option.
    """
    target = str(model["_target_"])
    parameters = signatures.signature(definition(target, "model")).parameters
    for name in ("optimizer", "scheduler"):
        annotation = parameters[name].annotation if name in parameters else None
        typed = annotation is not None and ast.unparse(annotation) != "Any"  # its own, checked
        if not typed and not isinstance(model.get(name), dict | None):
            given = brief(repr(model[name]))
            how = "{_target_: torch.optim..., _partial_: true, ...}"
            raise UserError(f"model.{name}: {given} is not valid: expected an object, {how}")


def check_schedule(model: dict[str, Any]) -> None:
    """Refuse options of a schedule that nothing reads: without one, or without a plateau to watch.

    A class that builds its optimisers itself may read them all the same.

    Raises:
        UserError: naming the option.
    """
    at = definition(str(model["_target_"]), "model")
    defaults = signatures.defaults(at)
    given = [name for name in _OF_SCHEDULE if name in model and model[name] != defaults.get(name)]
    if not given or signatures.owner(at, "configure_optimizers") != _BUILDS:
        return
    scheduler = (defaults | model).get("scheduler", "of its own")
    kind = str(scheduler.get("_target_", "")) if isinstance(scheduler, dict) else ""
    for name in given:
        if scheduler is None:
            why = "model.scheduler is null"
        elif name == "scheduler_monitor" and kind.startswith(_OF_TORCH) and kind != _PLATEAU:
            why = f"{kind.removeprefix(_OF_TORCH)} follows no metric, ReduceLROnPlateau alone does"
        else:
            continue
        raise UserError(
            f"model.{name}: is {model[name]}, and nothing reads it: {why}; leave it out"
        )


def check_tested(model: dict[str, Any], tested: Mapping[str, Mapping[Any, str]]) -> None:
    """Refuse to test weights that a method does not keep.

    Raises:
        UserError: where the model's class does not name them among its ``kept_weights``.
    """
    target = str(model["_target_"])
    for row, which in tested.items():
        kept = cast(
            "tuple[str, ...]", signatures.constant(definition(target, "model"), "kept_weights")
        )
        if (name := which.get("weights")) is not None and name not in kept:
            raise UserError(
                f"tested.{row}.weights: {target} keeps no weights '{name}'"
                f"{nearest(name, kept) if kept else ', it has those that it trains'}"
            )
