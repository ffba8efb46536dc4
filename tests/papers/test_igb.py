"""The shipped experiments against the authors' scripts, and what the tables compare."""

from __future__ import annotations

import functools

import pytest

from retable.config.compose import compose, hydra_ready
from retable.tables import spec
from retable.training.execute import build


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=igb/{name}", "seed=0", *overrides])


def options(partial):
    return {name: value for name, value in partial.items() if name[0] != "_"}


def test_the_protocol_of_qm9_is_the_script_s():
    config = composed("qm9")
    model = config.model
    assert options(model["optimizer"]) == {"lr": 0.001}
    schedule = {"mode": "min", "factor": 0.7, "patience": 5, "min_lr": 1e-5}
    assert options(model["scheduler"]) == schedule
    assert model["scheduler_monitor"] == config.best_epoch.monitor == "val/delta_m"
    assert (config.trainer.max_epochs, config.data["batch_size"]) == (300, 120)
    _, module = build(config.model_dump(mode="json"))
    # What the authors' network has with torch_geometric's layers.
    assert sum(p.numel() for p in module.nets.parameters()) == 617_675


@pytest.mark.parametrize("name", ["nyuv2", "nyuv2_mtan"])
def test_the_protocol_of_nyuv2_is_the_script_s(name):
    config = composed(name)
    model = config.model
    assert options(model["optimizer"]) == {"lr": 0.0001}
    assert options(model["scheduler"]) == {"step_size": 100, "gamma": 0.5}
    assert (config.trainer.max_epochs, config.data["batch_size"]) == (500, 2)
    assert model["reward"] == "rate"
    assert config.best_epoch.monitor == "val/delta_m"


@pytest.mark.parametrize(("name", "n"), [("qm9", 11), ("nyuv2", 9)])
def test_the_base_of_a_table_is_that_of_its_runs_and_what_stl_reports(name, n):
    """Three places have the same constants: a run chooses its epoch by them, a table its change."""
    table = spec.load(f"igb/{name}")
    base = table.columns["delta_m"].over_columns.base.values
    assert len(base) == n
    model = composed(name).model["base"]
    for column, value in base.items():
        metric = table.metrics[table.columns[column].metric]
        unit = 100 if metric.unit == "%" else 1
        key = metric.key.removeprefix("test/")
        assert value == pytest.approx(unit * model[key.removesuffix("/mae")])
        assert float(table.reported["stl"][column].value) == pytest.approx(value)


@pytest.mark.parametrize("table", ["regression", "noisy", "digits", "mnist", "adult"])
def test_every_method_but_uw_with_logarithms_is_a_row(table):
    rows = spec.load(f"igb/{table}").rows.values()
    found = {tuple(override for override in row.overrides) for row in rows}
    balanced = ["mgda", "pcgrad", "cagrad", "imtl_g", "nash"]
    losses = ["si", "rlw", "dwa", "uw", "igbv1", "igbv2", "rlw_si", "dwa_si"]
    assert found == {
        ("model.single=true",),
        (),
        *((f"model.losses={loss}",) for loss in losses),
        *((f"model.gradients={method}",) for method in balanced),
        *(("model.losses=igbv1", f"model.gradients={method}") for method in balanced),
    }


def test_what_dbmtl_reports_is_the_change_of_its_own_cells_with_our_sign():
    """Less is better here: the mean over the eleven tasks, to the digits that they print."""
    reported = spec.load("igb/qm9_dbmtl").reported
    base = {task: float(cell.value) for task, cell in reported["stl"].items()}
    assert len(base) == 11
    checked = 0
    for row, cells in reported.items():
        if "delta_m" in cells:
            change = sum(float(cells[t].value) / b - 1 for t, b in base.items()) / len(base)
            assert float(cells["delta_m"].value) == pytest.approx(100 * change, abs=1.0), row
            checked += 1
    assert checked >= 9
