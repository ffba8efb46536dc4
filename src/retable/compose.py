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
from retable.errors import UserError, brief, nearest
from retable.locations import line_of, shown
from retable.targets import check

PROVIDED_TO_DATA = frozenset({"seed", "paths"})
PROVIDED_TO_MODEL = frozenset({"seed"})
_INTERPOLATION = re.compile(r"\$\{([^{}]*)")
_KEY = re.compile(r"[A-Za-z_][\w-]*(?:[./][\w-]+)*(?:@[\w.:-]*)?", re.ASCII)
_SWEEPER = re.compile(r"hydra[./]sweeper\b")
_SEVERAL = re.compile(r"[,(*\[]")
_MAX_LENGTH = 2000
_BASES = {
    "data": "retable.data.base.PaperDataModule",
    "model": "retable.papers.base.PaperModule",
    "callbacks": "pytorch_lightning.callbacks.callback.Callback",
}


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


def groups() -> set[str]:
    """Names of which a config is chosen, ``trainer=default``: the folders of ``conf/``."""
    found = {path.name for folder in locations.conf_dirs() for path in folder.glob("*/")}
    return found - {"table"}


def lenient(overrides: Sequence[str]) -> list[str]:
    """Let ``a.b=c`` set what the YAML does not mention: the schema decides what exists.

    Without this, an argument with a default would need ``+``, and a misspelt key would get
    Hydra's message, which cannot know the nearest valid one.
    """
    known = groups()
    out: list[str] = []
    for text in overrides:
        plain = text.lstrip("+")
        name, _, value = plain.partition("=")
        chosen = name.split("@")[0] in known and not value.startswith("{")
        out.append(plain if chosen or _of_hydra(name) or name.startswith("~") else f"++{plain}")
    return out


def _of_hydra(name: str) -> bool:
    return re.match(r"hydra\b", name) is not None


def check_overrides(overrides: Sequence[str], *, sweep: bool = True) -> None:
    """Refuse what is not ``key=value`` or names a config that does not exist.

    Args:
        overrides: as given on the command line.
        sweep: whether a key may have several values.
    """
    known = groups()
    for text in overrides:
        override = f"override '{brief(text)}'"
        name, equals, value = text.partition("=")
        key = name.lstrip("+").removeprefix("~")
        if not key or (not equals and not name.startswith("~")):
            raise UserError(f"{override}: expected key=value")
        if len(text) > _MAX_LENGTH:
            raise UserError(f"{override}: is longer than {_MAX_LENGTH} characters")
        if not _KEY.fullmatch(key):
            raise UserError(f"{override}: '{brief(key)}' cannot be a key")
        if _of_hydra(key) and not _SWEEPER.match(key):
            raise UserError(
                f"{override}: of Hydra's own settings only the sweeper may be chosen; folders are"
                " in paths"
            )
        if name.startswith("~") or key not in known or value.startswith("{"):
            continue
        names = locations.config_names(key)
        if value not in names and not (sweep and _SEVERAL.search(value)):
            if _SEVERAL.search(value):
                raise UserError(f"{override}: {_USE_MULTIRUN}")
            raise UserError(f"{override}: no {key} '{brief(value)}'{nearest(value, names)}")


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

    check_overrides(overrides, sweep=False)
    try:
        raw = hydra_compose("run", overrides=[*search_path(), *lenient(overrides)])
    except (HydraException, OmegaConfBaseException) as error:
        text = _in_words(error)
        about_file = not any(part in text for part in ("verride", "read", "argument", "Sweep"))
        raise UserError(text + (_experiment(overrides) if about_file else "")) from None
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None
    # What Hydra stumbles over in an odd file: a list where a mapping is meant, a wrong encoding.
    except (
        AssertionError,
        AttributeError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(f"cannot be composed: {_in_words(error)}{_experiment(overrides)}") from None
    return validate(raw, overrides)


def _experiment(overrides: Sequence[str]) -> str:
    file = locations.config_file("experiment", _choice(overrides) or "")
    return f" ({shown(file)})" if file else ""


def validate(raw: Any, overrides: Sequence[str] = ()) -> RunConfig:
    """Check a composed but unresolved config against the schema and the targets' signatures."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_interpolations(OmegaConf.to_container(raw, resolve=False), overrides)
    try:
        missing = OmegaConf.missing_keys(raw)
        values = cast("dict[str, Any]", OmegaConf.to_container(raw, resolve=True))
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{_in_words(error)}{_experiment(overrides)}") from None
    _refuse_missing(missing, overrides)
    choice = _choice(overrides)
    if "experiment" in values:
        file = locations.config_file("experiment", choice or "")
        if file is not None and "@package _global_" not in file.read_text(encoding="utf-8"):
            raise UserError(f"{shown(file)}, line 1: has to be '# @package _global_'")
        line = line_of(file, ["experiment"]) if file else None
        place = f" ({shown(file)}, line {line})" if file and line else ""
        raise UserError(f"experiment: chooses a file and cannot be set otherwise{place}")
    paths = values.get("paths")
    if isinstance(paths, dict) and paths.get("mirror") == "":
        paths["mirror"] = None  # RETABLE_MIRROR= means none
    return from_values({**values, "experiment": choice}, overrides)


def _refuse_missing(missing: set[str], overrides: Sequence[str]) -> None:
    if not missing:
        return
    names = locations.config_names("experiment")
    if "model" in missing and _choice(overrides) is None and names:
        raise UserError(f"experiment: is missing; choose one, such as experiment={names[-1]}")
    key = "seed" if "seed" in missing else min(missing)
    hint = "give it on the command line, such as seed=0" if key == "seed" else "set it"
    raise UserError(f"{key}: is missing; {hint}{_experiment(overrides)}")


def from_values(values: dict[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Validate resolved values (a composed config or a frozen run's file)."""
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, overrides)) from None
    try:
        return config.model_copy(
            update={
                "data": check(config.data, "data", PROVIDED_TO_DATA, _BASES["data"]),
                "model": check(config.model, "model", PROVIDED_TO_MODEL, _BASES["model"]),
                "callbacks": {
                    name: check(node, f"callbacks.{name}", base=_BASES["callbacks"])
                    for name, node in config.callbacks.items()
                },
            }
        )
    except UserError as error:
        key = str(error).partition(":")[0]
        raise UserError(f"{error}{_place(key.split('.'), overrides)}") from None


def _explain(error: ValidationError, overrides: Sequence[str]) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if part != "[key]"]
    given = brief(repr(first["input"]))
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
            if not path and re.match(r"[a-z_.]+: ", message):  # a contradiction names its key
                path, message = message.split(":")[0].split("."), message.partition(": ")[2]
        case "literal_error":
            choices = re.findall(r"'([^']*)'", first["msg"])
            message = f"{given} is not valid{nearest(str(first['input']), choices)}"
        case "dict_type" | "model_type":
            message = f"{given} is not valid: expected key: value pairs"
        case _:
            message = f"{given} is not valid: {first['msg'].replace('Input should', 'should')}"
    dotted = brief(".".join(path))
    return (f"{dotted}: {message}" if dotted else message) + _place(path, overrides)


def _place(path: list[str], overrides: Sequence[str]) -> str:
    """Say where a key, or else what it is a part of, was given: in which override or line."""
    files = _files(overrides)
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


def _files(overrides: Sequence[str]) -> list[Path]:
    """The experiment's file, the files it inherits from, then the root config."""
    files: list[Path] = []
    todo = [("experiment", _choice(overrides) or "")]
    while todo:
        group, name = todo.pop(0)
        file = locations.config_file(group, name)
        if file is None or file in files:
            continue
        files.append(file)
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for entry in document.get("defaults", []):
            if isinstance(entry, str) and entry.startswith("/"):
                inherited, _, name = entry.split("@")[0].lstrip("/").partition("/")
                todo.append((inherited, name))
            elif isinstance(entry, str):
                todo.append((group, entry))
            elif isinstance(entry, dict):
                todo += [(str(g).split()[-1].lstrip("/"), str(n)) for g, n in entry.items()]
    return [*files, locations.conf_dir() / "run.yaml"]


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
            reason = ""
            if ":" in inner:
                reason = f"a resolver ('{inner.split(':')[0]}')"
            elif inner == "seed":
                reason = "the seed, from which a run derives its own"
            elif not _all_keyed(inner.split(".")):
                reason = f"'{inner}', which is not part of a run's identity"
            if reason:
                raise UserError(
                    f"{'.'.join(path)}: {brief(value)} refers to {reason}; a keyed field may not"
                    f"{_place(path, overrides)}"
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


def _choice(overrides: Sequence[str]) -> str | None:
    for text in reversed(overrides):
        name, _, value = text.partition("=")
        if name.lstrip("+") == "experiment":
            return value
    return None


_USE_MULTIRUN = "several values need `train -m`; a list is written key=[a,b]"


def _in_words(error: Exception) -> str:
    """What Hydra or OmegaConf says, in one line and without what only they know."""
    if isinstance(error, RecursionError):
        return "refers to itself"
    text = (str(error) or str(error.__cause__ or error.__context__ or "")).replace("++", "")
    first = brief(text.partition("\n")[0])
    if "LexerNoViableAlt" in text or "Error parsing override" in text or "no viable" in text:
        first = first.replace("LexerNoViableAltException: ", "").removesuffix(" ^")
        return f"cannot be read: {first}; quote a text, such as key='\"a: b\"'"
    if "Ambiguous value" in text or "requires --multirun" in text:
        return f"{first}: {_USE_MULTIRUN}"
    if text.startswith("Error merging override"):
        return f"{first}: something of another kind stands there, such as key: value pairs"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    skip = ("full_key", "object_type", "See ", "Config search path", "Available options")
    keep = [line for line in lines if not line.startswith(skip)]
    return brief(" ".join(keep[:2]), 300) if keep else type(error).__name__
