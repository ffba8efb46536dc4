"""A composed config as plain values, and single values set in one that many runs share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig

_REFERENCE = re.compile(r"\$\{([^{}$]*)\}")
_VARIABLE = re.compile(r"\s*oc\.env\s*:.*", re.DOTALL)
PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*", re.ASCII)
"""What names a place below mappings, without brackets or anything relative."""


class Composed(Protocol):
    """What Hydra makes of overrides."""

    @property
    def plain(self) -> Any:
        """Plain values, references as they are written."""
        ...

    def resolved(self) -> tuple[dict[str, Any], set[str]]:
        """Plain values with what references refer to, and the keys whose value is missing.

        Raises:
            OmegaConfBaseException: where a reference leads nowhere.
        """
        ...


class Whole:
    """A config as OmegaConf has it."""

    def __init__(self, config: DictConfig) -> None:
        from omegaconf import OmegaConf

        self.config = config
        self.plain: Any = OmegaConf.to_container(config, resolve=False)

    def resolved(self) -> tuple[dict[str, Any], set[str]]:
        """See `Composed`."""
        from omegaconf import OmegaConf

        # It resolves all references, each several times: only where something may be missing.
        some = "???" in str(self.plain)
        missing = OmegaConf.missing_keys(self.config) if some else set[str]()
        return cast("dict[str, Any]", OmegaConf.to_container(self.config, resolve=True)), missing


class Base:
    """What the chosen files make, in which single values are set for each of many runs.

    OmegaConf's own would be copied and resolved anew for each. Plain ones are enough where no
    reference leads to what is set, or is lost by it.
    """

    def __init__(self, config: DictConfig) -> None:
        self.whole = Whole(config)
        self._apart = _places_and_targets(self.whole.plain)
        self._resolved: tuple[dict[str, Any], set[str]] | None = None

    def with_values(self, changes: Sequence[tuple[str, Any]]) -> Composed | None:
        """The same with single values at dotted keys; None where it is not as simple as that."""
        if self._apart is None or not isinstance(self.whole.plain, dict):
            return None
        for key, value in changes:
            simple = PLAIN_KEY.fullmatch(key) and _is_simple(value)
            if not simple or any(_is_in(key, one) or _is_in(one, key) for one in self._apart):
                return None
        plain = _copy(self.whole.plain)
        if not all(_set(plain, key.split("."), value) for key, value in changes):
            return None
        return _Changed(self, changes, plain)

    def resolved(self) -> tuple[dict[str, Any], set[str]]:
        """See `Composed`; the caller's own."""
        if self._resolved is None:
            self._resolved = self.whole.resolved()
        values, missing = self._resolved
        return _copy(values), {*missing}


class _Changed:
    def __init__(self, base: Base, changes: Sequence[tuple[str, Any]], plain: Any) -> None:
        self._base, self._changes, self.plain = base, changes, plain

    def resolved(self) -> tuple[dict[str, Any], set[str]]:
        values, missing = self._base.resolved()
        for key, value in self._changes:
            _set(values, key.split("."), value)
            missing = {one for one in missing if not _is_in(one, key)}
        return values, missing


def _places_and_targets(plain: Any) -> set[str] | None:
    """Keys of references and those they lead to; None where one is neither key nor variable."""
    found: set[str] = set()
    for place, text in _texts(plain, ""):
        inner = _REFERENCE.findall(text)
        if len(inner) != text.count("${"):
            return None
        if inner:
            found.add(place)
        for one in inner:
            if PLAIN_KEY.fullmatch(one):
                found.add(one)
            elif not _VARIABLE.fullmatch(one):
                return None
    return found


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in cast("dict[Any, Any]", value).items():
            yield from _texts(one, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _texts(one, place)
    elif isinstance(value, str):
        yield place, value


def _is_in(key: str, other: str) -> bool:
    return key == other or key.startswith((f"{other}.", f"{other}["))


def _is_simple(value: Any) -> bool:
    """Whether it stands for itself: no mapping, no reference, nothing that is missing."""
    if isinstance(value, list):
        return all(_is_simple(one) for one in cast("list[Any]", value))
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or type(value) in (bool, int, float)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_copy(one) for one in cast("list[Any]", value)]
    return value


def _set(tree: dict[str, Any], keys: Sequence[str], value: Any) -> bool:
    """Set a value below mappings, which are added where they are not; False where other is."""
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            return False
        tree = cast("dict[str, Any]", below)
    if isinstance(tree.get(keys[-1]), dict) and isinstance(value, list):
        return False
    tree[keys[-1]] = _copy(value)
    return True
