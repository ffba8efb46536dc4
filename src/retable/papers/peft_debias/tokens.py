"""Tokenizers: of the most frequent words of given texts, and WordPiece from a vocabulary file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from retable.util.errors import UserError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PARTS = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK)\]|\w+(?:'\w+)*|[^\w\s]")


class Tokenizer:
    """Base: text to numbers of tokens, between [CLS] and [SEP].

    Args:
        tokens: the vocabulary in its order; :data:`SPECIALS` are among them.
        max_length: tokens of a text at most, [CLS] and [SEP] included.

    Attributes:
        pad, unk, cls, sep, mask: numbers of the special tokens.

    Raises:
        UserError: where a special token is missing, or a text could hold no other.
    """

    def __init__(self, tokens: Sequence[str], max_length: int) -> None:
        if max_length < 3:
            raise UserError(f"data.max_length: {max_length} leaves no token of a text; 3 at least")
        self.tokens, self.max_length = list(tokens), max_length
        self.number = {token: k for k, token in enumerate(self.tokens)}
        missing = [token for token in SPECIALS if token not in self.number]
        if missing:
            raise UserError(f"the vocabulary has no {missing[0]}")
        self.pad, self.unk, self.cls, self.sep, self.mask = (self.number[s] for s in SPECIALS)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def special(self) -> tuple[int, ...]:
        """Numbers of the special tokens."""
        return self.pad, self.unk, self.cls, self.sep, self.mask

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of the tokens of texts, nothing added."""
        raise NotImplementedError

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of several texts with [CLS] and [SEP], cut to ``max_length``."""
        kept = self.max_length - 2
        return [[self.cls, *pieces[:kept], self.sep] for pieces in self.pieces(texts)]

    def encode(self, text: str) -> list[int]:
        """Numbers of a text with [CLS] and [SEP], cut to ``max_length``."""
        return self.encode_all([text])[0]

    def decode(self, numbers: Iterable[int]) -> str:
        """The tokens, joined by spaces; without [PAD], [CLS] and [SEP]."""
        left_out = {self.pad, self.cls, self.sep}
        return " ".join(self.tokens[number] for number in numbers if number not in left_out)


class Words(Tokenizer):
    """A token is a word in lower case or a mark; other words are [UNK].

    Args:
        words: those that are known.
        max_length: of :class:`Tokenizer`.
    """

    def __init__(self, words: Iterable[str], max_length: int) -> None:
        super().__init__([*SPECIALS, *dict.fromkeys(words)], max_length)

    @classmethod
    def of(
        cls, texts: Iterable[str], n: int, max_length: int, *, always: Iterable[str] = ()
    ) -> Words:
        """The most frequent words of texts; of equally frequent ones the first in the alphabet.

        Args:
            texts: whose words are counted.
            n: words at most.
            max_length: of :class:`Tokenizer`.
            always: further texts whose words are known whatever their frequency; they count in n.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(text))
        first = dict.fromkeys(word for text in always for word in split(text))
        by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
        known = dict.fromkeys([*first, *by_frequency])
        return cls(islice((word for word in known if word not in SPECIALS), n), max_length)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Number of each word."""
        return [[self.number.get(word, self.unk) for word in split(text)] for text in texts]


class WordPieces(Tokenizer):
    """BERT's tokens in lower case.

    Args:
        vocabulary: a file ``vocab.txt``, one token a line.
        max_length: of :class:`Tokenizer`.
    """

    def __init__(self, vocabulary: Path, max_length: int) -> None:
        from tokenizers import BertWordPieceTokenizer

        tokens = vocabulary.read_text(encoding="utf-8").splitlines()
        super().__init__(tokens, max_length)
        self._library: Any = BertWordPieceTokenizer(vocab=self.number, lowercase=True)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of the word pieces."""
        encoded = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [one.ids for one in encoded]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words, their pieces joined; without [PAD], [CLS] and [SEP]."""
        return super().decode(numbers).replace(" ##", "")


def split(text: str) -> list[str]:
    """Words in lower case and marks; special tokens as they are."""
    return [part if part in SPECIALS else part.lower() for part in _PARTS.findall(text)]
