"""The order of training data is a function of (seed, epoch) and of nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from retable.data.base import DataPaths, EpochSampler, OneItem, PaperDataModule, item_generator


def module(tmp_path, **kwargs) -> PaperDataModule:
    return PaperDataModule(seed=3, paths=DataPaths(tmp_path), **kwargs)


def test_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(50, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    assert list(sampler) == first
    torch.manual_seed(99)
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(EpochSampler(50, seed=2)) != first


def test_loader_generator_is_that_of_the_epoch():
    a, b = EpochSampler(5, seed=1), EpochSampler(5, seed=1)
    torch.rand(3, generator=a.generator)  # an iterator has drawn from it
    a.set_epoch(4)
    b.set_epoch(4)
    assert torch.equal(torch.rand(3, generator=a.generator), torch.rand(3, generator=b.generator))


def test_pairs_carry_the_epoch():
    sampler = EpochSampler(4, seed=1, with_epoch=True)
    sampler.set_epoch(7)
    assert {epoch for epoch, _ in sampler} == {7}
    assert sorted(index for _, index in sampler) == [0, 1, 2, 3]


def test_randomness_of_an_item_is_its_own():
    def draw(*at: int) -> torch.Tensor:
        return torch.rand(2, generator=item_generator(*at))

    assert torch.equal(draw(0, 1, 2), draw(0, 1, 2))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(draw(0, 1, 2), draw(*other))


def test_loaders_have_generators_of_their_own(tmp_path):
    data = TensorDataset(torch.arange(10))
    shuffled = module(tmp_path).shuffled(data, 4)
    ordered = module(tmp_path).in_order(data, 4)
    assert shuffled.generator is not None
    assert ordered.generator is not None
    assert torch.equal(torch.cat([b[0] for b in ordered]), torch.arange(10))
    state = torch.get_rng_state()
    list(shuffled)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_item():
    data = OneItem(torch.eye(2))
    assert len(data) == 1
    assert torch.equal(data[0], torch.eye(2))
    with pytest.raises(IndexError):
        data[1]
