"""Generated image sets in the layout that they have on the hub: Parquet, a card with metadata."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

CONFIGS = {
    "mnist": "mnist",
    "fashion_mnist": "fashion_mnist",
    "cifar10": "plain_text",
    "cifar100": "cifar100",
    "svhn": "cropped_digits",
}
"""Folder of the files in each hub repository, and name of its configuration."""


def png(image: np.ndarray) -> bytes:
    """An ``(H, W, C)`` uint8 array as PNG; grey for one channel."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()


def pictures(size: int, shape: tuple[int, int, int] = (32, 32, 3), seed: int = 0) -> np.ndarray:
    """Random images ``(size, H, W, C)``, uint8."""
    return np.random.default_rng(seed).integers(0, 256, (size, *shape), dtype=np.uint8)


def columns(name: str, images: Iterable[Any], labels: Iterable[int]) -> dict[str, list[Any]]:
    """The columns of the hub's files; an image is an array or the bytes that stand for one."""
    encoded = [
        {"bytes": image if isinstance(image, bytes | None) else png(image), "path": None}
        for image in images
    ]
    label = list(labels)
    match name:
        case "cifar100":
            coarse = [value % 20 for value in label]
            return {"img": encoded, "fine_label": label, "coarse_label": coarse}
        case "cifar10":
            return {"img": encoded, "label": label}
        case _:
            return {"image": encoded, "label": label}


def features(table: dict[str, Any], classes: int | None = None):
    """What the hub's Parquet files say about their columns."""
    import datasets

    numbers = {"label": classes or 10, "fine_label": classes or 100, "coarse_label": 20}
    return datasets.Features(
        {
            column: datasets.ClassLabel(num_classes=numbers[column])
            if column in numbers
            else datasets.Image()
            for column in table
        }
    )


def write(file: Path, table: dict[str, list[Any]], schema: Any = None) -> None:
    """Write a Parquet file with the library's own metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema or features(table)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table, schema=schema.arrow_schema), file)


def card(config: str, others: Iterable[str] = (), splits: Iterable[str] = ()) -> str:
    """A repository's README: which files belong to which configuration and split."""
    import yaml

    configs = [
        {
            "config_name": name,
            "data_files": [{"split": s, "path": f"{name}/{s}-*"} for s in splits],
        }
        for name in (config, *others)
    ]
    return f"---\n{yaml.safe_dump({'configs': configs})}---\n\n# Generated\n"


def mirror(root: Path, name: str, tables: dict[str, dict[str, list[Any]]], shards: int = 1) -> Path:
    """Write a set into a mirror as the hub has it; returns the repository's folder."""
    from retable.data.image_sets import SETS

    folder = root / SETS[name].hub
    config = CONFIGS[name]
    for split, table in tables.items():
        size = len(next(iter(table.values())))
        for shard in range(shards):
            at = slice(size * shard // shards, size * (shard + 1) // shards)
            part = {column: values[at] for column, values in table.items()}
            write(folder / config / f"{split}-{shard:05}-of-{shards:05}.parquet", part)
    (folder / "README.md").write_text(card(config, splits=tables))
    return folder


def shard(folder: Path, name: str, split: str = "test") -> Path:
    """The only file of a split in a repository's folder."""
    return folder / CONFIGS[name] / f"{split}-00000-of-00001.parquet"


def shrink(monkeypatch: Any, name: str, sizes: dict[str, int]) -> None:
    """Let a set have these sizes for the time of a test."""
    from dataclasses import replace

    from retable.data import image_sets

    monkeypatch.setitem(image_sets.SETS, name, replace(image_sets.SETS[name], sizes=sizes))


def small(
    monkeypatch: Any, root: Path, name: str, seed: int = 0, **sizes: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A small set in a mirror below ``root``; returns images and labels by split, as written."""
    from retable.data.image_sets import SETS

    shrink(monkeypatch, name, sizes)
    wanted = SETS[name]
    content = {}
    for index, (split, size) in enumerate(sizes.items()):
        images = pictures(size, wanted.shape, seed=100 * seed + index)
        content[split] = images, np.arange(size, dtype=np.int64) * 7 % wanted.classes
    mirror(root, name, {split: columns(name, *both) for split, both in content.items()})
    return content
