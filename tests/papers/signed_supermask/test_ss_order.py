"""One order of the images for all epochs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from retable.data.base import DataPaths
from retable.data.modules import ImageData
from retable.papers.signed_supermask.order import OneOrder


@pytest.fixture
def orders(monkeypatch, tmp_path):
    """Labels of the training images by epoch, in the order of training."""

    def of(kind, seed=0):
        images = torch.zeros(40, 4, 4, 3, dtype=torch.uint8)
        arrays = {
            f"{name}/{what}": array
            for name in ("train", "test")
            for what, array in (("images", images), ("labels", torch.arange(40)))
        }
        module = kind(
            seed=seed,
            paths=DataPaths(tmp_path),
            dataset="cifar10",
            checksum=None,
            batch_size=16,
            n_validation=0,
            drop_last=False,
        )
        monkeypatch.setattr(module, "arrays", lambda: arrays)
        module.setup("fit")
        loader = module.train_dataloader()
        found = []
        for epoch in range(3):
            progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
            module.trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_progress=progress))
            found.append([label for _, labels in loader for label in labels.tolist()])
        return found

    return of


def test_every_epoch_has_the_order_of_the_first_and_another_seed_another(orders):
    first, *others = orders(OneOrder)
    assert others == [first, first]
    assert sorted(first) == list(range(40)) != first
    assert orders(OneOrder, seed=1)[0] != first
    shuffled = orders(ImageData)
    assert shuffled[0] == first
    assert shuffled[1] != first
