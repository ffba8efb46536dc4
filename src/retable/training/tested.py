"""The weights that a run tests: their hash, and what a module does to them before a test."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any, cast

import pytorch_lightning as pl
import torch

from retable.papers.base import PaperModule
from retable.training import data_parallel


def weights_sha256(module: torch.nn.Module) -> str | None:
    """Hash of names, types, shapes and bytes of a module's state, None where it has none."""
    state = module.state_dict()
    return tensors_sha256(state) if state else None


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash of names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class FinishWeights(pl.Callback):
    """Lets a module make its weights ready when a test begins (``PaperModule.finish_weights``).

    Attributes:
        name: which of the module's ``kept_weights`` are tested next; None for the trained ones.
        before: hash of the weights before they were made ready, None where nothing was done.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.before: str | None = None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make them ready, on the run's device."""
        module = cast("PaperModule", pl_module)
        if type(module).finish_weights is PaperModule.finish_weights:
            if self.name is not None:
                raise NotImplementedError(
                    f"{type(module).__name__} keeps the weights '{self.name}', but has no"
                    " finish_weights that would put them in place"
                )
            return
        self.before = weights_sha256(module)
        data = cast("Any", trainer).datamodule
        data.setup("fit")
        # Every process goes through whole batches: nothing has to be added up.
        with data_parallel.alone():
            module.finish_weights(self.name, data)
        module.eval()
        if self.name is not None and weights_sha256(module) == self.before:
            warnings.warn(
                f"{type(module).__name__}.finish_weights('{self.name}') has changed nothing: the"
                " weights that were trained are tested",
                stacklevel=1,
            )
