"""Refuse a ``_target_`` that may not be built, or that is given arguments it does not take."""

from __future__ import annotations

import ast
import math
from typing import Annotated, Any, Literal, Union, cast

import annotated_types
import pydantic
from pydantic import TypeAdapter, ValidationError

from retable import static
from retable.errors import UserError, nearest

ALLOWED = (
    "retable.papers.",
    "retable.data.",
    "torch.optim.",
    "torch.nn.",
    "torchvision.models.",
    "torchmetrics.",
    "pytorch_lightning.callbacks.",
)
"""Prefixes of what a config may build. Nothing here opens files or runs code from data."""

_REFUSED_PREFIXES = ("torch.nn.utils.", "torch.nn.parallel.", "pytorch_lightning.callbacks.lambda_")
_HYDRA_KEYS = {"_target_", "_partial_"}
_NAMES: dict[str, Any] = {
    **{t.__name__: t for t in (int, float, bool, str, list, dict, tuple)},
    "None": None,
    "Literal": Literal,
    "Annotated": Annotated,
    "Sequence": list,
    "Field": pydantic.Field,
    **{
        name: getattr(pydantic, name)
        for name in (
            "PositiveInt",
            "NonNegativeInt",
            "PositiveFloat",
            "NonNegativeFloat",
        )
    },
    **{name: getattr(annotated_types, name) for name in ("Ge", "Gt", "Le", "Lt", "Interval")},
}


def check(
    node: dict[str, Any], where: str, provided: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Check one ``_target_`` node, nested ones included, and canonicalise its numbers.

    Args:
        node: mapping with a ``_target_``.
        where: dotted path of the node, for messages.
        provided: arguments that the harness itself will give.

    Returns:
        The node with every argument as its annotation says (``1`` as ``1.0`` where a float is
        meant).

    Raises:
        UserError: for a target outside the allowlist, an unknown, missing or wrong argument.
    """
    target = node.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{where}: has no _target_ (a class or function to build)")
    stray = [k for k in node if k.startswith("_") and k.endswith("_") and k not in _HYDRA_KEYS]
    if stray:
        raise UserError(f"{where}.{stray[0]}: only _target_ and _partial_ are allowed here")
    sig = static.signature(definition(target, where))
    arguments = {key: value for key, value in node.items() if key not in _HYDRA_KEYS}
    for name in arguments:
        if name in provided and name in sig.parameters:
            raise UserError(f"{where}.{name}: is given by retable itself, leave it out")
        if name not in sig.parameters and not sig.takes_any:
            hint = nearest(name, set(sig.parameters) - provided)
            raise UserError(f"{where}.{name}: {target} has no argument '{name}'{hint}")
    if node.get("_partial_") is not True:
        for parameter in sig.parameters.values():
            if parameter.required and parameter.name not in {*arguments, *provided}:
                raise UserError(f"{where}.{parameter.name}: {target} needs this argument")
    out = dict(node)
    for name, value in arguments.items():
        parameter = sig.parameters.get(name)
        out[name] = _argument(value, parameter and parameter.annotation, f"{where}.{name}")
    return out


def definition(target: str, where: str) -> static.Definition:
    """Find an allowed target in the sources.

    Raises:
        UserError: where it is not allowed or does not exist, with the nearest that does.
    """
    if not target.startswith(ALLOWED) or target.startswith(_REFUSED_PREFIXES):
        allowed = ", ".join(f"{prefix}*" for prefix in ALLOWED)
        raise UserError(f"{where}._target_: '{target}' may not be built; allowed: {allowed}")
    module, _, name = target.rpartition(".")
    if static.module_file(module) is None:
        parent, _, last = module.rpartition(".")
        path = static.module_file(parent)
        siblings = [p.stem for p in path.parent.iterdir()] if path else []
        raise UserError(f"{where}._target_: no module '{module}'{nearest(last, siblings)}")
    found = static.find(module, name)
    if found is None:
        hint = nearest(name, static.public_names(module))
        raise UserError(f"{where}._target_: no '{name}' in {module}{hint}")
    return found


def _argument(value: Any, annotation: ast.expr | None, where: str) -> Any:
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        if "_target_" in mapping:
            return check(mapping, where)
        return {key: _argument(item, None, f"{where}.{key}") for key, item in mapping.items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        value = [_argument(item, None, f"{where}[{i}]") for i, item in enumerate(items)]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not a finite number")
    if annotation is None:
        return value
    kind, complete = _type(annotation)
    if kind is None:
        return value
    try:
        result = TypeAdapter(kind).validate_python(value, strict=None)
    except ValidationError as error:
        if not complete:
            return value
        message = error.errors(include_url=False)[0]["msg"]
        choices = _literals(annotation)
        hint = nearest(str(value), choices) if choices else ""
        raise UserError(f"{where}: {value!r} is not valid: {message}{hint}") from None
    if isinstance(value, bool) != isinstance(result, bool) or isinstance(value, str) != isinstance(
        result, str
    ):
        # pydantic would read True as 1 and "3" as 3: a config that says so is a mistake.
        raise UserError(f"{where}: {value!r} is not valid: expected {ast.unparse(annotation)}")
    return result


def _type(annotation: ast.expr) -> tuple[Any, bool]:
    """Type of an annotation as far as it is built from plain names; and whether all of it was."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        left, left_complete = _type(annotation.left)
        right, right_complete = _type(annotation.right)
        known = [
            part
            for part, side in ((left, annotation.left), (right, annotation.right))
            if part is not None or ast.unparse(side) == "None"
        ]
        if not known:
            return None, False
        return Union[tuple(known)], left_complete and right_complete  # noqa: UP007
    names = {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)}
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return None, True
    if names <= set(_NAMES) and not any(isinstance(n, ast.Attribute) for n in ast.walk(annotation)):
        code = compile(ast.Expression(annotation), "<annotation>", "eval")
        # The expression comes from the sources of an allowed package, never from a config.
        return eval(code, {"__builtins__": {}}, _NAMES), True  # noqa: S307
    return None, False


def _literals(annotation: ast.expr) -> list[str]:
    return [
        n.value
        for n in ast.walk(annotation)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
