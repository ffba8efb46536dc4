"""The paper's shipped experiments and tables against its protocol and its reported numbers."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from retable.config.compose import compose, hydra_ready
from retable.data.splits import split
from retable.papers.binary_connect.module import BinaryConnect
from retable.tables import spec
from retable.training.execute import build_data

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted(p.stem for p in (CONF / "experiment" / "binary_connect").glob("*.yaml"))

# Table 2: value, spread, n, grade; spreads are standard deviations over six initialisations.
TABLE_2 = {
    ("none", "mnist"): ("1.30", "0.04", 6, "recalled"),
    ("none", "cifar10"): ("10.64", None, 1, "secondhand"),
    ("none", "svhn"): ("2.44", None, 1, "recalled"),
    ("det", "mnist"): ("1.29", "0.08", 6, "recalled"),
    ("det", "cifar10"): ("9.90", None, 1, "secondhand"),
    ("det", "svhn"): ("2.30", None, 1, "recalled"),
    ("stoch", "mnist"): ("1.18", "0.04", 6, "recalled"),
    ("stoch", "cifar10"): ("8.27", None, 1, "primary"),
    ("stoch", "svhn"): ("2.15", None, 1, "primary"),
    ("dropout", "mnist"): ("1.01", "0.04", 6, "recalled"),
    ("maxout", "mnist"): ("0.94", None, None, "recalled"),
    ("maxout", "cifar10"): ("11.68", None, None, "recalled"),
    ("maxout", "svhn"): ("2.47", None, None, "recalled"),
    ("l2svm", "mnist"): ("0.87", None, None, "recalled"),
    ("nin", "cifar10"): ("10.41", None, None, "recalled"),
    ("nin", "svhn"): ("2.35", None, None, "recalled"),
    ("dropconnect", "svhn"): ("1.94", None, None, "recalled"),
    ("dsn", "cifar10"): ("9.78", None, None, "recalled"),
    ("dsn", "svhn"): ("1.92", None, None, "recalled"),
}
TABLE_1 = {
    ("sgd", "cifar10"): ("11.45", None, 1, "recalled"),
    ("nesterov_plain", "cifar10"): ("15.65", None, 1, "recalled"),
    ("nesterov", "cifar10"): ("11.30", None, 1, "recalled"),
    ("adam_plain", "cifar10"): ("12.81", None, 1, "recalled"),
    ("adam", "cifar10"): ("10.47", None, 1, "recalled"),
}
CLAIMS = {
    "digits": {"C3_digits"},
    "table1": {"C5a", "C5b", "C5c", "C5d"},
    "table2": {"C1a", "C1b", "C1c", "C1d", "C2", "C3", "C4", "C8"},
    "training_curves": {"C6", "C6_md"},
    "weight_histogram": {"C7", "C7b"},
    "deployment": {"C8_memory", "C8_multiplications"},
}
ORDERINGS = {
    "C1a": ("stoch", "det", "cifar10"),
    "C1b": ("det", "none", "cifar10"),
    "C1c": ("stoch", "det", "svhn"),
    "C1d": ("det", "none", "svhn"),
    "C2": ("stoch", "none", "mnist"),
    "C4": ("dropout", "stoch", "mnist"),
    "C5a": ("adam", "adam_plain", None),
    "C5b": ("nesterov", "nesterov_plain", None),
    "C5d": ("adam", "nesterov", None),
}


def table(name):
    return spec.load(f"binary_connect/{name}")


@functools.cache
def composed(experiment, *overrides):
    with hydra_ready():
        return compose([f"experiment=binary_connect/{experiment}", "seed=0", *overrides])


def optimizer(config):
    node = config.model["optimizer"]
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    return instantiate({**node, "_partial_": True}, _convert_="all")(parameters)


@pytest.mark.parametrize(("name", "expected"), [("table1", TABLE_1), ("table2", TABLE_2)])
def test_reported_cells_are_those_of_the_paper(name, expected):
    reported = table(name).reported
    found = {
        (row, column): (cell.value, cell.spread, cell.n, cell.grade)
        for row, cells in reported.items()
        for column, cell in cells.items()
    }
    assert found == expected
    for row, column in found:
        cell = reported[row][column]
        assert cell.spread_kind == (None if cell.spread is None else "std")
        assert cell.where.startswith(("Table", "README"))


def test_rows_quoted_from_other_papers_are_not_run():
    rows = table("table2").rows
    assert {name for name, row in rows.items() if not row.run} == {
        "maxout",
        "l2svm",
        "nin",
        "dropconnect",
        "dsn",
    }
    assert all(bool(row.quoted) == (not row.run) for row in rows.values())
    assert rows["dropout"].columns == ["mnist"]


def test_figures_known_in_words_only_have_no_reported_cell():
    for name in ("training_curves", "weight_histogram", "deployment"):
        assert table(name).reported == {}
        assert table(name).source.own is (name != "deployment")


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_are_there_and_say_what_the_paper_says(name):
    claims = {claim.id: claim for claim in table(name).claims}
    assert set(claims) == CLAIMS[name]
    for key, (better, than, on) in ORDERINGS.items():
        if key in claims:
            claim = claims[key]
            assert (claim.kind, claim.better, claim.than, claim.on) == (
                "ordering",
                better,
                than,
                on,
            )


def test_claims_that_are_no_plain_ordering():
    claims = {c.id: c for name in CLAIMS for c in table(name).claims}
    tie = claims["C3"]
    assert (tie.kind, tie.better, tie.than, tie.margin) == ("not_worse", "det", "none", 0.09)
    assert (claims["C5c"].kind, claims["C5c"].than) == ("all_of", ["nesterov", "sgd"])
    assert (claims["C6"].kind, claims["C6"].better) == ("all_of", "none")
    assert (claims["C6"].than, claims["C6"].on) == (["det", "stoch"], "cost_100")
    assert (claims["C6_md"].than, claims["C6_md"].on) == (["det", "stoch"], ["cost_10", "cost_100"])
    for key in ("C6", "C6_md"):  # and a lower validation error
        said = [(a.better, a.than, a.on) for a in claims[key].also]
        assert said == [("det", "none", "val_100"), ("stoch", "none", "val_100")]
    assert [(a.better, a.than) for a in claims["C5d"].also] == [("nesterov", "sgd")]
    assert (claims["C7"].better, claims["C7"].than) == ("at_bounds", "elsewhere")
    assert (claims["C8_memory"].kind, claims["C8_memory"].at_least) == ("threshold", 16.0)
    for key in ("C7b", "C8", "C8_multiplications"):
        assert claims[key].kind == "not_judged"


def test_every_experiment_of_the_tables_is_shipped_and_nothing_else():
    used = {
        name
        for t in CLAIMS
        for column in table(t).columns.values()
        for name in column.experiment.values()
    }
    assert used == {f"binary_connect/{name}" for name in EXPERIMENTS}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_experiment_decays_its_weights(name):
    for group in optimizer(composed(name)).param_groups:
        assert group["weight_decay"] == 0


@pytest.mark.parametrize("row", ["sgd", "nesterov_plain", "nesterov", "adam_plain", "adam"])
def test_optimizers_of_table_1_are_the_papers_and_decay_no_weights(row):
    config = composed("small_cnn_smoke", *table("table1").rows[row].overrides)
    found = optimizer(config)
    (group,) = found.param_groups
    assert group["weight_decay"] == 0
    adam = row.startswith("adam")
    assert type(found) is (torch.optim.Adam if adam else torch.optim.SGD)
    if not adam:
        nesterov = row.startswith("nesterov")
        assert (group["momentum"], group["nesterov"]) == ((0.9, True) if nesterov else (0, False))
    assert config.model["rate_scaling"] == ("none" if row.endswith("plain") else "glorot")
    assert config.model["regularizer"] == "det"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_test_is_of_the_latest_epoch_of_lowest_validation_error(name):
    best = composed(name).model_dump(mode="json")["best_epoch"]
    assert best == {"monitor": "val/error", "mode": "min", "ties": "later"}


@pytest.mark.parametrize("name", ["mnist", "mnist_reduced"])
@pytest.mark.parametrize("seed", [0, 5])
def test_validation_images_of_mnist_are_the_last_of_its_original_order(name, seed, tmp_path):
    config = composed(name).model_dump(mode="json")
    assert config["data"]["dataset"] == "mnist"
    assert config["data"]["n_validation"] == 10_000
    data = build_data(config["data"], seed, {"mirror": None, "cache": str(tmp_path)})
    assert (data.split, data.n_validation, data.n_train) == ("last", 10_000, None)
    train, validation = split(data.split, torch.zeros(60_000), data.n_validation, seed)
    assert train.tolist() == list(range(50_000))
    assert validation.tolist() == list(range(50_000, 60_000))


def test_mnist_experiment_is_the_protocol_of_the_paper():
    config = composed("mnist").model_dump(mode="json")
    model, trainer, data = config["model"], config["trainer"], config["data"]
    assert model["widths"] == [1024] * 3
    assert model["optimizer"] == {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.3}
    assert (model["scheduler"]["final"], model["scheduler"]["epochs"]) == (0.01, 1000)
    assert (trainer["max_epochs"], trainer["check_val_every_n_epoch"]) == (1000, 2)
    assert (data["batch_size"], data["preprocess"]) == (200, "center_each_set")
    assert data.get("augment", "none") == "none"
    # Defaults of the module: H is the coefficient, weights start within 2 H, rates not scaled.
    for key, value in {
        "magnitude": "glorot",
        "weight_spread": 2.0,
        "rate_scaling": "none",
        "hinge": "sum",
        "normalization": "variance",
        "statistics": "recomputed",
        "recompute_images": None,
        "dropout": 0.5,
    }.items():
        assert _default_or(model, key) == value


def _default_or(model, key):
    default = inspect.signature(BinaryConnect.__init__).parameters[key].default
    return model.get(key, default)


@pytest.mark.parametrize(
    ("name", "channels", "rates", "epochs", "n_validation"),
    [
        ("cifar10", [128, 256, 512], (3e-3, 2e-6), 500, 5000),
        ("svhn", [64, 128, 256], (1e-2, 3e-6), 200, 6000),
    ],
)
def test_convolutional_experiments_are_the_protocol_of_the_published_code(
    name, channels, rates, epochs, n_validation
):
    config = composed(name).model_dump(mode="json")
    model, data = config["model"], config["data"]
    assert (model["network"], model["channels"], model["widths"]) == ("cnn", channels, [1024] * 2)
    assert (model["optimizer"]["lr"], model["scheduler"]["final"]) == rates
    assert model["optimizer"]["_target_"] == "torch.optim.Adam"
    assert config["trainer"]["max_epochs"] == model["scheduler"]["epochs"] == epochs
    assert (model["magnitude"], model["rate_scaling"]) == ("one", "glorot")
    assert (model["hinge"], model["normalization"], model["momentum"]) == ("mean", "deviation", 0.1)
    assert (data["batch_size"], data["n_validation"]) == (50, n_validation)
    assert data.get("augment", "none") == "none"
