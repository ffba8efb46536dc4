"""Image sets through ``datasets``: from the mirror, else from the hub, decoded and checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from retable.data.arrays import Arrays
from retable.data.fetch import DataUnavailable
from retable.data.image_sets import ImageSet, image_set
from retable.util.errors import UserError, brief, nearest

if TYPE_CHECKING:
    from datasets import IterableDataset

_BATCH = 1000


def decode(
    name: str, *, mirror: Path | None, say: Callable[[str], None] = lambda _: None
) -> Arrays:
    """All splits of a set as arrays, in their original or in canonical order.

    Args:
        name: short name of the set.
        mirror: folder in the hub's layout, looked at first.
        say: told how far it is.

    Raises:
        DataUnavailable: where it can be had neither from the mirror nor from the hub.
        UserError: where what is there is not the set: another schema, size, shape or label.
    """
    wanted = image_set(name)
    folder = mirror / wanted.hub if mirror is not None else None
    source = str(folder) if folder is not None and folder.is_dir() else wanted.hub
    arrays: Arrays = {}
    say(f"data set {name}: decoding from {source}")
    for split, size in wanted.sizes.items():
        with _quiet(), _refusals(name, wanted, source, mirror):
            stream = _stream(wanted, source, split, local=source != wanted.hub)
            _check_schema(stream, wanted, f"{source}, split {split}")
            images, labels = _read(stream, wanted, f"{source}, split {split}", size, say)
        if wanted.canonical:
            order = canonical_order(images, labels)
            images, labels = images[order], labels[order]
        arrays[f"{split}/images"], arrays[f"{split}/labels"] = images, labels
    return arrays


def canonical_order(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices that sort images by the SHA-256 of their pixels and label.

    The order of the result does not depend on the order of what is given: equal items are
    interchangeable.
    """
    digests = [
        hashlib.sha256(image.tobytes() + bytes([label])).digest()
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def _stream(wanted: ImageSet, source: str, split: str, *, local: bool) -> IterableDataset:
    import datasets

    # Streamed: the decoded arrays are our cache, a second copy in the library's would be waste.
    config, files = wanted.config, None
    if local and config is not None and config not in datasets.get_dataset_config_names(source):
        # A mirror without the hub's card: the folder says the configuration, the file the split.
        below = f"{config}/" if (Path(source) / config).is_dir() else ""
        config, files = None, {split: f"{below}**/{split}[.-]*parquet"}
    return datasets.load_dataset(
        source,
        config,
        data_files=files,
        split=split,
        streaming=True,
        download_config=datasets.DownloadConfig(max_retries=1),
    )


def _check_schema(stream: IterableDataset, wanted: ImageSet, where: str) -> None:
    import datasets

    features = stream.features or {}
    for column, kind in ((wanted.image, datasets.Image), (wanted.label, datasets.ClassLabel)):
        if column not in features:
            raise UserError(f"{where}: has no column '{column}'{nearest(column, features)}")
        if not isinstance(features[column], kind):
            found = brief(repr(features[column]))
            raise UserError(f"{where}: column '{column}' is {found}, expected {kind.__name__}")
    n_classes = features[wanted.label].num_classes
    if n_classes != wanted.classes:
        raise UserError(f"{where}: has {n_classes} labels, expected {wanted.classes}")


def _read(
    stream: IterableDataset, wanted: ImageSet, where: str, size: int, say: Callable[[str], None]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = np.empty((size, *wanted.shape), dtype=np.uint8)
    labels = np.empty(size, dtype=np.int64)
    filled = 0
    with ThreadPoolExecutor(2) as threads:  # the decoders release the interpreter
        for encoded, batch_labels in _batches(stream, wanted):
            end = filled + len(encoded)
            if end > size:
                raise UserError(f"{where}: has more than {size} images")
            for index, image in enumerate(threads.map(_decoded, encoded), start=filled):
                if image is None or image.shape != wanted.shape:
                    found = "is no image" if image is None else f"is {image.shape}"
                    raise UserError(f"{where}: image {index} {found}, expected {wanted.shape}")
                images[index] = image
            labels[filled:end] = batch_labels
            filled = end
            say(f"{where}: {filled} of {size} images decoded")
    if filled != size:
        raise UserError(f"{where}: has {filled} images, expected {size}; the copy is not whole")
    wrong = np.flatnonzero((labels < 0) | (labels >= wanted.classes))
    if len(wrong):
        raise UserError(f"{where}: image {wrong[0]} has label {labels[wrong[0]]}")
    return images, labels


def _batches(
    stream: IterableDataset, wanted: ImageSet
) -> Iterator[tuple[list[bytes], NDArray[np.int64]]]:
    import datasets

    encoded = stream.cast_column(wanted.image, datasets.Image(decode=False)).with_format("arrow")
    for table in cast("Iterator[Any]", encoded.iter(batch_size=_BATCH)):  # Arrow tables
        column = table.column(wanted.image).combine_chunks().field("bytes")
        yield column.to_pylist(), table.column(wanted.label).to_numpy()


def _decoded(content: bytes | None) -> NDArray[np.uint8] | None:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content or b""))
        array = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if image.mode not in ("L", "RGB", "RGBA"):  # a palette's indices, bits, more than 8 bits
        return None
    return array[..., None] if array.ndim == 2 else array


@contextlib.contextmanager
def _refusals(name: str, wanted: ImageSet, source: str, mirror: Path | None) -> Generator[None]:
    """Say what the library's and the file system's errors mean for the user."""
    import datasets.exceptions
    import pyarrow as pa

    try:
        yield
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError, TimeoutError) as error:
        looked = f"not in {mirror}, which has no {wanted.hub}," if mirror else "neither in a mirror"
        raise DataUnavailable(
            f"data set {name}: {looked} nor to be had from the hub ({wanted.hub}:"
            f" {brief(str(error))}); set RETABLE_MIRROR to a folder that holds {wanted.hub}, or"
            " run where there is a network"
        ) from None
    except (OSError, ValueError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{source}: cannot be read as data set {name} ({type(error).__name__}:"
            f" {brief(str(error))}); is it truncated or another set?"
        ) from None


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep the libraries' retries and bars off the terminal; what fails is said by us."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in loggers]
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
