"""Batches of a run's true shape without its data, and how many of them an epoch has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from hydra.utils import get_class
from torch import Tensor

from retable.data.base import PaperDataModule
from retable.data.fetch import DataUnavailable
from retable.data.image_folder import ImageFolder
from retable.data.image_sets import SETS
from retable.data.modules import GeneratedImages, ImageData
from retable.data.optdigits import OptDigits
from retable.data.tensor_loader import TensorLoader
from retable.launch.rehearsal.small_run import OneEpoch
from retable.training.execute import build_data

ITEMS = 4
"""Items of a small batch at most."""
_ONE_EPOCH = f"{OneEpoch.__module__}.{OneEpoch.__qualname__}"


class Batches:
    """Training batches of a data module.

    Of an image set that is known by name nothing is read: its sizes and shapes are, and its classes
    are taken to be of one size. Any other data is prepared and set up as for a run; of a folder of
    images that is not here, the shapes and the number of training images are known all the same,
    and so they are where a class has a method ``unread``, which gives a batch and their number.

    Args:
        data: of a run; may be changed.
    """

    def __init__(self, data: PaperDataModule) -> None:
        self.data = data
        self.by_name = _by_name(type(data))
        self._loader: Any = None

    def shape(self) -> list[Any] | None:
        """What a batch is like, as a plain value; None where only the data says it."""
        if not isinstance(self.data, ImageData) or not self.by_name:
            return None
        return [*self._image_shape(self.data), self.data.batch_size, self.data.with_ids]

    @staticmethod
    def _image_shape(data: ImageData) -> tuple[int, ...]:
        height, width, channels = SETS[data.dataset].shape
        if isinstance(data.preprocess, str):
            return channels, height, width
        few = torch.rand(2 * ITEMS, channels, height, width)
        images, _ = data.preprocess(few, torch.arange(ITEMS), few[:ITEMS])
        return tuple(images.shape[1:])

    def first(self) -> Any:
        """A training batch, full and with its tensors' true shapes."""
        if self.by_name and isinstance(self.data, ImageData):
            return self._images(self.data)
        try:
            return next(iter(self._train()))
        except DataUnavailable:
            if isinstance(self.data, ImageFolder):
                n, size = min(self.data.batch_size, self.data.n_train), self.data.size
                return torch.rand(n, 3, size, size), torch.zeros(n, dtype=torch.int64)
            if (unread := _unread(self.data)) is None:
                raise
            return unread[0]

    def _images(self, data: ImageData) -> tuple[Tensor, ...]:
        n = min(data.batch_size, self._train_images(data))
        images = torch.rand(n, *self._image_shape(data))
        labels = torch.arange(n) % SETS[data.dataset].classes
        return (images, labels, torch.arange(n)) if data.with_ids else (images, labels)

    @staticmethod
    def _train_images(data: ImageData) -> int:
        sizes = SETS[data.dataset].sizes
        rest = sum(n for name, n in sizes.items() if name != "test") - data.n_validation
        if not isinstance(data.split, str):
            labels = torch.arange(rest + data.n_validation) % SETS[data.dataset].classes
            rest = len(data.split(labels, data.n_validation, data.seed)[0])
        if rest < max(data.n_train or 0, 1):
            wanted = f"data.n_train: {data.n_train}" if data.n_train else "data.n_validation"
            raise ValueError(f"{wanted}: {rest} training images are left of {data.dataset}")
        return data.n_train or rest

    def per_epoch(self, limit: int | None) -> int:
        """Batches of an epoch.

        Args:
            limit: ``trainer.limit_train_batches``.
        """
        if self.by_name and isinstance(self.data, ImageData):
            none = torch.empty(self._train_images(self.data), device="meta")
            loader = TensorLoader([none], self.data.batch_size, drop_last=self.data.drop_last)
            n = len(loader)
        else:
            n = self._batches()
        return n if limit is None else min(n, limit)

    def _batches(self) -> int:
        try:
            return len(self._train())
        except DataUnavailable:
            if isinstance(self.data, ImageFolder):
                return -(-self.data.n_train // self.data.batch_size)
            if (unread := _unread(self.data)) is None:
                raise
            return unread[1]

    def _train(self) -> Any:
        if self._loader is None:
            self.data.prepare_data()
            self.data.setup("fit")
            self._loader = self.data.train_dataloader()
        return self._loader


def _unread(data: PaperDataModule) -> tuple[Any, int] | None:
    """A batch of the true shape and the batches of an epoch, where a class knows them unread."""
    known: Callable[[], tuple[Any, int]] | None = getattr(data, "unread", None)
    return None if known is None else known()


def _by_name(kind: Any) -> bool:
    """Whether data of a class is that of an image set, whatever it leaves out of the set."""
    return (
        isinstance(kind, type)
        and issubclass(kind, ImageData)
        and not issubclass(kind, GeneratedImages | OptDigits)  # nothing of these has to be there
        and not hasattr(kind, "unread")  # which says more than a name
        and kind.setup is ImageData.setup
        and kind.train_dataloader is ImageData.train_dataloader
    )


class FewImages(GeneratedImages):
    """Generated images of which few are tested."""

    def arrays(self) -> dict[str, Tensor]:
        """As there, but for the test."""
        arrays = super().arrays()
        return {n: a[:ITEMS] if n.startswith("test/") else a for n, a in arrays.items()}


def small(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a run, to end after an epoch of one batch of each kind.

    Batches have :data:`ITEMS` items, or fewer where it says so. An image set that is known by name
    is generated.
    """
    data = {**config["data"]}
    if _by_name(get_class(data["_target_"])):
        whole = build_data(config["data"], config["seed"], config["paths"])
        shape = SETS[cast("ImageData", whole).dataset].shape
        known = set(inspect.signature(FewImages).parameters) - {"n_train"}
        data = {name: value for name, value in data.items() if name in known | {"_target_"}}
        if isinstance(data.get("preprocess"), str):
            data["preprocess"] = "none"  # a whitening of few images says nothing
        data |= {
            "_target_": f"{FewImages.__module__}.{FewImages.__qualname__}",
            "shape": list(shape),
            "split": "last",  # what chooses among many images cannot choose among few
            "n_pool": 10,  # the fewest there may be
            "n_validation": 6 if data.get("n_validation") else 0,
            "eval_batch_size": ITEMS,
        }
    options = {**config["trainer"], "min_epochs": None}
    options |= {"limit_train_batches": 1, "limit_test_batches": 1, "check_val_every_n_epoch": 1}
    if options.get("limit_val_batches") != 0:
        options["limit_val_batches"] = 1
    if str(options.get("precision", "")).startswith("16"):
        options["precision"] = "32-true"  # half precision is a GPU's; processors are slow at it
    return {
        **config,
        "data": _few(data),
        "model": _few(config["model"]),
        "trainer": options,
        "callbacks": {**(config.get("callbacks") or {}), "one_epoch": {"_target_": _ONE_EPOCH}},
        "device": {**config["device"], "accelerator": "cpu", "devices": 1},
        "diverged_above": {},
    }


def _few(node: dict[str, Any]) -> dict[str, Any]:
    sizes = {name: node.get(name) for name in ("batch_size", "eval_batch_size")}
    few = {name: min(n, ITEMS) for name, n in sizes.items() if isinstance(n, int)}
    return {**node, **few}
