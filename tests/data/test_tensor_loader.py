"""Batches of tensors in memory: order and augmentation are functions of (seed, epoch)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.data.tensor_loader import TensorLoader
from retable.data.transforms import pad_crop_flip


def loader(size: int = 20, batch_size: int = 6, **kwargs) -> TensorLoader:
    """Items whose input is ten times their target, their number."""
    targets = torch.arange(size)
    return TensorLoader((10.0 * targets[:, None], targets), batch_size, **kwargs)


def order(of: TensorLoader) -> list[int]:
    return torch.cat([targets for _, targets in of]).tolist()


@settings(deadline=None)
@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    drop_last=st.booleans(),
    shuffle=st.sampled_from([None, 0, 7]),
)
def test_there_are_as_many_batches_as_the_length_says(size, batch_size, drop_last, shuffle):
    data = loader(size, batch_size, drop_last=drop_last, shuffle=shuffle)
    batches = list(data)
    expected = size // batch_size if drop_last else math.ceil(size / batch_size)
    assert len(data) == len(batches) == expected
    for inputs, targets in batches[: expected if drop_last else -1]:
        assert len(inputs) == len(targets) == batch_size
    seen = [int(target) for _, targets in batches for target in targets]
    assert len(set(seen)) == len(seen) == min(size, expected * batch_size)
    for inputs, targets in batches:
        assert torch.equal(inputs, 10.0 * targets[:, None])


def test_without_a_seed_the_order_is_that_of_the_tensors():
    data = loader()
    for _ in range(2):
        assert order(data) == list(range(20))
    assert order(loader(drop_last=True)) == list(range(18))


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    epoch = 0
    data = loader(shuffle=3, epoch=lambda: epoch)
    first = order(data)
    assert sorted(first) == list(range(20))
    assert first != list(range(20))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert order(data) == first
    epoch = 1
    second = order(data)
    assert second != first
    epoch = 0
    assert order(data) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert order(loader(shuffle=4)) != first
    assert order(loader(shuffle=3, epoch=lambda: 1)) == second  # as a resumed run has it


def test_the_order_does_not_depend_on_the_size_of_a_batch_nor_on_augmentation():
    def changed(inputs, generator):
        return inputs + torch.rand(inputs.shape, generator=generator)

    first = order(loader(shuffle=3))
    assert order(loader(shuffle=3, batch_size=7)) == first
    assert order(loader(shuffle=3, augment=changed)) == first


def test_the_epoch_is_read_when_an_iteration_starts():
    epoch = 0
    data = loader(shuffle=3, epoch=lambda: epoch)
    first = order(data)
    batches = iter(data)
    seen = next(batches)[1].tolist()
    epoch = 5
    seen += [int(target) for _, targets in batches for target in targets]
    assert seen == first
    assert order(data) == order(loader(shuffle=3, epoch=lambda: 5))


def test_augmentation_draws_are_a_function_of_seed_and_epoch():
    images = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def inputs(seed: int, epoch: int, augment=pad_crop_flip) -> torch.Tensor:
        data = TensorLoader(
            (images, torch.arange(10)), 4, shuffle=seed, epoch=lambda: epoch, augment=augment
        )
        return torch.cat([batch for batch, _ in data])

    first = inputs(1, 0)
    torch.manual_seed(99)
    assert torch.equal(inputs(1, 0), first)
    assert not torch.equal(inputs(1, 1), first)
    assert not torch.equal(inputs(2, 0), first)
    assert not torch.equal(inputs(1, 0, None), first)
    assert torch.equal(images, torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


def test_every_batch_and_epoch_has_draws_of_its_own_whatever_the_order():
    def drawn(seed: int, epoch: int, size: int = 12) -> list[list[float]]:
        out = []

        def draw(inputs, generator):
            out.append(torch.rand(3, generator=generator).tolist())
            return inputs

        list(loader(size, 6, shuffle=seed, epoch=lambda: epoch, augment=draw))
        return out

    first = drawn(1, 0)
    assert len(first) == 2
    assert first[0] != first[1]
    assert drawn(1, 0) == drawn(1, 0, size=18)[:2] == first
    assert first[0] not in drawn(1, 1) + drawn(2, 0)


def test_augmentation_does_not_reach_the_targets_nor_the_tensors_that_are_held():
    def doubled(inputs, generator):
        return inputs.mul_(2)

    data = loader(shuffle=1, augment=doubled)
    for inputs, targets in data:
        assert torch.equal(inputs, 20.0 * targets[:, None])
    assert torch.equal(data.tensors[0], 10.0 * torch.arange(20)[:, None])


def test_tensors_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"tensors of \[3, 4, 3\] items"):
        TensorLoader((torch.zeros(3, 1), torch.zeros(4), torch.zeros(3)), 2)


def test_augmentation_without_a_seed_is_refused():
    with pytest.raises(ValueError, match="augmenting needs the seed of the order"):
        loader(augment=pad_crop_flip)


def test_no_items_are_no_batches():
    assert len(loader(size=0)) == 0
    assert list(loader(size=0)) == list(loader(size=0, shuffle=1)) == []
    assert list(loader(size=3, batch_size=4, drop_last=True, shuffle=1)) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_has_the_same_order_and_draws():
    images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def batches(device: str) -> torch.Tensor:
        data = TensorLoader(
            (images.to(device), torch.arange(10).to(device)), 4, shuffle=1, augment=pad_crop_flip
        )
        return torch.cat([inputs.cpu() for inputs, _ in data])

    assert torch.equal(batches("cuda"), batches("cpu"))
