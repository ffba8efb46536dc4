"""From Hydra overrides to a validated RunConfig; everything wrong is refused here, by name."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from retable.config import compose_cache, start
from retable.config.composed import Composed
from retable.config.hydra_errors import USE_MULTIRUN, in_words, refuse_unreadable
from retable.config.model_checks import (
    check_devices,
    check_factories,
    check_schedule,
    check_tested,
)
from retable.config.paper_refusals import check_paper
from retable.config.refusals import check_interpolations, explain, place
from retable.config.schema import RunConfig, keyed_part, with_neutral
from retable.config.targets import check
from retable.config.yaml_checks import (
    NOT_OF_A_FILE,
    check_files,
    choice,
    files_of,
    not_yaml,
    of_launch,
)
from retable.util import paths
from retable.util.errors import UserError, brief, nearest
from retable.util.paths import line_of, shown
from retable.util.redact import private_at

PROVIDED_TO_DATA = frozenset({"seed", "paths"})
PROVIDED_TO_MODEL = frozenset({"seed"})
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
    with initialize_config_dir(str(paths.conf_dir()), version_base="1.3"):
        yield


def search_path() -> list[str]:
    """Override that lets Hydra find configs outside the project."""
    extra = paths.conf_dirs()[1:]
    return (
        [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in extra)}]"] if extra else []
    )


def groups() -> set[str]:
    """Names of which a config is chosen, ``trainer=default``: the folders of ``conf/``."""
    found = {path.name for folder in paths.conf_dirs() for path in folder.glob("*/")}
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
            raise UserError(
                f"{override}: '{brief(key)}' cannot be a key: words joined by dots, such as a.b"
            )
        if _of_hydra(key) and not _SWEEPER.match(key):
            raise UserError(
                f"{override}: of Hydra's own settings only the sweeper may be chosen; folders are"
                " in paths"
            )
        if name.startswith("~") or key not in known or value.startswith("{"):
            continue
        names = paths.config_names(key)
        if value not in names and not (sweep and _SEVERAL.search(value)):
            if _SEVERAL.search(value):
                raise UserError(f"{override}: {USE_MULTIRUN}")
            raise UserError(f"{override}: no {key} '{brief(value)}'{nearest(value, names)}")


def compose(overrides: Sequence[str]) -> RunConfig:
    """Compose and validate one run.

    Args:
        overrides: Hydra overrides, such as ``["experiment=risk_parity/random", "seed=0"]``.

    Raises:
        UserError: for anything that is not a valid run, naming key and place.
    """
    known = compose_cache.find(overrides)
    values = _values(overrides) if known is None else known
    config = _whole(values, overrides)
    if known is None:
        path = private_at(keyed_part(config))
        if path is not None:  # the value itself is not to be shown
            what = "a secret of the environment, an e-mail address or the home folder"
            raise UserError(
                f"{'.'.join(path)}: holds {what}, and records keep it; data is found by"
                " paths.mirror, weights by start.file"
            )
        compose_cache.keep(overrides, values)
    return config


def _whole(values: dict[str, Any], overrides: Sequence[str]) -> RunConfig:
    """Validate composed values, with the run that they start from in its place."""
    named = start.named(values, overrides)
    if named is None:
        return from_values(values, overrides)
    whole = {**values, "start": start.resolved(named, values, overrides, compose, from_values)}
    config = from_values(whole, overrides)
    start.refuse_silent_differences(config, named, overrides)
    return config


def _values(overrides: Sequence[str]) -> dict[str, Any]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    check_overrides(overrides, sweep=False)
    compose_cache.check_once(choice(overrides), lambda: check_files(overrides))
    try:
        composed = compose_cache.by_hydra([*search_path(), *lenient(overrides)])
    except (HydraException, OmegaConfBaseException) as error:
        refuse_unreadable(overrides)
        text = in_words(error)
        about_file = not any(part in text for part in ("verride", "read", "left out", "Sweep"))
        raise UserError(text + (_experiment(overrides) if about_file else "")) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise not_yaml(Path(mark.name if mark else "?"), error) from None
    # What Hydra stumbles over in an odd file: a list where a mapping is meant, a wrong encoding.
    except (
        AssertionError,
        AttributeError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise UserError(f"cannot be composed: {in_words(error)}{_experiment(overrides)}") from None
    _refuse_foreign(composed.plain, overrides)
    return _resolved(composed, overrides)


def _refuse_foreign(whole: Any, overrides: Sequence[str]) -> None:
    """Refuse launching on a cluster as an experiment's file would have it, however it says so.

    The obvious ways are found by file and line before; Hydra knows more of them.
    """
    if not isinstance(whole, dict) or "slurm" not in str(whole.get("launcher")):
        return
    given = [text for text in overrides if of_launch(text)]
    own = compose_cache.by_hydra([*search_path(), *lenient(given)]).plain
    for section in ("launcher", "cluster"):
        if not isinstance(own, dict) or whole.get(section) != own.get(section):
            raise UserError(f"{section}: {NOT_OF_A_FILE}{_experiment(overrides)}")


def _experiment(overrides: Sequence[str]) -> str:
    file = paths.config_file("experiment", choice(overrides) or "")
    return f" ({shown(file)})" if file else ""


def _resolved(composed: Composed, overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values of a composed config, once its references are found to be allowed."""
    from omegaconf.errors import OmegaConfBaseException

    check_interpolations(composed.plain, overrides)
    try:
        values, missing = composed.resolved()
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{in_words(error)}{_experiment(overrides)}") from None
    if "experiment" in values:
        lines = [(f, line_of(f, ["experiment"])) for f in files_of(overrides)]
        place = next((f" ({shown(f)}, line {line})" for f, line in lines if line), "")
        raise UserError(f"experiment: chooses a file and cannot be set otherwise{place}")
    values["experiment"] = choice(overrides)
    _refuse_missing(missing, values, overrides)
    paths = values.get("paths")
    if isinstance(paths, dict) and paths.get("mirror") == "":
        paths["mirror"] = None  # RETABLE_MIRROR= means none
    return values


def _refuse_missing(missing: set[str], values: dict[str, Any], overrides: Sequence[str]) -> None:
    if not missing:
        return
    names = paths.config_names("experiment")
    if "model" in missing and choice(overrides) is None and names:
        raise UserError(f"experiment: is missing; choose one, such as experiment={names[-1]}")
    if all("." not in key for key in missing):
        # Anything else that is wrong is the better answer: a misspelt key, what it starts from.
        given = {name: value for name, value in values.items() if name not in missing}
        try:
            _whole({**given, "seed": 0}, overrides)
        except UserError as error:
            if str(error).partition(": is missing")[0] not in missing:
                raise
    key = min(missing - {"seed"}, default="seed")
    hint = "give it on the command line, such as seed=0" if key == "seed" else "set it"
    place = "" if key == "seed" else _experiment(overrides)
    raise UserError(f"{key}: is missing; {hint}{place}")


def from_values(values: dict[str, Any], overrides: Sequence[str] | None = None) -> RunConfig:
    """Validate resolved values (a composed config or, without overrides, a frozen run's file)."""
    if overrides is None:
        values = with_neutral(values)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, overrides, values=values)) from None
    try:
        checked = config.model_copy(
            update={
                "data": check(config.data, "data", PROVIDED_TO_DATA, _BASES["data"]),
                "model": check(config.model, "model", PROVIDED_TO_MODEL, _BASES["model"]),
                "callbacks": {
                    name: check(node, f"callbacks.{name}", base=_BASES["callbacks"])
                    for name, node in config.callbacks.items()
                },
            }
        )
        check_factories(checked.model)
        check_schedule(checked.model)
        check_devices(checked.model, checked.device.devices)
        check_tested(checked.model, checked.tested)
        check_paper(checked)
    except UserError as error:
        key = str(error).partition(":")[0]
        raise UserError(f"{error}{place(key.split('.'), overrides)}") from None
    return checked
