"""What a paper refuses of options that its classes would take, each alone, as they are.

A module ``refusals`` in the paper's package is asked about every config of its models. Nothing that
computes imports it, so that a refusal which is added there makes no record stale; and it hears of
the config alone, before anything is launched. It imports nothing heavy: every command that reads a
table composes its runs.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from retable.config import signatures, source_files
from retable.config.schema import RunConfig
from retable.config.targets import definition
from retable.util.errors import UserError
from retable.util.paths import shown

_PAPERS = "retable.papers."
_OWN = "retable."
_SECTIONS = {"trainer", "stages", "tested", "best_epoch", "device"}


def check_paper(config: RunConfig) -> None:
    """Ask the ``refuse`` of a run's paper, where the paper has one.

    It gets ``model``, ``data``, ``start`` (null or, as ``start.run`` and ``start.file`` are), and
    the other sections of how a run computes as plain values. In ``model`` and ``data``, those of
    the run that it starts from included, each target of retable or of a paper has its defaults too,
    as far as they are literals: ``run["model"]["lr"]`` is there whether or not it was given. Those
    of torch and others have what they are given.

    Raises:
        UserError: what it refuses; and where there is no function ``refuse`` in it.
    """
    module, file = _module_of(config.model)
    if file is None:
        return
    source_files.module_tree(module)  # one that is no Python is refused by file and line
    refuse = getattr(import_module(module), "refuse", None)
    if refuse is None:
        raise UserError(f"{shown(file)}: has no function refuse(run)")
    refuse(plain(config))


def one_order(model: dict[str, Any]) -> frozenset[str]:
    """Mappings of a model's paper of which one order is all there is: its ``ONE_ORDER``, or none.

    They are dotted, from the config's top, such as ``model.tasks``. The paper refuses any other
    order, or computes nothing from it, so that the order is no part of a run's key.
    """
    module, file = _module_of(model)
    return frozenset(getattr(import_module(module), "ONE_ORDER", ()) if file else ())


def _module_of(model: dict[str, Any]) -> tuple[str, Path | None]:
    """The module that a model's paper refuses in, and its file where there is one."""
    target = str(model.get("_target_"))
    module = f"{_PAPERS}{target.removeprefix(_PAPERS).partition('.')[0]}.refusals"
    return module, source_files.module_file(module) if target.startswith(_PAPERS) else None


def plain(config: RunConfig) -> dict[str, Any]:
    """The values that :func:`check_paper` hands on; whoever gets them may change them."""
    values = config.model_dump(mode="json", include={*_SECTIONS, "start"})
    values |= {"model": _filled(config.model), "data": _filled(config.data)}
    start = values["start"]
    if start is not None and start["run"] is not None:
        start["run"] |= {name: _filled(start["run"][name]) for name in ("model", "data")}
    return values


def _filled(node: Any) -> Any:
    """A copy of a node in which each own target has the defaults that are literals."""
    if isinstance(node, dict):
        given = {key: _filled(value) for key, value in node.items()}
        target = node.get("_target_")
        if isinstance(target, str) and target.startswith(_OWN):
            defaults = signatures.defaults(definition(target, "_target_"))
            return {name: _filled(value) for name, value in defaults.items()} | given
        return given
    return [_filled(item) for item in node] if isinstance(node, list | tuple) else node
