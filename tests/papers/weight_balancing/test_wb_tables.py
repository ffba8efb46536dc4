"""Table files of the paper: one extractor for all that stands on it, and whose numbers they are."""

from __future__ import annotations

import pytest

from retable.tables import spec
from retable.tables.grid import plan

PAPER = "weight_balancing"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["paper", "reduced", "smoke"])
def test_one_trained_network_serves_every_row_that_stands_on_it(protocol):
    features = plan(f"{PAPER}/features", protocol)
    adjusted = plan(f"{PAPER}/adjustment", protocol)
    second = plan(f"{PAPER}/second_stage", protocol)
    network = features.cells["ce_all", "test_ratio_c10"].setting.key
    for adjustment in ("none", "additive", "multiplicative"):
        assert adjusted.cells[f"wd_{adjustment}", "all"].setting.key == network
    for row in ("wd_l2", "wd_tau"):
        assert adjusted.cells[row, "few"].setting.key == network
    assert second.cells["first", "all"].setting.key == network
    for row in ("ce_none", "ce_wd", "cb_none", "cb_wd", "wb"):
        assert second.cells[row, "all"].setting.parent.key == network
    assert adjusted.cells["wb", "all"].setting.key == second.cells["wb", "all"].setting.key
    naive = features.cells["ce_none", "test_ratio_c10"].setting.key
    assert adjusted.cells["naive_none", "all"].setting.key == naive


def test_reported_numbers_are_the_baseline_s_alone():
    for name in ("features", "adjustment", "second_stage"):
        assert not spec.load(f"{PAPER}/{name}").reported
    baseline = spec.load(f"{PAPER}/baseline")
    assert baseline.source.own is False
    values = [cell.value for row in baseline.reported.values() for cell in row.values()]
    assert len(values) == 25  # and one in a note: the paper has it beside that of the notebook
    assert [cell.grade for cell in baseline.reported["wb"].values()].count("recalled") == 1


def test_the_second_stages_differ_in_what_their_rows_say_alone():
    grid = plan(f"{PAPER}/second_stage", "reduced")
    models = {row: grid.cells[row, "all"].setting.config.model for row, _ in grid.cells}
    said = {
        row: (m["loss"], m["decay"], m.get("share")) for row, m in models.items() if row != "first"
    }
    assert said == {
        "ce_none": ("ce", 0.0, None),
        "ce_wd": ("ce", 0.1, None),
        "cb_none": ("cb", 0.0, None),
        "cb_wd": ("cb", 0.1, None),
        "wb": ("cb", 0.1, 0.1),
    }
