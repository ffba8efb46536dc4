"""ImageNet-LT and mini-ImageNet-LT: which of ImageNet's files are in which split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from retable.data.image_folder import SPLITS, Item
from retable.papers.weight_balancing.long_tail import counts
from retable.util.errors import UserError


class ImageNetLT:
    """ImageNet-LT: the lists of Liu et al. (CVPR 2019) say what is in which split.

    To be given as ``data.selection``, as is :class:`MiniImageNetLT`.
    """

    structure: ClassVar[str] = (
        "ImageNet (ILSVRC 2012) as folders train/n01440764/... and val/..., with the lists"
        " ImageNet_LT_train.txt, ImageNet_LT_val.txt and ImageNet_LT_test.txt of"
        " OpenLongTailRecognition-OLTR beside them"
    )
    n_train: ClassVar[int] = 115_846

    def __call__(self, root: Path) -> dict[str, list[Item]]:
        """Images by split, in the order of the lists.

        Raises:
            UserError: for a list that is missing or has another line than ``path label``.
        """
        names = dict(zip(SPLITS, ("train", "val", "test"), strict=True))
        return {split: listed(root / f"ImageNet_LT_{name}.txt") for split, name in names.items()}


def listed(file: Path) -> list[Item]:
    """Images of a list with lines ``path label``."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{file}: is not there, or no text") from None
    found: list[Item] = []
    for number, line in enumerate(filter(None, lines), start=1):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdecimal() or path.startswith("/") or ".." in path.split("/"):
            raise UserError(f"{file}, line {number}: has to be a path below {file.parent}, a label")
        found.append((path, int(label)))
    return found


@dataclass(frozen=True)
class MiniImageNetLT:
    """mini-ImageNet-LT: 500, 100 and 100 images of every class, of the first a long tail.

    Images of a class are put in one order, by the SHA-256 of their file's name: the first are the
    long tail's, the last those of validation and test, so that no image is in two splits. In the
    authors' code the three come from permutations of their own for some classes, and overlap.

    Attributes:
        classes: names of the folders; labels are their places in alphabetical order.
        largest: images of the first class, and of every class before the tail is cut.
        imbalance: the last class's share of the first one's.
        n_validation: images of every class.
        n_test: images of every class.
    """

    structure: ClassVar[str] = (
        "ImageNet's training images in folders by class, n01532829/n01532829_1057.JPEG and so on"
    )
    classes: list[str]
    largest: Annotated[int, Field(ge=1)] = 500
    imbalance: Annotated[float, Field(gt=0, le=1)] = 0.01
    n_validation: Annotated[int, Field(ge=1)] = 100
    n_test: Annotated[int, Field(ge=1)] = 100

    def in_training(self) -> list[int]:
        """Training images of every class."""
        return counts(self.largest, len(self.classes), self.imbalance, "down")

    @property
    def n_train(self) -> int:
        """Training images."""
        return sum(self.in_training())

    def __call__(self, root: Path) -> dict[str, list[Item]]:
        """Images by split.

        Raises:
            UserError: where a class has no folder, or too few images in it.
        """
        found: dict[str, list[Item]] = {split: [] for split in SPLITS}
        in_training = self.in_training()
        ends = (self.largest, self.largest + self.n_validation, 0)
        n = ends[1] + self.n_test
        for label, name in enumerate(sorted(self.classes)):
            files = [path.name for path in (root / name).glob("*.[jJ][pP]*[gG]")]
            if len(files) < n:
                raise UserError(
                    f"{root / name}: has {len(files)} images, {n} are needed;"
                    f" {root.name} is {self.structure}"
                )
            files.sort(key=lambda file: hashlib.sha256(file.encode()).digest())
            paths = [(f"{name}/{file}", label) for file in files[:n]]
            found["train"] += paths[: in_training[label]]
            found["validation"] += paths[ends[0] : ends[1]]
            found["test"] += paths[ends[1] :]
        return found
