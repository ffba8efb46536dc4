"""Sources, caches and options that are not as they should be: refused with the reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
import safetensors.numpy
import torch
from PIL import Image

from retable.data.arrays import checksum
from retable.data.base import DataPaths
from retable.data.hub import decode
from retable.data.image_cache import cache_file, load
from retable.data.modules import GeneratedImages
from retable.data.splits import split
from retable.data.transforms import global_contrast_normalize, to_float
from retable.util.errors import UserError
from support.images import card, columns, pictures, png, shrink, small, write

SVHN_LAYOUTS = {
    "as the hub": {"with_card": True},
    "no card": {"with_card": False},
    "no card, digits only": {"with_card": False, "whole": False},
    "no folder": {"with_card": False, "whole": False, "folder": "."},
    "folder data": {"with_card": False, "whole": False, "folder": "data"},
}


def svhn(monkeypatch, root, with_card, folder="cropped_digits", whole=True):
    sizes = {"train": 4, "extra": 6, "test": 3}
    shrink(monkeypatch, "svhn", sizes)
    at = root / "ufldl-stanford" / "svhn"
    for s, n in sizes.items():
        t = columns("svhn", pictures(n), range(n))
        write(at / folder / f"{s}-00000-of-00001.parquet", t)
        if whole:
            write(
                at / "full_numbers" / f"{s}-00000-of-00001.parquet",
                columns("svhn", pictures(n, (40, 50, 3)), range(n)),
            )
    if with_card:
        (at / "README.md").write_text(card("cropped_digits", ["full_numbers"], sizes))


@pytest.mark.parametrize("layout", SVHN_LAYOUTS)
def test_svhn_is_the_cropped_digits_in_every_layout(monkeypatch, tmp_path, layout):
    svhn(monkeypatch, tmp_path, **SVHN_LAYOUTS[layout])
    arrays = decode("svhn", mirror=tmp_path)
    sizes = {name: len(array) for name, array in arrays.items() if name.endswith("labels")}
    assert sizes == {"train/labels": 4, "extra/labels": 6, "test/labels": 3}


def bomb():
    def chunk(t, d):
        return struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "image",
    [bomb(), png(pictures(1)[0])[:11] + b"\x05" + png(pictures(1)[0])[12:]],
    ids=["bomb", "head"],
)
def test_what_is_no_image_is_named(monkeypatch, tmp_path, image):
    small(monkeypatch, tmp_path, "cifar10", train=4, test=2)
    write(
        tmp_path / "uoft-cs/cifar10/plain_text/test-00000-of-00001.parquet",
        columns("cifar10", [image, *pictures(1)], [0, 1]),
    )
    with pytest.raises(UserError, match="image 0 is no image"):
        decode("cifar10", mirror=tmp_path)


@pytest.mark.parametrize("mode", ["P", "1", "I;16"])
def test_images_of_other_kinds_are_not_guessed_at(monkeypatch, tmp_path, mode):
    small(monkeypatch, tmp_path, "mnist", train=4, test=2)
    f = io.BytesIO()
    Image.fromarray(pictures(1, (28, 28, 1))[0, ..., 0]).convert(mode).save(f, "PNG")
    write(
        tmp_path / "ylecun/mnist/mnist/test-00000-of-00001.parquet",
        columns("mnist", [f.getvalue(), *pictures(1, (28, 28, 1))], [0, 1]),
    )
    with pytest.raises(UserError):
        decode("mnist", mirror=tmp_path)


def test_a_lock_that_cannot_be_opened(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path / "m", "cifar10", train=4, test=2)
    file = cache_file("cifar10", "0" * 64, tmp_path / "c")
    file.with_name(f".{file.name}.lock").mkdir(parents=True)
    with pytest.raises(UserError, match="RETABLE_CACHE"):
        load("cifar10", "0" * 64, DataPaths(tmp_path / "c", tmp_path / "m"))


def test_a_full_disk(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path / "m", "cifar10", train=4, test=2)
    sha = checksum(decode("cifar10", mirror=tmp_path / "m"))

    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"No space left.*RETABLE_CACHE"):
        load("cifar10", sha, DataPaths(tmp_path / "c", tmp_path / "m"))


def test_a_cache_file_that_may_not_be_read(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path / "m", "cifar10", train=4, test=2)
    sha = checksum(decode("cifar10", mirror=tmp_path / "m"))
    p = DataPaths(tmp_path / "c", tmp_path / "m")
    load("cifar10", sha, p)

    def denied(f):
        raise PermissionError(13, "Permission denied", str(f))

    monkeypatch.setattr(safetensors.numpy, "load_file", denied)
    with pytest.raises(UserError):
        load("cifar10", sha, p)


def test_what_a_killed_process_left_is_removed(monkeypatch, tmp_path):
    small(monkeypatch, tmp_path / "m", "cifar10", train=4, test=2)
    sha = checksum(decode("cifar10", mirror=tmp_path / "m"))
    file = cache_file("cifar10", sha, tmp_path / "c")
    file.parent.mkdir(parents=True)
    file.with_name(f".{file.name}.abcdef.tmp").write_bytes(b"x")
    load("cifar10", sha, DataPaths(tmp_path / "c", tmp_path / "m"))
    assert [p.name for p in file.parent.iterdir() if p.suffix == ".tmp"] == []


def gen(tmp_path):
    return GeneratedImages(
        seed=0,
        paths=DataPaths(tmp_path),
        shape=(4, 4, 1),
        n_pool=50,
        n_test=10,
        n_validation=10,
        preprocess="gcn_zca",
    )


@pytest.mark.parametrize("how", ["cut", "altered"])
def test_a_damaged_whitening_is_refused(tmp_path, how):
    gen(tmp_path).setup("fit")
    (file,) = (tmp_path / "whitening").glob("*.safetensors")
    c = bytearray(file.read_bytes())
    if how == "cut":
        c = c[:-1]
    else:
        c[-200] ^= 0x40
    file.write_bytes(c)
    with pytest.raises(UserError, match="truncated or altered"):
        gen(tmp_path).setup("fit")


def test_a_class_with_too_few_images():
    labels = torch.tensor([0] * 3 + [1] * 20)
    with pytest.raises(ValueError):
        split("balanced", labels, 10, 0)


def test_the_split_of_svhn_on_another_set():
    with pytest.raises((ValueError, UserError)):
        split("svhn", torch.arange(100) % 10, 30, 0)


@pytest.mark.parametrize("n", [4, 8, 16, 28, 32])
def test_images_of_one_colour_become_zeros(n):
    x = to_float(torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, n, n, 3))
    r = global_contrast_normalize(x).abs().amax((1, 2, 3))
    assert float(r.max()) <= 1e-6
