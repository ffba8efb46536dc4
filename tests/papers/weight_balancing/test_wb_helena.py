"""Helena: classes by frequency, a draw that no seed changes, and constants of training samples."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.papers.weight_balancing.helena import (
    GeneratedHelena,
    Helena,
    by_frequency,
    drawn,
    read_arff,
)
from retable.util.errors import UserError


def arff(n_per_class, n_features=27, constant=None):
    """A table as OpenML writes it, samples of its classes in random order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(n_per_class)), n_per_class))
    x = rng.normal(3 * labels[:, None], 5, (len(labels), n_features)).round(3)
    if constant is not None:
        x[:, constant] = 7
    names = ",".join(map(str, range(len(n_per_class))))
    lines = ["@RELATION helena", "", f"@ATTRIBUTE class {{{names}}}"]
    lines += [f"@ATTRIBUTE V{i + 1} REAL" for i in range(n_features)]
    lines += [
        "@DATA",
        *(f"{y}," + ",".join(map(str, row)) for y, row in zip(labels, x, strict=True)),
    ]
    return "\n".join(lines) + "\n", x, labels


def data(mirror, sha256=None, seed=0):
    return Helena(seed=seed, paths=DataPaths(mirror, mirror), file="helena.arff", sha256=sha256)


@pytest.fixture
def hundred(tmp_path):
    sizes = [41 + (7 * k) % 100 for k in range(100)]
    text, x, labels = arff(sizes, constant=4)
    (tmp_path / "helena.arff").write_text(text, encoding="utf-8")
    return tmp_path, hashlib.sha256(text.encode()).hexdigest(), sizes, x, labels


def test_splits_constants_and_the_order_of_classes(hundred):
    mirror, sha256, sizes, x, labels = hundred
    one, other = data(mirror, sha256), data(mirror, sha256, seed=5)
    for module in (one, other):
        module.prepare_data()
        module.setup("fit")
    n = torch.bincount(one.train[1])
    assert n.tolist() == sorted((size - 40 for size in sizes), reverse=True)
    for part in (one.validation, one.test):
        assert torch.bincount(part[1]).tolist() == [20] * 100
    for a, b in zip(
        (*one.train, *one.validation, *one.test),
        (*other.train, *other.validation, *other.test),
        strict=True,
    ):
        assert torch.equal(a, b)
    # Every sample is in one split, with the number of its class.
    parts = drawn(by_frequency(labels))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    renamed = dict(zip(labels[parts[0]].tolist(), one.train[1].tolist(), strict=True))
    assert all(renamed[old] == new for old, new in zip(labels[parts[2]], one.test[1], strict=True))
    # Constants are those of the training samples; a column without spread becomes 0.
    free = [i for i in range(27) if i != 4]
    assert torch.allclose(one.train[0].mean(0), torch.zeros(27), atol=1e-5)
    assert torch.allclose(one.train[0][:, free].std(0, correction=0), torch.ones(26), atol=1e-5)
    mean, std = x[parts[0]].mean(0), x[parts[0]].std(0)
    wanted = (x[parts[2]] - mean)[:, free] / std[free]
    assert np.allclose(one.test[0][:, free].numpy(), wanted, atol=1e-5)
    assert not one.test[0][:, 4].any()


def test_the_seed_orders_training_alone(hundred):
    mirror, sha256, *_ = hundred
    first = []
    for seed in (0, 0, 1):
        module = data(mirror, sha256, seed)
        module.setup("fit")
        first.append(next(iter(module.train_dataloader())))
        assert sum(len(y) for _, y in module.train_dataloader()) == len(module.train[1])
    assert torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], first[2][0])
    assert first[0][0].shape == (64, 27)


def test_classes_of_equal_size_keep_their_order():
    labels = np.array([2, 2, 0, 1, 1, 1, 3, 3])
    assert by_frequency(labels).tolist() == [1, 1, 3, 0, 0, 0, 2, 2]


def test_a_class_that_is_too_small_is_refused():
    assert [len(part) for part in drawn(np.repeat([0, 1], [50, 41]))] == [11, 40, 40]
    with pytest.raises(UserError, match="a class has 40 samples, 40 are set aside"):
        drawn(np.repeat([0, 1], [50, 40]))


def test_a_file_that_is_missing_or_another_is_refused(hundred, tmp_path):
    mirror, sha256, *_ = hundred
    with pytest.raises(UserError, match=rf"data\.sha256: none is given; .* has {sha256}"):
        data(mirror).prepare_data()
    with pytest.raises(UserError, match="is not the data of the experiment"):
        data(mirror, "0" * 64).prepare_data()
    with pytest.raises(DataUnavailable, match=r"helena\.arff: not in .*41169 as an ARFF file"):
        data(tmp_path / "other").prepare_data()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "cannot be read as ARFF"),
        ("@relation h\n@attribute klass {0}\n@data\n0\n", "has no attribute 'class'.*klass"),
        (
            "@relation h\n@attribute class {0}\n@attribute V1 real\n@data\n0,?\n",
            "attribute 'V1' is not a number in every row",
        ),
        (
            "@relation h\n@attribute class {0}\n@attribute V1 {a}\n@data\n0,a\n",
            "attribute 'V1' is not a number in every row",
        ),
        (
            "@relation h\n@attribute class {0}\n@attribute V1 real\n@data\n0,x\n",
            "cannot be read as ARFF",
        ),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, text, said):
    file = tmp_path / "helena.arff"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_arff(file)


def test_the_generated_table_has_the_true_structure():
    module = GeneratedHelena(seed=0, paths=DataPaths(None))
    module.prepare_data()
    module.setup("fit")
    assert module.train[0].shape[1] == 27
    n = torch.bincount(module.train[1])
    assert (len(n), n[0].item(), n[-1].item()) == (100, 60, 5)
    assert (n.diff() <= 0).all()
