"""Claims that the paper's own function tests, where no comparison of rows says them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from retable.tables.claim_spec import Claim
from retable.util.errors import UserError, nearest

if TYPE_CHECKING:
    from retable.tables.aggregate import Table

Test = Callable[[Mapping[tuple[str, str], Mapping[int, float]]], Mapping[int, float]]
"""From values by place (row, column) and seed to a number per seed, positive supports the claim."""


def function_of(table: Table, claim: Claim) -> Test:
    """The function of the paper's claims.py that the claim names.

    Raises:
        UserError: where there is none.
    """
    name, where = claim.function or "", f"{table.name}: claims.{claim.id}.function"
    module = f"retable.papers.{table.spec.paper}.claims"
    try:
        found = importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise UserError(f"{where}: no '{name}', as there is no {module}") from None
        raise UserError(f"{where}: {module}: {type(error).__name__}: {error}") from error
    if not callable(test := getattr(found, name, None)):
        functions = [n for n, f in vars(found).items() if inspect.isfunction(f)]
        raise UserError(f"{where}: no '{name}' in {module}{nearest(name, functions)}")
    return cast("Test", test)


def said_by(table: Table, claim: Claim) -> str:
    """What the function computes: the first line of its docstring."""
    first = (inspect.getdoc(function_of(table, claim)) or "").partition("\n")[0].rstrip(".")
    return first[:1].lower() + first[1:] or "see the paper's claims.py"
