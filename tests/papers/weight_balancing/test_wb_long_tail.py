"""Sizes, groups and members of long-tailed subsets, as the authors' code has them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retable.papers.weight_balancing.long_tail import LongTail, counts, groups
from retable.util.errors import UserError


@pytest.mark.parametrize(
    ("n_classes", "total", "ends", "sizes"),
    [(10, 12_360, (4980, 50), (4, 3, 3)), (100, 10_457, (480, 5), (34, 35, 31))],
)
def test_sizes_and_groups_of_the_two_sets(n_classes, total, ends, sizes):
    found = counts(50_000 // n_classes - 20, n_classes, 0.01)
    assert sum(found) == total
    assert (found[0], found[-1]) == ends
    assert tuple(len(part) for part in groups(found)) == sizes


def test_sizes_in_words():
    assert counts(4980, 10, 0.01) == [4980, 2985, 1790, 1073, 643, 386, 231, 139, 83, 50]
    older = counts(500, 100, 0.01, "down")
    assert (sum(older), older[0], older[-1]) == (10_847, 500, 5)
    assert [len(part) for part in groups(older)] == [35, 35, 30]


def test_groups_are_open_at_their_limits():
    assert [part.tolist() for part in groups([101, 100, 20, 19], (100, 20))] == [[0], [1, 2], [3]]


@given(
    n_classes=st.integers(2, 12),
    each=st.integers(0, 3),
    imbalance=st.floats(0.05, 1.0),
    seed=st.integers(0, 99),
)
def test_the_split_is_disjoint_and_knows_no_seed(n_classes, each, imbalance, seed):
    labels = torch.arange(n_classes * 30) % n_classes
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    split = LongTail(n_classes, imbalance=imbalance)
    train, validation = split(labels, each * n_classes, seed)
    assert not set(train.tolist()) & set(validation.tolist())
    wanted = counts(30 - each, n_classes, imbalance)
    assert split.sizes(len(labels), each * n_classes) == wanted
    assert labels[train].bincount(minlength=n_classes).tolist() == wanted
    assert labels[validation].bincount(minlength=n_classes).tolist() == [each] * n_classes
    again = split(labels, each * n_classes, seed + 1)
    assert torch.equal(again[0], train)
    assert torch.equal(again[1], validation)
    for label in range(n_classes):  # the first of each class, in the set's order
        members = torch.nonzero(labels == label).flatten()
        assert train[labels[train] == label].tolist() == members[: wanted[label]].tolist()


def test_too_few_images_are_refused():
    labels = torch.arange(100) % 10
    with pytest.raises(
        UserError, match=r"data\.split\.largest: class 0 has 10 images, 9 are to be"
    ):
        LongTail(largest=9)(labels, 20, 0)
    with pytest.raises(UserError, match=r"data\.n_validation: 15 is no multiple of 10 classes"):
        LongTail()(labels, 15, 0)
