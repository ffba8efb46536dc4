"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64, from the folders that it comes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from retable.data.arrays import Arrays, checksum
from retable.data.base import DataPaths
from retable.data.fetch import locked
from retable.data.image_cache import every, read_tensors, writable, write_tensors
from retable.data.image_folder import ImageFolder, Item
from retable.data.modules import ImageData
from retable.data.own_data import in_mirror
from retable.util.errors import UserError

_SIDE, _CLASSES, _TRAIN = 64, 200, 100_000


class Listing:
    """Which files are in which split; the images called validation are the test images here.

    Labels are the places of the classes' names in alphabetical order. The images called test have
    no public labels and are left alone.
    """

    structure: ClassVar[str] = (
        "Tiny ImageNet as it comes, with train/n01443537/images/n01443537_0.JPEG and so on,"
        " val/images/val_0.JPEG and so on, and val/val_annotations.txt"
    )
    n_train: ClassVar[int] = _TRAIN

    def __call__(self, root: Path) -> dict[str, list[Item]]:
        """Images by split, training images by class and number.

        Raises:
            UserError: where folders or annotations are missing, or have another form.
        """
        names = sorted(path.name for path in (root / "train").glob("n*"))
        if not names:
            raise UserError(f"{root / 'train'}: has no classes; {root.name} is {self.structure}")
        labels = {name: label for label, name in enumerate(names)}
        train = [
            (f"train/{name}/images/{path.name}", label)
            for name, label in labels.items()
            for path in sorted((root / "train" / name / "images").glob("*.JPEG"), key=_number)
        ]
        return {"train": train, "validation": [], "test": self._annotated(root, labels)}

    def _annotated(self, root: Path, labels: dict[str, int]) -> list[Item]:
        file = root / "val" / "val_annotations.txt"
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{file}: is not there, or no text; it is {self.structure}") from None
        found: list[Item] = []
        for number, line in enumerate(filter(None, lines), start=1):
            name, _, rest = line.partition("\t")
            label = labels.get(rest.partition("\t")[0])
            if label is None or "/" in name:
                raise UserError(f"{file}, line {number}: has to be an image, tab, a class of train")
            found.append((f"val/images/{name}", label))
        return found


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.rpartition("_")[2]
    return (int(digits) if digits.isdecimal() else -1, path.name)


class TinyImageNet(ImageData):
    """Tiny ImageNet as an image set in memory; its files are decoded once, into the cache.

    What identifies it are the names and sizes of its files
    (:class:`~retable.data.image_folder.ImageFolder`), as decoders of JPEG differ in single bits.

    Args:
        seed: as for :class:`~retable.data.modules.ImageData`, like all that follow but the folder.
        paths: as there.
        checksum: of the files; null where it is not known yet: then preparing says what it is.
        batch_size: as there.
        folder: below the mirror.
        n_validation: as there.
        split: as there.
        n_train: as there.
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
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        batch_size: Annotated[int, Field(ge=2)],
        folder: str = "tiny-imagenet-200",
        n_validation: Annotated[int, Field(ge=0)] = 0,
        split: Literal["last", "seeded", "balanced"] | Callable[..., Any] = "seeded",
        n_train: Annotated[int, Field(ge=1)] | None = None,
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = True,
        with_ids: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset="cifar100",  # not read: the arrays are those of the folder
            checksum=checksum,
            batch_size=batch_size,
            n_validation=n_validation,
            split=split,
            n_train=n_train,
            augment=augment,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
            with_ids=with_ids,
        )
        self.dataset = "tiny_imagenet"
        self.files = ImageFolder(
            seed=seed,
            paths=paths,
            folder=folder,
            selection=Listing(),
            checksum=checksum,
            batch_size=batch_size,
        )

    def arrays(self) -> dict[str, Tensor]:
        """Images ``(N, 64, 64, 3)`` and labels by split, uint8 and int64, from the cache."""
        self.files.prepare_data()
        name = f"tiny_imagenet-{(self.checksum or '')[:16]}.safetensors"
        file = self.paths.cache / "images" / name
        with writable(file), locked(file):
            if not file.is_file():
                arrays = self._decoded()
                own = np.frombuffer(bytes.fromhex(checksum(arrays)), np.uint8)
                write_tensors(file, {**arrays, "checksum": own})
        read = read_tensors(file) or {}
        own = read.pop("checksum", np.empty(0, np.uint8))
        if checksum(read) != own.tobytes().hex():
            raise UserError(f"{file}: is truncated or altered; delete it, it is made again")
        return {key: torch.from_numpy(array) for key, array in read.items()}

    def _decoded(self) -> Arrays:
        files = self.files
        root = in_mirror("data.folder", files.folder, self.paths, Listing.structure)
        items, say, found = files.selection(root), every(2.0), Arrays()
        for split in ("train", "test"):
            labels = np.array([label for _, label in items[split]], np.int64)
            found[f"{split}/images"] = _images(root, items[split], split, say)
            found[f"{split}/labels"] = labels
        return found

    def unread(self) -> tuple[tuple[Tensor, ...], int]:
        """A batch of the true shape and the batches of an epoch, for a rehearsal without data."""
        n = self.n_train or _TRAIN - self.n_validation
        size = min(n, self.batch_size)
        labels = torch.arange(size)
        batch = (torch.rand(size, 3, _SIDE, _SIDE), labels % _CLASSES)
        n_batches = n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return ((*batch, labels) if self.with_ids else batch), n_batches


def _images(
    root: Path, items: Sequence[Item], split: str, say: Callable[[str], None]
) -> np.ndarray[Any, Any]:
    found = np.empty((len(items), _SIDE, _SIDE, 3), np.uint8)
    for number, (path, _) in enumerate(items):
        try:
            with Image.open(root / path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise UserError(f"{root / path}: cannot be read as an image ({error})") from None
        if pixels.shape != found.shape[1:]:
            raise UserError(f"{root / path}: is {pixels.shape[1]} x {pixels.shape[0]}, not 64 x 64")
        found[number] = pixels
        if number % 1000 == 999:
            say(f"Tiny ImageNet, split {split}: {number + 1} of {len(items)} images decoded")
    return found
