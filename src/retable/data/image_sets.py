"""The image sets that papers share, by the names they have on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retable.util.errors import UserError, nearest


@dataclass(frozen=True)
class ImageSet:
    """Where a set of images is and what it has to look like.

    Attributes:
        hub: repository of the set on the hub; the mirror has the same layout.
        config: the repository's configuration; None for its only one.
        image: column of the images.
        label: column of the labels.
        sizes: number of images by split.
        shape: height, width and channels of an image.
        classes: number of labels.
        canonical: whether the images are put in the order of their content's hash, because sources
            do not agree on an order. Where they do, the original order stays.
    """

    hub: str
    config: str | None
    image: str
    label: str
    sizes: dict[str, int]
    shape: tuple[int, int, int]
    classes: int
    canonical: bool


ImageSetName = Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"]
"""Name of one of :data:`SETS`; as the annotation of an argument it is checked before a run."""

_SMALL = {"train": 60_000, "test": 10_000}
_CIFAR = {"train": 50_000, "test": 10_000}
_SVHN = {"train": 73_257, "extra": 531_131, "test": 26_032}

SETS = {
    # The usual validation images of MNIST are the last 10,000 of its original order.
    "mnist": ImageSet(
        "ylecun/mnist", None, "image", "label", _SMALL, (28, 28, 1), 10, canonical=False
    ),
    "fashion_mnist": ImageSet(
        "zalando-datasets/fashion_mnist",
        None,
        "image",
        "label",
        _SMALL,
        (28, 28, 1),
        10,
        canonical=True,
    ),
    "cifar10": ImageSet(
        "uoft-cs/cifar10", None, "img", "label", _CIFAR, (32, 32, 3), 10, canonical=True
    ),
    "cifar100": ImageSet(
        "uoft-cs/cifar100", None, "img", "fine_label", _CIFAR, (32, 32, 3), 100, canonical=True
    ),
    "svhn": ImageSet(
        "ufldl-stanford/svhn",
        "cropped_digits",
        "image",
        "label",
        _SVHN,
        (32, 32, 3),
        10,
        canonical=True,
    ),
}


def image_set(name: str) -> ImageSet:
    """A set by its short name.

    Raises:
        UserError: for a name that is not known, with the nearest that is.
    """
    if name not in SETS:
        raise UserError(f"data set '{name}': not known{nearest(name, SETS)}")
    return SETS[name]
