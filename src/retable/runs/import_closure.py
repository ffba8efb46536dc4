"""Which modules a run executes: followed from file to file, nothing is imported.

*Own* code is what a fingerprint has to see: the project, papers kept elsewhere, and whatever else
of the user's they import. Not own is what a version number describes: the standard library and
what is installed as a distribution, unless it is editable, so that its files are the user's.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from retable.config import source_files

PROJECT = "retable"
# They hold a version and where papers lie: nothing of a number.
_NEUTRAL_PACKAGES = {PROJECT, f"{PROJECT}.papers"}
_INSTALLED = {"site-packages", "dist-packages"}
_BLOCKS = {"body", "orelse", "finalbody", "handlers", "cases"}
"""Fields of statements that hold statements, or what holds them."""


def is_own(module: str) -> bool:
    """Whether a module's file is the project's or the user's own."""
    top = module.partition(".")[0]
    return top == PROJECT or bool(own_places(top))


@cache
def own_places(top: str) -> tuple[Path, ...]:
    """Entries of the module path where a top-level name of the user's own code lies; else none."""
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return ()
    try:
        spec = importlib.util.find_spec(top)  # a top-level name: nothing is imported
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:  # a package, also one without a file
        found = [Path(folder).parent for folder in spec.submodule_search_locations]
    else:
        found = [Path(spec.origin).parent] if spec.origin else []
    places = tuple(dict.fromkeys(path for path in found if path.is_dir()))
    return () if any(_holds_distributions(path) for path in places) else places


@cache
def _holds_distributions(folder: Path) -> bool:
    if folder.name in _INSTALLED or folder == Path(sysconfig.get_path("stdlib")):
        return True
    return any(folder.glob("*.dist-info"))  # installed with --target, by a cluster's module


def closure(starts: list[str], outside: set[str]) -> list[str]:
    """Own modules among some modules and all that they import, directly or not.

    Args:
        starts: dotted names; what is not a module is passed over.
        outside: modules that do not count, nor what only they import.
    """
    todo, found = list(starts), set[str]()
    while todo:
        module = todo.pop()
        if module in found or module in outside or module == PROJECT or not is_own(module):
            continue
        if source_files.module_file(module) is None and extension_file(module) is None:
            continue  # something in a module, as in `from module import name`
        found.add(module)
        todo += imported(module)
        todo += [p for p in _packages(module) if p not in _NEUTRAL_PACKAGES and _does_something(p)]
    return sorted(found)


@cache
def imported(module: str) -> tuple[str, ...]:
    """Dotted names that a module imports, anywhere in it; some of them are no modules."""
    tree = source_files.module_tree(module)
    found: list[str] = []
    for node in _statements(tree.body) if tree else ():
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import name`: the name may be a module or something in the package
            base = source_files.absolute(module, node)
            names = [alias.name for alias in node.names]
            found += [base, *(f"{base}.{name}" for name in (_all(base) if "*" in names else names))]
    return tuple(found)


def _all(package: str) -> list[str]:
    """Names that `from package import *` imports as modules where they are some: its `__all__`."""
    tree = source_files.module_tree(package) if is_own(package) else None
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and "__all__" in map(ast.unparse, node.targets):
            with suppress(ValueError, TypeError):  # an expression: not known without running it
                return [str(name) for name in ast.literal_eval(node.value)]
    return []


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements in some; what is imported is one, and most of a tree are expressions."""
    for node in body:
        yield node
        for inner in _BLOCKS & {*node._fields}:
            yield from _statements(getattr(node, inner))


def _packages(module: str) -> list[str]:
    """Packages around a module, which Python imports before it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _does_something(package: str) -> bool:
    """Whether importing a package runs more than docstrings."""
    tree = source_files.module_tree(package)
    return tree is not None and not all(
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in tree.body
    )


def extension_file(module: str) -> Path | None:
    """File of a compiled module of the user's own, None where it is none."""
    *packages, name = module.split(".")
    top = packages[0] if packages else name
    for place in own_places(top) if top != PROJECT else ():
        for suffix in EXTENSION_SUFFIXES:
            path = place.joinpath(*packages, f"{name}{suffix}")
            if path.is_file():
                return path
    return None


def roots(modules: list[str]) -> dict[str, Path]:
    """Files to copy so that modules of the user's own, outside of any paper, can be imported.

    Returns:
        Path below an entry of the module path, to the file or folder that is to lie there: the
        outermost package of each module, or its file where it lies in none.
    """
    found: dict[str, Path] = {}
    for module in modules:
        if module.partition(".")[0] == PROJECT:
            continue
        file = source_files.module_file(module) or extension_file(module)
        assert file is not None
        packages = [*_packages(module), *([module] if file.name == "__init__.py" else [])]
        for package in packages:
            init = source_files.module_file(package)
            if init is not None and init.name == "__init__.py":
                found["/".join(package.split("."))] = init.parent
                break
        else:
            folders = module.split(".")[:-1]
            found["/".join([*folders, file.name])] = file
    return found
