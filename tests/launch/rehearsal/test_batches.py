"""Batches of true shapes without data."""

from __future__ import annotations

import pytest
import torch

from retable.data.base import DataPaths
from retable.data.image_sets import SETS
from retable.data.modules import ImageData
from retable.data.optdigits import OptDigits
from retable.launch.rehearsal.batches import ITEMS, Batches, small
from retable.training.execute import build_data
from support.jpegs import folder
from support.runs import freeze


def images(tmp_path, **options):
    paths = DataPaths(tmp_path)  # where nothing is
    return ImageData(seed=0, paths=paths, checksum=None, batch_size=50, **options)


@pytest.mark.parametrize(
    ("options", "per_epoch"),
    [
        ({"dataset": "mnist"}, 1200),
        ({"dataset": "mnist", "n_validation": 10_010}, 999),
        ({"dataset": "mnist", "n_validation": 10_010, "drop_last": False}, 1000),
        ({"dataset": "cifar10", "n_train": 120}, 2),
        ({"dataset": "svhn"}, (73_257 + 531_131) // 50),
    ],
)
def test_of_an_image_set_that_is_not_here_sizes_and_shapes_are_known(tmp_path, options, per_epoch):
    batches = Batches(images(tmp_path, **options))
    height, width, channels = SETS[options["dataset"]].shape
    pictures, labels = batches.first()
    assert pictures.shape == (50, channels, height, width)
    assert labels.shape == (50,)
    assert batches.per_epoch(None) == per_epoch
    assert batches.per_epoch(1) == 1
    assert not list(tmp_path.iterdir())


def test_digits_that_a_package_brings_are_read(tmp_path):
    """1,437 training images less 100 in batches of 50, the last not full."""
    data = OptDigits(seed=0, paths=DataPaths(tmp_path), batch_size=50, n_validation=100)
    batches = Batches(data)
    images, labels = batches.first()
    assert images.shape == (50, 1, 8, 8)
    assert {*labels.tolist()} <= {*range(10)}
    assert batches.shape() is None
    assert batches.per_epoch(None) == 27


def test_a_part_of_an_image_set_has_the_sizes_of_its_split(tmp_path):
    """12,360 images of CIFAR-10 in batches of 64, the last not full, and none of them is here."""
    run = freeze(experiment="weight_balancing/cifar10")
    config = run.config.model_dump(mode="json")
    paths = {**config["paths"], "mirror": str(tmp_path), "cache": str(tmp_path)}
    data = build_data(config["data"], 0, paths)
    batches = Batches(data)
    assert batches.first()[0].shape == (64, 3, 32, 32)
    assert batches.per_epoch(None) == -(-12_360 // 64)
    assert data.n_per_class[::9] == [4980, 50]
    few = build_data(small(config)["data"], 0, paths)
    few.setup("fit")
    assert next(iter(few.train_dataloader()))[0].shape == (ITEMS, 3, 32, 32)
    assert not list(tmp_path.iterdir())


def test_identities_come_along_and_too_few_images_are_refused(tmp_path):
    assert len(Batches(images(tmp_path, dataset="mnist", with_ids=True)).first()) == 3
    with pytest.raises(ValueError, match=r"data\.n_train: 60001: 60000 training images are left"):
        Batches(images(tmp_path, dataset="mnist", n_train=60_001)).per_epoch(None)


class Nine:
    structure, n_train = "nine pictures", 9


def test_of_a_folder_of_images_that_is_not_here_they_are_known_too(tmp_path):
    batches = Batches(folder(tmp_path, Nine(), size=24, batch_size=4))
    pictures, labels = batches.first()
    assert (pictures.shape, labels.shape) == ((4, 3, 24, 24), (4,))
    assert batches.per_epoch(None) == 3
    (tmp_path / "images").mkdir()
    with pytest.raises(TypeError, match="'Nine' object is not callable"):
        batches.first()  # what is here is read


def test_a_class_may_know_its_batches_unread(tmp_path):
    run = freeze(experiment="weight_decay/lm_openwebtext")
    config = run.config.model_dump(mode="json")
    paths = {**config["paths"], "mirror": str(tmp_path), "cache": str(tmp_path)}
    batches = Batches(build_data(config["data"], 0, paths))
    tokens, targets = batches.first()
    assert tokens.shape == targets.shape == (64, 256)
    assert tokens.dtype == torch.int64
    assert batches.per_epoch(None) == 800
    assert batches.per_epoch(3) == 3


def test_a_small_run_has_few_items_of_every_kind():
    run = freeze(experiment="binary_connect/cifar10")
    config = small(run.config.model_dump(mode="json"))
    data = build_data(config["data"], 0, config["paths"])
    data.setup("fit")
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    for loader in loaders:
        pictures, labels = next(iter(loader))
        assert pictures.shape[1:] == (3, 32, 32)
        assert len(pictures) == len(labels) <= ITEMS
    assert config["trainer"]["limit_train_batches"] == 1
    assert config["trainer"]["max_epochs"] == run.config.trainer.max_epochs


def test_a_small_run_is_in_a_precision_that_a_processor_has():
    """Products of half precision, which a GPU takes seconds of, would take it minutes."""
    config = freeze(experiment="binary_connect/cifar10").config.model_dump(mode="json")
    for given, found in {"16-mixed": "32-true", "bf16-mixed": "bf16-mixed"}.items():
        config["trainer"]["precision"] = given
        assert small(config)["trainer"]["precision"] == found
