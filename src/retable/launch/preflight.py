"""Build what runs will build before any of them starts, to hear what its classes refuse.

The schema and the signatures have been checked by then; what is left are relations between options,
which a class states itself, and options that ``torch.optim`` refuses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from retable.config.schema import PathsConfig, StartConfig
from retable.papers.base import PaperModule
from retable.runs import weight_files
from retable.training.execute import build
from retable.training.start import Start
from retable.util.errors import UserError, brief, nearest

BUDGET_S = 10.0
"""Settings that are not built by then are left to their runs."""

_HINTS = {
    "start.run": "give both the same options (start.run.same)",
    "start.file": "rename them in its take_start",
}
_KEYS = ("model.", "data.")
_PART = re.compile(r"to target '(?P<target>[\w.]+)':.*\nfull_key: (?P<key>[\w.]+)$", re.DOTALL)
_OPTIMIZERS = str(Path(torch.optim.__file__).parent)


def first_refusal(configs: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
    """Which of some validated configs is refused, and why; the first one that is.

    A refusal is a :class:`~retable.util.errors.UserError`, a :class:`ValueError` whose text begins
    with the key that is wrong (``model.k: ...``), one that a part of the model or data raises when
    it is made (``model.attack``), or whatever an optimiser or scheduler of torch says of its
    options. Any other error is the run's, which leaves a traceback.
    """
    begin = time.monotonic()
    for index, config in enumerate(configs):
        if time.monotonic() - begin > BUDGET_S:
            break
        try:
            _, module = build(config)
            # One of its own may need the trainer.
            own = type(module).configure_optimizers is not PaperModule.configure_optimizers
            if config.get("start") is not None:
                _take_start(module, config)
            if "fit" in config["stages"] and not own:
                module.configure_optimizers()
        except Exception as error:
            if said := _refused(error, config):
                return index, brief(said, 600)
    return None


def _take_start(module: PaperModule, config: dict[str, Any]) -> None:
    """Try whether the module takes the weights of the run or file that it will start from.

    Of a run only what torch says of them is heard: artefacts and history are not known before it is
    done, and what a module says without them is no refusal. Of a file all is known.

    Raises:
        UserError: where names or shapes do not fit.
    """
    begun = begun_with(config)
    own = module.state_dict()
    try:
        module.take_start(Start(begun.weights))
    except Exception as error:
        misfit = misfit_of(begun, own, error)
        if not misfit and begun.key == "start.file":
            misfit = brief(f"{type(error).__name__}: {error}")
        if misfit:
            raise UserError(refusal_of(begun, module, misfit)) from error


class Begun(NamedTuple):
    """What a run begins with: the key that names it, weights of its shapes, and whose they are."""

    key: str
    weights: dict[str, Tensor]
    whose: str


def begun_with(config: dict[str, Any]) -> Begun:
    """What a run that has a start begins with; of another run, weights of the shapes of its own."""
    above = config["start"]["run"]
    if above is None:
        start = StartConfig.model_validate(config["start"])
        file = weight_files.have(start, PathsConfig.model_validate(config["paths"]))
        return Begun("start.file", weight_files.read(file), str(start.file))
    _, parent = build({**config, **above})
    whose = f"{above['experiment'] or above['paper']} ({type(parent).__name__})"
    return Begun("start.run", parent.state_dict(), whose)


def misfit_of(begun: Begun, own: dict[str, Tensor], error: Exception) -> str:
    """What does not fit, with what to do, where torch has said that it does not; else nothing.

    Args:
        begun: what the run begins with.
        own: weights of its module, as they were before.
        error: raised by the module that was to take the others.
    """
    if not is_of_loading(error):
        return ""
    found = _misfit(begun.weights, own)
    hint = f"; {_HINTS[begun.key]}, or let it take what fits: see docs/chains.md"
    return f"{found}{hint}" if found else ""


def is_of_loading(error: Exception) -> bool:
    """Whether torch has said that weights have other names or shapes than a module."""
    return str(error).startswith("Error(s) in loading state_dict")


def refusal_of(begun: Begun, module: PaperModule, misfit: str) -> str:
    """The sentence that refuses a start."""
    name = type(module).__name__
    return f"{begun.key}: {name} cannot take the weights of {begun.whose}: {misfit}"


def _misfit(state: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """The first thing that does not fit, and how many there are."""
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    missing = [f"there is no {name}{nearest(name, state)}" for name in own if name not in state]
    unused = [f"{name} has no place here{nearest(name, own)}" for name in state if name not in own]
    found = [*shapes, *missing, *unused]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


def _refused(error: Exception, config: dict[str, Any]) -> str | None:
    # Hydra wraps what a constructor raises.
    if type(error).__name__ == "InstantiationException" and isinstance(error.__cause__, Exception):
        if part := _part_of(str(error), config):
            return _of_part(*part, error.__cause__)
        error = error.__cause__
    text = str(error)
    if isinstance(error, UserError) or (isinstance(error, ValueError) and text.startswith(_KEYS)):
        return text
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if isinstance(error, ValueError) and trace is not None:
        raised_in = trace.tb_frame.f_code
        if raised_in.co_filename.startswith(_OPTIMIZERS):
            which = "scheduler" if "lr_scheduler" in raised_in.co_filename else "optimizer"
            return f"model.{which}: {text}"
    return None


def _part_of(said: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The key and options of the part, such as ``model.attack``, that Hydra could not build."""
    found = _PART.search(said)
    if found is None:
        return None
    for root in ("model", "data"):  # each is built alone, so that Hydra's key does not have it
        node: Any = config.get(root)
        for name in found["key"].split("."):
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get("_target_") == found["target"]:
            return f"{root}.{found['key']}", node
    return None


def _of_part(key: str, options: dict[str, Any], error: Exception) -> str | None:
    """What a part's class refuses of its options, which it names without where it stands."""
    text = str(error)
    if not isinstance(error, UserError | ValueError):
        return None
    if text.startswith(_KEYS):
        return text
    own = key.rpartition(".")[2]
    if text.startswith(f"{own}."):
        return f"{key.removesuffix(own)}{text}"
    return f"{key}.{text}" if text.partition(":")[0] in options else f"{key}: {text}"
