"""Reproduce a paper's table, cell by cell.

For notebooks and scripts:

    import retable

    table = retable.load_table("risk_parity/example_bai2016")
    retable.cells(table)   # a polars frame, a row per cell
    retable.claims(table)  # a row per claim
    retable.run_table("risk_parity/example_bai2016", overrides=["launcher.workers=2"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retable.cli.workflow import cells, claims, load_table, load_tables, run_table
    from retable.util.errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "cells", "claims", "load_table", "load_tables", "run_table"]


def __getattr__(name: str) -> Any:
    # Late, so that a command or a job pays for nothing that it does not use.
    if name == "UserError":
        from retable.util.errors import UserError

        return UserError
    if name in __all__:
        from retable.cli import workflow

        return getattr(workflow, name)
    raise AttributeError(f"module 'retable' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
