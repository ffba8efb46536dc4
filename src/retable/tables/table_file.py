"""Table files as text: read as YAML 1.2 would, with patterns written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from retable.config.yaml_checks import not_yaml, parsed
from retable.tables.patterns import Expanded, expanded
from retable.util.errors import UserError

_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version is ten times faster


class _TableLoader(_SAFE):
    """YAML without repeated keys (the second would silently win), where ``on`` is a word.

    YAML 1.1 reads on, off, yes and no as booleans; YAML 1.2 has true and false only.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key has to be a word", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:  # 2024-02-30
            problem = f"'{node.value}' cannot be read ({error})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


_TableLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if first in "tTfF" or "bool" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def values(file: Path) -> Any:
    """What a table file says, its patterns written out; None for an empty file.

    Raises:
        UserError: with file and line, where it cannot be read.
    """
    whole = _expanded(file)
    return None if whole is None else _constructed(file, whole.node)


def plain(file: Path) -> Any:
    """What another file says that is read by the same rules, and has no patterns.

    Raises:
        UserError: as :func:`values`.
    """
    node = parsed(file, _TableLoader)
    return None if node is None else _constructed(file, node)


def _constructed(file: Path, node: yaml.Node) -> Any:
    loader = _TableLoader("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise not_yaml(file, error) from None
    finally:
        loader.dispose()


def place(file: Path, path: list[str]) -> tuple[int | None, str]:
    """Line (from 1) of the last key of a path that is there; of a pattern's, what gave it."""
    try:
        whole = _expanded(file)
    except UserError:
        return None, ""
    return (None, "") if whole is None else whole.place(path)


def _expanded(file: Path) -> Expanded | None:
    node = parsed(file, _TableLoader)
    return None if node is None else expanded(file, node)
