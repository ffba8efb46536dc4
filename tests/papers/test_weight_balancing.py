"""The shipped experiments against the paper's protocol, and a short run on the real data."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.data.image_sets import SETS
from retable.papers.weight_balancing.long_tail import counts, groups
from retable.training.execute import Context, build, execute

MIRROR = os.environ.get("RETABLE_MIRROR")
FIRST = {"decay": 0.005, "loss": "ce", "classifier": "linear", "feature_decay": 0.0}
SECOND = {"decay": 0.1, "share": 0.1}


@functools.cache
def composed(name, *overrides):
    with hydra_ready():
        return compose([f"experiment=weight_balancing/{name}", "seed=0", *overrides])


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar100_al"])
def test_the_first_stage_is_the_papers(name):
    config = composed(name)
    model = config.model
    assert {key: model[key] for key in FIRST} == FIRST
    assert (config.trainer.max_epochs, config.data["batch_size"]) == (320, 64)
    rates = {k: v for k, v in model["optimizer"].items() if k[0] != "_"}
    assert rates == {"lr": 0.01, "momentum": 0.9}  # no Nesterov, no decay of its own
    assert model["scheduler"]["T_max"] == 320
    assert config.protocol == "paper"
    # The epoch is chosen by validation; a run without validation has none to choose by.
    assert (config.best_epoch is None) == (config.data["n_validation"] == 0)


@pytest.mark.parametrize(
    ("name", "loss"), [("cifar10_stage2", "cb"), ("cifar100_al_stage2", "cb_binary")]
)
def test_the_second_stage_is_weight_balancing(name, loss):
    config = composed(name)
    assert {key: config.model[key] for key in SECOND} == SECOND
    assert (config.model["loss"], config.trainer.max_epochs) == (loss, 10)
    assert config.start.run.experiment == f"weight_balancing/{name.removesuffix('_stage2')}"
    assert config.start.run.data == config.data  # the same images, or nothing means anything


def test_networks_have_the_size_of_the_papers():
    """torchvision's resnet34 with 10 classes has 21,289,802 parameters, and a stem 7 x 7."""
    _, module = build(composed("cifar10").model_dump(mode="json"))
    assert sum(p.numel() for p in module.net.parameters()) == 21_289_802 - 64 * 3 * (49 - 9)
    assert module.features(torch.zeros(1, 3, 32, 32)).shape == (1, 512)


def test_the_reduced_protocol_is_never_shown_as_the_papers():
    for name in ("reduced", "reduced_stage2"):
        assert composed(name).protocol == "reduced"
    split = composed("reduced").data["split"]
    n = counts(split["largest"], 10, 0.01)
    assert (sum(n), n[0], n[-1]) == (1242, 500, 5)
    assert [len(g) for g in groups(n, tuple(composed("reduced").model["limits"]))] == [4, 3, 3]


@pytest.mark.slow  # decodes CIFAR-10
def test_real_images_are_split_as_the_paper_says(tmp_path, cached_once):
    if MIRROR is None or not (Path(MIRROR) / "uoft-cs").is_dir():
        pytest.skip("needs the real data: set RETABLE_MIRROR")
    steps = ["trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    config = composed("reduced", f"paths.mirror={MIRROR}", *steps)
    assert config.data["checksum"]  # of the arrays, so that members are the same everywhere
    data, _ = build(config.model_dump(mode="json"))
    arrays = data.arrays()
    assert torch.bincount(arrays["test/labels"]).tolist() == [300] * 10
    train, validation = data.split(arrays["train/labels"], 200, 0)
    assert torch.bincount(arrays["train/labels"][train]).tolist() == counts(500, 10, 0.01)
    assert not set(train.tolist()) & set(validation.tolist())
    assert SETS["cifar10"].classes == 10
    outcome = execute(config.model_dump(mode="json"), Context(tmp_path))
    found = {(r.metric, r.row): r.value for r in outcome.results if r.step is None}
    assert 0.05 < found["test/accuracy", ""] < 0.3  # one step of twenty
    assert found["train/fisher_ratio", ""] > found["test/fisher_ratio", ""] > 0
