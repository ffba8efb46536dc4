"""Plans of several tables."""

from __future__ import annotations

import pytest

from retable.tables import grid
from retable.tables.planned import plan_tables
from retable.util import progress
from retable.util.errors import UserError

TABLES = ("risk_parity/example_bai2016", "digits/accuracy")


def test_tables_are_planned_in_order_and_what_takes_long_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_QUIET_S", -1.0)
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", -1.0)
    found = plan_tables(TABLES, "paper", seeds=1)
    assert [one.name for one in found] == [*TABLES]
    assert [one.cells.keys() for one in found] == [
        grid.plan(name, "paper", n_seeds=1).cells.keys() for name in TABLES
    ]
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["planning tables: 1 of 2", "planning tables: 2 of 2"]


def test_a_part_is_asked_of_each():
    [one] = plan_tables(TABLES[1:], "paper", rows=["slow"])
    assert {row for row, _ in one.cells} == {"slow"}
    with pytest.raises(UserError, match="no row 'slew'; did you mean 'slow'"):
        plan_tables(TABLES[1:], "paper", rows=["slew"])


def test_rows_that_the_protocol_does_not_run_are_refused_with_those_that_do():
    said = r"protocol smoke runs nothing of --row slow_2200 --column loss; .* under reduced"
    part = {"rows": ["slow_2200"], "columns": ["loss"], "overrides": None}
    with pytest.raises(UserError, match=said):
        plan_tables(["weight_decay/lm_variants"], "smoke", **part)
    [grid] = plan_tables(["weight_decay/lm_variants"], "smoke", **part | {"rows": ["none"]})
    assert list(grid.cells) == [("none", "loss")]
