"""The shipped experiments against the authors' scripts, and what tables compare."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from retable.config.compose import compose, hydra_ready
from retable.papers.weight_decay.schedule import rate
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


def test_the_other_experiments_differ_from_these_as_the_scripts_do():
    """Figure 3: 200 epochs, a drop after half; its snapshots, 100 epochs at 1e-3 without decay; the
    sphere, 200; language models at a constant rate, with a penalty, in long contexts, by SGD."""
    norm, noise, flow, off, sphere = (
        composed(name)
        for name in (
            "resnet18_norm", "resnet18_noise", "resnet18_flow", "resnet18_off", "sphere_cifar10",
        )
    )  # fmt: skip
    for config in (norm, noise):
        assert config.model["optimizer"]["rates"]["large"] == 0.1
        assert config.model["optimizer"]["decay"] == 0.015
    drop = {"at": 100, "rate": 1e-4}
    assert {k: v for k, v in norm.model["scheduler"].items() if k[0] != "_"} == drop
    assert {k: v for k, v in sphere.model["scheduler"].items() if k[0] != "_"} == drop
    assert norm.trainer.max_epochs == sphere.trainer.max_epochs == 200
    assert (noise.model["scheduler"], noise.trainer.max_epochs) == (None, 100)
    tuned = flow.model["optimizer"]
    assert (tuned["rates"][tuned["rate"]], tuned["decay"]) == (1e-3, 0)
    assert (flow.trainer.max_epochs, flow.model["hessian_images"]) == (100, 500)
    assert (off.model["snapshot"], off.model["optimizer"]["decay"]) == (0.5, 0)
    assert (off.model["optimizer"]["rates"]["large"], off.trainer.max_epochs) == (1e-4, 500)
    base = composed("lm_openwebtext").model
    changed = {
        name: {k: v for k, v in composed(name).model.items() if (k, v) not in base.items()}
        for name in ("lm_openwebtext_const", "lm_openwebtext_l2", "lm_openwebtext_bf16")
    }
    assert changed["lm_openwebtext_const"] == {
        "min_lr": None, "snapshots": [20, 40, 60, 80, 100],
    }  # fmt: skip
    assert changed["lm_openwebtext_l2"] == {"l2": 1e-5}
    assert changed["lm_openwebtext_bf16"].pop("net")["context"] == 1024
    assert changed["lm_openwebtext_bf16"] == {"lr": 0.001, "min_lr": 0.0001}
    long = composed("lm_openwebtext_bf16")
    every = long.trainer.accumulate_grad_batches
    assert (long.data["batch_size"] * every, long.data["context"]) == (256, 1024)
    assert (long.data["iterations"], long.trainer.max_epochs) == (200 * every, 250)
    sgd = composed("lm_openwebtext_sgd").model
    assert (sgd["lr"], sgd["min_lr"], sgd["warmup"], sgd["horizon"]) == (0.3, 0.03, 400, 50_000)


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


def reported(name):
    return {
        (row, column): cell
        for row, cells in spec.load(f"weight_decay/{name}").reported.items()
        for column, cell in cells.items()
    }


def test_what_is_reported():
    """Twelve cells and six read off figures, with their reading errors, and nine printed ones."""
    found = {name: reported(name) for name in ("corners", "lm_cosine", "sphere")}
    values = {name: {at: c.value for at, c in cells.items()} for name, cells in found.items()}
    corners = {
        "large_wd": ("16.0", "10.4", "34.7"),
        "large": ("19.8", "14.6", "40.4"),
        "small_wd": ("30.8", "18.7", "61.5"),
        "small": ("24.2", "33.4", "73.3"),
    }
    assert values["corners"] == {
        (row, f"final_{panel}"): value
        for row, three in corners.items()
        for panel, value in zip("abc", three, strict=True)
    }
    losses = {"wd0": ("3.298", "3.27"), "wd01": ("3.279", "3.24"), "wd03": ("3.288", "3.23")}
    assert values["lm_cosine"] == {
        (row, column): value
        for row, two in losses.items()
        for column, value in zip(("loss_100", "tiny"), two, strict=True)
    }
    printed = {
        10: "13.95", 25: "12.65", 50: "11.87", 75: "10.896667", 100: "10.483333",
        200: "11.133333", 300: "12.796667", 400: "14.423333", 500: "15.85",
    }  # fmt: skip
    assert values["sphere"] == {(f"lr{n}", "epoch"): value for n, value in printed.items()}
    for name in ("corners", "lm_cosine"):
        assert all(cell.reading_error > 0 and cell.n is None for cell in found[name].values())
    assert {cell.n for cell in found["sphere"].values()} == {3}
    assert {cell.grade for cells in found.values() for cell in cells.values()} == {"primary"}


SHORT = (("lm_shakespeare", 2000), ("lm_wikitext", 2000))
FILES = sorted((Path(__file__).parents[2] / "conf/experiment/weight_decay").glob("*.yaml"))


def test_no_experiment_augments_or_has_momentum_but_the_one_that_asks_for_it():
    """What files say, and those of the data that they inherit."""
    for name in ("cifar10", "cifar100", "generated"):
        data = OmegaConf.load(FILES[0].parents[2] / "data" / f"{name}.yaml")
        assert data.get("augment", "none") == "none", name
    said = {file.stem: OmegaConf.to_container(OmegaConf.load(file)) for file in FILES}
    assert len(said) > 40
    for name, content in said.items():
        assert "augment" not in content.get("data", {}), name
        optimizer = content.get("model", {}).get("optimizer") or {}
        with_sgd = name.startswith("lm_") and name.endswith("_sgd")
        assert optimizer.get("momentum", 0.0) == (0.9 if with_sgd and optimizer else 0.0), name
        if name.startswith("lm_") and "_target_" in optimizer:
            kind = "SGD" if with_sgd else "AdamW"
            assert optimizer["_target_"] == f"torch.optim.{kind}", name


def test_longer_language_runs_shrink_weights_as_much():
    """The sum of eta_t lambda is the paper's, 1.65 for 0.1, whatever the iterations."""
    for name, iterations in (("lm_reduced", 2000), ("lm_longer", 10_000), *SHORT):
        config = composed(name)
        model = config.model
        options = {key: model[key] for key in ("lr", "min_lr", "warmup", "horizon")}
        assert config.trainer.max_epochs * config.data["iterations"] == iterations
        assert model["horizon"] == iterations
        total = 0.1 * model["decay_times"] * sum(rate(t, **options) for t in range(iterations))
        assert total == pytest.approx(1.649, abs=2e-3), name


def test_the_jacobian_is_that_of_what_was_fine_tuned():
    """A row of flow has error, trace and Jacobian of one chain: a snapshot, then 100 epochs."""
    grid = plan("weight_decay/flow", "middle")
    for epoch, share in ((10, 0.05), (20, 0.1), (50, 0.25), (100, 0.5)):
        tuned = grid.cells["lr08", f"error_m{epoch}"].setting.config
        measured = grid.cells["lr08", f"jacobian_m{epoch}"].setting.config
        assert tuned.model["snapshot"] == share
        assert measured.start.run.model == tuned.model
        assert measured.stages == ["test"]
        assert measured.model["net"] == tuned.model["net"]
        assert measured.data == tuned.data


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
