"""Find a class or function in source files without importing its module.

Validation has to know the arguments of ``torch.optim.SGD`` before anything starts, and must not
pay for (or run) an import of torch; so names are followed through the syntax trees instead.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from retable.locations import paper_dirs


@dataclass(frozen=True)
class Parameter:
    """One parameter of a callable."""

    name: str
    annotation: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """What a callable takes by keyword."""

    parameters: dict[str, Parameter]
    takes_any: bool


@dataclass(frozen=True)
class Definition:
    """A class or function as it stands in a source file."""

    module: str
    node: ast.ClassDef | ast.FunctionDef


@cache
def module_file(module: str) -> Path | None:
    """Source file of a module, found without importing it or its parents."""
    if module.startswith("retable.papers."):
        parts = module.split(".")[2:]
        roots = paper_dirs()
    else:
        top, *parts = module.split(".")
        spec = importlib.util.find_spec(top)  # a top-level name: nothing is imported
        if spec is None or spec.origin is None:
            return None
        roots = [Path(spec.origin).parent] if spec.submodule_search_locations else []
        if not parts:
            return Path(spec.origin)
    for root in roots:
        base = root.joinpath(*parts)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


@cache
def module_tree(module: str) -> ast.Module | None:
    """Syntax tree of a module."""
    path = module_file(module)
    return None if path is None else ast.parse(path.read_text(encoding="utf-8"))


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    path = module_file(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, *([node.module] if node.module else [])])


def find(
    module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> Definition | None:
    """Follow ``module.name`` through re-exports to where it is defined.

    Returns:
        The definition, or None where the name cannot be found in the sources.
    """
    if (module, name) in seen:
        return None
    seen = seen | {(module, name)}
    tree = module_tree(module)
    if tree is None:
        return None
    stars: list[str] = []
    for node in reversed(_statements(tree.body)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Definition(module, node)
        if isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            for alias in node.names:
                if alias.name == "*":
                    stars.append(source)
                elif (alias.asname or alias.name) == name:
                    return find(source, alias.name, seen)
    for source in stars:
        found = find(source, name, seen)
        if found is not None:
            return found
    return None


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements of a module, those under ``if`` and ``try`` included."""
    out: list[ast.stmt] = []
    for node in body:
        out.append(node)
        if isinstance(node, ast.If):
            out += _statements(node.body) + _statements(node.orelse)
        elif isinstance(node, ast.Try):
            out += _statements(node.body)
    return out


def public_names(module: str) -> list[str]:
    """Names that a module defines or imports by name, for suggestions."""
    tree = module_tree(module)
    names: list[str] = []
    for node in _statements(tree.body) if tree else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names if alias.name != "*"]
    return [name for name in names if not name.startswith("_")]


def signature(definition: Definition) -> Signature:
    """Keyword parameters of a function, or of a class's ``__init__`` through its bases.

    A dataclass's annotated fields count as parameters. ``**kwargs`` of an ``__init__`` that has
    bases stands for the parameters of the next ``__init__``.
    """
    if isinstance(definition.node, ast.FunctionDef):
        return _of_function(definition.node, skip_first=False)
    return _of_class(definition, set())


def _of_function(node: ast.FunctionDef, *, skip_first: bool) -> Signature:
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    without_default = len(positional) - len(args.defaults)
    parameters = {
        arg.arg: Parameter(arg.arg, arg.annotation, index < without_default)
        for index, arg in enumerate(positional)
        if not (skip_first and index == 0)
    }
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        parameters[arg.arg] = Parameter(arg.arg, arg.annotation, default is None)
    return Signature(parameters, args.kwarg is not None)


def _of_class(definition: Definition, seen: set[tuple[str, str]]) -> Signature:
    node = definition.node
    assert isinstance(node, ast.ClassDef)
    seen.add((definition.module, node.name))
    init = next(
        (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
    )
    own: Signature | None = None
    if init is not None:
        own = _of_function(init, skip_first=True)
        if not own.takes_any:
            return own
    elif any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = {
            n.target.id: Parameter(n.target.id, n.annotation, n.value is None)
            for n in node.body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        }
        own = Signature(fields, False)
    inherited: Signature | None = None
    for base in node.bases:
        found = _find_base(definition.module, base)
        key = (found.module, found.node.name) if found else None
        if found and key not in seen and isinstance(found.node, ast.ClassDef):
            inherited = _of_class(found, seen)
            if inherited.parameters or inherited.takes_any:
                break
    if own is None:
        return inherited or Signature({}, takes_any=not node.bases and False)
    if inherited is None:
        return own
    return Signature({**inherited.parameters, **own.parameters}, inherited.takes_any)


def _find_base(module: str, base: ast.expr) -> Definition | None:
    text = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
    if "." not in text:
        return find(module, text)
    head, _, name = text.rpartition(".")
    first, _, rest = head.partition(".")
    for node in (module_tree(module) or ast.Module([], [])).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name) == head or alias.name == head:
                    return find(alias.name, name)
                if alias.asname == first:
                    return find(f"{alias.name}.{rest}" if rest else alias.name, name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == first:
                    source = f"{_absolute(module, node)}.{alias.name}"
                    return find(f"{source}.{rest}" if rest else source, name)
    return None
