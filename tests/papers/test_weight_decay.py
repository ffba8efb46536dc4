"""The shipped experiments against the authors' scripts, and what tables compare."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.tables import spec
from retable.tables.grid import plan
from retable.training.execute import Context, build, execute

MIRROR = os.environ.get("RETABLE_MIRROR")
MEAN, STD = (125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=weight_decay/{name}", "seed=0", *overrides])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rates", "decay", "weights"),
    [
        ("vgg16_cifar10", (0.1, 0.01), 0.008, 15_245_130),
        ("resnet18_cifar10", (0.08, 0.001), 0.0125, 11_172_176),
        ("resnet34_cifar100", (0.15, 0.001), 0.01, 21_326_506),
    ],
)
def test_the_protocol_is_the_scripts(name, rates, decay, weights):
    """No momentum, no augmentation, one drop to 1e-4 after half of 1,000 epochs."""
    config = composed(name)
    model, data = config.model, config.data
    optimizer = {k: v for k, v in model["optimizer"].items() if k[0] != "_"}
    named = dict(zip(("large", "small"), rates, strict=True))
    assert optimizer == {"rates": named, "rate": "large", "decay": decay, "product": None}
    scheduler = {k: v for k, v in model["scheduler"].items() if k[0] != "_"}
    assert scheduler == {"at": 500, "rate": 1e-4}
    assert (config.trainer.max_epochs, data["batch_size"], model["ema"]) == (1000, 128, 0.999)
    assert data.get("augment", "none") == "none"
    assert data.get("drop_last", True)
    assert data["n_validation"] == 0
    assert [255 * m for m in data["preprocess"]["mean"]] == pytest.approx(MEAN, abs=1e-3)
    assert [255 * s for s in data["preprocess"]["std"]] == pytest.approx(STD, abs=1e-3)
    _, module = build(config.model_dump(mode="json"))
    assert sum(p.numel() for p in module.net.parameters()) == weights


def test_the_sphere_has_no_decay_and_the_rates_of_the_notebook():
    grid = plan("weight_decay/sphere", "paper")
    models = {row: grid.cells[row, "epoch"].setting.config.model for row, _ in grid.cells}
    rates = sorted(model["optimizer"]["rates"]["large"] for model in models.values())
    assert rates == [1e-4, 2.5e-4, 5e-4, 7.5e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3]
    for model in models.values():
        assert (model["radius"], model["projected"]) == (1.0, "epoch")
        assert model["optimizer"]["decay"] == 0
        assert model["scheduler"]["at"] == 100


def test_corners_differ_in_rate_and_decay_alone():
    grid = plan("weight_decay/corners", "paper")
    for panel in "abc":
        models = {
            row: grid.cells[row, f"final_{panel}"].setting.config.model
            for row in ("large_wd", "large", "small_wd", "small")
        }
        first = models["large_wd"]
        for row, model in models.items():
            assert {k for k in model if model[k] != first[k]} <= {"optimizer"}, row
        assert [models[row]["optimizer"]["decay"] > 0 for row in models] == [True, False] * 2


def test_products_are_kept_whatever_the_rate():
    grid = plan("weight_decay/product", "reduced")
    for (row, column), cell in grid.cells.items():
        optimizer = cell.setting.config.model["optimizer"]
        assert optimizer["decay"] == 0, row
        assert optimizer["product"] == int(column.rpartition("_")[2]) / 10_000


def test_what_is_reported_of_the_vision_half():
    """Twelve cells read off figures, with their reading errors, and nine that were printed."""
    cells = {
        name: [
            cell
            for row in spec.load(f"weight_decay/{name}").reported.values()
            for cell in row.values()
        ]
        for name in ("corners", "sphere")
    }
    assert {name: len(found) for name, found in cells.items()} == {"corners": 12, "sphere": 9}
    assert all(cell.reading_error > 0 for cell in cells["corners"])
    assert all(cell.grade == "primary" for found in cells.values() for cell in found)


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="RETABLE_MIRROR is not set")
def test_steps_on_the_real_images(tmp_path, cached_once):
    """An epoch at either rate on 64 images of CIFAR-10, and the average beside the network."""
    config = composed(
        "reduced", "data.n_train=64", "trainer.max_epochs=2", "model.scheduler.at=1",
        "model.snapshots=[50]", "trainer.limit_test_batches=1",
    )  # fmt: skip
    outcome = execute(config.model_dump(mode="json"), Context(Path(tmp_path), {}, None, None))
    found = {(r.row, r.metric): r.value for r in outcome.results}
    assert {row for row, metric in found if metric == "test/error"} == {
        "last", "ema", "last/phase_1", "ema/phase_1",
    }  # fmt: skip
    assert [row["train/rate"] for row in outcome.history] == pytest.approx([0.2, 0.01], rel=1e-6)
