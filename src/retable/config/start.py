"""The run that another one starts from: from how an experiment names it to its whole config.

An experiment says ``start: {run: {experiment: paper/stage1, overrides: [model.width=8]}}``. What
comes out is that run's config without its seed, which both have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import Field, ValidationError

from retable.config.refusals import explain, place
from retable.config.schema import Node, RunConfig, Section, SettingConfig, is_keyed
from retable.config.start_words import of_parent, refuse_unnamed
from retable.util.errors import UserError, nearest

Compose = Callable[[Sequence[str]], RunConfig]

_ON_WHAT = ("device", "resources")
"""What is said of the machine on the command line holds for the whole chain."""


class NamedRun(Section):
    """A run as an experiment names it."""

    experiment: str = Field(description="of the run that is started from")
    overrides: list[str] = Field([], description="of what is part of a run's identity")
    same: list[str] = Field([], description="keys whose value it takes from the run that starts")
    differs: list[str] = Field([], description="keys of data in which the two are to differ")


class _NamedStart(Section):
    run: NamedRun
    file: None = None
    sha256: None = None


class _Written(Section):
    start: _NamedStart


_above: ContextVar[tuple[tuple[str, ...], ...]] = ContextVar("above", default=())


def named(values: Node, overrides: Sequence[str]) -> NamedRun | None:
    """The run that composed values name as their start, if any; a file is none.

    Raises:
        UserError: where ``start`` is not what it has to be.
    """
    given = values.get("start")
    if given is not None:
        refuse_unnamed(given, overrides, NamedRun.model_fields)
    if given is None or (isinstance(given, dict) and given.get("run") is None):
        return None  # what a file of weights has to be is in the schema
    if isinstance(given, dict) and given.get("file") is not None:
        raise UserError(
            "start.file: names a file beside start.run; a run starts from one of both"
            f" (start.run=null takes the other away){place(['start', 'file'], overrides)}"
        )
    try:
        run = _Written.model_validate({"start": values["start"]}).start.run
    except ValidationError as error:
        raise UserError(explain(error, overrides, _Written)) from None
    for text in run.overrides:
        name = text.split("=")[0].lstrip("+~").split(".")[0].split("@")[0]
        if name in RunConfig.model_fields and not _may_override(name):
            why = "both have the same seed" if name == "seed" else "it is the same for both"
            raise _refusal("overrides", f"'{text}' cannot be set here; {why}", overrides)
        key = text.split("=")[0].lstrip("+~").split("@")[0]
        for shared in run.same:
            if _is_in(key, shared):
                why = f"start.run.same gives it this run's own ('{shared}'); leave one of them out"
                raise _refusal("overrides", f"'{text}' would be lost: {why}", overrides)
    return run


def _may_override(field: str) -> bool:
    return field in SettingConfig.model_fields and is_keyed(SettingConfig, field)


def resolved(
    run: NamedRun,
    values: Node,
    overrides: Sequence[str],
    compose: Compose,
    validate: Callable[[Node], RunConfig],
) -> Node:
    """The value of ``start``: the config of the run that is started from, without its seed.

    Args:
        run: as it is named.
        values: composed ones of the run that starts.
        overrides: of the same.
        compose: composes the other one.
        validate: checks its values, which the two may share.

    Raises:
        UserError: where that is not a valid run, or the chain leads back to itself.
    """
    passed = [text for text in overrides if text.lstrip("+").split(".")[0] in _ON_WHAT]
    own = (f"experiment={run.experiment}", *run.overrides)
    with _one_above(own, overrides):
        try:
            parent = compose([*own, *passed, f"seed={values.get('seed', 0)}"])
        except UserError as error:
            raise of_parent(error) from None
    if "fit" not in parent.stages:
        raise UserError(
            f"start.run: {run.experiment} has no 'fit' among its stages, so that it leaves no"
            " weights"
        )
    content = {
        name: value
        for name, value in parent.model_dump(mode="json").items()
        if name in SettingConfig.model_fields
    }
    for key in run.same:
        _copy(key, values, content, overrides)
    if run.same:
        try:
            validate({**parent.model_dump(mode="json"), **content})
        except UserError as error:
            raise _refusal(
                "same", f"cannot be shared by {run.experiment}: {error}", overrides
            ) from None
    return {"run": content}


@contextmanager
def _one_above(own: tuple[str, ...], overrides: Sequence[str]) -> Generator[None]:
    above = _above.get()
    if own in above:
        names = [entry[0].partition("=")[2] for entry in (*above[above.index(own) :], own)]
        raise _refusal("experiment", f"goes in a circle: {' -> '.join(names)}", overrides)
    token = _above.set((*above, own))
    try:
        yield
    finally:
        _above.reset(token)


def _copy(key: str, source: Node, target: Node, overrides: Sequence[str]) -> None:
    """Set a dotted key of the target to the source's value."""
    *parts, last = key.split(".")
    above = ""
    first = (*parts, last)[0]
    if first not in RunConfig.model_fields:
        raise _refusal("same", f"this run has no '{key}'{_near('', first, source)}", overrides)
    if not _may_override(first) or first == "start":
        raise _refusal("same", f"'{key}' cannot be shared", overrides)
    for part in parts:
        if not isinstance(source.get(part), dict):
            raise _refusal(
                "same", f"this run has no '{key}'{_near(above, part, source)}", overrides
            )
        above += f"{part}."
        source, target = source[part], target.setdefault(part, {})
    if last not in source:
        raise _refusal("same", f"this run has no '{key}'{_near(above, last, source)}", overrides)
    target[last] = source[last]


def _near(above: str, name: str, node: Node) -> str:
    return nearest(f"{above}{name}", [f"{above}{known}" for known in node])


def refuse_silent_differences(config: RunConfig, run: NamedRun, overrides: Sequence[str]) -> None:
    """Refuse data that differs between the two runs where nobody says that it is meant to.

    A row of a table that sets an option of ``data`` reaches only the run itself; the one that it
    starts from would have been trained on something else, on items of the other's test perhaps.

    Raises:
        UserError: naming the keys.
    """
    assert config.start is not None
    assert config.start.run is not None
    different = dict(_differences(config.start.run.data, config.data, "data"))
    meant = {key for key in different if any(_is_in(key, part) for part in run.differs)}
    for part in run.differs:
        if not any(_is_in(key, part) for key in different):
            hint = nearest(part, different) if different else "; leave it out"
            raise _refusal("differs", f"'{part}' does not differ{hint}", overrides)
    if left := sorted(different.keys() - meant):
        key = left[0]
        theirs, own = different[key]
        raise UserError(
            f"{key}: is {own} here and {theirs} in the run that this one starts from"
            f" ({run.experiment}); name it in start.run.same, and that run has this one's too, or"
            f" in start.run.differs where it is meant{place(key.split('.'), overrides)}"
        )


def _is_in(key: str, part: str) -> bool:
    return key == part or key.startswith(f"{part}.")


_NOTHING = object()


def _differences(one: Any, other: Any, key: str) -> Generator[tuple[str, tuple[str, str]]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from _differences(
                one.get(name, _NOTHING), other.get(name, _NOTHING), f"{key}.{name}"
            )
    elif one is _NOTHING or other is _NOTHING or _plain(one) != _plain(other):
        yield key, (_shown(one), _shown(other))


def _plain(value: Any) -> Any:
    """Lists for tuples: which of both a sequence is depends on how it was composed."""
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    return "left at its default" if value is _NOTHING else repr(value)


def _refusal(key: str, message: str, overrides: Sequence[str]) -> UserError:
    path = ["start", "run", key]
    return UserError(f"{'.'.join(path)}: {message}{place(path, overrides)}")
