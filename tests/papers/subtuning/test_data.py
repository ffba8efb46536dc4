"""Splits, caches and normalisation of what is fine-tuned on; VTAB-1k's files in small."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import retable.papers.subtuning.data as data
from retable.data.base import DataPaths
from retable.papers.subtuning.augment import Flip, ResizedCropFlip
from retable.papers.subtuning.coarse import COARSE, coarse
from retable.papers.subtuning.corruptions import corrupt
from retable.papers.subtuning.splits import drawn, first_of_each
from retable.util.errors import UserError

MIRROR = os.environ.get("RETABLE_MIRROR")
LABELS = torch.randint(4, (400,), generator=torch.Generator().manual_seed(0))


def paths(folder):
    return DataPaths(cache=Path(folder) / "cache", mirror=Path(folder) / "mirror")


def generated(tmp_path, seed=0, **options):
    made = data.Generated(seed=seed, paths=paths(tmp_path), **options)
    made.setup("fit")
    return made


# --- splits


@given(
    st.integers(1, 8), st.integers(0, 4), st.one_of(st.none(), st.integers(1, 8)), st.integers(0, 9)
)
@settings(deadline=None)
def test_splits_are_disjoint_balanced_and_of_the_sizes(train, validation, test, seed):
    parts = drawn(LABELS, 4 * train, 4 * validation, test and 4 * test, seed)
    together = torch.cat(parts)
    assert len(together.unique()) == len(together)
    assert [len(part) for part in parts[:2]] == [4 * train, 4 * validation]
    assert len(parts[2]) == (4 * test if test else 400 - 4 * train - 4 * validation)
    for part in parts if test else parts[:2]:
        assert (LABELS[part].view(-1, 4) == torch.arange(4)).all()  # each class in turn


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 9))
@settings(deadline=None)
def test_splits_are_nested_and_do_not_move_with_the_test(fewer, more, seed):
    small, large = sorted((fewer, more))
    a, b = (drawn(LABELS, 4 * n, 20, 40, seed) for n in (small, large))
    assert torch.equal(a[0], b[0][: len(a[0])])
    assert torch.equal(a[2], b[2])
    whole = drawn(LABELS, 4 * small, 20, None, seed)
    assert torch.equal(whole[0], a[0])
    assert torch.equal(whole[1], a[1])
    assert set(a[2].tolist()) <= set(whole[2].tolist())


def test_splits_follow_the_seed():
    a, b = (drawn(LABELS, 40, 20, None, seed) for seed in (1, 2))
    assert torch.equal(a[0], drawn(LABELS, 40, 20, None, 1)[0])
    assert not torch.equal(a[0].sort().values, b[0].sort().values)


def test_wrong_sizes_are_named():
    with pytest.raises(UserError, match=r"data.n_validation: 21 images of 4 classes .* 20 can"):
        drawn(LABELS, 40, 21, None, 0)
    with pytest.raises(UserError, match=r"class . has .* n_train=360, n_test=80"):
        drawn(LABELS, 360, 0, 80, 0)
    with pytest.raises(UserError, match=r"data.n_test: 440 is 110 of every class"):
        first_of_each(LABELS, "n_test", 440)


# --- generated


def test_generated_images_are_those_of_the_pool_corrupted_and_normalised(tmp_path):
    made = generated(
        tmp_path,
        corruption="contrast",
        n_train=60,
        n_validation=20,
        n_test=100,
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.3, 0.4],
    )
    assert [tuple(part[0].shape) for part in (made.train, made.validation, made.test)] == [
        (n, 3, 32, 32) for n in (60, 20, 100)
    ]
    assert made.train[0].dtype == torch.float32
    assert made.train[1].dtype == torch.int64
    pool = super(data.Generated, made).arrays()
    parts = drawn(pool["train/labels"], 60, 20, 100, 0)
    images = corrupt(pool["train/images"].numpy(), "contrast", 5)
    for found, part in zip((made.train, made.validation, made.test), parts, strict=True):
        back = found[0].permute(0, 2, 3, 1) * torch.tensor([0.2, 0.3, 0.4])
        back = (back + torch.tensor([0.5, 0.4, 0.3])) * 255
        assert (back - torch.from_numpy(images[part.numpy()])).abs().max() < 1e-3
        assert torch.equal(found[1], pool["train/labels"][part])


def test_the_test_loader_has_the_test_images_and_the_last_training_batch_is_kept(tmp_path):
    made = generated(tmp_path, n_train=50, n_test=None, batch_size=32, augment=Flip())
    assert [len(images) for images, _ in made.train_dataloader()] == [32, 18]
    tested = torch.cat([images for images, _ in made.test_dataloader()])
    assert torch.equal(tested, made.test[0])
    assert len(tested) == 550
    train = {image.numpy().tobytes() for image in made.train[0]}
    assert not train & {image.numpy().tobytes() for image in tested}
    assert len(made.validation[0]) == 0


def test_wrong_constants_are_named(tmp_path):
    with pytest.raises(UserError, match=r"data.std: 2 numbers"):
        generated(tmp_path, std=[0.2, 0.2])
    with pytest.raises(UserError, match=r"data.mean: 1 number"):
        generated(tmp_path, mean=[0.2])
    with pytest.raises(UserError, match=r"data.std: 0.0"):
        generated(tmp_path, std=[0.2, 0.0, 0.2])


# --- corrupted CIFAR-10 and coarse CIFAR-100, on a stand-in for the decoded sets


@pytest.fixture
def decoded(monkeypatch):
    """Small sets in the place of the decoded ones; says what was asked for."""
    asked = []

    def load(name, sha256, _paths):
        asked.append((name, sha256))
        generator = torch.Generator().manual_seed(1)
        out = {}
        for split, n in (("train", 600), ("test", 400)):
            shape = (n, 32, 32, 3)
            out[f"{split}/images"] = torch.randint(
                256, shape, generator=generator, dtype=torch.uint8
            )
            out[f"{split}/labels"] = torch.arange(n) % (10 if name == "cifar10" else 100)
        return out

    monkeypatch.setattr(data, "load", load)
    return asked


def corrupted_images(tmp_path, seed=0, **options):
    options = {"corruption": "shot_noise", "severity": 3, "n_train": 50, **options}
    made = data.CorruptedImages(
        seed=seed, paths=paths(tmp_path), checksum="0" * 64, batch_size=16, **options
    )
    made.setup("fit")
    return made


def bytes_of(images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    back = images.permute(0, 2, 3, 1) * torch.tensor(std) + torch.tensor(mean)
    return (255 * back).round().to(torch.uint8)


def test_corrupted_images_are_of_the_test_split_and_made_once_for_all_seeds(tmp_path, decoded):
    made = corrupted_images(tmp_path)
    assert len(decoded) == 1
    clean = data.load("cifar10", None, None)["test/images"].numpy()
    wanted = {image.tobytes() for image in corrupt(clean, "shot_noise", 3)}
    parts = [{i.numpy().tobytes() for i in bytes_of(p[0])} for p in (made.train, made.test)]
    assert parts[0] | parts[1] == wanted
    assert (len(parts[0]), len(parts[1])) == (50, 350)
    del decoded[:]
    other = corrupted_images(tmp_path, seed=1)
    assert decoded == []  # read from the cache
    assert not torch.equal(other.train[0], made.train[0])
    again = {i.numpy().tobytes() for i in bytes_of(torch.cat([other.train[0], other.test[0]]))}
    assert again == wanted


def test_clean_images_and_altered_caches(tmp_path, decoded):
    made = corrupted_images(tmp_path, corruption="none", n_validation=20, n_test=100)
    clean = {i.numpy().tobytes() for i in data.load("cifar10", None, None)["test/images"]}
    assert {i.numpy().tobytes() for i in bytes_of(made.validation[0])} <= clean
    assert not (tmp_path / "cache").exists()
    corrupted_images(tmp_path)
    file = data.corrupted_file("0" * 64, "shot_noise", 3, tmp_path / "cache")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"truncated or altered; delete it"):
        corrupted_images(tmp_path)
    other = data.corrupted_file("1" * 64, "shot_noise", 3, tmp_path / "cache")
    assert other.parent == file.parent
    assert other != file


def test_coarse_images_have_coarse_labels_and_fixed_test_images(tmp_path, decoded):
    def made(seed):
        found = data.CoarseImages(
            seed=seed,
            paths=paths(tmp_path),
            checksum=None,
            n_train=100,
            n_validation=40,
            n_test=60,
            batch_size=20,
        )
        found.setup("fit")
        return found

    a, b = made(0), made(1)
    assert [len(p[1]) for p in (a.train, a.validation, a.test)] == [100, 40, 60]
    assert a.train[1].bincount().tolist() == [5] * 20
    assert not torch.equal(a.train[0], b.train[0])
    assert torch.equal(a.test[0], b.test[0])
    whole = data.load("cifar100", None, None)
    of = {
        image.numpy().tobytes(): COARSE[label]
        for image, label in zip(whole["train/images"], whole["train/labels"], strict=True)
    }
    for image, label in zip(bytes_of(a.train[0]), a.train[1].tolist(), strict=True):
        assert of[image.numpy().tobytes()] == label


def test_the_coarse_map_has_five_fine_classes_of_each():
    assert np.bincount(COARSE).tolist() == [5] * 20
    assert coarse(torch.tensor([0, 2, 99])).tolist() == [4, 14, 13]


@pytest.mark.skipif(
    MIRROR is None or not (Path(MIRROR) / "uoft-cs/cifar100").is_dir(),
    reason="needs CIFAR-100: set RETABLE_MIRROR",
)
def test_the_coarse_map_is_that_of_the_published_labels():
    import pyarrow.parquet as pq

    (file,) = (Path(MIRROR) / "uoft-cs/cifar100").glob("**/test-*.parquet")
    table = pq.read_table(file, columns=["fine_label", "coarse_label"])
    fine = torch.from_numpy(table["fine_label"].to_numpy().copy())
    assert coarse(fine).tolist() == table["coarse_label"].to_pylist()
    assert len(fine.unique()) == 100


# --- augmentation


def test_flip_takes_one_of_its_copies():
    images = torch.rand(64, 3, 4, 5)
    flip = Flip()
    copies = flip.copies(images)
    assert copies.shape == (2, 64, 3, 4, 5)
    drawn_ = flip.draw(64, torch.Generator().manual_seed(3))
    assert 16 < drawn_.sum() < 48
    made = flip(images, torch.Generator().manual_seed(3))
    assert torch.equal(made, copies[drawn_, torch.arange(64)])
    assert torch.equal(copies[1], torch.from_numpy(images.numpy()[..., ::-1].copy()))


def test_a_crop_of_everything_is_the_image_or_its_mirror_image():
    images = torch.rand(40, 3, 8, 8)
    made = ResizedCropFlip(size=8, least=1.0, ratio=1.0)(images, torch.Generator().manual_seed(0))
    straight = (made - images).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (made - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    assert (straight ^ mirrored).all()
    assert 5 < straight.sum() < 35


def test_crops_read_a_ramp_where_their_windows_are():
    """A linear image stays linear: the value at a pixel is its place in the window."""
    crop = ResizedCropFlip(size=6)
    ramp = torch.arange(40.0).expand(30, 1, 30, 40) + 0.5
    left, _, width, _ = crop.windows(30, 30, 40, torch.Generator().manual_seed(5)).T
    made = crop(ramp, torch.Generator().manual_seed(5))[:, 0, 3]
    wanted = left[:, None] + width[:, None] * (torch.arange(6) + 0.5) / 6
    wanted = wanted.clamp(0.5, 39.5)
    either = torch.minimum((made - wanted).abs(), (made - wanted.flip(1)).abs())
    assert either.max() < 1e-3


@given(st.integers(4, 40), st.integers(4, 40), st.integers(0, 99))
@settings(deadline=None)
def test_windows_lie_within_the_image_and_have_the_shares(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    left, top, w, h = ResizedCropFlip().windows(50, height, width, generator).T
    assert (left >= -1e-4).all()
    assert (top >= -1e-4).all()
    assert (left + w <= width + 1e-3).all()
    assert (top + h <= height + 1e-3).all()
    assert (w / h <= 4 / 3 + 1e-4).all()
    assert (h / w <= 4 / 3 + 1e-4).all()
    assert (w * h <= height * width * 1.001).all()


def test_windows_have_a_uniform_share_of_the_area():
    _, _, w, h = ResizedCropFlip().windows(4000, 64, 64, torch.Generator().manual_seed(0)).T
    share = w * h / 64**2
    assert share.min() >= 0.08 - 1e-5
    # A share a fits where |log ratio| <= -log a: always below 3/4, then ever less often.
    bound = math.log(4 / 3)
    all_that_fit = 0.75 - 0.08 + (1 - 0.75 * (1 + bound)) / bound
    assert (share < 0.4).float().mean() == pytest.approx(0.32 / all_that_fit, abs=0.03)
    with pytest.raises(ValueError, match=r"least"):
        ResizedCropFlip(least=0.5, most=0.4)
