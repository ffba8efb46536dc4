"""NYUv2 as three dense tasks: segmentation, depth and surface normals of a scene.

Silberman, Hoiem, Kohli, Fergus (ECCV 2012), in 288 x 384 pixels as Liu, Johns, Davison have
prepared it (MTAN, CVPR 2019). The files cannot be fetched by a program; a user puts them into the
mirror.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from retable.data.base import DataPaths, PaperDataModule, item_generator
from retable.data.own_data import agree, in_mirror
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

Scene = tuple[Tensor, dict[str, Tensor]]
"""Image ``(3, H, W)`` and targets: ``segmentation`` ``(H, W)`` int64 with -1 where there is no
class, ``depth`` ``(1, H, W)`` with 0 where it was not measured, ``normals`` ``(3, H, W)``."""

N_CLASSES = 13
SCALES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
"""How much larger a crop is made; as in the authors' code."""
CHANNELS: dict[str, tuple[int, ...]] = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
"""Last dimensions of a file's array ``(H, W, ...)``, by folder."""
STRUCTURE = (
    "NYUv2 as MTAN and Nash-MTL have prepared it: folders train, val and test, in each image,"
    " label, depth and normal with 0.npy, 1.npy and so on of 288 x 384 pixels"
)


def augmented(scene: Scene, generator: torch.Generator) -> Scene:
    """A part of a scene made larger, mirrored half of the time.

    Of classes and depth the nearest pixel is taken; image and normals are bilinear, so that normals
    are no unit vectors afterwards, as in the authors' code. Depth is divided by the scale: what is
    larger is nearer. A mirrored scene has its normals' x negated.

    Args:
        scene: left as it is.
        generator: gives scale, place and whether it is mirrored.
    """
    image, targets = scene
    height, width = image.shape[1:]

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    scale = SCALES[below(len(SCALES))]
    h, w = int(height / scale), int(width / scale)
    top, left = below(height - h + 1), below(width - w + 1)
    flipped = below(2) == 1

    def larger(x: Tensor, mode: str) -> Tensor:
        part = x[None, :, top : top + h, left : left + w]
        corners = True if mode == "bilinear" else None
        whole = F.interpolate(part, (height, width), mode=mode, align_corners=corners)[0]
        return whole.flip(2) if flipped else whole

    normals = larger(targets["normals"], "bilinear")
    return larger(image, "bilinear"), {
        "segmentation": larger(targets["segmentation"][None].float(), "nearest")[0].long(),
        "depth": larger(targets["depth"], "nearest") / scale,
        "normals": normals * normals.new_tensor([-1, 1, 1])[:, None, None] if flipped else normals,
    }


class SceneItems(Dataset[Scene]):
    """Scenes that are made when they are asked for.

    Args:
        scenes: what gives each.
        seed: asked for ``(epoch, index)``, a scene is augmented as these and the seed say, in
            whichever process; None for scenes as they are.
    """

    def __init__(self, scenes: Sequence[Callable[[], Scene]], seed: int | None = None) -> None:
        self.scenes, self.seed = scenes, seed

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, at: int | tuple[int, int]) -> Scene:
        epoch, index = at if isinstance(at, tuple) else (0, at)
        scene = self.scenes[index]()
        if self.seed is None:
            return scene
        return augmented(scene, item_generator(self.seed, epoch, index))


class SceneData(PaperDataModule):
    """Base: a batch is as :data:`Scene`, with a first dimension; the last may not be full.

    Args:
        seed: the run's seed; order and augmentation of training scenes follow from it.
        paths: mirror, given by the harness.
        batch_size: training scenes of a batch.
        eval_batch_size: of validation and test; some metrics are means over batches.
        augment: crop and mirror training scenes.
        num_workers: processes that read; numbers do not depend on it.
    """

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        batch_size: Annotated[int, Field(ge=1)] = 2,
        eval_batch_size: Annotated[int, Field(ge=1)] = 2,
        augment: bool = True,
        num_workers: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(seed=seed, paths=paths, num_workers=num_workers)
        self.batch_size, self.eval_batch_size, self.augment = batch_size, eval_batch_size, augment
        self.train: SceneItems | None = None

    @property
    def scales(self) -> dict[str, float]:
        """1 for every task: losses are of targets as they are."""
        return dict.fromkeys(("segmentation", "depth", "normals"), 1.0)

    def scenes(self) -> tuple[Sequence[Callable[[], Scene]], ...]:
        """Training, validation and test."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """List the scenes; none is read."""
        if self.train is None:
            train, validation, test = self.scenes()
            self.train = SceneItems(train, self.seed if self.augment else None)
            self.validation, self.test = SceneItems(validation), SceneItems(test)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches, in the order of the epoch that is about to run."""
        assert self.train is not None
        return self.shuffled(self.train, self.batch_size, with_epoch=True)

    def _ordered(self, items: SceneItems) -> DataLoader[Any]:
        return self.in_order(items, self.eval_batch_size, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches in fixed order."""
        return self._ordered(self.validation)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches in fixed order."""
        return self._ordered(self.test)


class Nyuv2(SceneData):
    """Files of a folder below the mirror, read when a batch is made.

    What identifies the data is a SHA-256 over the lines ``folder/kind/name bytes`` of all files
    that are used; their content, some 5 GB, is not read before every run.

    Copies that go round have 795 scenes in ``train`` and 654 in ``val``, and no ``test``; the
    authors' code needs all three, and where its validation scenes are from is not said. Such a copy
    is used with ``validation: from_train`` and ``test: val``.

    Args:
        checksum: of the data; where there is none, preparing says what it is.
        folder: name of the folder below the mirror.
        validation: ``folder`` takes those of ``val``; ``from_train`` keeps training scenes for it,
            drawn by the run's seed.
        n_validation: how many of them.
        test: folder of the test scenes.
        **options: of :class:`SceneData`.

    Raises:
        ValueError: where one folder would be validation and test.
    """

    size: ClassVar[tuple[int, int]] = (288, 384)
    n_train: ClassVar[int] = 795
    """Scenes of ``train``, known without the data."""

    def __init__(
        self,
        *,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None,
        folder: str = "nyuv2",
        validation: Literal["folder", "from_train"] = "folder",
        n_validation: Annotated[int, Field(ge=1)] = 95,
        test: Literal["test", "val"] = "test",
        **options: Any,
    ) -> None:
        if (validation, test) == ("folder", "val"):
            raise ValueError(
                "data.test: val holds the validation scenes; take validation from_train"
            )
        super().__init__(**options)
        self.folder, self.checksum = folder, checksum
        self.from_train, self.n_validation = validation == "from_train", n_validation
        self.test_folder = test

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        """The folder, and names by split in the order of their numbers."""
        root = in_mirror("data.folder", self.folder, self.paths, STRUCTURE)
        found: dict[str, list[str]] = {}
        for split in ("train", *(() if self.from_train else ("val",)), self.test_folder):
            if not (root / split).is_dir():
                raise UserError(
                    f"{root / split}: is not there. {root} has to be {STRUCTURE}; without val take"
                    " data.validation=from_train, with the test scenes in val data.test=val"
                )
            images = {file.name for file in (root / split / "image").glob("*.npy")}
            names = sorted(images, key=lambda name: (len(name), name))
            for kind in CHANNELS:
                odd = images ^ {file.name for file in (root / split / kind).glob("*.npy")}
                if odd or not images:
                    raise UserError(
                        f"{root / split / kind}: other files than in image ({len(odd)}, as"
                        f" {min(odd, default='none there')}); {root} has to be {STRUCTURE}"
                    )
            found[split] = names
        return root, found

    def identity(self) -> str:
        """Checksum of the data that is there."""
        root, found = self._files()
        digest = hashlib.sha256()
        for split, names in found.items():
            for path in (f"{split}/{kind}/{name}" for kind in CHANNELS for name in names):
                digest.update(f"{path} {(root / path).stat().st_size}\n".encode())
        return digest.hexdigest()

    def prepare_data(self) -> None:
        """Look whether all files are there and are those of the checksum."""
        agree("data.checksum", Path(self.folder), self.identity(), self.checksum)

    def scenes(self) -> tuple[Sequence[Callable[[], Scene]], ...]:
        """Training, validation and test.

        Raises:
            UserError: where no training scene would be left.
        """
        root, found = self._files()
        of = {
            split: [partial(read, root / split, name, self.size) for name in names]
            for split, names in found.items()
        }
        train, test = of["train"], of[self.test_folder]
        if not self.from_train:
            return train, of["val"], test
        if self.n_validation >= len(train):
            raise UserError(f"data.n_validation: {self.n_validation} of {len(train)} scenes")
        drawn = torch.Generator().manual_seed(derive_seed(self.seed, "validation scenes"))
        kept = set(torch.randperm(len(train), generator=drawn)[: self.n_validation].tolist())
        validation = [scene for i, scene in enumerate(train) if i in kept]
        return [scene for i, scene in enumerate(train) if i not in kept], validation, test

    def unread(self) -> tuple[Scene, int]:
        """A batch of the true shape and the batches of an epoch, for a rehearsal without files."""
        n, size = self.batch_size, self.size
        left = self.n_train - (self.n_validation if self.from_train else 0)
        targets = {
            "segmentation": torch.zeros(n, *size, dtype=torch.int64),
            "depth": torch.ones(n, 1, *size),
            "normals": torch.ones(n, 3, *size) / 3**0.5,
        }
        return (torch.rand(n, 3, *size), targets), -(-left // n)


def read(folder: Path, name: str, size: tuple[int, int]) -> Scene:
    """A scene of a split's folder.

    Raises:
        UserError: for a file that is no array of the size, or has another class than -1 to 12.
    """
    arrays: dict[str, Tensor] = {}
    for kind, channels in CHANNELS.items():
        try:
            array = np.load(folder / kind / name, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{folder / kind / name}: cannot be read ({error})") from None
        if array.shape != (*size, *channels):
            raise UserError(
                f"{folder / kind / name}: shape {array.shape}, not {(*size, *channels)}"
            )
        arrays[kind] = torch.from_numpy(array.astype(np.float32))
    label = arrays["label"].long()
    if label.min() < -1 or label.max() >= N_CLASSES:
        raise UserError(f"{folder / 'label' / name}: has classes other than -1 to {N_CLASSES - 1}")
    image, depth, normals = (
        arrays[kind].movedim(-1, 0).contiguous() for kind in ("image", "depth", "normal")
    )
    return image, {"segmentation": label, "depth": depth, "normals": normals}


class GeneratedScenes(SceneData):
    """Scenes of flat squares for smoke runs: a class, a depth and a normal each, seen in colours.

    Some squares have no class, some no depth, some no normal. The set is the same for every seed.

    Args:
        size: pixels of a side, 32 or a multiple.
        n: scenes of each split.
        **options: of :class:`SceneData`.
    """

    def __init__(
        self,
        *,
        size: Annotated[int, Field(ge=32, multiple_of=32)] = 32,
        n: Annotated[int, Field(ge=1)] = 5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.size, self.n = size, n

    def scenes(self) -> tuple[Sequence[Callable[[], Scene]], ...]:
        """Training, validation and test."""
        n = self.n
        return tuple([partial(generated, self.size, k * n + i) for i in range(n)] for k in range(3))


def generated(size: int, index: int) -> Scene:
    """A scene of 4 x 4 squares."""
    generator = torch.Generator().manual_seed(derive_seed(0, "scene", index))
    squares = torch.randint(-1, N_CLASSES, (4, 4), generator=generator)
    depth = torch.rand(1, 4, 4, generator=generator).mul(4).sub(0.4).clamp_min(0)
    normals = F.normalize(torch.randn(3, 4, 4, generator=generator), dim=0)
    normals = normals * (torch.rand(4, 4, generator=generator) > 0.1)
    image = (squares / N_CLASSES + depth / 4 + normals).sigmoid()

    def whole(x: Tensor) -> Tensor:
        return x.repeat_interleave(size // 4, -2).repeat_interleave(size // 4, -1)

    targets = {"segmentation": whole(squares), "depth": whole(depth), "normals": whole(normals)}
    return whole(image) + 0.05 * torch.randn(3, size, size, generator=generator), targets
