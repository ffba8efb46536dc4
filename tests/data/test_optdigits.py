"""The digits that scikit-learn brings."""

from __future__ import annotations

import sys

import pytest
import torch

from retable.config.compose import compose, hydra_ready
from retable.data import optdigits
from retable.data.base import DataPaths
from retable.papers.equilibrium_prop.data import Digits
from retable.util.errors import UserError


def test_they_are_those_of_the_earlier_module(tmp_path):
    """The same images in the same split as of the paper that has them in floating point."""
    ours = optdigits.arrays()
    paths = DataPaths(mirror=None, cache=tmp_path)
    theirs = Digits(seed=0, paths=paths).splits()
    for name, (x, y) in (("train", theirs[0]), ("test", theirs[2])):
        assert torch.equal(ours[f"{name}/labels"], y)
        sixteenths = (ours[f"{name}/images"].float() * 16 / 255).round()
        assert torch.equal(sixteenths[..., 0], 16 * x[:, 0])
    assert len(ours["train/labels"]) == 1437
    assert ours["test/labels"].bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]


def test_grey_levels_reach_from_0_to_255_and_the_split_is_no_seed_s(tmp_path):
    images = optdigits.arrays()["train/images"]
    assert images.dtype == torch.uint8
    assert (images.min(), images.max(), len(images.unique())) == (0, 255, 17)
    paths = DataPaths(mirror=None, cache=tmp_path)
    modules = [optdigits.OptDigits(seed=seed, paths=paths, n_validation=137) for seed in (0, 1)]
    for module in modules:
        module.setup("fit")
    (x, y), (x_other, y_other) = (module.train for module in modules)
    assert x.shape == (1300, 1, 8, 8)
    assert torch.equal(x, x_other)
    assert torch.equal(y, y_other)
    assert x.max() == 1.0
    assert len(modules[0].validation[0]) == 137
    assert len(modules[0].test[0]) == 360


def test_the_config_of_the_group_builds_them():
    with hydra_ready():
        config = compose(["experiment=signed_supermask/digits", "seed=0"])
    assert config.data["_target_"] == "retable.data.optdigits.OptDigits"


def test_other_digits_are_refused(monkeypatch):
    monkeypatch.setattr(optdigits, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="its digits are others"):
        optdigits.arrays()


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="uv sync --extra digits"):
        optdigits.arrays()
