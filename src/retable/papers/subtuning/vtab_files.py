"""Files of VTAB-1k's data sets below a folder of the mirror: which images are for what.

The thousand training images are 800 from the beginning and 200 from 80 % on of a training split, as
in the authors' code (the official benchmark begins the 200 at 90 %). They take them in the order of
TensorFlow Datasets, which cannot be had from the files; here another fixed order stands for it, so
that the sizes are those of the benchmark and the members are others.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retable.util.errors import UserError

N_TRAIN, N_VALIDATION = 800, 200

_Source = Path | bytes | NDArray[np.uint8]
Item = tuple[_Source, int]
"""An image, as a file, the bytes of one or its pixels, and its label."""


def thousand(n: int) -> list[int]:
    """Places of the 800 and the 200 among ``n`` training images.

    Raises:
        UserError: where there are too few.
    """
    start = int(0.8 * n)
    if start < N_TRAIN or start + N_VALIDATION > n:
        raise UserError(f"data.dataset: {n} training images; 800, and 200 from 80 % on, are needed")
    return [*range(N_TRAIN), *range(start, start + N_VALIDATION)]


def by_name(names: Iterable[str]) -> list[str]:
    """Names in the order of their SHA-256: a fixed order that does not follow the classes."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def flowers102(root: Path) -> tuple[list[Item], list[Item]]:
    """Training (of which 1,000 are taken) and test images of Oxford Flowers 102."""
    from scipy.io import loadmat

    found: dict[str, NDArray[Any]] = {}
    for file, key in (("imagelabels", "labels"), ("setid", "trnid"), ("setid", "tstid")):
        try:
            found[key] = loadmat(root / f"{file}.mat")[key].ravel().astype(int)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{root / file}.mat: not there, or without '{key}' ({error})") from None

    def items(numbers: Sequence[int]) -> list[Item]:
        files = {f"image_{number:05d}.jpg": number for number in numbers}
        labels = found["labels"]
        return [(root / "jpg" / name, int(labels[files[name] - 1]) - 1) for name in by_name(files)]

    return items(found["trnid"].tolist()), items(found["tstid"].tolist())


def caltech101(root: Path) -> tuple[list[Item], list[Item]]:
    """Training (30 of every class) and test images of Caltech101, with its background class."""
    folder = root / "101_ObjectCategories"
    classes = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not classes:
        raise UserError(f"{folder}: has no folders of classes")
    train: dict[str, Item] = {}
    test: list[Item] = []
    for label, name in enumerate(classes):
        files = by_name(path.name for path in (folder / name).glob("*.jpg"))
        train |= {f"{name}/{file}": (folder / name / file, label) for file in files[:30]}
        test += [(folder / name / file, label) for file in files[30:]]
    return [train[name] for name in by_name(train)], test


def dmlab(root: Path) -> tuple[list[Item], list[Item]]:
    """Training (the 1,000 that are taken) and test images of DMLab, in the order of the files."""
    import pyarrow.parquet as pq

    def rows(split: str) -> Iterator[Item]:
        files = sorted(root.glob(f"**/{split}-*.parquet"))
        if not files:
            raise UserError(f"{root}: has no {split}-*.parquet")
        n = sum(pq.read_metadata(file).num_rows for file in files)
        wanted = set(thousand(n)) if split == "train" else None
        at = 0
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(256, columns=["image", "label"]):
                images, labels = batch.column("image"), batch.column("label").to_pylist()
                for i, label in enumerate(labels):
                    if wanted is None or at + i in wanted:
                        yield images[i].as_py()["bytes"], label
                at += len(labels)

    return list(rows("train")), list(rows("test"))


@dataclass(frozen=True)
class Files:
    """How a data set lies in its folder.

    Attributes:
        read: gives training and test images of the folder.
        whole: whether it gives all training images, and not just the thousand.
        structure: of the folder, in words.
    """

    read: Callable[[Path], tuple[list[Item], list[Item]]]
    whole: bool
    structure: str


FILES = {
    "flowers102": Files(
        flowers102,
        True,
        "Oxford Flowers 102: jpg/image_00001.jpg and so on, imagelabels.mat and setid.mat"
        " (robots.ox.ac.uk/~vgg/data/flowers/102; torchvision.datasets.Flowers102 fetches them)",
    ),
    "caltech101": Files(
        caltech101,
        True,
        "Caltech101: 101_ObjectCategories/<class>/image_0001.jpg and so on, BACKGROUND_Google"
        " among the classes (data.caltech.edu/records/mzrjq-6wc02;"
        " torchvision.datasets.Caltech101 fetches them)",
    ),
    "dmlab": Files(
        dmlab,
        False,
        "DMLab as train-*.parquet and test-*.parquet with columns image (bytes) and label",
    ),
}
"""By the name of the data set."""


def decoded(items: Sequence[Item], size: int) -> tuple[Tensor, Tensor]:
    """Images ``(N, size, size, 3)`` uint8, bilinearly resized whole, and their labels.

    Raises:
        UserError: for what is no image.
    """
    out = np.empty((len(items), size, size, 3), np.uint8)
    for i, (source, _) in enumerate(items):  # of sizes of their own
        try:
            image = _opened(source)
            out[i] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        except (OSError, SyntaxError) as error:
            name = source if isinstance(source, Path) else f"image {i}"
            raise UserError(f"{name}: cannot be read as an image ({error})") from None
    return torch.from_numpy(out), torch.tensor([label for _, label in items])


def _opened(source: _Source) -> Image.Image:
    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return image.convert("RGB")
