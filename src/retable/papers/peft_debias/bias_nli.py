"""Pairs of Bias-NLI (Dev et al. 2020): an occupation and a gendered word do the same thing.

Neither sentence follows from the other or contradicts it, so that each pair is neutral.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

GENDERED = ("man", "gentleman", "guy", "woman", "lady", "girl")


def with_article(word: str) -> str:
    """A word after 'a', or after 'an' where it begins with a vowel letter."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"


@dataclass(frozen=True, slots=True)
class BiasNli:
    """All combinations of four lists, as pairs of premise and hypothesis.

    Verbs that go with other objects, as driving with vehicles and eating with food, make a set of
    their own.
    """

    occupations: Sequence[str]
    verbs: Sequence[str]
    objects: Sequence[str]
    gendered: Sequence[str] = GENDERED

    def __len__(self) -> int:
        lists = (self.occupations, self.verbs, self.objects, self.gendered)
        return prod(len(words) for words in lists)

    def __getitem__(self, index: int) -> tuple[str, str]:
        """Premise and hypothesis of a number; the gendered word turns fastest.

        Raises:
            IndexError: outside 0 .. len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{index} is outside 0 .. {len(self) - 1}")
        index, gendered = divmod(index, len(self.gendered))
        index, thing = divmod(index, len(self.objects))
        occupation, verb = divmod(index, len(self.verbs))
        rest = f"{self.verbs[verb]} {with_article(self.objects[thing])}."
        subjects = self.occupations[occupation], self.gendered[gendered]
        premise, hypothesis = (f"{with_article(subject)} {rest}" for subject in subjects)
        return f"A{premise[1:]}", f"A{hypothesis[1:]}"
