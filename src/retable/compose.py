"""From Hydra overrides to a validated RunConfig; everything wrong is refused here, by name."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from retable import locations
from retable.config import RunConfig, is_keyed, sections
from retable.errors import UserError, nearest
from retable.targets import check

PROVIDED_TO_DATA = frozenset({"seed", "paths"})
PROVIDED_TO_MODEL = frozenset({"seed"})
_INTERPOLATION = re.compile(r"\$\{([^{}]*)")
_GROUPS = ("data", "experiment", "launcher", "logger", "paths", "trainer")


@contextmanager
def hydra_ready() -> Generator[None]:
    """Hydra's compose API over the project's ``conf/`` and the extra one."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(locations.conf_dir()), version_base="1.3"):
        yield


def search_path() -> list[str]:
    """Override that lets Hydra find configs outside the project."""
    extra = locations.conf_dirs()[1:]
    return (
        [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in extra)}]"] if extra else []
    )


def lenient(overrides: Sequence[str]) -> list[str]:
    """Let ``a.b=c`` set what the YAML does not mention: the schema decides what exists.

    Without this, an argument with a default would need ``+``, and a misspelt key would get
    Hydra's message, which cannot know the nearest valid one.
    """
    out: list[str] = []
    for text in overrides:
        name = text.split("=", 1)[0]
        is_group = name.split("@")[0] in _GROUPS or name.startswith(("hydra", "~"))
        if is_group:
            out.append(text)
        else:
            out.append("++" + text.lstrip("+"))
    return out


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what is not ``key=value`` or names a config that does not exist."""
    for text in overrides:
        name, equals, value = text.partition("=")
        if not name or (not equals and not name.startswith("~")):
            raise UserError(f"override '{text}': expected key=value")
        group = name.lstrip("+")
        if group in _GROUPS and value and not re.search(r"[,(*\[{]", value):
            names = locations.config_names(group)
            if value not in names:
                raise UserError(f"override '{text}': no {group} '{value}'{nearest(value, names)}")


def compose(overrides: Sequence[str]) -> RunConfig:
    """Compose and validate one run.

    Args:
        overrides: Hydra overrides, such as ``["experiment=risk_parity/random", "seed=0"]``.

    Raises:
        UserError: for anything that is not a valid run, naming key and place.
    """
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    check_overrides(overrides)
    try:
        raw = hydra_compose("run", overrides=[*search_path(), *lenient(overrides)])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_first_line(error)) from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None
    return validate(raw, overrides)


def validate(raw: Any, overrides: Sequence[str] = ()) -> RunConfig:
    """Check a composed but unresolved config against the schema and the targets' signatures."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_interpolations(OmegaConf.to_container(raw, resolve=False), overrides)
    missing = sorted(OmegaConf.missing_keys(raw))
    if missing:
        key = missing[0]
        hint = f"give it on the command line, such as {key}=0" if key == "seed" else "set it"
        raise UserError(f"{key}: is missing; {hint}")
    try:
        values = cast("dict[str, Any]", OmegaConf.to_container(raw, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(_first_line(error)) from None
    values["experiment"] = values.get("experiment") or _choice(overrides)
    return from_values(values, overrides)


def from_values(values: dict[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Validate resolved values (a composed config or a frozen run's file)."""
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, overrides)) from None
    try:
        return config.model_copy(
            update={
                "data": check(config.data, "data", PROVIDED_TO_DATA),
                "model": check(config.model, "model", PROVIDED_TO_MODEL),
                "callbacks": {k: check(v, f"callbacks.{k}") for k, v in config.callbacks.items()},
            }
        )
    except UserError as error:
        key = str(error).partition(":")[0]
        raise UserError(f"{error}{_place(key.split('.'), overrides)}") from None


def _explain(error: ValidationError, overrides: Sequence[str]) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    match first["type"]:
        case "extra_forbidden":
            owner: type[BaseModel] = RunConfig
            for part in path[:-1]:
                owner = sections(owner).get(part, owner)
            message = f"unknown key{nearest(path[-1], owner.model_fields)}"
        case "missing":
            message = "is missing"
        case "value_error":
            message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        case "literal_error":
            choices = re.findall(r"'([^']*)'", first["msg"])
            message = f"{first['input']!r} is not valid{nearest(str(first['input']), choices)}"
        case _:
            message = f"{first['input']!r} is not valid: {first['msg']}"
    return (f"{dotted}: {message}" if dotted else message) + _place(path, overrides)


def _place(path: list[str], overrides: Sequence[str]) -> str:
    """Say where a key was given: on the command line, or in which file and line."""
    dotted = ".".join(path)
    for text in overrides:
        name = text.split("=", 1)[0].lstrip("+~")
        if name and (
            dotted == name or dotted.startswith(f"{name}.") or name.startswith(f"{dotted}.")
        ):
            return f" (override '{text}')"
    for file in _files(overrides):
        line = line_of(file, path)
        if line is not None:
            return f" ({shown(file)}, line {line})"
    return ""


def _files(overrides: Sequence[str]) -> list[Path]:
    """The experiment's file, the files it inherits from, then the root config."""
    files: list[Path] = []
    todo = [name] if (name := _choice(overrides)) else []
    while todo:
        file = locations.config_file("experiment", todo.pop(0))
        if file is None or file in files:
            continue
        files.append(file)
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for entry in document.get("defaults", []):
            if isinstance(entry, str) and entry != "_self_":
                todo.append(entry.removeprefix("/experiment/"))
            elif isinstance(entry, dict):
                for group, name in entry.items():
                    found = locations.config_file(group.split()[-1].lstrip("/"), str(name))
                    if found:
                        files.append(found)
    return [*files, locations.conf_dir() / "run.yaml"]


def line_of(file: Path, path: Sequence[str]) -> int | None:
    """Line (from 1) of a key in a YAML file, None where it does not stand there."""
    node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line: int | None = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return None
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def shown(file: Path) -> str:
    """A file's path as a message shows it: from the project's root where it lies below."""
    root = locations.project_root()
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def _check_interpolations(values: Any, overrides: Sequence[str]) -> None:
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
            top = inner.split(".")[0]
            reason = ""
            if ":" in inner:
                reason = f"a resolver ('{inner.split(':')[0]}')"
            elif top == "seed":
                reason = "the seed, from which a run derives its own"
            elif top not in RunConfig.model_fields or not is_keyed(RunConfig, top):
                reason = f"'{top}', which is not part of a run's identity"
            if reason:
                raise UserError(
                    f"{'.'.join(path)}: {value} refers to {reason}; a keyed field may not"
                    f"{_place(path, overrides)}"
                )


def _choice(overrides: Sequence[str]) -> str | None:
    for text in reversed(overrides):
        name, _, value = text.partition("=")
        if name.lstrip("+") == "experiment":
            return value
    return None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    keep = [line for line in lines if not line.startswith(("full_key", "object_type", "See "))]
    return " ".join(keep[:2]) if keep else type(error).__name__
