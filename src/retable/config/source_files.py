"""Source files of modules and what stands in them; no module is imported."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from retable.util.errors import UserError
from retable.util.paths import paper_dirs, shown


@cache
def module_file(module: str) -> Path | None:
    """Source file of a module, found without importing it or its parents."""
    # No file system takes longer names or paths; asking it about one is an error.
    if len(module) > 1000 or not all(p.isidentifier() and len(p) < 60 for p in module.split(".")):
        return None
    if module.startswith("retable.papers."):
        parts = module.split(".")[2:]
        roots = paper_dirs()
    else:
        top, *parts = module.split(".")
        spec = importlib.util.find_spec(top)  # a top-level name: nothing is imported
        if spec is None:
            return None
        roots = [Path(folder) for folder in spec.submodule_search_locations or ()]
        if not parts:
            return _python_file(spec.origin)
    for root in roots:
        base = root.joinpath(*parts)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _python_file(origin: str | None) -> Path | None:
    """Where a module lies, None for a package without a file and for a compiled module."""
    return Path(origin) if origin is not None and origin.endswith(".py") else None


@cache
def module_tree(module: str) -> ast.Module | None:
    """Syntax tree of a module.

    Raises:
        UserError: where its file is no Python.
    """
    path = module_file(module)
    try:
        return None if path is None else ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        where = f"{shown(path or Path(module))}, line {error.lineno}"
        raise UserError(f"{where}: cannot be parsed ({error.msg})") from None


def absolute(module: str, node: ast.ImportFrom) -> str:
    """Module that a ``from ... import`` in a module names, its dots resolved."""
    if not node.level:
        return node.module or ""
    path = module_file(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, *([node.module] if node.module else [])])


def statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements of a module, those under ``if`` and ``try`` included."""
    out: list[ast.stmt] = []
    for node in body:
        out.append(node)
        if isinstance(node, ast.If):
            out += statements(node.body) + statements(node.orelse)
        elif isinstance(node, ast.Try):
            out += statements(node.body)
    return out
