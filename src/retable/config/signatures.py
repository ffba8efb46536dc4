"""Find a class or function in source files without importing its module.

Validation has to know the arguments of ``torch.optim.SGD`` before anything starts, and must not
pay for (or run) an import of torch; so names are followed through the syntax trees instead.
"""

from __future__ import annotations

import ast
import copy
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from retable.config.source_files import absolute, module_tree, statements

_NO_ALIASES = sys.stdlib_module_names | {"torch"}
"""Packages in which no name stands for choices, and whose large files take long to parse."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a callable."""

    name: str
    annotation: ast.expr | None
    required: bool
    default: ast.expr | None = None


@dataclass(frozen=True)
class Signature:
    """Keyword parameters of a callable."""

    parameters: dict[str, Parameter]
    takes_any: bool


@dataclass(frozen=True)
class Definition:
    """A class or function as it stands in a source file."""

    module: str
    node: ast.ClassDef | ast.FunctionDef


@cache
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
    for node in reversed(statements(tree.body)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Definition(module, node)
        if isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
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


def public_names(module: str) -> list[str]:
    """Names that a module defines or imports by name, for suggestions."""
    tree = module_tree(module)
    names: list[str] = []
    for node in statements(tree.body) if tree else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names if alias.name != "*"]
    return [name for name in names if not name.startswith("_")]


@cache
def signature(definition: Definition) -> Signature:
    """Keyword parameters of a function, or of a class's ``__init__`` through its bases.

    A dataclass's annotated fields count as parameters. ``**kwargs`` that are handed on, to
    ``super().__init__`` or to one other callable, stand for what that one still takes.
    """
    return _signature(definition, frozenset())


@cache
def derives_from(definition: Definition, base: str) -> bool:
    """Whether a class has the class of that full name among its bases, or is it."""
    todo, seen = [definition], set[str]()
    while todo:
        current = todo.pop()
        name = f"{current.module}.{current.node.name}"
        if name == base:
            return True
        if name in seen or not isinstance(current.node, ast.ClassDef):
            continue
        seen.add(name)
        todo += [d for b in current.node.bases if (d := _resolve(current.module, b)) is not None]
    return False


@cache
def owner(definition: Definition, method: str) -> str | None:
    """Full name of the class that a class has a method from, itself or the first of its bases."""
    if not isinstance(definition.node, ast.ClassDef):
        return None
    for node in definition.node.body:
        if isinstance(node, ast.FunctionDef) and node.name == method:
            return f"{definition.module}.{definition.node.name}"
    bases = (_resolve(definition.module, base) for base in definition.node.bases)
    return next((o for b in bases if b is not None and (o := owner(b, method))), None)


@cache
def constant(definition: Definition, name: str) -> object:
    """A literal that a class gives to a name in its body, or inherits; None where there is none."""
    if not isinstance(definition.node, ast.ClassDef):
        return None
    for node in definition.node.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        targets = (node.target,) if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            value = getattr(node, "value", None)
            try:
                return None if value is None else ast.literal_eval(value)
            except ValueError:
                return None
    for base in definition.node.bases:
        found = _resolve(definition.module, base)
        if found is not None and (value := constant(found, name)) is not None:
            return value
    return None


def defaults(definition: Definition) -> dict[str, Any]:
    """Parameters that are left at a literal where nothing is given, such as ``0.1`` or ``None``."""
    found: dict[str, Any] = {}
    for parameter in signature(definition).parameters.values():
        if parameter.default is not None:
            with suppress(ValueError):
                found[parameter.name] = ast.literal_eval(parameter.default)
    return found


def _signature(definition: Definition, seen: frozenset[tuple[str, str]]) -> Signature:
    key = (definition.module, definition.node.name)
    if key in seen:
        return Signature({}, True)
    if isinstance(definition.node, ast.ClassDef):
        return _of_class(definition, definition.node, seen | {key})
    return _of_function(definition.module, definition.node, seen | {key})


def _own(module: str, node: ast.FunctionDef, *, skip_first: bool) -> Signature:
    """Parameters that a function names itself."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    without_default: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    with_defaults = [
        *zip(positional, [*without_default, *args.defaults], strict=True),
        *zip(args.kwonlyargs, args.kw_defaults, strict=True),
    ]
    parameters = {
        arg.arg: Parameter(arg.arg, _spelt_out(module, arg.annotation), default is None, default)
        for arg, default in (with_defaults[1:] if skip_first and positional else with_defaults)
    }
    return Signature(parameters, args.kwarg is not None)


def _of_function(module: str, node: ast.FunctionDef, seen: frozenset[tuple[str, str]]) -> Signature:
    own = _own(module, node, skip_first=False)
    calls = _forwarding_calls(node)
    called = _resolve(module, calls[0].func) if len(calls) == 1 else None
    if called is None:
        return own
    return _joined(own, _signature(called, seen), calls[0])


def _of_class(
    definition: Definition, node: ast.ClassDef, seen: frozenset[tuple[str, str]]
) -> Signature:
    functions = {n.name: n for n in reversed(node.body) if isinstance(n, ast.FunctionDef)}
    init = functions.get("__init__", functions.get("__new__"))
    if init is not None:
        own = _own(definition.module, init, skip_first=True)
        calls = [c for c in _forwarding_calls(init) if ast.unparse(c.func) == "super().__init__"]
        return _joined(own, _inherited(definition, node, seen), calls[0]) if calls else own
    inherited = _inherited(definition, node, seen)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return Signature(
            {**inherited.parameters, **_fields(definition.module, node)}, inherited.takes_any
        )
    return inherited


def _inherited(
    definition: Definition, node: ast.ClassDef, seen: frozenset[tuple[str, str]]
) -> Signature:
    for base in node.bases:
        found = _resolve(definition.module, base)
        if found is not None and isinstance(found.node, ast.ClassDef):
            inherited = _signature(found, seen)
            if inherited.parameters or inherited.takes_any:
                return inherited
    return Signature({}, False)


def _fields(module: str, node: ast.ClassDef) -> dict[str, Parameter]:
    """Parameters of the ``__init__`` of a dataclass."""
    out: dict[str, Parameter] = {}
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(field.annotation):
            continue
        required, default = field.value is None, field.value
        if isinstance(field.value, ast.Call) and ast.unparse(field.value.func).endswith("field"):
            options = {k.arg: k.value for k in field.value.keywords}
            if "init" in options and ast.unparse(options["init"]) == "False":
                continue
            required = not options.keys() & {"default", "default_factory"}
            default = options.get("default")
        name = field.target.id
        out[name] = Parameter(name, _spelt_out(module, field.annotation), required, default)
    return out


def _spelt_out(module: str, annotation: ast.expr | None) -> ast.expr | None:
    """An annotation with the choices in the place of names that stand for some.

    What is imported under another name (``from pydantic import Field as Bound``) has its own.
    """

    class Names(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if found := _choices(module, node.id):
                return found
            own = _own_name(module, node.id)
            return ast.copy_location(ast.Name(own, ast.Load()), node) if own else node

    return None if annotation is None else Names().visit(copy.deepcopy(annotation))


@cache
def _choices(module: str, name: str, seen: frozenset[str] = frozenset()) -> ast.expr | None:
    """The ``Literal[...]`` that a name stands for in a module; None where it is no such alias."""
    if module in seen or module.partition(".")[0] in _NO_ALIASES:
        return None
    if not (tree := module_tree(module)):
        return None
    for node in reversed(statements(tree.body)):
        if isinstance(node, ast.Assign) and any(_is_name(t, name) for t in node.targets):
            value = node.value
            literal = isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal"
            return value if literal else None
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if (alias.asname or alias.name) == name:
                assert isinstance(node, ast.ImportFrom)
                return _choices(absolute(module, node), alias.name, seen | {module})
    return None


@cache
def _own_name(module: str, name: str) -> str | None:
    """What a name is called where a module imports it from; None where it is no other name."""
    if module.partition(".")[0] in _NO_ALIASES:
        return None
    tree = module_tree(module)
    for node in statements(tree.body) if tree else []:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if alias.asname == name:
                return alias.name
    return None


def _forwarding_calls(node: ast.FunctionDef) -> list[ast.Call]:
    """Calls that pass on ``**kwargs``; none where the function takes something out of them."""
    if node.args.kwarg is None:
        return []
    name = node.args.kwarg.arg
    calls: list[ast.Call] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute | ast.Subscript) and _is_name(inner.value, name):
            return []
        if isinstance(inner, ast.Call) and any(
            k.arg is None and _is_name(k.value, name) for k in inner.keywords
        ):
            calls.append(inner)
    return calls


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _joined(own: Signature, called: Signature, call: ast.Call) -> Signature:
    """Own parameters, and those of the called one that the call itself does not give."""
    given = {keyword.arg for keyword in call.keywords}
    positional = [arg for arg in call.args if not isinstance(arg, ast.Starred)]
    rest = list(called.parameters.values())[len(positional) :]
    passed = {p.name: p for p in rest if p.name not in given | own.parameters.keys()}
    return Signature({**own.parameters, **passed}, called.takes_any)


def _resolve(module: str, base: ast.expr) -> Definition | None:
    """Definition of a name, plain or dotted, as a module's code uses it."""
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
                    source = f"{absolute(module, node)}.{alias.name}"
                    return find(f"{source}.{rest}" if rest else source, name)
    return None
