"""Folders of small JPEG files, laid out as ImageNet is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from retable.data.base import DataPaths
from retable.data.image_folder import ImageFolder


def write_jpeg(file: Path, seed: int, size: tuple[int, int] = (20, 16)) -> None:
    """A picture of one colour with noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, 3) + rng.integers(-9, 9, (*size, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def write_classes(root: Path, classes: list[str], n: int) -> None:
    """As many images of every class, ``n01532829/n01532829_7.JPEG``."""
    for label, name in enumerate(classes):
        for i in range(n):
            write_jpeg(root / name / f"{name}_{i}.JPEG", 1000 * label + i)


def write_imagenet_lt(root: Path, n_classes: int, n: int = 1) -> None:
    """Images of every class in every split, with the lists of ImageNet-LT."""
    for split, folder in (("train", "train"), ("val", "train"), ("test", "val")):
        lines: list[str] = []
        for label in range(n_classes):
            for i in range(n):
                name = f"{folder}/n{label:08d}/{split}_{i}.JPEG"
                write_jpeg(root / name, 10 * label + i)
                lines.append(f"{name} {label}\n")
        (root / f"ImageNet_LT_{split}.txt").write_text("".join(lines), encoding="utf-8")


def folder(mirror: Path | None, selection, name: str = "images", **options) -> ImageFolder:
    """A data module of a folder of the mirror."""
    return ImageFolder(
        seed=options.pop("seed", 0),
        paths=DataPaths(Path("/nowhere"), mirror),
        folder=name,
        selection=selection,
        checksum=options.pop("checksum", None),
        batch_size=options.pop("batch_size", 2),
        size=options.pop("size", 8),
        **options,
    )
