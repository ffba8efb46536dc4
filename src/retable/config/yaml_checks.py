"""Config files as they are written: parsed without building anything, refused by file and line.

Hydra and OmegaConf expand aliases, follow ``defaults`` and merge before anybody can look; what
must not get that far is found here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from retable.util import paths
from retable.util.errors import UserError, brief, is_text, nearest
from retable.util.paths import shown

_MAX_DEPTH = 40
_MAX_NODES = 50_000  # the largest shipped table has 3,000
_HEADER = "# @package _global_"
_OF_LAUNCH = ("launcher", "cluster")
NOT_OF_A_FILE = (
    "belongs on the command line or into a file of conf/launcher or conf/cluster, not here: a"
    " profile's lines are run by a shell"
)
_OF_HYDRA = re.compile(r"(?:^|[\s/@:])hydra(?:[./@:]|$)")
# The C version is about ten times faster; not every build of PyYAML has it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parsed(file: Path, loader: Any = _LOADER) -> yaml.Node | None:
    """Syntax tree of a YAML file, None for an empty one.

    Args:
        file: to be read.
        loader: class of a loader of PyYAML, which says what the words of the file are.

    Raises:
        UserError: where it cannot be read, is no YAML, or is nested or repeated without end.
    """
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise UserError(f"{shown(file)}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{shown(file)}, line {line}: not valid YAML: is not UTF-8") from None
    except yaml.YAMLError as error:
        raise not_yaml(file, error) from None
    if node is not None:
        _expanded(file, node, {}, 0)
    return node


def not_yaml(file: Path, error: yaml.YAMLError) -> UserError:
    """A refusal of a text that is no YAML, with the line."""
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if problem.startswith("but "):
        problem = f"{getattr(error, 'context', '')}, {problem}"
    if isinstance(error, yaml.reader.ReaderError):
        wrong = yaml.reader.Reader.NON_PRINTABLE.search(text := file.read_text(encoding="utf-8"))
        line = f", line {text[: wrong.start()].count(chr(10)) + 1}" if wrong else ""
    return UserError(f"{shown(file)}{line}: not valid YAML: {brief(problem)}")


def _expanded(file: Path, node: yaml.Node, sizes: dict[int, int | None], depth: int) -> int:
    """Nodes below a node, with every alias written out."""

    def refused(why: str) -> UserError:
        return UserError(f"{shown(file)}, line {node.start_mark.line + 1}: {why}")

    known = sizes.get(id(node), 0)
    if known is None:
        raise refused("refers to itself")
    if depth > _MAX_DEPTH:
        raise refused(f"is nested more than {_MAX_DEPTH} deep")
    if known:
        return known
    sizes[id(node)] = None
    size = 1
    if isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for inner in item if isinstance(item, tuple) else (item,):
                size += _expanded(file, inner, sizes, depth + 1)
    elif not is_text(node.value):
        raise refused(f"{brief(node.value)} has characters that cannot be written")
    if size > _MAX_NODES:
        raise refused(f"its aliases repeat more than {_MAX_NODES} values")
    sizes[id(node)] = size
    return size


def choice(overrides: Sequence[str]) -> str | None:
    """Experiment that is chosen, None where none is."""
    for text in reversed(overrides):
        name, _, value = text.partition("=")
        if name.lstrip("+") == "experiment":
            return value
    return None


def files_of(overrides: Sequence[str]) -> list[Path]:
    """The experiment's file, the files it inherits from, then the root config."""
    files = [file for _, file in _chain(overrides)]
    return [*files, paths.conf_dir() / "run.yaml"]


def _chain(overrides: Sequence[str]) -> Iterator[tuple[str, Path]]:
    seen: set[Path] = set()
    todo = [("experiment", choice(overrides) or "")]
    while todo:
        group, name = todo.pop(0)
        file = paths.config_file(group, name)
        if file is None or file in seen:
            continue
        seen.add(file)
        yield group, file
        todo += [(g, n) for _, texts in _defaults(parsed(file)) for g, n in _named(group, texts)]


def _defaults(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, list[tuple[str, str]]]]:
    """Entries of a file's ``defaults``, each as pairs of what is chosen and its name."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == "defaults" and isinstance(value, yaml.SequenceNode):
            for entry in value.value:
                if isinstance(entry, yaml.ScalarNode):
                    yield entry, [("", entry.value)]
                elif isinstance(entry, yaml.MappingNode):
                    yield entry, [(str(k.value), str(v.value)) for k, v in entry.value]


def _named(group: str, entry: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Group and name of the configs that an entry of ``defaults`` in a file of a group means."""
    for key, name in entry:
        if key:
            yield key.split()[-1].lstrip("/").partition("@")[0] if key.strip() else "", name
        elif name.startswith("/"):
            inherited, _, name = name.partition("@")[0].lstrip("/").partition("/")
            yield inherited, name
        else:
            yield group, name


def references(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Places and texts of everything in the chosen files that has a ``${``."""
    for _, file in _chain(overrides):
        todo = [parsed(file)]
        while todo:
            node = todo.pop()
            if isinstance(node, yaml.ScalarNode) and "${" in node.value:
                yield f"{shown(file)}, line {node.start_mark.line + 1}", node.value
            elif isinstance(node, yaml.CollectionNode):
                todo += [
                    i for item in node.value for i in (item if isinstance(item, tuple) else [item])
                ]


def of_launch(key: str) -> str | None:
    """The section about launching that a key, an override or a choice of configs sets."""
    name = key.partition("=")[0].strip().removeprefix("override ").lstrip("+~/ ")
    group, _, package = name.partition("@")
    parts = {re.split(r"[./:]", group)[0], *re.split(r"[./:]", package)}
    return next((section for section in _OF_LAUNCH if section in parts), None)


def check_files(overrides: Sequence[str]) -> None:
    """Refuse experiment files that say what is none of their business.

    Raises:
        UserError: with file and line.
    """
    for group, file in _chain(overrides):
        node = parsed(file)
        if group == "experiment":
            _check_experiment(file, node)
        for entry, texts in _defaults(node):
            if any(_OF_HYDRA.search(text) for pair in texts for text in pair):
                raise _of_hydra(file, entry)
            for what, name in texts:
                if section := of_launch(what or name):
                    raise _of_launch(file, entry, f"defaults: {section}")
            for wanted, name in _named(group, texts):
                names = paths.config_names("experiment")
                if wanted == "experiment" and "/" in entry.value and name not in names:
                    raise UserError(
                        f"{shown(file)}, line {entry.start_mark.line + 1}: defaults: no"
                        f" experiment '{brief(name)}'{nearest(name, names)}"
                    )


def _check_experiment(file: Path, node: yaml.Node | None) -> None:
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise UserError(f"{shown(file)}: is not an experiment: expected key: value pairs")
    head = file.read_text(encoding="utf-8").splitlines()
    comments = [line for line in head if line.strip()][: _leading_comments(head)]
    if not any(re.fullmatch(r"#\s*@package\s+_global_\s*", line) for line in comments):
        raise UserError(f"{shown(file)}, line 1: has to be '{_HEADER}'")
    for key, value in node.value if node is not None else ():
        if key.value == "seed":
            raise UserError(
                f"{shown(file)}, line {key.start_mark.line + 1}: seed: is given on the command"
                " line or by the table, not by an experiment"
            )
        if re.match(r"hydra\b", str(key.value)):
            raise _of_hydra(file, key)
        if section := of_launch(str(key.value)):
            raise _of_launch(file, key, section)
        if key.value == "defaults" and not isinstance(value, yaml.SequenceNode):
            raise UserError(
                f"{shown(file)}, line {key.start_mark.line + 1}: defaults must be a list"
            )


def _leading_comments(lines: Sequence[str]) -> int:
    count = 0
    for line in (line.strip() for line in lines):
        if line and not line.startswith("#"):
            break
        count += bool(line)
    return count


def _of_launch(file: Path, node: yaml.Node, section: str) -> UserError:
    line = node.start_mark.line + 1
    return UserError(f"{shown(file)}, line {line}: {section}: {NOT_OF_A_FILE}")


def _of_hydra(file: Path, node: yaml.Node) -> UserError:
    return UserError(
        f"{shown(file)}, line {node.start_mark.line + 1}: hydra: an experiment may not change"
        " Hydra's own settings; folders are in paths, workers in launcher"
    )
