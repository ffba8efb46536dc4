"""Error messages about a composed config: which key, what was given, where, what is near."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from retable.config.schema import RunConfig, is_keyed, sections
from retable.config.yaml_checks import files_of
from retable.util.errors import UserError, brief, nearest
from retable.util.paths import line_of, shown

_INTERPOLATION = re.compile(r"\$\{([^{}$]*)")


def explain(
    error: ValidationError,
    overrides: Sequence[str] | None,
    model: type[BaseModel] = RunConfig,
    values: Any = None,
) -> str:
    """The first thing that is wrong with a config of a model, and where it was given.

    Args:
        error: of the model.
        overrides: that were given; None of a file.
        model: that refused.
        values: the whole config, in which an unknown key may stand at another place.
    """
    errors = error.errors(include_url=False)
    # What is missing is often there under a misspelt name.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path = [str(part) for part in first["loc"] if part != "[key]"]
    given = brief(repr(first["input"]))
    match first["type"]:
        case "extra_forbidden":
            owner = model
            for part in path[:-1]:
                owner = sections(owner).get(part, owner)
            deeper = _elsewhere(values, path[0]) if len(path) == 1 else ""
            near = f"; did you mean '{deeper}'?" if deeper else ""
            message = f"unknown key{near or nearest(path[-1], owner.model_fields)}"
        case "missing":
            message = "is missing"
        case "value_error":
            message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
            if not path and re.match(r"[a-z_.]+: ", message):  # a contradiction names its key
                path, message = message.split(":")[0].split("."), message.partition(": ")[2]
            elif isinstance(first["input"], str):
                message = f"{given} {message}"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", first["msg"])
            message = f"{given} is not valid{nearest(str(first['input']), choices)}"
        case "dict_type" | "model_type":
            message = f"{given} is not valid: expected key: value pairs"
        case _:
            message = (
                f"{given} is not valid: {re.sub('^[A-Z][a-z]+ should', 'should', first['msg'])}"
            )
    dotted = brief(
        ".".join(part if re.fullmatch(r"[\w./@-]+", part) else repr(part) for part in path)
    )
    return (f"{dotted}: {message}" if dotted else message) + place(path, overrides)


def _elsewhere(values: Any, key: str) -> str:
    """Where the only other place of a key is, as of ``lr`` in ``model.optimizer.lr``."""
    found: list[str] = []

    def search(inner: Any, above: str) -> None:
        for name, value in inner.items() if isinstance(inner, dict) else ():
            if name == key and above:
                found.append(f"{above}.{name}")
            search(value, f"{above}.{name}" if above else str(name))

    search(values, "")
    return found[0] if len(found) == 1 else ""


def place(path: list[str], overrides: Sequence[str] | None) -> str:
    """Say where a key, or else what it is a part of, was given: in which override or line."""
    if overrides is None:
        return ""
    files = files_of(overrides)
    for length in range(len(path), 0, -1):
        dotted = ".".join(path[:length])
        for text in reversed(overrides):
            name = text.split("=", 1)[0].lstrip("+~")
            if dotted == name or dotted.startswith(f"{name}.") or name.startswith(f"{dotted}."):
                return f" (override '{brief(text)}')"
        for file in files:
            line = line_of(file, path[:length])
            if line is not None:
                return f" ({shown(file)}, line {line})"
    return ""


def check_interpolations(values: Any, overrides: Sequence[str]) -> None:
    """Refuse a keyed field that refers to what is not part of a run's identity.

    Raises:
        UserError: naming the field and what it refers to.
    """
    for name, value in values.items() if isinstance(values, dict) else ():
        field = str(name)
        if field in RunConfig.model_fields and is_keyed(RunConfig, field):
            _refuse_unkeyed(value, [field], overrides)


def _refuse_unkeyed(value: Any, path: list[str], overrides: Sequence[str]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_unkeyed(item, [*path, str(key)], overrides)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unkeyed(item, [*path, str(index)], overrides)
    elif isinstance(value, str):
        for inner in _INTERPOLATION.findall(value):
            reason = cure = ""
            if ":" in inner:
                reason = f"a resolver ('{inner.split(':')[0]}')"
            elif inner == "seed":
                reason = "the seed, from which a run derives its own"
                cure = "; its module is given the seed, and weights by seed are a start of it"
            elif not _all_keyed(inner.split(".")):
                reason = f"'{inner}', which is not part of a run's identity"
            if reason:
                raise UserError(
                    f"{'.'.join(path)}: {brief(value)} refers to {reason}; a keyed field may not"
                    f"{cure}{place(path, overrides)}"
                )


def _all_keyed(path: Sequence[str]) -> bool:
    """Whether everything below a place of the schema is part of a run's identity."""
    section: type[BaseModel] = RunConfig
    for name in path:
        if name not in section.model_fields or not is_keyed(section, name):
            return False
        if name not in sections(section):
            return True
        section = sections(section)[name]
    return all(is_keyed(section, name) for name in section.model_fields)
