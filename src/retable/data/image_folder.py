"""Images in files below a folder of the mirror, decoded as they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from retable.data.base import DataPaths, EpochSampler, PaperDataModule, item_generator
from retable.data.own_data import agree, in_mirror
from retable.training.epochs import epoch_of
from retable.util.errors import UserError

Item = tuple[str, int]
"""Path of an image below the folder, and its label."""

SPLITS = ("train", "validation", "test")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images ``(3, size, size)`` of files, with their labels.

    Asked for ``(epoch, index)``, what is random of an image follows from the seed and these two
    alone, in whichever process it is made.
    """

    def __init__(self, root: Path, items: Sequence[Item], transform: Any, seed: int) -> None:
        self.root, self.items, self.transform, self.seed = root, items, transform, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int | tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = at if isinstance(at, tuple) else (0, at)
        path, label = self.items[index]
        try:
            with Image.open(self.root / path) as image:
                rgb = image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise UserError(f"{self.root / path}: cannot be read as an image ({error})") from None
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.set_rng_state(item_generator(self.seed, epoch, index).get_state())
            return self.transform(rgb), label


class OnDevice:
    """Batches of a loader on a device; a shuffled one in the order of the trainer's epoch."""

    def __init__(self, loader: DataLoader[Any], data: ImageFolder) -> None:
        self.loader, self.data = loader, data

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        trainer, sampler = self.data.trainer, self.loader.sampler
        if isinstance(sampler, EpochSampler) and trainer is not None:
            sampler.set_epoch(epoch_of(trainer))
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        for images, labels in self.loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


class ImageFolder(PaperDataModule):
    """Images of a folder below the mirror, in three splits, normalised as ImageNet's are.

    Training images are cropped at random (torchvision's RandomResizedCrop) and mirrored half of the
    time; of the others the middle is taken after scaling them to 8 / 7 of its size.

    What identifies the data is a SHA-256 over the lines ``split path label bytes`` of all items: it
    tells another selection, another label or another encoding, in the time that asking for the
    files' sizes takes. The content of 150 GB is not read before every run.

    Args:
        seed: the run's seed; order, crops and mirroring follow from it, the splits do not.
        paths: mirror, given by the harness.
        folder: name of the folder below the mirror.
        selection: called with the folder, says which images are in which of :data:`SPLITS`, paths
            below it with their labels (a paper's class); its ``structure`` says in words what the
            folder has to be, its ``n_train`` how many training images there are.
        checksum: of the data; null where it is not known yet: then preparing says what it is.
        batch_size: training images of a batch; a last one that is not full is kept.
        size: of an image.
        jitter: of brightness, contrast and saturation of training images.
        eval_batch_size: images of a batch of validation and test.
        num_workers: processes that decode; numbers do not depend on it.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        folder: str,
        selection: Callable[..., Any],
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        batch_size: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=1)] = 224,
        jitter: Annotated[float, Field(ge=0, le=1)] = 0.0,
        eval_batch_size: Annotated[int, Field(ge=1)] = 256,
        num_workers: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(seed=seed, paths=paths, num_workers=num_workers)
        self.folder, self.checksum = folder, checksum
        self.selection: Any = selection
        self.size, self.jitter = size, jitter
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train: tuple[Pictures, Tensor] | None = None

    def _items(self) -> tuple[Path, dict[str, list[Item]]]:
        root = in_mirror("data.folder", self.folder, self.paths, self.selection.structure)
        return root, self.selection(root)

    @property
    def n_train(self) -> int:
        """Training images, known without the data."""
        return self.selection.n_train

    def identity(self) -> str:
        """Checksum of the data that is there."""
        root, found = self._items()
        digest = hashlib.sha256()
        for split in SPLITS:
            for path, label in found[split]:
                try:
                    n_bytes = (root / path).stat().st_size
                except OSError:
                    structure = self.selection.structure
                    raise UserError(f"{root / path}: is not there; {root} is {structure}") from None
                digest.update(f"{split} {path} {label} {n_bytes}\n".encode())
        return digest.hexdigest()

    def prepare_data(self) -> None:
        """Look whether all images are there and are those of the checksum."""
        agree("data.checksum", Path(self.folder), self.identity(), self.checksum)

    def setup(self, stage: str) -> None:
        """List the images; nothing is decoded."""
        if self.train is not None:
            return
        root, items = self._items()
        size = self.size
        jitter = [v2.ColorJitter(self.jitter, self.jitter, self.jitter)] if self.jitter else []
        random = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *jitter]
        middle = [v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size)]
        self.train, self.validation, self.test = (
            (
                Pictures(root, items[split], _to_tensor(how), self.seed),
                torch.tensor([label for _, label in items[split]]),
            )
            for split, how in zip(SPLITS, (random, middle, middle), strict=True)
        )

    def train_dataloader(self) -> OnDevice:
        """Training batches, in the order of the epoch that is about to run."""
        assert self.train is not None
        return OnDevice(self.shuffled(self.train[0], self.batch_size, with_epoch=True), self)

    def _ordered(self, images: Pictures) -> OnDevice:
        loader = self.in_order(images, self.eval_batch_size, num_workers=self.num_workers)
        return OnDevice(loader, self)

    def val_dataloader(self) -> OnDevice:
        """Validation batches in fixed order."""
        return self._ordered(self.validation[0])

    def test_dataloader(self) -> OnDevice:
        """Test batches in fixed order."""
        return self._ordered(self.test[0])


def _to_tensor(transforms: Sequence[Any]) -> v2.Compose:
    scaled = v2.ToDtype(torch.float32, scale=True)
    return v2.Compose([*transforms, v2.PILToTensor(), scaled, v2.Normalize(_MEAN, _STD)])
