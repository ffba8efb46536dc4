"""Base of the DataModules: texts for masked language models, or with a class each."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.data.base import DataPaths, PaperDataModule
from retable.papers.peft_debias.batches import Batch, Encoded, InOrder, Passes, Rows
from retable.papers.peft_debias.masking import masked
from retable.papers.peft_debias.tokens import Tokenizer
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

Split = Literal["train", "validation", "test"]


class TextData(PaperDataModule):
    """Base: an epoch is one pass, or a number of batches of the passes that follow each other.

    Order and masks of pass p are functions of (seed, p) alone. Masks of validation and test are the
    same for every seed and in every epoch. A batch of classes also has ``item``, the number of each
    text in its split.

    Args:
        seed: the run's seed.
        paths: mirror and cache, given by the harness.
        batch_size: training texts of a batch.
        eval_batch_size: texts of a batch of validation and test.
        max_length: tokens of a text at most; what is beyond is cut off.
        iterations: batches of an epoch; null: one pass over all.

    Attributes:
        mlm: whether batches are for masked language models.
        classes: number of classes, where they are not.
    """

    mlm: bool
    classes: int = 2

    def __init__(
        self,
        *,
        seed: int,
        paths: DataPaths,
        batch_size: Annotated[int, Field(ge=1)] = 32,
        eval_batch_size: Annotated[int, Field(ge=1)] = 256,
        max_length: Annotated[int, Field(ge=3)] = 48,
        iterations: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        super().__init__(seed=seed, paths=paths)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.max_length, self.iterations = max_length, iterations
        self._encoded: dict[Split, Encoded] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of all texts; once made it stays. May need :meth:`prepare_data`."""
        return self.make_tokenizer()

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.tokenizer.vocab_size

    def make_tokenizer(self) -> Tokenizer:
        """The tokenizer; the same for every seed and for all modules that share weights."""
        raise NotImplementedError

    def rows(self, split: Split) -> Rows:
        """Texts of a split; those of classes with a column ``label``."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Of the run; batches are made on it."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def encoded(self, rows: Rows) -> Encoded:
        """Texts as tokens on the device."""
        columns = dict(rows.columns)
        if not self.mlm:
            columns["item"] = torch.arange(len(rows.texts))
        tokens = self.tokenizer.encode_all(rows.texts)
        return Encoded(tokens, columns, self.tokenizer.pad, self.device)

    def setup(self, stage: str) -> None:
        """Put all splits on the device, once.

        Raises:
            UserError: for a split without a text, as augmentation may leave it.
        """
        splits: tuple[Split, ...] = ("train", "validation", "test")
        for split in splits:
            if split in self._encoded:
                continue
            rows = self.rows(split)
            if not rows.texts:
                raise UserError(f"data: {split} has no text; with data.cda, none has a listed word")
            self._encoded[split] = self.encoded(rows)

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer is not None else 0

    def _masked(self, batch: Batch, items: Tensor, seed: int) -> Batch:
        items = items.to(batch["input_ids"].device)
        given, labels = masked(batch["input_ids"], items, seed, self.tokenizer)
        return {**batch, "input_ids": given, "labels": labels}

    def _train_batch(self, batch: Batch, items: Tensor, number: int) -> Batch:
        if not self.mlm:
            return batch
        return self._masked(batch, items, derive_seed(self.seed, "masks", number))

    def _fixed_batch(self, batch: Batch, items: Tensor, number: int) -> Batch:
        del number
        return self._masked(batch, items, derive_seed(0, "masks")) if self.mlm else batch

    def train_dataloader(self) -> Passes:
        """Training batches of the epoch that is about to run."""
        size, seed, n = self.batch_size, self.seed, self.iterations
        return Passes(self._encoded["train"], size, seed, self._epoch, n, self._train_batch)

    def in_fixed_order(self, encoded: Encoded) -> InOrder:
        """All texts, always the same."""
        return InOrder(encoded, self.eval_batch_size, self._fixed_batch)

    def val_dataloader(self) -> InOrder:
        """Validation texts, always the same."""
        return self.in_fixed_order(self._encoded["validation"])

    def test_dataloader(self) -> InOrder:
        """Test texts, always the same."""
        return self.in_fixed_order(self._encoded["test"])
