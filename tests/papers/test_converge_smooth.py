"""The shipped experiments against the authors' scripts, and what tables compare."""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.tables import spec
from retable.tables.grid import plan
from retable.training.execute import Context, build, execute

MIRROR = os.environ.get("RETABLE_MIRROR")


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=converge_smooth/{name}", "seed=0", *overrides])


@pytest.mark.parametrize(
    ("name", "n_classes", "band"), [("cifar10", 10, 0.03), ("cifar100", 100, 0.06)]
)
def test_the_protocol_is_the_scripts(name, n_classes, band):
    config = composed(name)
    model, smoothing = config.model, config.model["smoothing"]
    assert (config.trainer.max_epochs, config.data["batch_size"]) == (110, 128)
    rates = {k: v for k, v in model["optimizer"].items() if k[0] != "_"}
    assert rates == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    assert model["scheduler"]["milestones"] == [100, 105]
    assert smoothing["phases"] == [0, 100, 105, 110], "the term is off around drops of the rate"
    assert (smoothing["band"], smoothing["ratio"], model["factor"]) == (band, 1.0, 0.6)
    assert (model.get("n_classes", 10), model["net"].get("n_classes", 10)) == (n_classes,) * 2
    assert config.data.get("preprocess", "none") == "none", "pixels are in [0, 1]"
    # The harness chooses by images that were held out, never by test images.
    assert config.best_epoch.monitor == "val/pgd_10"
    assert config.data["n_validation"] == 1000


def test_the_network_is_the_papers():
    """ResNet-18 with the stem for 32 x 32 and ten classes."""
    _, module = build(composed("cifar10").model_dump(mode="json"))
    assert sum(p.numel() for p in module.net.parameters()) == 11_173_962


def test_rows_with_and_without_the_term_differ_in_it_alone():
    """Pitfall 15: the same attack, budget, labels and regulariser in both arms."""
    grid = plan("converge_smooth/main", "paper")
    for plain, smoothed in (("rs_open", "rs_cs"), ("mep", "mep_cs")):
        one, other = (
            grid.cells[row, "pgd_10_last"].setting.config.model for row in (plain, smoothed)
        )
        assert {k for k in one if one[k] != other[k]} == {"smoothing"}
        assert (one["smoothing"]["weight"], other["smoothing"]["weight"]) == (0.0, 1.0)
    attacks = {
        row: grid.cells[row, "pgd_10_last"].setting.config.model["attack"]
        for row in ("fgsm", "rs", "rs_open", "n_fgsm", "mep")
    }
    assert all(a != b for a, b in itertools.combinations(attacks.values(), 2))
    assert attacks["rs"]["project"]
    assert not attacks["rs_open"]["project"]


def test_every_reported_cell_is_marked_as_quoted():
    cells = [
        reported
        for name in ("main", "budgets", "quoted")
        for row in spec.load(f"converge_smooth/{name}").reported.values()
        for reported in row.values()
    ]
    assert len(cells) == 34
    assert {reported.grade for reported in cells} == {"secondhand"}


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="RETABLE_MIRROR is not set")
def test_a_step_on_the_real_images(tmp_path, cached_once):
    """Two batches of CIFAR-10 in bfloat16, and an evaluation of 10 test images."""
    config = composed(
        "reduced", "trainer.max_epochs=1", "trainer.limit_train_batches=2",
        "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "data.batch_size=32",
        "data.eval_batch_size=10",
    )  # fmt: skip
    outcome = execute(config.model_dump(mode="json"), Context(Path(tmp_path), {}, None, None))
    found = {(r.row, r.metric): r.value for r in outcome.results}
    for row in ("best", "last"):
        assert 0 <= found[row, "test/pgd_50"] <= found[row, "test/pgd_10"] <= 1
    assert outcome.history[0]["train/loss"] > 1.5
