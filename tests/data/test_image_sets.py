"""The image sets by name, and what a set has to look like."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import yaml

from retable.data.image_sets import SETS, ImageSetName, image_set
from retable.util.errors import UserError

ROOT = Path(__file__).parents[2]

GREY, COLOUR = (28, 28, 1), (32, 32, 3)
SMALL, CIFAR = {"train": 60_000, "test": 10_000}, {"train": 50_000, "test": 10_000}
SVHN = {"train": 73_257, "extra": 531_131, "test": 26_032}


@pytest.mark.parametrize(
    ("name", "hub", "config", "columns", "sizes", "shape", "classes"),
    [
        ("mnist", "ylecun/mnist", None, ("image", "label"), SMALL, GREY, 10),
        (
            "fashion_mnist",
            "zalando-datasets/fashion_mnist",
            None,
            ("image", "label"),
            SMALL,
            GREY,
            10,
        ),
        ("cifar10", "uoft-cs/cifar10", None, ("img", "label"), CIFAR, COLOUR, 10),
        ("cifar100", "uoft-cs/cifar100", None, ("img", "fine_label"), CIFAR, COLOUR, 100),
        (
            "svhn",
            "ufldl-stanford/svhn",
            "cropped_digits",
            ("image", "label"),
            SVHN,
            COLOUR,
            10,
        ),
    ],
)
def test_a_set_by_its_short_name(name, hub, config, columns, sizes, shape, classes):
    found = image_set(name)
    assert found is SETS[name]
    assert (found.hub, found.config) == (hub, config)
    assert (found.image, found.label) == columns
    assert found.sizes == sizes
    assert (found.shape, found.classes) == (shape, classes)
    assert found.canonical == (name != "mnist")


def test_these_are_all_sets_and_nobody_can_change_one():
    assert list(get_args(ImageSetName)) == list(SETS)
    assert sorted(SETS) == ["cifar10", "cifar100", "fashion_mnist", "mnist", "svhn"]
    assert len({found.hub for found in SETS.values()}) == len(SETS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SETS["mnist"].classes = 11  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar-10", "cifar10"), ("MNIST", "mnist"), ("fashionmnist", "fashion_mnist")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, meant):
    with pytest.raises(UserError) as caught:
        image_set(name)
    assert str(caught.value) == f"data set '{name}': not known; did you mean '{meant}'?"


def test_a_name_that_is_near_nothing_is_refused_with_all_that_there_are():
    with pytest.raises(UserError) as caught:
        image_set("qqqq")
    assert str(caught.value).endswith("; valid: cifar10, cifar100, fashion_mnist, mnist, svhn")


def test_every_set_has_a_shipped_config_of_its_name():
    for name in SETS:
        config = yaml.safe_load((ROOT / "conf" / "data" / f"{name}.yaml").read_text())
        assert config["_target_"] == "retable.data.modules.ImageData"
        assert config["dataset"] == name
        assert config["checksum"] is None or len(config["checksum"]) == 64
