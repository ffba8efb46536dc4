"""The check of a record by msgspec, five times faster than pydantic's; for very many of them.

It only ever says yes: what it accepts, :func:`retable.runs.records.parse` accepts with the same
values (a property test holds it to that). Whatever it does not accept has to be given to
``parse``, which knows better and says why.
"""

from __future__ import annotations

import functools
import operator
import types
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from annotated_types import Ge, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from retable.runs.records import Record

_DEEP = 100  # levels of a config; pydantic's parser refuses 200


def accepted(data: bytes) -> Any:
    """A record with the attributes of :class:`retable.runs.records.Record`; None where unsure."""
    try:
        record = _decoder().decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    # msgspec has no NaN and no infinity, so that all numbers are finite.
    return None if _deeper(record.config, _DEEP) else record


def _deeper(value: Any, levels: int) -> bool:
    """Whether JSON is nested deeper than that."""
    items: Any = value.values() if isinstance(value, dict) else value
    inner = [item for item in items if isinstance(item, dict | list)]
    return bool(inner) and (levels == 0 or any(_deeper(item, levels - 1) for item in inner))


@cache
def _decoder() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_struct(Record))


def _struct(model: type[BaseModel]) -> Any:
    """The same schema for msgspec.

    Raises:
        TypeError: for a type, a bound or a validator that has no translation here.
    """
    own = model.__pydantic_decorators__
    if model.model_config.get("extra") != "forbid" or own.field_validators or own.model_validators:
        raise TypeError(f"no translation of {model.__name__}")
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name, info in model.model_fields.items():
        kind = _bounded(info.annotation, info.metadata)
        fields.append((name, kind) if info.is_required() else (name, kind, info.default))
    return msgspec.defstruct(
        model.__name__, fields, kw_only=True, forbid_unknown_fields=True, gc=False
    )


def _kind(annotation: Any) -> Any:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        known = [m for info in inner[1:] for m in _bounds(info)]
        return _bounded(inner[0], known)
    if origin in {Union, types.UnionType}:
        return functools.reduce(operator.or_, map(_kind, inner))
    if origin is list:
        return list[_kind(inner[0])]
    if origin is dict:
        return dict[_kind(inner[0]), _kind(inner[1])]
    if origin is Literal or annotation in {str, int, float, Any, type(None)}:
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _struct(annotation)
    raise TypeError(f"no translation of {annotation}")


def _bounds(info: Any) -> list[Any]:
    return info.metadata if isinstance(info, FieldInfo) else [info]


def _bounded(annotation: Any, bounds: list[Any]) -> Any:
    kind, said = _kind(annotation), dict[str, Any]()
    for bound in bounds:
        match bound:
            case Ge():
                said["ge"] = bound.ge
            case Lt() if annotation is int:
                said["le"] = int(bound.lt) - 1  # type: ignore[arg-type] - 2**63 itself is too large
            case Lt():
                said["lt"] = bound.lt
            case _:
                raise TypeError(f"no translation of {bound}")
    return Annotated[kind, msgspec.Meta(**said)] if said else kind
