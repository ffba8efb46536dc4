"""Tensors of three splits in batches."""

from __future__ import annotations

import torch

from retable.data.base import DataPaths
from retable.data.tensor_splits import TensorSplits


class Numbers(TensorSplits):
    made = 0

    def splits(self):
        self.made += 1
        parts = torch.arange(20).split([10, 4, 6])
        return tuple((part[:, None].float(), part) for part in parts)


def ready(tmp_path, seed=0):
    data = Numbers(seed=seed, paths=DataPaths(tmp_path), batch_size=4, eval_batch_size=3)
    data.setup("fit")
    data.setup("test")
    assert data.made == 1
    return data


def test_batches_of_every_split(tmp_path):
    data = ready(tmp_path)
    train = list(data.train_dataloader())
    assert [len(y) for _, y in train] == [4, 4, 2]
    order = torch.cat([y for _, y in train])
    assert sorted(order.tolist()) == list(range(10))
    assert all(torch.equal(x[:, 0], y.float()) for x, y in train)
    assert [y.tolist() for _, y in data.val_dataloader()] == [[10, 11, 12], [13]]
    assert [y.tolist() for _, y in data.test_dataloader()] == [[14, 15, 16], [17, 18, 19]]
    again, other = ready(tmp_path), ready(tmp_path, seed=1)
    assert torch.equal(torch.cat([y for _, y in again.train_dataloader()]), order)
    assert not torch.equal(torch.cat([y for _, y in other.train_dataloader()]), order)


def test_the_order_follows_the_trainer_s_epoch(tmp_path, monkeypatch):
    class Trainer:
        class strategy:  # noqa: N801 - Lightning's name
            root_device = torch.device("cpu")

    data, now = ready(tmp_path), [0]
    data.trainer = Trainer()
    monkeypatch.setattr("retable.data.tensor_splits.epoch_of", lambda _: now[0])
    loader = data.train_dataloader()
    first = torch.cat([y for _, y in loader])
    now[0] = 1
    assert not torch.equal(torch.cat([y for _, y in loader]), first)
