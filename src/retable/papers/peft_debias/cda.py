"""Counterfactual data augmentation: words of an axis exchanged for their counterparts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from retable.data.base import DataPaths
from retable.data.fetch import fetch
from retable.util.errors import UserError, nearest

Axis = Literal["gender", "group", "race", "religion"]
"""Lists of words; the hate data's is ``group``, which holds race, religion and orientation."""

WORDS = "bias/bias_attribute_words.json"
WORDS_URL = (
    "https://raw.githubusercontent.com/sumit-agrwl/peft-debias"
    "/a2f3aee9c814b2def15b705297e6a8c14da98379/bias-bench/data/bias_attribute_words.json"
)
WORDS_SHA256 = "c8f26176ca65d75de1c8b9e7b91bb81d34d8873e919caff3d329e6ef7c67aacd"

MARKS = (".", ",", "?", "!", ";", ":")
"""A listed word is also found with one of these at its end."""

FEW_PAIRS = (
    ("he", "she"),
    ("himself", "herself"),
    ("him", "her"),
    ("his", "her"),
    ("man", "woman"),
    ("father", "mother"),
)
"""Enough for the generated texts; in the order of the authors' list, so that her becomes his."""


class Swaps:
    """Exchanges the listed words of a text, in lower case and split at white space.

    A word in several tuples has the counterparts of the last one. Exchanging is therefore not its
    own inverse: him becomes her, and her becomes his.

    Args:
        tuples: words that stand for each other; pairs for ``two_sided``.
        two_sided: a text with listed words gives two, all its words exchanged and then itself; any
            other gives none, as for gender. Else a text gives itself and a copy for each
            counterpart of a listed word, that word exchanged wherever it is, as for ``group``.
        first_only: without ``two_sided``, only the first listed word of a text is varied; a word
            with a mark at its end counts as another. The authors' code returns that early; their
            text varies all words, one at a time.

    Raises:
        UserError: for a tuple of fewer than two words, or of more than two where ``two_sided``.
    """

    def __init__(
        self, tuples: Iterable[Sequence[str]], *, two_sided: bool, first_only: bool = True
    ) -> None:
        self.two_sided, self.first_only = two_sided, first_only
        self.others: dict[str, list[str]] = {}
        listed = [list(words) for words in tuples]
        for words in listed:
            if len(words) < 2 or (two_sided and len(words) > 2):
                raise UserError(f"cda: {len(words)} words stand for each other; give a pair")
        for mark in ("", *MARKS):
            for words in listed:
                marked = [word + mark for word in words]
                for k, word in enumerate(marked):
                    self.others[word] = marked[:k] + marked[k + 1 :]

    def __call__(self, text: str) -> list[str]:
        """The texts that a text gives, perhaps none; words are joined by single spaces."""
        words = text.lower().split()
        found = dict.fromkeys(word for word in words if word in self.others)
        if self.two_sided:
            if not found:
                return []
            swapped = [self.others[word][0] if word in found else word for word in words]
            return [" ".join(swapped), " ".join(words)]
        varied = list(found)[:1] if self.first_only else list(found)
        copies = [
            " ".join(other if word == listed else word for word in words)
            for listed in varied
            for other in self.others[listed]
        ]
        return [" ".join(words), *copies]

    def all(self, texts: Iterable[str]) -> list[str]:
        """What several texts give, one after the other."""
        return [made for text in texts for made in self(text)]


def listed_words(axis: Axis, paths: DataPaths) -> list[list[str]]:
    """The authors' tuples of an axis, in their order.

    Raises:
        UserError: for an axis that is not in the file.
    """
    if axis not in get_args(Axis):
        raise UserError(f"data.cda: there is no axis '{axis}'{nearest(axis, get_args(Axis))}")
    path = fetch(WORDS, WORDS_URL, WORDS_SHA256, cache=paths.cache, mirror=paths.mirror)
    return json.loads(path.read_text(encoding="utf-8"))[axis]


def swaps(axis: Axis, paths: DataPaths, *, first_only: bool = True) -> Swaps:
    """The exchange of an axis with the authors' words: two-sided for gender alone."""
    return Swaps(listed_words(axis, paths), two_sided=axis == "gender", first_only=first_only)
