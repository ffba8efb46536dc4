"""DataModules of image sets in memory: real ones by name, and a generated one for smoke runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from retable.data.arrays import Arrays, checksum
from retable.data.base import DataPaths, PaperDataModule
from retable.data.fetch import locked
from retable.data.image_cache import every, load, read_tensors, writable, write_tensors
from retable.data.splits import split as split_indices
from retable.data.tensor_loader import Augment, TensorLoader
from retable.data.transforms import Whitening, global_contrast_normalize, pad_crop_flip, to_float
from retable.training.epochs import epoch_of
from retable.util.errors import UserError

if TYPE_CHECKING:
    from retable.data.image_sets import ImageSetName

Preprocess = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(images (N, C, H, W) in [0, 1] of training and validation, indices of the training images among
them, test images) -> (training and validation images, test images)``"""


class ImageData(PaperDataModule):
    """An image set, held as float32 tensors ``(N, C, H, W)`` on the run's device.

    Args:
        seed: the run's seed; the order of training images follows from it, and the split where
            that is random.
        paths: mirror and cache, given by the harness.
        dataset: short name of the set.
        checksum: of its decoded arrays.
        batch_size: training images of a batch.
        n_validation: training images that are set aside.
        split: name of the function that chooses them (:mod:`retable.data.splits`), or an object
            that is called as one.
        n_train: use only the first so many of the rest; all where left out.
        preprocess: after scaling to [0, 1]: ``center_train`` subtracts the mean image of the
            training images; ``center_each_set`` does as pylearn2 does: training and validation
            images less the mean image of both, test images less their own; ``gcn_zca`` is global
            contrast normalisation and whitening, fitted on the training images. Or an object that
            is called as a :data:`Preprocess`.
        augment: ``pad_crop_flip`` of training images, or an object that is called with a batch of
            them and a generator on the CPU.
        eval_batch_size: images of a batch of validation and test.
        drop_last: leave out a last training batch that is not full.
        with_ids: batches are ``(images, labels, ids)``; the id of an image is its place among the
            set's training (and extra) images or among its test images, whatever the split.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        dataset: ImageSetName,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        batch_size: Annotated[int, Field(ge=1)],
        n_validation: Annotated[int, Field(ge=0)] = 0,
        split: Literal["last", "seeded", "balanced", "svhn"] | Callable[..., Any] = "last",
        n_train: Annotated[int, Field(ge=1)] | None = None,
        preprocess: Literal["none", "center_train", "center_each_set", "gcn_zca"]
        | Callable[..., Any] = "none",
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = True,
        with_ids: bool = False,
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        for name, given in (("split", split), ("preprocess", preprocess), ("augment", augment)):
            if not isinstance(given, str) and not callable(given):
                raise UserError(f"data.{name}: a {type(given).__name__} cannot be called")
        self.dataset: str = dataset
        self.checksum = checksum
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.n_validation, self.split, self.n_train = n_validation, split, n_train
        self.preprocess, self.augment = preprocess, augment
        self.drop_last, self.with_ids = drop_last, with_ids
        self.train: tuple[Tensor, ...] | None = None

    def arrays(self) -> dict[str, Tensor]:
        """Images and labels by split, uint8 and int64."""
        return load(self.dataset, self.checksum, self.paths)

    def prepare_data(self) -> None:
        """Decode the set into the cache; what is there already is left alone."""
        self.arrays()

    def setup(self, stage: str) -> None:
        """Split, preprocess and put everything on the device, once."""
        if self.train is not None:
            return
        arrays = self.arrays()
        pools = [name.partition("/")[0] for name in arrays if name.endswith("/labels")]
        pools = [name for name in ("train", "extra") if name in pools]
        images = torch.cat([arrays[f"{name}/images"] for name in pools])
        labels = torch.cat([arrays[f"{name}/labels"] for name in pools])
        n, split = self.n_validation, self.split
        train, validation = (
            split_indices(split, labels, n, self.seed)
            if isinstance(split, str)
            else _checked_split(split, labels, n, self.seed)
        )
        if self.n_train is not None:
            if self.n_train > len(train):
                raise UserError(
                    f"data.n_train: {self.n_train} of {len(train)} images, what"
                    f" data.n_validation={n} leaves"
                )
            train = train[: self.n_train]
        pool, test = to_float(images), to_float(arrays["test/images"])
        pool, test = self._preprocessed(pool, train, test)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

        def items(images: Tensor, labels: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
            tensors = (images, labels, ids) if self.with_ids else (images, labels)
            return tuple(tensor.to(device) for tensor in tensors)

        self.train = items(pool[train], labels[train], train)
        self.validation = items(pool[validation], labels[validation], validation)
        self.test = items(test, arrays["test/labels"], torch.arange(len(test)))

    def _preprocessed(self, pool: Tensor, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(self.preprocess, str):
            return _checked_pair(self.preprocess, pool, train, test)
        match self.preprocess:
            case "none":
                return pool, test
            case "center_train":
                mean = pool[train].mean(0)
                return pool - mean, test - mean
            case "center_each_set":
                return pool - pool.mean(0), test - test.mean(0)
            case "gcn_zca":
                pool, test = global_contrast_normalize(pool), global_contrast_normalize(test)
                whiten = self._whitening(pool[train])
                return whiten(pool), whiten(test)
            case _:
                raise UserError(f"data.preprocess: no preprocessing '{self.preprocess}'")

    def _whitening(self, images: Tensor) -> Whitening:
        """Fitted on the images, or the cached result of having done so."""
        digest = hashlib.sha256(images.contiguous().view(torch.uint8).numpy().data).hexdigest()
        file = self.paths.cache / "whitening" / f"{self.dataset}-{digest[:16]}.safetensors"
        with writable(file), locked(file):
            if not file.is_file():
                every(0.0)(f"{self.dataset}: fitting the whitening, once")
                fitted = Whitening.fit(images)
                arrays: Arrays = {"mean": fitted.mean.numpy(), "matrix": fitted.matrix.numpy()}
                own = np.frombuffer(bytes.fromhex(checksum(arrays)), np.uint8)
                write_tensors(file, {**arrays, "checksum": own})
        read = read_tensors(file) or {}
        own = read.pop("checksum", np.empty(0, np.uint8))
        if checksum(read) != own.tobytes().hex():
            raise UserError(f"{file}: is truncated or altered; delete it, it is made again")
        return Whitening(**{name: torch.from_numpy(array) for name, array in read.items()})

    def _epoch(self) -> int:
        return epoch_of(self.trainer) if self.trainer is not None else 0

    def train_dataloader(self) -> TensorLoader:
        """Training batches, in the order of the epoch that is about to run."""
        assert self.train is not None
        named: dict[str, Augment | None] = {"none": None, "pad_crop_flip": pad_crop_flip}
        return TensorLoader(
            self.train,
            self.batch_size,
            shuffle=self.seed,
            epoch=self._epoch,
            augment=named[self.augment] if isinstance(self.augment, str) else self.augment,
            drop_last=self.drop_last,
        )

    def val_dataloader(self) -> TensorLoader:
        """Validation batches in fixed order."""
        return TensorLoader(self.validation, self.eval_batch_size)

    def test_dataloader(self) -> TensorLoader:
        """Test batches in fixed order."""
        return TensorLoader(self.test, self.eval_batch_size)

    def training_inputs(self, limit: int | None = None) -> Iterator[Tensor]:
        """Inputs of training batches in fixed order, not augmented, up to ``limit`` images."""
        assert self.train is not None
        inputs = self.train[0][:limit]
        for start in range(0, len(inputs) - self.batch_size + 1, self.batch_size):
            yield inputs[start : start + self.batch_size]


def _checked_split(
    split: Callable[..., Any], labels: Tensor, n: int, seed: int
) -> tuple[Tensor, Tensor]:
    found = split(labels, n, seed)
    kind = type(split).__name__
    if not isinstance(found, tuple) or [type(part) for part in found] != [Tensor, Tensor]:
        raise UserError(f"data.split: {kind} has to return two tensors of indices")
    train, validation = cast("tuple[Tensor, Tensor]", found)
    both = torch.cat([train, validation])
    if len(both.unique()) != len(both) or (both < 0).any() or (both >= len(labels)).any():
        raise UserError(f"data.split: {kind} returns an index twice, or one of no image")
    return train, validation


def _checked_pair(
    preprocess: Preprocess, pool: Tensor, train: Tensor, test: Tensor
) -> tuple[Tensor, Tensor]:
    found: Any = preprocess(pool, train, test)
    kind = type(preprocess).__name__
    if not isinstance(found, tuple) or [type(part) for part in found] != [Tensor, Tensor]:
        raise UserError(f"data.preprocess: {kind} has to return two tensors, (pool, test)")
    sizes = [len(part) for part in cast("tuple[Tensor, Tensor]", found)]
    if sizes != [len(pool), len(test)]:
        raise UserError(
            f"data.preprocess: {kind} returns {sizes} images for {[len(pool), len(test)]}"
        )
    return cast("tuple[Tensor, Tensor]", found)


class GeneratedImages(ImageData):
    """Noisy copies of one random picture per class: a set that needs no data, for smoke runs.

    Args:
        seed: as for :class:`ImageData`; the set itself is always the same.
        paths: not used.
        shape: height, width and channels.
        n_pool: training and validation images.
        n_test: test images.
        batch_size: as for :class:`ImageData`, like all that follow.
        n_validation: as there.
        split: as there.
        n_train: as there.
        preprocess: as there.
        augment: as there.
        eval_batch_size: as there.
        drop_last: as there.
        with_ids: as there.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        shape: tuple[int, int, int] = (28, 28, 1),
        n_pool: Annotated[int, Field(ge=10)] = 600,
        n_test: Annotated[int, Field(ge=10)] = 200,
        batch_size: Annotated[int, Field(ge=1)] = 50,
        n_validation: Annotated[int, Field(ge=0)] = 100,
        split: Literal["last", "seeded", "balanced"] | Callable[..., Any] = "last",
        n_train: Annotated[int, Field(ge=1)] | None = None,
        preprocess: Literal["none", "center_train", "center_each_set", "gcn_zca"]
        | Callable[..., Any] = "none",
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = True,
        with_ids: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset="mnist",  # not read: the arrays are made here
            checksum=None,
            batch_size=batch_size,
            n_validation=n_validation,
            split=split,
            n_train=n_train,
            preprocess=preprocess,
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
            with_ids=with_ids,
        )
        self.dataset = "generated"
        self.shape = tuple(shape)
        self.sizes = {"train": n_pool, "test": n_test}

    def arrays(self) -> dict[str, Tensor]:
        """Images of 10 classes in turn."""
        generator = torch.Generator().manual_seed(0)
        pictures = torch.rand(10, *self.shape, generator=generator)
        out: dict[str, Tensor] = {}
        for name, size in self.sizes.items():
            labels = torch.arange(size) % 10
            noise = torch.randn(size, *self.shape, generator=generator)
            images = (pictures[labels] + 0.3 * noise).clamp(0, 1)
            out[f"{name}/images"] = (255 * images).to(torch.uint8)
            out[f"{name}/labels"] = labels
        return out
