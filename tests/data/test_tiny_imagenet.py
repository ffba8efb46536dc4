"""Tiny ImageNet on a folder of its structure."""

from __future__ import annotations

import re

import pytest
import torch
from PIL import Image

from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.data.tiny_imagenet import Listing, TinyImageNet
from retable.launch.rehearsal.batches import Batches
from retable.util.errors import UserError

CLASSES = ("n02", "n01", "n03")  # as a file system may list them
PER_CLASS, IN_VAL = 12, 4


def picture(file, grey, mode="RGB", size=64):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), grey if mode == "L" else (grey, grey, grey)).save(file)


@pytest.fixture
def mirror(tmp_path):
    """Three classes, whose training images have the grey level 20 label + number."""
    root = tmp_path / "mirror" / "tiny-imagenet-200"
    for name in CLASSES:
        label = sorted(CLASSES).index(name)
        for number in range(PER_CLASS):
            mode = "L" if number == 3 else "RGB"  # some hundreds of the set are grey
            picture(root / f"train/{name}/images/{name}_{number}.JPEG", 20 * label + number, mode)
        (root / f"train/{name}/{name}_boxes.txt").write_text("")
    lines = ""
    for number in range(IN_VAL):
        picture(root / f"val/images/val_{number}.JPEG", 200 + number)
        lines += f"val_{number}.JPEG\t{sorted(CLASSES)[number % 3]}\t0\t32\t44\t62\n"
    (root / "val/val_annotations.txt").write_text(lines)
    picture(root / "test/images/test_0.JPEG", 0)
    return tmp_path


def data(mirror, checksum=None, **options):
    paths = DataPaths(mirror / "cache", mirror / "mirror")
    options = {"batch_size": 4, "n_validation": 6, "with_ids": True, **options}
    return TinyImageNet(seed=0, paths=paths, checksum=checksum, **options)


def known(mirror):
    """Checksum of the folder, from the message of a first attempt."""
    with pytest.raises(UserError, match="none is given") as caught:
        data(mirror).prepare_data()
    (found,) = re.findall("[0-9a-f]{64}", str(caught.value))
    return found


def test_images_in_the_order_of_their_numbers_with_labels_of_sorted_classes(mirror):
    checksum = known(mirror)
    assert not (mirror / "cache").exists()  # nothing is decoded for a set that may be another
    arrays = data(mirror, checksum).arrays()
    assert arrays["train/images"].shape == (36, 64, 64, 3)
    assert arrays["train/labels"].tolist() == [k // PER_CLASS for k in range(36)]
    levels = arrays["train/images"].float().mean((1, 2, 3)).round().tolist()
    assert levels == [20 * (k // PER_CLASS) + k % PER_CLASS for k in range(36)]
    assert arrays["test/labels"].tolist() == [0, 1, 2, 0]
    assert arrays["test/images"].float().mean((1, 2, 3)).round().tolist() == [200, 201, 202, 203]


def test_batches_and_what_a_rehearsal_takes_for_them(mirror):
    made = data(mirror, known(mirror), augment="pad_crop_flip")
    made.setup("fit")
    assert (len(made.train[0]), len(made.validation[0]), len(made.test[0])) == (30, 6, 4)
    images, labels, ids = next(iter(made.train_dataloader()))
    assert images.min() >= 0
    assert images.max() <= 1
    likened, n_batches = data(mirror, n_train=30).unread()
    assert [t.shape for t in likened] == [t.shape for t in (images, labels, ids)]
    assert [t.dtype for t in likened] == [t.dtype for t in (images, labels, ids)]
    assert n_batches == len(made.train_dataloader()) == 7
    assert data(mirror, drop_last=False, n_train=30).unread()[1] == 8
    assert data(mirror, n_validation=1000, batch_size=128).unread()[1] == 99_000 // 128


def test_a_rehearsal_needs_no_folder(tmp_path):
    batches = Batches(data(tmp_path, n_validation=1000))
    assert [t.shape[0] for t in batches.first()] == [4, 4, 4]
    assert batches.first()[0].shape == (4, 3, 64, 64)
    assert batches.per_epoch(None) == 99_000 // 4


def test_the_cache_is_used_and_a_broken_one_is_refused(mirror, monkeypatch):
    made = data(mirror, known(mirror))
    first = made.arrays()
    monkeypatch.setattr(TinyImageNet, "_decoded", lambda self: pytest.fail("decoded again"))
    again = made.arrays()
    assert all(torch.equal(first[name], again[name]) for name in first)
    (file,) = (mirror / "cache" / "images").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match="is truncated or altered"):
        made.arrays()


def test_what_is_not_the_set_is_refused(mirror):
    root = mirror / "mirror" / "tiny-imagenet-200"
    checksum = known(mirror)
    with pytest.raises(UserError, match="is not the data of the experiment"):
        data(mirror, "0" * 64).prepare_data()
    with pytest.raises(DataUnavailable, match="train/n01443537/images"):
        data(mirror, checksum, folder="elsewhere").prepare_data()
    picture(root / "val/images/val_0.JPEG", 200, size=32)
    with pytest.raises(UserError, match="is not the data of the experiment"):
        data(mirror, checksum).prepare_data()
    with pytest.raises(UserError, match=r"val_0.JPEG: is 32 x 32, not 64 x 64"):
        data(mirror, known(mirror)).arrays()
    (root / "val/images/val_0.JPEG").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"val_0.JPEG: cannot be read as an image"):
        data(mirror, known(mirror)).arrays()
    annotations = root / "val/val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn09\t0\n")
    with pytest.raises(UserError, match=r"line 1: has to be an image, tab, a class of train"):
        Listing()(root)
    annotations.unlink()
    with pytest.raises(UserError, match=r"val_annotations.txt: is not there"):
        Listing()(root)
    with pytest.raises(UserError, match="has no classes"):
        Listing()(root / "val")
