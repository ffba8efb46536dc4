"""Templates of patterns: texts of a table file with names in braces, and what those stand for.

Only plain names are replaced, by what the file says: ``{step}``, but no ``{a.b}`` or ``{a[0]}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from retable.util.errors import UserError, brief, nearest

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
STR = "tag:yaml.org,2002:str"

Refused = Callable[[yaml.Node, str], UserError]
"""Gives a refusal that names the line of a node."""


@dataclass(frozen=True)
class Given:
    """What the names in braces stand for, in the entry that is being written out."""

    values: Mapping[str, yaml.Node] = field(default_factory=dict[str, yaml.Node])
    said: tuple[str, ...] = ()
    """Each axis with its value, for messages."""
    owners: Mapping[str, str] = field(default_factory=dict[str, str])
    """By field, also one that this value does not have: its axis with its value."""

    def __bool__(self) -> bool:
        return bool(self.values)


def children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Name, node that says where it is, and value of all that is in a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key, value
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield str(number), item, item


def names(node: yaml.Node) -> Iterator[str]:
    """Names in braces, in any text of a node."""
    if isinstance(node, yaml.ScalarNode):
        yield from (match[1] for match in BRACES.finditer(node.value) if match[1])
    else:
        for _, marked, value in children(node):
            yield from names(value)
            if marked is not value:
                yield from names(marked)


def filled(node: yaml.ScalarNode, given: Given, refused: Refused) -> yaml.Node:
    """A scalar with names in braces replaced; one that stands alone by all that it names."""
    text = node.value
    if not set(text) & set("{}"):
        return node
    pieces: list[str] = []
    end = 0
    for match in BRACES.finditer(text):
        found = _piece(node, match, given, refused)
        if not isinstance(found, str) and match.span() == (0, len(text)):
            return found
        if not isinstance(found, str | yaml.ScalarNode):
            raise refused(
                node, f"'{brief(text)}': {match[0]} is no single value, so it stands alone only"
            )
        pieces += [text[end : match.start()], found if isinstance(found, str) else found.value]
        end = match.end()
    pieces.append(text[end:])
    return yaml.ScalarNode(STR, "".join(pieces), node.start_mark, node.end_mark)


def _piece(
    node: yaml.ScalarNode, match: re.Match[str], given: Given, refused: Refused
) -> str | yaml.Node:
    said, name = match[0], match[1]
    if said in {"{{", "}}"}:
        return said[0]
    if name is None:
        raise refused(
            node,
            f"'{brief(node.value)}': a single {said}; a brace itself is written {said}{said}",
        )
    if not NAME.fullmatch(name):
        raise refused(
            node,
            f"'{brief(node.value)}': {brief(said)} is no plain name, such as"
            f" {{{next(iter(given.values))}}}; braces themselves are written {{{{ and }}}}",
        )
    if name in given.values:
        return given.values[name]
    if name in given.owners:
        raise refused(node, f"'{brief(node.value)}': {given.owners[name]} has no field '{name}'")
    raise refused(
        node, f"'{brief(node.value)}': no axis or field '{name}'{nearest(name, given.values)}"
    )
