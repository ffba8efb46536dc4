"""VTAB-1k: which images are taken, what normalises them, and files of the true structure."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import retable.papers.subtuning.vtab as vtab
from retable.data.base import DataPaths
from retable.data.fetch import DataUnavailable
from retable.papers.subtuning.vtab_files import by_name, decoded, thousand
from retable.util.errors import UserError


def picture(value, size=(6, 5)):
    """One colour, so that JPEG keeps it."""
    return Image.fromarray(np.full((*size, 3), value, np.uint8))


def encoded(value):
    file = io.BytesIO()
    picture(value).save(file, "PNG")
    return file.getvalue()


def made(tmp_path, dataset, checksum="known", **options):
    def build(sha256):
        return vtab.Vtab(
            seed=0,
            paths=DataPaths(cache=tmp_path / "cache", mirror=tmp_path),
            dataset=dataset,
            checksum=sha256,
            batch_size=256,
            size=4,
            **options,
        )

    if checksum == "known":  # what preparing without one says
        with pytest.raises(UserError) as refused:
            build(None).prepare_data()
        checksum = re.findall("[0-9a-f]{64}", str(refused.value))[0]
    found = build(checksum)
    found.prepare_data()
    found.setup("fit")
    return found


def levels(data, images):
    """Grey values of images of one colour."""
    back = images[:, :, 0, 0] * torch.tensor(data.normalise.std) + torch.tensor(data.normalise.mean)
    return (255 * back).round().long()[:, 0]


@pytest.mark.parametrize(("n", "start"), [(50_000, 40_000), (1020, 816), (3060, 2448), (1000, 800)])
def test_the_200_begin_at_80_percent(n, start):
    assert thousand(n) == [*range(800), *range(start, start + 200)]


@pytest.mark.parametrize("n", [0, 800, 999])
def test_too_few_images_are_refused(n):
    with pytest.raises(UserError, match=f"{n} training images; 800, and 200"):
        thousand(n)


@pytest.fixture
def cifar(monkeypatch):
    """CIFAR-100 in small: the grey value says where an image is; labels are places modulo 100."""

    def load(name, sha256, _paths):
        assert (name, sha256) == ("cifar100", "0" * 64)
        out = {}
        for split, n in (("train", 1250), ("test", 130)):
            grey = (torch.arange(n) // 5).to(torch.uint8)
            out[f"{split}/images"] = grey.view(-1, 1, 1, 1).expand(n, 8, 8, 3).contiguous()
            out[f"{split}/labels"] = torch.arange(n) % 100
        return out

    monkeypatch.setattr(vtab, "load", load)


def test_cifar100_is_normalised_by_the_800_alone(tmp_path, cifar):
    data = made(tmp_path, "cifar100", "0" * 64)
    assert [len(p[0]) for p in (data.train, data.validation)] == [800, 200]
    assert len(data.tested) == 130
    assert levels(data, data.train[0]).tolist() == [i // 5 for i in range(800)]
    assert levels(data, data.validation[0]).tolist() == [i // 5 for i in range(1000, 1200)]
    assert data.validation[1].tolist() == [i % 100 for i in range(1000, 1200)]
    assert data.train[0].mean((0, 2, 3)).abs().max() < 1e-5
    assert (data.train[0].std((0, 2, 3)) - 1).abs().max() < 1e-5
    assert data.validation[0].mean() > 1


def test_training_on_the_thousand_keeps_the_normalisation(tmp_path, cifar):
    part, whole = (made(tmp_path, "cifar100", "0" * 64, n_validation=n) for n in (200, 0))
    assert len(whole.train[0]) == 1000
    assert torch.equal(whole.train[0], torch.cat([part.train[0], part.validation[0]]))
    assert [len(images) for images, _ in whole.train_dataloader()] == [256, 256, 256, 232]


def test_the_test_loader_normalises_as_the_training_images_are(tmp_path, cifar):
    data = made(tmp_path, "cifar100", "0" * 64, eval_batch_size=50)
    batches = list(data.test_dataloader())
    assert [len(images) for images, _ in batches] == [50, 50, 30]
    assert len(data.test_dataloader()) == 3
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert images.shape == (130, 3, 4, 4)
    assert levels(data, images).tolist() == [i // 5 for i in range(130)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [i % 100 for i in range(130)]


def test_the_authors_slip_is_an_option(tmp_path, cifar):
    data = made(tmp_path, "cifar100", "0" * 64, cifar_constants=True)
    assert list(data.normalise.mean) == [0.4914, 0.4822, 0.4465]
    assert data.train[0].mean().abs() > 0.1
    with pytest.raises(ValueError, match=r"data.cifar_constants: is of cifar100, not of dmlab"):
        made(tmp_path, "dmlab", None, cifar_constants=True)
    with pytest.raises(ValueError, match=r"data.folder"):
        made(tmp_path, "cifar100", None, folder="x")


def write_flowers(root, n_train=1020, n_test=30):
    """Labels from 1 in the order of the classes, as the true lists have them; grey is twice one."""
    (root / "jpg").mkdir(parents=True)
    n = n_train + n_test
    labels = np.arange(n) * 102 // n + 1
    order = np.random.default_rng(0).permutation(n) + 1
    for number in range(1, n + 1):
        picture(2 * labels[number - 1]).save(root / "jpg" / f"image_{number:05d}.jpg")
    savemat(root / "imagelabels.mat", {"labels": labels[None]})
    lists = {"trnid": np.sort(order[:n_train])[None], "tstid": np.sort(order[n_train:])[None]}
    savemat(root / "setid.mat", {**lists, "valid": np.array([[1]])})


@pytest.mark.slow
def test_flowers_of_torchvisions_folder(tmp_path):
    write_flowers(tmp_path / "flowers102")
    data = made(tmp_path, "flowers102")
    assert [len(p[0]) for p in (data.train, data.validation)] == [800, 200]
    assert len(data.tested) == 30
    for images, labels in (data.train, data.validation):
        assert (levels(data, images) == 2 * (labels + 1)).float().mean() > 0.9
        assert len(labels.unique()) > 80  # the lists follow the classes, the 800 do not
    (images, labels), *_ = data.test_dataloader()
    assert (levels(data, images) - 2 * (labels + 1)).abs().max() <= 1


@pytest.mark.slow
def test_caltech_of_torchvisions_folder(tmp_path):
    root = tmp_path / "elsewhere" / "101_ObjectCategories"
    names = sorted(["BACKGROUND_Google", *(f"class_{i}" for i in range(34))])
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(30 + label % 3):
            image = picture(6 * label).convert("L" if number == 0 else "RGB")
            image.save(root / name / f"image_{number + 1:04d}.jpg")
    data = made(tmp_path, "caltech101", folder="elsewhere")
    assert [len(p[0]) for p in (data.train, data.validation)] == [800, 200]
    assert len(data.tested) == sum(label % 3 for label in range(35))
    for images, labels in (data.train, data.validation):
        assert (levels(data, images) - 6 * labels).abs().max() <= 1
    both = torch.cat([data.train[1], data.validation[1]]).bincount(minlength=35)
    assert both.max() <= 30


@pytest.mark.slow
def test_dmlab_of_parquet_files(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "dmlab" / "data"
    folder.mkdir(parents=True)
    pictures = [encoded(value) for value in range(250)]
    for split, sizes in (("train", (600, 650)), ("test", (40,))):
        at = 0
        for part, size in enumerate(sizes):
            places = range(at, at + size)
            images = [{"bytes": pictures[i // 5], "path": None} for i in places]
            table = pa.table({"image": images, "label": [i % 6 for i in places]})
            pq.write_table(table, folder / f"{split}-{part:05d}-of-{len(sizes):05d}.parquet")
            at += size
    data = made(tmp_path, "dmlab")
    assert levels(data, data.train[0]).tolist() == [i // 5 for i in range(800)]
    assert levels(data, data.validation[0]).tolist() == [i // 5 for i in range(1000, 1200)]
    assert data.validation[1].tolist() == [i % 6 for i in range(1000, 1200)]
    labels = torch.cat([labels for _, labels in data.test_dataloader()])
    assert labels.tolist() == [i % 6 for i in range(40)]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataUnavailable, match=r"data.folder: flowers102: .*torchvision.*MIRROR"):
        made(tmp_path, "flowers102", None)
    for name in ("flowers102", "caltech101", "dmlab"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"imagelabels.mat: not there"):
        made(tmp_path, "flowers102", None)
    with pytest.raises(UserError, match=r"101_ObjectCategories: has no folders"):
        made(tmp_path, "caltech101", None)
    with pytest.raises(UserError, match=r"dmlab: has no train-\*.parquet"):
        made(tmp_path, "dmlab", None)
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"broken.jpg: cannot be read"):
        decoded([(tmp_path / "broken.jpg", 0)], 4)
    with pytest.raises(UserError, match="image 1: cannot be read"):
        decoded([(encoded(3), 0), (b"", 0)], 4)


@pytest.mark.slow
def test_data_of_another_checksum_is_refused(tmp_path):
    write_flowers(tmp_path / "flowers102", n_test=2)
    with pytest.raises(UserError, match=r"is not the data of the experiment"):
        made(tmp_path, "flowers102", "0" * 64)


def test_an_order_by_name_is_of_the_names_alone():
    names = [f"image_{i}" for i in range(50)]
    assert by_name(reversed(names)) == by_name(names)
    assert sorted(by_name(names)) == sorted(names)
    assert by_name(names) != names
