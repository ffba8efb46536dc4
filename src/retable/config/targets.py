"""Refuse a ``_target_`` that may not be built, or that is given arguments it does not take."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Set
from functools import cache
from typing import Annotated, Any, Literal, Union, cast

import annotated_types
import pydantic
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from retable.config import signatures, source_files
from retable.util.errors import UserError, brief, is_text, nearest

ALLOWED = (
    "retable.papers.",
    "retable.data.",
    "retable.nets.",
    "torch.optim.",
    "torch.nn.",
    "torchvision.models.",
    "torchmetrics.",
    "pytorch_lightning.callbacks.",
)
"""Prefixes of what a config may build. Nothing here opens files or runs code from data."""

# Where a target is defined counts, whatever name it is reached by. Functions run when a config is
# built, so only those are allowed that return a network.
_REFUSED = (
    "torch.nn.utils.",
    "torch.nn.parallel.",
    "pytorch_lightning.callbacks.lambda_function.",
    "pytorch_lightning.callbacks.model_checkpoint.",  # the run writes its own
    "pytorch_lightning.callbacks.on_exception_checkpoint.",
    "pytorch_lightning.callbacks.prediction_writer.",
)
_FUNCTIONS = ("torchvision.models.",)
_DOWNLOADED = ("weights", "weights_backbone", "pretrained")
"""Arguments of those that would fetch trained weights."""
_HYDRA_KEYS = {"_target_", "_partial_"}
_NAMES: dict[str, Any] = {
    **{t.__name__: t for t in (int, float, bool, str, list, dict, tuple)},
    **{"List": list, "Dict": dict, "Tuple": tuple, "Sequence": list, "Any": Any},
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
# What a config can only give as a nested target, which is checked by itself.
_OBJECTS = {"Tensor", "Module", "Callable", "Generator"}


def check(
    node: dict[str, Any],
    where: str,
    provided: frozenset[str] = frozenset(),
    base: str | None = None,
) -> dict[str, Any]:
    """Check one ``_target_`` node, nested ones included, and canonicalise its numbers.

    Args:
        node: mapping with a ``_target_``.
        where: dotted path of the node, for messages.
        provided: arguments that the harness itself will give.
        base: full name of a class that the target has to derive from.

    Returns:
        The node with every argument as its annotation says (``1`` as ``1.0`` where a float is
        meant).

    Raises:
        UserError: for a target outside the allowlist, an unknown, missing or wrong argument.
    """
    target = node.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{where}: has no _target_ (a class or function to build)")
    odd = [k for k in cast("dict[Any, Any]", node) if not isinstance(k, str)]
    if odd:
        raise UserError(f"{where}: {brief(repr(odd[0]))} is not the name of an argument")
    stray = [k for k in node if k.startswith("_") and k.endswith("_") and k not in _HYDRA_KEYS]
    if stray:
        raise UserError(f"{where}.{stray[0]}: only _target_ and _partial_ are allowed here")
    found = definition(target, where)
    if base is not None and not signatures.derives_from(found, base):
        kind = base.rpartition(".")[2]
        raise UserError(f"{where}._target_: {target} is no {kind}, which is needed here")
    partial = node.get("_partial_", False)
    if not isinstance(partial, bool) or (partial and base is not None):
        hint = "must be true or false" if base is None else "is not possible here, leave it out"
        raise UserError(f"{where}._partial_: {hint}")
    sig = signatures.signature(found)
    arguments = {key: value for key, value in node.items() if key not in _HYDRA_KEYS}
    for name in arguments:
        if target.startswith(_FUNCTIONS) and name in _DOWNLOADED and arguments[name] is not None:
            raise UserError(
                f"{where}.{name}: would be downloaded by every run, whichever they are by then;"
                " name them with their checksum: start={file: 'torchvision:...', sha256: ...}"
            )
        if name in provided:
            raise UserError(f"{where}.{name}: is given by retable itself, leave it out")
        if name not in sig.parameters and not sig.takes_any:
            hint = nearest(name, set(sig.parameters) - provided)
            raise UserError(f"{where}.{name}: {target} has no argument '{brief(name)}'{hint}")
    if base is not None:
        for name in sorted(provided - sig.parameters.keys()):
            if not sig.takes_any:
                raise UserError(f"{where}._target_: {target} does not take '{name}', as it has to")
    if not partial:
        for parameter in sig.parameters.values():
            if parameter.required and parameter.name not in {*arguments, *provided}:
                raise UserError(f"{where}.{parameter.name}: {target} needs this argument")
    # `_partial_: false` is what leaving it out says: both are the same run.
    out = {"_target_": target, **({"_partial_": True} if partial else {})}
    for name, value in arguments.items():
        parameter = sig.parameters.get(name)
        out[name] = _argument(value, parameter and parameter.annotation, f"{where}.{name}")
    return {key: out[key] for key in node if key in out}


def unchecked(node: dict[str, Any], given: Set[str]) -> list[str]:
    """Options of a target of which no value can be checked, as their types are not known here.

    Args:
        node: mapping with a ``_target_`` that was checked.
        given: arguments that need no check.
    """
    parameters = signatures.signature(definition(node["_target_"], "_target_")).parameters
    return [
        name
        for name, parameter in parameters.items()
        if name not in given
        and (parameter.annotation is None or not _type(parameter.annotation)[1])
    ]


def definition(target: str, where: str) -> signatures.Definition:
    """Find an allowed target in the sources.

    Raises:
        UserError: where it is not allowed or does not exist, with the nearest that does.
    """
    if not target.startswith(ALLOWED):
        raise _not_allowed(target, where)
    module, _, name = target.rpartition(".")
    if source_files.module_file(module) is None:
        parent, _, last = module.rpartition(".")
        path = source_files.module_file(parent)
        siblings = [p.stem for p in path.parent.iterdir() if p.stem.isidentifier()] if path else []
        raise UserError(f"{where}._target_: no module '{brief(module)}'{nearest(last, siblings)}")
    found = signatures.find(module, name)
    if found is None:
        hint = nearest(name, {*signatures.public_names(module)} - {name})
        raise UserError(f"{where}._target_: no '{brief(name)}' in {module}{hint}")
    home = f"{found.module}."
    if not home.startswith(ALLOWED) or home.startswith(_REFUSED):
        raise _not_allowed(f"{home}{name}", where)
    if isinstance(found.node, ast.FunctionDef) and not home.startswith(_FUNCTIONS):
        raise UserError(f"{where}._target_: {target} is a function; only classes can be built")
    return found


def _not_allowed(target: str, where: str) -> UserError:
    allowed = ", ".join(f"{prefix}*" for prefix in ALLOWED)
    return UserError(f"{where}._target_: '{brief(target)}' may not be built; allowed: {allowed}")


def _argument(value: Any, annotation: ast.expr | None, where: str) -> Any:
    if isinstance(value, dict):
        mapping = cast("dict[Any, Any]", value)
        if "_target_" in mapping:
            return check(mapping, where)
        for key in mapping:
            if not isinstance(key, str):
                raise UserError(f"{where}: key {key!r} has to be text; put it in quotes")
        value = {key: _argument(item, None, f"{where}.{key}") for key, item in mapping.items()}
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        value = [_argument(item, None, f"{where}[{i}]") for i, item in enumerate(items)]
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not a finite number")
    elif isinstance(value, str) and not value.isascii() and not is_text(value):
        raise UserError(f"{where}: {brief(repr(value))} has characters that cannot be written")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise UserError(f"{where}: a {type(value).__name__} is not possible here")
    if annotation is None:
        return value
    adapter, complete = _adapter(annotation)
    try:
        # Strict, so that true is no 1 and "3" no 3; as JSON, where a list may become a tuple.
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        if not complete:
            return value
        message = error.errors(include_url=False)[0]["msg"].replace("Input should", "should")
        choices = _literals(annotation)
        hint = nearest(str(value), choices) if choices else ""
        objects = any(_is_object(n) for n in ast.walk(annotation) if isinstance(n, ast.Name))
        if objects and "_target_" not in message:
            hint += "; or an object, {_target_: ...}"
        raise UserError(f"{where}: {brief(repr(value))} is not valid: {message}{hint}") from None


@cache
def _adapter(annotation: ast.expr) -> tuple[TypeAdapter[Any], bool]:
    """Validator of an annotation, made once per place in the sources; as :func:`_type`."""
    kind, complete = _type(annotation)
    return TypeAdapter(kind), complete


def _type(node: ast.expr) -> tuple[Any, bool]:
    """Type of an annotation, unknown names in it as Any; and whether all of it was known."""
    match node:
        case _ if _is_object(node):
            return _BUILT, True
        case ast.Constant(value=None):
            return None, True
        case ast.Constant(value=str() as text):
            return _type(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name], True
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right])
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            match name:
                case "Literal":
                    if not all(isinstance(part, ast.Constant | ast.UnaryOp) for part in parts):
                        return Any, False
                    choices = tuple(ast.literal_eval(part) for part in parts)
                    if any(isinstance(choice, bool) for choice in choices):
                        return Literal[choices], True
                    return Annotated[Literal[choices], BeforeValidator(_no_truth)], True
                case "Union":
                    return _union(parts)
                case "Optional":
                    return _union([*parts, ast.Constant(None)])
                case "Annotated":
                    kind, complete = _type(parts[0])
                    markers = [*map(_marker, parts[1:])]
                    return Annotated[kind, *markers], complete and None not in markers
                case _ if name in _NAMES:
                    kinds = [(..., True) if _is_ellipsis(p) else _type(p) for p in parts]
                    kind = _NAMES[name][tuple(k for k, _ in kinds)]
                    return kind, all(complete for _, complete in kinds)
                case _:
                    return Any, False
        case _:
            return Any, False


def _built(value: Any) -> Any:
    if not (isinstance(value, dict) and "_target_" in value):
        raise PydanticCustomError("object", "should be an object, {_target_: ...}")
    return cast("Any", value)


_BUILT = Annotated[Any, BeforeValidator(_built)]


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):  # to Python, true is one of 1 and 2
        raise PydanticCustomError("bool", "should not be true or false")
    return value


def _union(parts: list[ast.expr]) -> tuple[Any, bool]:
    # A value that is no nested target can be no object: `float | Tensor` means a float here.
    plain = [part for part in parts if not _is_object(part)] or parts[:1]
    kinds = [_type(part) for part in plain]
    known = [kind for kind, _ in kinds if kind is not Any]
    complete = all(complete for _, complete in kinds)
    return (Union[tuple(known)], complete) if known else (Any, False)  # noqa: UP007


def _is_object(node: ast.expr) -> bool:
    node = node.value if isinstance(node, ast.Subscript) else node
    return ast.unparse(node).rpartition(".")[2] in _OBJECTS


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _marker(node: ast.expr) -> Any:
    """A bound in an ``Annotated``, None where it is unknown.

    It stands in an allowed package, never in a config.
    """
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    if not names <= set(_NAMES) or any(isinstance(n, ast.Attribute) for n in ast.walk(node)):
        return None
    code = compile(ast.Expression(node), "<annotation>", "eval")
    return eval(code, {"__builtins__": {}}, _NAMES)  # noqa: S307


def _literals(annotation: ast.expr) -> list[str]:
    constants = (node for node in ast.walk(annotation) if isinstance(node, ast.Constant))
    return [node.value for node in constants if isinstance(node.value, str)]
