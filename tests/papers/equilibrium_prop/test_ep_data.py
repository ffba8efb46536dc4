"""Digits, colour images, and ImageNet at 32 x 32 on generated files of its structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retable.data.base import DataPaths
from retable.papers.equilibrium_prop.data import Digits, ImageNet32
from retable.papers.equilibrium_prop.images import CropFlip, Normalise
from retable.util.errors import UserError
from support.equilibrium import write_imagenet32

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.1, 0.3]


def test_digits_are_split_in_proportion_and_alike_for_every_seed(tmp_path):
    pytest.importorskip("sklearn")
    one, other = (Digits(seed=seed, paths=DataPaths(tmp_path)) for seed in (0, 1))
    train, validation, test = one.splits()
    assert [len(x) for x, _ in (train, validation, test)] == [1437, 0, 360]
    assert train[0].shape[1:] == (1, 8, 8)
    assert (float(train[0].min()), float(train[0].max())) == (0, 1)
    share = torch.bincount(test[1]) / torch.bincount(torch.cat([train[1], test[1]]))
    assert float((share - 0.2).abs().max()) < 0.01
    assert torch.equal(test[0], other.splits()[2][0])
    both = torch.cat([train[0], test[0]]).flatten(1)
    assert len(both.unique(dim=0)) == len(both) == 1797  # no image is in both


def test_normalised_by_hand_and_black_at_the_margin():
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    normalise = Normalise(MEAN, STD)
    found, test = normalise(images, torch.arange(3), images[:2])
    torch.testing.assert_close(found[:, 1], (images[:, 1] - 0.4) / 0.15)
    torch.testing.assert_close(test, found[:2])
    small = Normalise(MEAN, STD, pool=2).one(images)
    mean = (images[0, 2, :2, :2].mean() - 0.3) / 0.45
    torch.testing.assert_close(small[0, 2, 0, 0], mean)
    black = normalise.one(torch.zeros(40, 3, 8, 8))
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(CropFlip(MEAN, STD)(black, generator), black)
    white = CropFlip(MEAN, STD)(normalise.one(torch.ones(40, 3, 8, 8)), generator)
    values = white[:, 0].unique()
    expected = torch.tensor([(0 - 0.5) / 0.3, (1 - 0.5) / 0.3])
    assert all(float((value - expected).abs().min()) < 1e-5 for value in values)
    black_rows = (white[:, 0, :, 4] < 0).sum(1)
    assert int(black_rows.max()) == 2  # the margin is two pixels wide


def imagenet(root, checksum=None, **options):
    return ImageNet32(
        seed=0,
        paths=DataPaths(root / "cache", root),
        checksum=checksum,
        normalise=Normalise(MEAN, STD),
        augment=CropFlip(MEAN, STD),
        **{"batch_size": 8} | options,
    )


def test_imagenet_of_ten_files(tmp_path):
    write_imagenet32(tmp_path / "imagenet32")
    with pytest.raises(UserError, match=r"data\.checksum: none is given"):
        imagenet(tmp_path).prepare_data()
    data = imagenet(tmp_path)
    data = imagenet(tmp_path, data.identity())
    data.prepare_data()
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [tuple(images.shape) for images, _ in batches] == [(8, 3, 32, 32)] * 5
    with np.load(tmp_path / "imagenet32/val_data.npz") as arrays:
        raw, labels = arrays["data"], arrays["labels"]
    ((images, found),) = data.test_dataloader()
    torch.testing.assert_close(found, torch.as_tensor(labels) - 1)
    red = raw[2, :1024].reshape(32, 32) / 255  # a channel after the other
    expected = torch.as_tensor((red - 0.5) / 0.3).float()
    torch.testing.assert_close(images[2, 0], expected, atol=1e-5, rtol=0)
    assert images.dtype == torch.float32
    assert len(list(data.val_dataloader())) == 0


def test_what_is_not_imagenet_is_refused(tmp_path):
    with pytest.raises(UserError, match="imagenet32"):
        imagenet(tmp_path).prepare_data()
    write_imagenet32(tmp_path / "imagenet32")
    (tmp_path / "imagenet32/train_data_batch_7.npz").unlink()
    with pytest.raises(UserError, match=r"batch_7\.npz: cannot be read"):
        imagenet(tmp_path).prepare_data()
    np.savez(
        tmp_path / "imagenet32/train_data_batch_7.npz",
        data=np.zeros((2, 3072), np.uint8),
        labels=np.array([0, 5]),
    )
    with pytest.raises(UserError, match=r"batch_7\.npz: has"):
        imagenet(tmp_path).prepare_data()
    with pytest.raises(ValueError, match=r"data\.augment"):
        ImageNet32(
            seed=0,
            paths=DataPaths(tmp_path),
            checksum=None,
            normalise=Normalise(MEAN, STD),
            augment=lambda images, generator: images,
        )
