"""Who a run is: its key, the fingerprint of its code, and the seeds derived from its seed."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from retable.config import source_files
from retable.config.key_order import orders
from retable.config.schema import RunConfig, keyed_part
from retable.runs import import_closure
from retable.training.seeds import derive_seed

__all__ = [
    "canonical_json",
    "derive_seed",
    "fingerprint",
    "key_of",
    "keyed",
    "modules_of",
    "run_key",
    "targets_of",
]

# What a run needs only to describe itself; none of it touches a number. What is decoded from a
# source has to have the keyed checksum, so neither the decoding nor where it finds the source can
# touch one.
_NOT_NUMBERS = {
    "retable.util.errors",
    "retable.util.paths",
    "retable.data.hub",
    "retable.data.image_sets",
}


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_key(config: RunConfig) -> str:
    """SHA-256 (64 hex digits) of what :func:`keyed` has of a validated config."""
    return key_of(keyed(config))


def keyed(config: RunConfig) -> dict[str, Any]:
    """What a config's key is made from: its keyed part, and the orders that may move a number."""
    part = keyed_part(config)
    found = orders(part)
    return {**part, "order": found} if found else part


def key_of(part: dict[str, Any]) -> str:
    """The key that follows from what :func:`keyed` gives."""
    return hashlib.sha256(canonical_json(part).encode()).hexdigest()


def targets_of(node: Any) -> set[str]:
    """All ``_target_`` values below a node of a config."""
    found: set[str] = set()
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            found.add(node["_target_"])
        for value in node.values():
            found |= targets_of(value)
    elif isinstance(node, list):
        for value in node:
            found |= targets_of(value)
    return found


def modules_of(targets: Iterable[str]) -> list[str]:
    """Own modules that a run with these targets executes: an import closure.

    The project's and the user's, see :mod:`retable.runs.import_closure`; what is imported by a
    name that is only known when it runs is not seen.
    """
    starts = ["retable.training.execute", *(target.rpartition(".")[0] for target in targets)]
    return import_closure.closure(starts, _NOT_NUMBERS)


def fingerprint(targets: Iterable[str]) -> str:
    """SHA-256 over the docstring-free syntax trees of :func:`modules_of`.

    Comments, docstrings and layout do not enter; anything that runs does.
    """
    return _fingerprint(tuple(sorted(set(targets))))


@lru_cache(maxsize=256)
def _fingerprint(targets: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module in modules_of(targets):
        digest.update(f"{module}\n{_text_of(module)}\n".encode())
    return digest.hexdigest()


@cache
def _text_of(module: str) -> str:
    # Kept, as most modules are in every run's closure.
    tree = source_files.module_tree(module)
    return _plain(tree) if tree is not None else _bytes_of(module)


def _bytes_of(module: str) -> str:
    file = import_closure.extension_file(module)
    assert file is not None
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _plain(node: Any) -> Any:
    """A syntax tree as text that is the same on every Python version."""
    if isinstance(node, ast.AST):
        fields: list[str] = []
        for name, value in ast.iter_fields(node):
            if name in {"ctx", "type_ignores", "type_comment", "kind"}:
                continue
            if name == "body" and isinstance(value, list):
                value = [item for item in value if not _is_docstring(item)]
            # Newer Pythons add fields that are empty in older code; leave empty ones out.
            if value is None or value == []:
                continue
            fields.append(f"{name}={_plain(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_plain(item) for item in node)}]"
    return repr(node)


def _is_docstring(node: ast.AST) -> bool:
    # A bare string anywhere is never executed for its value, so attribute docstrings go too.
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
