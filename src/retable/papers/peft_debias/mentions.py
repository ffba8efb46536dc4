"""Identity terms of the false-positive differences, and which texts mention them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Match = Literal["word", "substring"]

TERMS = tuple(
    term
    for terms in (
        "jewish christian muslim sikh buddhist hindu atheist",
        "torah bible quran gita synagogue church mosque temple monastery",
        "judaism christianity islam sikhism buddhism hinduism atheism allah god christ",
        "caucasian asian indian mexican american african european chinese hispanic",
        "black white brown africa america asia europe mexico india china",
        "gay lesbian straight homosexual asexual transgender trans queer bisexual",
    )
    for term in terms.split()
)
"""The 54 of the authors' evaluation, in their order."""


def mentions(texts: Sequence[str], match: Match, terms: Sequence[str] = TERMS) -> Tensor:
    """Which texts mention which terms.

    Args:
        texts: N of them.
        match: ``word`` finds whole words in any case; ``substring`` finds a term anywhere, in the
            given case, as the authors' code does: "trans" in "translate".
        terms: K of them, in lower case.

    Returns:
        ``(N, K)``, bool.
    """
    place = {term: k for k, term in enumerate(terms)}
    rows: list[int] = []
    columns: list[int] = []
    for n, text in enumerate(texts):
        if match == "word":
            here = {place[word] for word in re.findall(r"\w+", text.lower()) if word in place}
        else:
            here = {k for term, k in place.items() if term in text}
        rows += [n] * len(here)
        columns += here
    found = torch.zeros(len(texts), len(place), dtype=torch.bool)
    found[rows, columns] = True
    return found
