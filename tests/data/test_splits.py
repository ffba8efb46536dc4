"""Named splits into training and validation images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.data import image_sets, splits
from retable.data.splits import SPLITS, SVHN_SIZES, split

FIXED = ["balanced", "last", "svhn"]


def labels_of(size: int, seed: int = 0) -> torch.Tensor:
    """Labels of 10 classes, as many of each, in random order."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return torch.arange(size)[order] % 10


@pytest.fixture
def small_svhn(monkeypatch):
    monkeypatch.setattr(splits, "SVHN_SIZES", [100, 200])


@pytest.mark.parametrize("name", sorted(SPLITS))
@pytest.mark.parametrize("n_validation", [0, 30, 90])
def test_both_parts_are_disjoint_and_together_all(small_svhn, name, n_validation):
    train, validation = split(name, labels_of(300), n_validation, 5)
    assert len(validation) == n_validation
    assert len(train) == 300 - n_validation
    assert torch.equal(torch.cat([train, validation]).sort().values, torch.arange(300))
    assert train.dtype == validation.dtype == torch.int64
    for part in (train, validation):  # in their order in the set
        assert torch.equal(part, part.sort().values)


@settings(deadline=None)
@given(
    name=st.sampled_from(["last", "seeded"]),
    size=st.integers(1, 60),
    data=st.data(),
    seed=st.integers(0, 2**32),
)
def test_parts_of_every_size(name, size, data, seed):
    n_validation = data.draw(st.integers(0, size - 1))
    train, validation = split(name, torch.zeros(size, dtype=torch.int64), n_validation, seed)
    assert len(validation) == n_validation
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(size))


def test_the_names_of_the_splits():
    assert sorted(SPLITS) == ["balanced", "last", "seeded", "svhn"]


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_split_does_not_depend_on_the_seed(small_svhn, name):
    results = [split(name, labels_of(300), 60, seed) for seed in (0, 1, 2**31)]
    for train, validation in results[1:]:
        assert torch.equal(train, results[0][0])
        assert torch.equal(validation, results[0][1])


def test_the_last_images_are_the_last():
    train, validation = split("last", torch.zeros(10, dtype=torch.int64), 3, 0)
    assert train.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert validation.tolist() == [7, 8, 9]


def test_a_seeded_split_is_a_function_of_the_seed_alone():
    labels = labels_of(300)
    _, first = split("seeded", labels, 60, 1)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    _, again = split("seeded", labels.flip(0), 60, 1)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, split("seeded", labels, 60, 2)[1])


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(3, 9), min_size=2, max_size=5),
    each=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_a_balanced_split_takes_the_last_of_every_class(counts, each, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    labels = labels[order]
    train, validation = split("balanced", labels, each * len(counts), seed)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        members = [index for index, of in enumerate(labels.tolist()) if of == label]
        chosen = [index for index in validation.tolist() if labels[index] == label]
        assert chosen == members[count - each :]


def test_svhn_takes_two_thirds_from_the_training_images_and_the_rest_from_the_extra(small_svhn):
    labels = torch.cat([labels_of(100, 1), labels_of(200, 2)])
    train, validation = split("svhn", labels, 60, 0)
    first, extra = validation[validation < 100], validation[validation >= 100]
    assert labels[first].bincount().tolist() == [4] * 10
    assert labels[extra].bincount().tolist() == [2] * 10
    assert labels[train].bincount().tolist() == [24] * 10
    for part, chosen in ((torch.arange(100), first), (torch.arange(100, 300), extra)):
        for label in range(10):
            members = part[labels[part] == label]
            mine = chosen[labels[chosen] == label]
            assert torch.equal(mine, members[-len(mine) :])


def test_the_usual_split_of_svhn_has_400_and_200_of_every_class():
    train = torch.arange(73_257) % 10
    extra = torch.arange(531_131) % 10
    kept, validation = split("svhn", torch.cat([train, extra]), 6000, 0)
    first = validation < 73_257
    assert first.sum() == 4000
    assert train[validation[first]].bincount().tolist() == [400] * 10
    assert extra[validation[~first] - 73_257].bincount().tolist() == [200] * 10
    assert len(kept) == 598_388


def test_an_unknown_split_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"data\.split: no split 'first'; there are \['balanced'"):
        split("first", labels_of(20), 5, 0)


@pytest.mark.parametrize("n_validation", [-1, 20, 21])
@pytest.mark.parametrize("name", ["last", "seeded", "balanced"])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(name, n_validation):
    with pytest.raises(ValueError, match=f"data.n_validation: {n_validation} of 20 images"):
        split(name, labels_of(20), n_validation, 0)


def test_a_balanced_split_of_a_number_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="15 validation images for 10 classes"):
        split("balanced", labels_of(100), 15, 0)


def test_a_split_of_svhn_that_cannot_be_balanced_is_refused(small_svhn):
    with pytest.raises(ValueError, match="33 validation images for 10 classes"):
        split("svhn", labels_of(300), 50, 0)


def test_the_sizes_of_svhn_are_those_of_the_set():
    sizes = image_sets.SETS["svhn"].sizes
    assert [sizes["train"], sizes["extra"]] == SVHN_SIZES
