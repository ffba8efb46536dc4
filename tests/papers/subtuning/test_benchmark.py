"""The benchmark's files: those of the true structure are read, others are refused by name."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.papers.subtuning.benchmark import BenchmarkImages
from retable.papers.subtuning.splits import drawn
from retable.util.errors import UserError

N = 60  # of 10,000


@pytest.fixture
def mirror(tmp_path):
    """Images whose pixels are their place in the file; 60 in place of 10,000."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    places = np.arange(5 * N, dtype=np.int64)
    images = np.empty((5 * N, 32, 32, 3), np.uint8)
    images[..., 0], images[..., 1:] = (places // 256)[:, None, None], 0
    images[..., 1] = (places % 256)[:, None, None]
    np.save(folder / "snow.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(N) % 10, 5).astype(np.uint8))
    return tmp_path


def made(mirror, checksum=None, **options):
    return BenchmarkImages(
        seed=3,
        paths=DataPaths(cache=mirror / "cache", mirror=mirror),
        checksum=checksum,
        n_train=20,
        n_validation=10,
        batch_size=10,
        **{"corruption": "snow", "severity": 2, **options},
    )


def test_a_severity_is_a_fifth_of_the_file_split_as_our_own_corruptions_are(mirror):
    arrays = made(mirror).arrays()
    labels = torch.arange(N) % 10
    train, validation, test = drawn(labels, 20, 10, None, 3)
    for name, places in (("train", torch.cat([train, validation])), ("test", test)):
        images = arrays[f"{name}/images"][:, 5, 5].long()
        assert torch.equal(256 * images[:, 0] + images[:, 1], N + places)
        assert torch.equal(arrays[f"{name}/labels"], labels[places])
    assert arrays["train/images"].dtype == torch.uint8


def test_preparing_says_the_checksum_and_holds_the_files_to_it(mirror):
    with pytest.raises(UserError, match=r"data\.checksum: none is given") as refused:
        made(mirror).prepare_data()
    (found,) = re.findall("[0-9a-f]{64}", str(refused.value))
    made(mirror, found).prepare_data()
    with pytest.raises(UserError, match=r"snow\.npy: is not the data of the experiment"):
        made(mirror, found, severity=3).prepare_data()


def test_what_is_not_there_or_of_another_structure_is_refused(mirror):
    with pytest.raises(DataUnavailable, match=r"data\.folder: elsewhere: not in .*zenodo"):
        made(mirror, folder="elsewhere").arrays()
    with pytest.raises(UserError, match=r"frost\.npy: cannot be read as an array"):
        made(mirror, corruption="frost").arrays()
    for content in (b"", b"PK\x03\x04"):
        (mirror / "CIFAR-10-C" / "frost.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"frost\.npy: cannot be read as an array"):
            made(mirror, corruption="frost").arrays()
    with (mirror / "CIFAR-10-C" / "frost.npy").open("wb") as file:
        np.savez(file, images=np.zeros(3))
    with pytest.raises(UserError, match=r"frost\.npy: has several arrays"):
        made(mirror, corruption="frost").arrays()
    folder = mirror / "CIFAR-10-C"
    np.save(folder / "snow.npy", np.zeros((N, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=rf"snow\.npy: uint8 \({N}, .* for {5 * N} labels; it is"):
        made(mirror).arrays()
    np.save(folder / "snow.npy", np.array([{}] * N))  # an object array would run code
    with pytest.raises(UserError, match=r"snow\.npy: cannot be read as an array"):
        made(mirror).arrays()
    np.save(folder / "labels.npy", np.arange(5 * N))
    with pytest.raises(UserError, match=r"labels\.npy: not the same labels five times"):
        made(mirror).arrays()
