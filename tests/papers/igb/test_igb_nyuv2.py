"""NYUv2: augmentation pixel by pixel, and files of the true structure."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.papers.igb.data_nyuv2 import (
    CHANNELS,
    SCALES,
    Nyuv2,
    SceneItems,
    augmented,
    generated,
)
from retable.util.errors import UserError

H, W = 24, 36


def scene(seed=0):
    """Where each pixel has a class, a depth and a normal of its own."""
    g = torch.Generator().manual_seed(seed)
    targets = {
        "segmentation": torch.randint(-1, 13, (H, W), generator=g),
        "depth": torch.rand(1, H, W, generator=g) + 1,
        "normals": nn.functional.normalize(torch.randn(3, H, W, generator=g), dim=0),
    }
    return torch.rand(3, H, W, generator=g), targets


def drawn(seed):
    """Scale, corner and mirroring, drawn as :func:`augmented` does."""
    g = torch.Generator().manual_seed(seed)
    scale = SCALES[int(torch.randint(len(SCALES), (), generator=g))]
    h, w = int(H / scale), int(W / scale)
    top = int(torch.randint(H - h + 1, (), generator=g))
    left = int(torch.randint(W - w + 1, (), generator=g))
    return scale, h, w, top, left, int(torch.randint(2, (), generator=g)) == 1


@pytest.mark.parametrize("seed", range(8))
def test_an_augmented_scene_pixel_by_pixel(seed):
    image, targets = scene()
    before = [image.clone(), *(t.clone() for t in targets.values())]
    scale, h, w, top, left, flipped = drawn(seed)
    x, found = augmented((image, targets), torch.Generator().manual_seed(seed))
    assert all(map(torch.equal, before, [image, *targets.values()]))
    assert found["segmentation"].dtype == torch.int64
    for i in range(0, H, 5):
        for j in range(0, W, 5):
            column = W - 1 - j if flipped else j
            at = top + i * h // H, left + column * w // W
            assert found["segmentation"][i, j] == targets["segmentation"][at]
            assert found["depth"][0, i, j] == targets["depth"][0, at[0], at[1]] / scale
            # bilinear with corners aligned: image and normals between four pixels
            down, across = i * (h - 1) / (H - 1), column * (w - 1) / (W - 1)
            u, v = min(int(down), h - 2), min(int(across), w - 2)
            a, b = down - u, across - v

            def between(y, u=u + top, v=v + left, a=a, b=b):
                rows = [(1 - b) * y[:, r, v] + b * y[:, r, v + 1] for r in (u, u + 1)]
                return (1 - a) * rows[0] + a * rows[1]

            assert torch.allclose(x[:, i, j], between(image), atol=1e-4)
            normal = between(targets["normals"]) * torch.tensor([-1 if flipped else 1, 1, 1])
            assert torch.allclose(found["normals"][:, i, j], normal, atol=1e-4)


def test_all_scales_and_both_directions_occur():
    draws = [drawn(seed) for seed in range(60)]
    assert {d[0] for d in draws} == {1.0, 1.1, 1.2, 1.3, 1.4, 1.5}
    assert {d[5] for d in draws} == {True, False}
    bare = [d for d in range(60) if drawn(d)[0] == 1.0 and not drawn(d)[5]]
    x, targets = augmented(scene(), torch.Generator().manual_seed(bare[0]))
    assert torch.allclose(x, scene()[0], atol=1e-5)
    assert torch.equal(targets["depth"], scene()[1]["depth"])


def test_an_item_follows_from_seed_epoch_and_place():
    items = SceneItems([partial(scene, k) for k in range(3)], seed=4)
    again = SceneItems([partial(scene, k) for k in range(3)], seed=4)
    assert torch.equal(items[2, 1][0], again[2, 1][0])
    assert torch.equal(items[2, 1][1]["depth"], again[2, 1][1]["depth"])
    others = [again[3, 1], SceneItems(items.scenes, seed=5)[2, 1]]
    assert not any(torch.equal(items[2, 1][0], other[0]) for other in others)
    assert torch.equal(SceneItems(items.scenes)[1][0], scene(1)[0])


def write(root, **splits):
    """Files of small images, each with its split's and its own number in it."""
    for split, n in splits.items():
        for kind, channels in CHANNELS.items():
            (root / split / kind).mkdir(parents=True)
            for k in range(n):
                array = np.full((6, 8, *channels), k, np.float32 if channels else np.int64)
                np.save(root / split / kind / f"{k}.npy", array)


@pytest.fixture
def nyuv2(tmp_path, monkeypatch):
    monkeypatch.setattr(Nyuv2, "size", (6, 8))
    paths = DataPaths(tmp_path / "cache", tmp_path)
    return lambda **options: Nyuv2(**{"seed": 0, "paths": paths, **options})


def test_files_in_the_order_of_their_numbers(tmp_path, nyuv2):
    write(tmp_path / "nyuv2", train=3, val=12, test=2)
    data = nyuv2(augment=False)
    with pytest.raises(UserError, match="none is given"):
        data.prepare_data()
    nyuv2(checksum=data.identity()).prepare_data()
    data.setup("fit")
    sizes = [len(loader()) for loader in (data.train_dataloader, data.val_dataloader)]
    assert sizes == [2, 6]
    assert len(data.train_dataloader()) == 2  # the second has one scene
    assert [int(t["segmentation"][0, 0]) for _, t in data.validation] == list(range(12))
    x, targets = next(iter(data.test_dataloader()))
    assert (x.shape, x.dtype) == ((2, 3, 6, 8), torch.float32)
    assert targets["segmentation"].dtype == torch.int64
    assert {task: tuple(t.shape) for task, t in targets.items()} == {
        "segmentation": (2, 6, 8),
        "depth": (2, 1, 6, 8),
        "normals": (2, 3, 6, 8),
    }
    assert set(data.scales.values()) == {1.0}


def test_a_copy_without_validation_scenes(tmp_path, nyuv2):
    write(tmp_path / "nyuv2", train=8, val=3)
    with pytest.raises(UserError, match=r"test: is not there.*data\.test=val"):
        nyuv2(validation="from_train").setup("fit")
    with pytest.raises(ValueError, match=r"data\.test"):
        nyuv2(test="val")
    with pytest.raises(UserError, match=r"data\.n_validation"):
        nyuv2(validation="from_train", test="val", n_validation=8).setup("fit")

    def parts(seed):
        options = {"validation": "from_train", "test": "val", "n_validation": 3}
        data = nyuv2(seed=seed, augment=False, **options)
        data.setup("fit")
        splits = (data.train, data.validation, data.test)
        return [[int(t["depth"][0, 0, 0]) for _, t in split] for split in splits]

    train, validation, test = parts(0)
    assert sorted(train + validation) == list(range(8))
    assert (len(validation), test) == (3, [0, 1, 2])
    assert parts(0) == [train, validation, test]
    assert any(parts(seed)[1] != validation for seed in (1, 2, 3))


def test_folders_and_files_that_are_wrong(tmp_path, nyuv2):
    with pytest.raises(DataUnavailable, match="MTAN"):
        nyuv2().prepare_data()
    root = tmp_path / "nyuv2"
    write(root, train=2, test=2)
    with pytest.raises(UserError, match=r"val: is not there.*from_train"):
        nyuv2().prepare_data()
    write(root, val=1)
    np.save(root / "train/label/0.npy", np.full((6, 8), 13))
    np.save(root / "train/depth/1.npy", np.zeros((6, 8)))
    (root / "test/normal/0.npy").write_bytes(b"no array")
    data = nyuv2(augment=False)
    data.setup("fit")
    with pytest.raises(UserError, match=r"label.0\.npy: has classes"):
        data.train[0]
    with pytest.raises(UserError, match=r"depth.1\.npy: shape \(6, 8\)"):
        data.train[1]
    with pytest.raises(UserError, match=r"normal.0\.npy: cannot be read"):
        data.test[0]
    (root / "val/depth/0.npy").unlink()
    with pytest.raises(UserError, match=r"depth: other files than in image \(1, as 0\.npy"):
        nyuv2().prepare_data()


def test_what_is_known_without_files():
    (x, targets), n = Nyuv2(seed=0, paths=DataPaths(Path("unused"))).unread()
    assert (x.shape, n) == ((2, 3, 288, 384), 398)
    assert {task: t.ndim for task, t in targets.items()} == {
        "segmentation": 3,
        "depth": 4,
        "normals": 4,
    }


def test_generated_scenes_are_fixed_and_partly_invalid():
    x, _ = generated(32, 1)
    assert torch.equal(x, generated(32, 1)[0])
    assert not torch.equal(x, generated(32, 2)[0])
    scenes = [generated(32, k)[1] for k in range(10)]
    assert any((t["segmentation"] == -1).any() for t in scenes)
    assert any((t["depth"] == 0).any() for t in scenes)
    assert any((t["normals"] == 0).all(0).any() for t in scenes)
