"""Images of files: what is random of one, in which order they come, and what identifies them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from retable.data.fetch import DataUnavailable
from retable.util.errors import UserError
from support.jpegs import folder, write_jpeg


class Ten:
    """Six images for training, two for each of the others."""

    structure = "ten pictures"
    label, first, n_train = 0, 6, 6

    def __call__(self, _root):
        items = [(f"{i}.jpg", (i + self.label) % 3) for i in range(10)]
        first = self.first
        return {"train": items[:first], "validation": items[first:8], "test": items[8:]}


@pytest.fixture
def mirror(tmp_path):
    for i in range(10):
        write_jpeg(tmp_path / "images" / f"{i}.jpg", i)
    return tmp_path


def ready(mirror, **options):
    data = folder(mirror, Ten(), **options)
    data.setup("fit")
    return data


def test_what_is_random_of_an_image_is_its_own(mirror):
    images = ready(mirror, jitter=0.4).train[0]
    state = torch.get_rng_state()
    first, label = images[3, 1]
    assert label == 1
    assert first.shape == (3, 8, 8)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(images[3, 1][0], first)
    assert not torch.equal(images[4, 1][0], first)
    assert not torch.equal(ready(mirror, jitter=0.4, seed=1).train[0][3, 1][0], first)


def test_images_of_the_test_are_scaled_cut_and_normalised(mirror):
    """Side 9 to 8, as 256 to 224: the middle of what Pillow scales the shorter side to 9."""
    got = ready(mirror).test[0][0][0]
    with Image.open(mirror / "images" / "8.jpg") as image:
        scaled = np.asarray(image.resize((9, 11), Image.Resampling.BILINEAR)).astype(np.float32)
    cut = scaled[2:10, 0:8].transpose(2, 0, 1) / 255  # offsets 1.5 and 0.5, rounded half to even
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = (cut - mean[:, None, None]) / std[:, None, None]
    assert np.abs(got.numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_seed_and_epoch_whoever_decodes(mirror, workers):
    own, other = ready(mirror), ready(mirror, num_workers=workers, seed=0)
    for a, b in zip(own.train_dataloader(), other.train_dataloader(), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    labels = torch.cat([labels for _, labels in other.train_dataloader()])
    assert sorted(labels.tolist()) == sorted(own.train[1].tolist()) == [0, 0, 1, 1, 2, 2]
    assert [labels.tolist() for _, labels in other.val_dataloader()] == [[0, 1]]
    assert [labels.tolist() for _, labels in other.test_dataloader()] == [[2, 0]]


def test_a_loader_follows_the_trainer_s_epoch(mirror, monkeypatch):
    class Trainer:
        class strategy:  # noqa: N801 - Lightning's name
            root_device = torch.device("cpu")

    data, now = ready(mirror), [0]
    data.trainer = Trainer()
    for place in ("base", "image_folder"):
        monkeypatch.setattr(f"retable.data.{place}.epoch_of", lambda _: now[0])
    loader = data.train_dataloader()
    first = [images for images, _ in loader]
    assert all(torch.equal(a, b) for a, (b, _) in zip(first, loader, strict=True))
    now[0] = 1
    second = [images for images, _ in loader]
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    resumed = [images for images, _ in data.train_dataloader()]
    assert all(torch.equal(a, b) for a, b in zip(second, resumed, strict=True))


def test_identity_is_of_paths_labels_and_sizes(mirror):
    data = folder(mirror, Ten())
    known = data.identity()
    folder(mirror, Ten(), checksum=known).prepare_data()
    with pytest.raises(UserError, match=f"data.checksum: none is given; .* has {known}"):
        data.prepare_data()
    relabelled, moved = Ten(), Ten()
    relabelled.label, moved.first = 1, 7
    assert len({known, *(folder(mirror, each).identity() for each in (relabelled, moved))}) == 3
    with (mirror / "images" / "9.jpg").open("ab") as file:
        file.write(b"x")
    assert data.identity() != known
    with pytest.raises(UserError, match="is not the data of the experiment"):
        folder(mirror, Ten(), checksum=known).prepare_data()


def test_what_is_missing_or_no_image_is_named(mirror):
    with pytest.raises(DataUnavailable, match=r"data\.folder: images: there is no mirror.*ten"):
        folder(None, Ten()).prepare_data()
    with pytest.raises(DataUnavailable, match=r"data\.folder: other: not in .*It is ten pictures"):
        folder(mirror, Ten(), name="other").prepare_data()
    (mirror / "images" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.jpg: cannot be read as an image"):
        ready(mirror).train[0][0, 0]
    (mirror / "images" / "7.jpg").unlink()
    with pytest.raises(UserError, match=r"7\.jpg: is not there; .* is ten pictures"):
        folder(mirror, Ten()).identity()
