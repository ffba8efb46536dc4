"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn brings: no network is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths
from retable.data.modules import ImageData
from retable.util.errors import UserError

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of pixels and labels as bytes, in scikit-learn's order."""

N_TEST = 360


def arrays() -> dict[str, Tensor]:
    """1,437 training and 360 test images ``(N, 8, 8, 1)`` uint8, and labels, by split.

    The 17 grey levels are spread over 0 to 255. Test images are of every class in proportion, the
    same for every seed.

    Raises:
        UserError: where scikit-learn is not installed, or brings other images.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise UserError("the digits come with scikit-learn: uv sync --extra digits") from None
    raw: Any = load_digits()
    images, labels = (np.asarray(part).astype(np.uint8) for part in (raw.images, raw.target))
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if found != SHA256:
        raise UserError(f"scikit-learn: its digits are others (sha256 {found[:12]})")
    parts: Any = train_test_split(
        np.arange(len(labels)), test_size=N_TEST, random_state=0, stratify=labels
    )
    pixels = torch.as_tensor(np.round(images * (255 / 16)).astype(np.uint8))[..., None]
    targets = torch.as_tensor(labels.astype(np.int64))
    out: dict[str, Tensor] = {}
    for name, part in zip(("train", "test"), parts, strict=True):
        rows = torch.as_tensor(np.sort(part))
        out[f"{name}/images"], out[f"{name}/labels"] = pixels[rows], targets[rows]
    return out


class OptDigits(ImageData):
    """The digits as an image set.

    Args:
        seed: as for :class:`~retable.data.modules.ImageData`, like all that follow.
        paths: not used.
        batch_size: as there.
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
        batch_size: Annotated[int, Field(ge=1)] = 32,
        n_validation: Annotated[int, Field(ge=0)] = 0,
        split: Literal["last", "seeded", "balanced"] | Callable[..., Any] = "last",
        n_train: Annotated[int, Field(ge=1)] | None = None,
        preprocess: Literal["none", "center_train", "center_each_set", "gcn_zca"]
        | Callable[..., Any] = "none",
        augment: Literal["none", "pad_crop_flip"] | Callable[..., Any] = "none",
        eval_batch_size: Annotated[int, Field(ge=1)] = 1000,
        drop_last: bool = False,
        with_ids: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            paths=paths,
            dataset="mnist",  # not read: the arrays are scikit-learn's
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
        self.dataset = "optdigits"

    def arrays(self) -> dict[str, Tensor]:
        """Images and labels by split, uint8 and int64."""
        return arrays()
