"""Base of real texts: the vocabulary, counterfactual words, and a limit of training rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from retable.data.fetch import fetch, find, sha256_of
from retable.data.own_data import agree, in_mirror
from retable.papers.peft_debias.batches import Rows
from retable.papers.peft_debias.cda import Axis, listed_words, swaps
from retable.papers.peft_debias.crows import crows_file
from retable.papers.peft_debias.data import Split, TextData
from retable.papers.peft_debias.tokens import Tokenizer, WordPieces, Words
from retable.training.seeds import derive_seed
from retable.util.errors import UserError

BERT_VOCABULARY = "google-bert/bert-base-uncased/vocab.txt"
_BERT_URL = (
    "https://huggingface.co/google-bert/bert-base-uncased/resolve/"
    "86b5e0934494bd15c9632b12f734a8a67f723594/vocab.txt"
)


class RealText(TextData):
    """Base: texts of files.

    Without a vocabulary file tokens are the most frequent words of all training texts, with the
    words of the axes; the same for either task and any other option.

    Args:
        task: ``mlm`` for masked language models, ``classification`` for batches with ``label``.
        cda: axis whose words are exchanged, of training and validation; for ``mlm`` alone.
        first_only: of :class:`~retable.papers.peft_debias.cda.Swaps`.
        limit: training texts at most, chosen at random, the same for every seed.
        words: tokens at most, without the special ones, where there is no vocabulary file.
        vocabulary_file: BERT's ``vocab.txt`` below the mirror or the cache; that of
            bert-base-uncased is fetched.
        vocabulary_sha256: of it.
        stereoset_file: ``test.json`` of StereoSet below the mirror, which only the user can have.
        stereoset_sha256: of it; null where it is not known: then preparing says what it is.
        **options: of :class:`~retable.papers.peft_debias.data.TextData`.

    Raises:
        UserError: for options that do not go together.
    """

    def __init__(
        self,
        *,
        task: Literal["mlm", "classification"],
        cda: Literal["none", "gender", "group", "race", "religion"] = "none",
        first_only: bool = True,
        limit: Annotated[int, Field(ge=1)] | None = None,
        words: Annotated[int, Field(ge=1)] = 8000,
        vocabulary_file: str | None = None,
        vocabulary_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None,
        stereoset_file: str | None = None,
        stereoset_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.mlm = task == "mlm"
        if not self.mlm and cda != "none":
            raise UserError("data.cda: is for data.task=mlm; leave it out")
        if (vocabulary_file is None) != (vocabulary_sha256 is None):
            raise UserError("data.vocabulary_file: goes with data.vocabulary_sha256")
        self.cda: Axis | Literal["none"] = cda
        self.first_only, self.limit, self.words = first_only, limit, words
        self.vocabulary_file, self.vocabulary_sha256 = vocabulary_file, vocabulary_sha256
        self.stereoset_file, self.stereoset_sha256 = stereoset_file, stereoset_sha256

    def prepare_data(self) -> None:
        """Have the vocabulary, and the sentences by which masked language models are scored."""
        if self.vocabulary_file is not None:
            self.vocabulary_path()
        if self.mlm:
            crows_file(self.paths)
        if (path := self.stereoset_path()) is not None:
            agree("data.stereoset_sha256", path, sha256_of(path), self.stereoset_sha256)

    def vocabulary_path(self) -> Path:
        """Where the vocabulary file is; that of bert-base-uncased is fetched where needed.

        Raises:
            DataUnavailable: where it is not there.
        """
        name, sha256 = self.vocabulary_file, self.vocabulary_sha256
        assert name is not None
        assert sha256 is not None
        cache, mirror = self.paths.cache, self.paths.mirror
        if name == BERT_VOCABULARY:
            return fetch(name, _BERT_URL, sha256, cache=cache, mirror=mirror)
        found = find(name, sha256, cache=cache, mirror=mirror)
        what = "BERT's vocabulary, one token a line"
        return found or in_mirror("data.vocabulary_file", name, self.paths, what)

    def stereoset_path(self) -> Path | None:
        """Where StereoSet is, if it is asked for."""
        if self.stereoset_file is None:
            return None
        what = "test.json of StereoSet with its labels, as github.com/McGill-NLP/bias-bench has it"
        return in_mirror("data.stereoset_file", self.stereoset_file, self.paths, what)

    def counted(self) -> Iterable[str]:
        """Texts whose words make the vocabulary: none of them depends on an option."""
        raise NotImplementedError

    def make_tokenizer(self) -> Tokenizer:
        """Of the vocabulary file, else of words."""
        if self.vocabulary_file is not None:
            return WordPieces(self.vocabulary_path(), self.max_length)
        axes: tuple[Axis, ...] = ("gender", "group")
        listed = chain.from_iterable(listed_words(axis, self.paths) for axis in axes)
        always = chain.from_iterable(listed)
        return Words.of(self.counted(), self.words, self.max_length, always=always)

    def limited(self, rows: Rows) -> Rows:
        """Training rows that are kept, in their order."""
        n = len(rows.texts)
        if self.limit is None or self.limit >= n:
            return rows
        rng = torch.Generator().manual_seed(derive_seed(0, "limit"))
        kept = torch.randperm(n, generator=rng)[: self.limit].sort().values
        columns = {name: column[kept] for name, column in rows.columns.items()}
        numbers: list[int] = kept.tolist()
        return Rows([rows.texts[k] for k in numbers], columns)

    def unlabelled(self, texts: Sequence[str], split: Split) -> Rows:
        """Texts for masked language models: no empty ones, augmented unless for the test."""
        kept = [text for text in texts if text]
        if self.cda != "none" and split != "test":
            kept = swaps(self.cda, self.paths, first_only=self.first_only).all(kept)
        return Rows(kept)
