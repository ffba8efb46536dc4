"""Patterns of a table file: entries that follow from ``over:`` are written out when it is read.

An entry of a mapping or an item of a list that has ``over`` is a pattern. ``over`` has named axes,
each a list of values, or a mapping from values to fields. The rest of the entry, and its name, is
a template: it is repeated for every combination, the first axis slowest, with ``{axis}`` and
``{field}`` replaced. Nothing is evaluated: a name in braces stands for what the file says there.

This works on YAML's nodes, before anything is read from them, so that all that comes later sees
plain entries, and a refusal can still name the line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retable.tables.templates import BRACES, NAME, STR, Given, children, filled, names
from retable.util.errors import UserError, brief
from retable.util.paths import shown

MAX_ENTRIES = 5_000
"""Entries that one pattern may stand for; the largest shipped one stands for 64."""

_MAX_NODES = 50_000
_OTHERS = ("select",)
"""Sections in which ``over`` means something else."""

_NULL = "tag:yaml.org,2002:null"
_QUOTE = 'write it in quotes: without them YAML takes "{" for the beginning of a mapping'


@dataclass(frozen=True)
class _Value:
    """A value of an axis: its name, and what it gives to templates."""

    name: str
    fields: Mapping[str, yaml.Node]


@dataclass
class Expanded:
    """A file's nodes with all patterns written out.

    Attributes:
        node: the whole file.
        origins: by ``id`` of the name or item of an entry: that, and which values have given it.
    """

    node: yaml.Node
    origins: dict[int, tuple[yaml.Node, str]]

    def place(self, path: list[str]) -> tuple[int | None, str]:
        """Line (from 1) of the last key of a path that is there, and the values that gave it."""
        node, line, origin = self.node, None, ""
        for part in path:
            found = next((pair for pair in children(node) if pair[0] == part), None)
            if found is None:
                break
            _, marked, node = found
            line = marked.start_mark.line + 1
            origin = self.origins.get(id(marked), (marked, origin))[1]
        return line, origin


def expanded(file: Path, node: yaml.Node) -> Expanded:
    """Write out the patterns of a table file.

    Raises:
        UserError: with file and line, for a pattern that is none, or that stands for too much.
    """
    if not isinstance(node, yaml.MappingNode):
        return Expanded(node, {})
    work = _Expansion(file)
    pairs: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        if key.value in _OTHERS:
            pairs.append((key, value))
            continue
        if _over(value) is not None:
            raise work.refused(
                value,
                f"{key.value}: over belongs into an entry, whose name has what varies in braces,"
                ' such as "c{step}": {over: {step: [10, 20]}, ...}',
            )
        whole = work.of(value, Given())
        if key.value in ("columns", "rows"):
            work.refuse_braces(key.value, whole)
        pairs.append((key, whole))
    top = yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark, node.flow_style)
    return Expanded(top, work.origins)


def _over(node: Any) -> yaml.Node | None:
    """The axes of a pattern; None where a node is none."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == "over"), None)


class _Expansion:
    """The work on one file."""

    def __init__(self, file: Path) -> None:
        self.origins: dict[int, tuple[yaml.Node, str]] = {}  # with the node, or its id is reused
        self._file = file
        self._made = 0
        self._plain: dict[int, yaml.Node] = {}

    def refused(self, node: yaml.Node, message: str) -> UserError:
        return UserError(f"{shown(self._file)}, line {node.start_mark.line + 1}: {message}")

    def refuse_braces(self, section: str, node: yaml.Node) -> None:
        """Refuse names that look like a pattern's where there is no ``over``."""
        for name, key, _ in children(node):
            wrong = next((m for m in BRACES.finditer(name) if NAME.fullmatch(m[1] or "")), None)
            if wrong and id(key) not in self.origins:
                raise self.refused(
                    key, f"{section}.{brief(name)}: {wrong[0]} needs an over: in this entry"
                )

    def of(self, node: yaml.Node, given: Given) -> yaml.Node:
        """A node with its patterns written out and, inside of one, its templates filled."""
        if not given and id(node) in self._plain:
            return self._plain[id(node)]  # an alias stays one
        if isinstance(node, yaml.ScalarNode):
            made = filled(node, given, self.refused) if given else node
        elif isinstance(node, yaml.SequenceNode):
            made = self._sequence(node, given)
        else:
            made = self._mapping(node, given)
        if given:
            self._made += 1
            if self._made > _MAX_NODES:
                raise self.refused(node, f"its patterns stand for more than {_MAX_NODES} values")
        else:
            self._plain[id(node)] = made
        return made

    def _sequence(self, node: yaml.SequenceNode, given: Given) -> yaml.Node:
        items: list[yaml.Node] = []
        for item in node.value:
            if _over(item) is None:
                items.append(self.of(item, given))
                continue
            axes, template = self._pattern(item, given)
            for now in self._combinations(item, axes, given):
                one = self.of(template, now)
                self.origins[id(one)] = one, ", ".join(now.said)
                items.append(one)
            self._refuse_unused(item, axes, set(names(template)), "in its template")
        return yaml.SequenceNode(
            node.tag, items, node.start_mark, node.end_mark, flow_style=node.flow_style
        )

    def _mapping(self, node: Any, given: Given) -> yaml.Node:
        self._refuse_unquoted(node, given)
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        for key, value in node.value:
            if _over(value) is None:
                pairs.append((self._named(key, given) if given else key, self.of(value, given)))
                continue
            axes, template = self._pattern(value, given)
            for now in self._combinations(value, axes, given):
                name = self._named(key, now)
                self.origins[id(name)] = name, ", ".join(now.said)
                pairs.append((name, self.of(template, now)))
            where = f"in its name '{brief(str(key.value))}'"
            self._refuse_unused(key, axes, set(names(key)), where)
        if any(_over(value) is not None for _, value in node.value):
            self._refuse_twice(pairs)
        return yaml.MappingNode(
            node.tag, pairs, node.start_mark, node.end_mark, flow_style=node.flow_style
        )

    def _named(self, key: yaml.Node, given: Given) -> yaml.Node:
        """The name of an entry, which is a text of its own whatever it is made of."""
        if not isinstance(key, yaml.ScalarNode) or not set(key.value) & set("{}"):
            return key
        made = filled(key, given, self.refused)
        if not isinstance(made, yaml.ScalarNode):
            raise self.refused(key, f"'{brief(key.value)}': is no text, and cannot be a name")
        return yaml.ScalarNode(STR, made.value, key.start_mark, key.end_mark)

    def _refuse_unquoted(self, node: yaml.MappingNode, given: Given) -> None:
        if node.flow_style and len(node.value) == 1:
            key, value = node.value[0]
            if str(key.value) in given.values and value.tag == _NULL and value.value == "":
                raise self.refused(node, f"{{{key.value}}}: {_QUOTE}")

    def _refuse_unused(
        self, node: yaml.Node, axes: Mapping[str, list[_Value]], used: set[str], where: str
    ) -> None:
        for axis, values in axes.items():
            if not used & {name for value in values for name in value.fields}:
                raise self.refused(
                    node,
                    f"over.{axis}: does not stand {where}, so that its entries would be the same;"
                    f" put {{{axis}}} there",
                )

    def _refuse_twice(self, pairs: list[tuple[yaml.Node, yaml.Node]]) -> None:
        seen: dict[str, yaml.Node] = {}
        for key, _ in pairs:
            first = seen.setdefault(str(key.value), key)
            if first is not key:
                where = [self._where(one) for one in (first, key)]
                raise self.refused(
                    key, f"'{brief(str(key.value))}' stands twice: {where[0]}, and {where[1]}"
                )

    def _where(self, key: yaml.Node) -> str:
        _, origin = self.origins.get(id(key), (key, ""))
        return f"line {key.start_mark.line + 1}" + (f" with {origin}" if origin else "")

    def _pattern(
        self, node: yaml.MappingNode, given: Given
    ) -> tuple[dict[str, list[_Value]], yaml.Node]:
        """Axes and template of a pattern."""
        self._refuse_twice(node.value)
        over = _over(node)
        assert over is not None
        axes = self._axes(self.of(over, given), given)
        rest = [(key, value) for key, value in node.value if key.value != "over"]
        each = [(key, value) for key, value in rest if key.value == "each"]
        if not each:
            return axes, yaml.MappingNode(node.tag, rest, node.start_mark, node.end_mark)
        if len(rest) > 1:
            other = next(key for key, _ in rest if key.value != "each")
            raise self.refused(
                other, f"{brief(str(other.value))}: beside each, which is the whole entry"
            )
        return axes, each[0][1]

    def _axes(self, over: yaml.Node, given: Given) -> dict[str, list[_Value]]:
        if not isinstance(over, yaml.MappingNode) or not over.value:
            raise self.refused(over, "over: expected axes, such as {step: [10, 20]}")
        self._refuse_twice(over.value)
        axes: dict[str, list[_Value]] = {}
        owner = dict.fromkeys(given.values, "an outer pattern") | dict.fromkeys(
            given.owners, "an outer pattern"
        )
        for key, value in over.value:
            axis = str(key.value)
            values = list(self._values(key, value))
            for name in {name: None for one in values for name in one.fields}:
                if not NAME.fullmatch(name):
                    wrong = f"over.{axis}: '{brief(name)}' is no name: letters, digits, underscores"
                    raise self.refused(key, wrong)
                if name in owner:
                    raise self.refused(key, f"over.{axis}: '{name}' is a name of {owner[name]} too")
                owner[name] = f"axis {axis}"
            axes[axis] = values
        return axes

    def _values(self, key: yaml.Node, node: yaml.Node) -> Iterator[_Value]:
        axis = str(key.value)
        if not isinstance(node, yaml.CollectionNode) or not node.value:
            raise self.refused(
                key, f"over.{axis}: expected a list of values, or fields by value, and one or more"
            )
        seen: set[str] = set()
        for name, marked, value in children(node):
            fields: Mapping[str, yaml.Node]
            if isinstance(node, yaml.SequenceNode):
                if not isinstance(value, yaml.ScalarNode):
                    raise self.refused(value, f"over.{axis}: a list has single values only")
                name, fields = value.value, {axis: value}
            else:
                if not isinstance(value, yaml.MappingNode):
                    wrong = f"over.{axis}.{brief(name)}: expected fields, such as {{title: A}}"
                    raise self.refused(marked, wrong)
                self._refuse_twice(value.value)
                fields = {inner: found for inner, _, found in children(value)}
                if axis in fields:
                    raise self.refused(marked, f"over.{axis}.{brief(name)}: has a field {axis}")
                named = yaml.ScalarNode(STR, name, marked.start_mark, marked.end_mark)
                fields = {axis: named, **fields}
            if name in seen:
                raise self.refused(marked, f"over.{axis}: '{brief(name)}' stands twice")
            seen.add(name)
            yield _Value(name, fields)

    def _combinations(
        self, node: yaml.Node, axes: Mapping[str, list[_Value]], given: Given
    ) -> Iterator[Given]:
        """What names stand for in every entry of a pattern; the last axis runs fastest."""
        count = math.prod(map(len, axes.values()))
        if count > MAX_ENTRIES:
            raise self.refused(node, f"over: stands for {count} entries; at most {MAX_ENTRIES}")
        fields = {a: {name for one in some for name in one.fields} for a, some in axes.items()}
        for combination in itertools.product(*axes.values()):
            values, owners = dict(given.values), dict(given.owners)
            said = list(given.said)
            for axis, one in zip(axes, combination, strict=True):
                values.update(one.fields)
                said.append(f"{axis} {brief(one.name)}")
                owners.update(dict.fromkeys(fields[axis], said[-1]))
            yield Given(values, tuple(said), owners)
