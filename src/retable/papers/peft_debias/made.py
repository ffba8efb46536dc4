"""Generated biased sentences: occupations that go with a gender, and tools that go with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retable.training.seeds import derive_seed

MALE, FEMALE = 0, 1
GENDERED: tuple[dict[str, str], dict[str, str]] = (
    {"he": "he", "his": "his", "him": "him", "himself": "himself", "man": "man"},
    {"he": "she", "his": "her", "him": "her", "himself": "herself", "man": "woman"},
)
"""Words of the templates by gender."""

OCCUPATIONS = (
    *("surgeon", "pilot", "plumber", "carpenter", "composer"),
    *("programmer", "mechanic", "farmer", "driver", "baker"),
    *("nurse", "librarian", "teacher", "dancer", "florist"),
    *("tailor", "dietitian", "secretary", "painter", "singer"),
)
"""The first half goes with male words, the second with female ones: so it is made, no more."""

N_MALE = len(OCCUPATIONS) // 2

_TOOLS = (
    "scalpel gown monitor clamp",
    "cockpit runway compass wing",
    "pipe valve wrench sink",
    "chisel plank nail hammer",
    "score violin melody chord",
    "keyboard server compiler screen",
    "engine jack gearbox tyre",
    "tractor barn harvest fence",
    "bus route mirror wheel",
    "oven dough flour loaf",
    "ward bandage chart pillow",
    "shelf catalogue novel archive",
    "classroom chalk lesson exam",
    "stage rehearsal costume ballet",
    "bouquet vase petal ribbon",
    "needle fabric button sleeve",
    "menu vitamin recipe vegetable",
    "calendar letter stapler phone",
    "canvas brush palette easel",
    "microphone choir song studio",
)
TOOLS = tuple(tool for tools in _TOOLS for tool in tools.split())
"""As many for each occupation, in the order of the occupations."""

OWN = len(TOOLS) // len(OCCUPATIONS)
VERBS = ("checked", "moved", "bought", "cleaned", "showed", "described", "kept", "found")

SENTENCES = (
    "{he} is a {occupation} who {verb} the {tool} .",
    "the {occupation} {verb} {his} {tool} .",
    "the {occupation} said that we saw {him} near the {tool} .",
    "this {man} works as a {occupation} and {verb} the {tool} .",
    "the {occupation} {verb} the {tool} {himself} .",
)
"""Each has one gendered word, so that a pair of sentences differs in one token."""

BIOS = (
    "{he} works with the {a} . {his} day begins with the {b} . {he} likes the {c} and the {d} .",
    "this {man} knows the {a} and the {b} . people praise {him} for the {c} . {his} {d} is new .",
    "the {a} is near {his} {b} . {he} taught {himself} to use the {c} and {he} has a {d} .",
)
NOUNS_OF_A_BIO = ("a", "b", "c", "d")


def vocabulary() -> list[str]:
    """All words of the generated texts, in a fixed order."""
    gendered = [word for words in GENDERED for word in words.values()]
    templates = " ".join(part for text in (*SENTENCES, *BIOS) for part in text.split())
    plain = sorted({part for part in templates.split() if "{" not in part})
    return list(dict.fromkeys([*gendered, *plain, *VERBS, *OCCUPATIONS, *TOOLS]))


def stereotype(occupations: Tensor) -> Tensor:
    """The gender that goes with occupations, of the same shape."""
    return (occupations >= N_MALE).long()


def tools(occupations: Tensor, n: int, own: float, twin: float, rng: torch.Generator) -> Tensor:
    """Nouns that are evidence of occupations, more or less.

    Args:
        occupations: ``(N,)``.
        n: nouns of each.
        own: probability that a noun is one of the occupation's own.
        twin: that it is one of its twin's, which goes with the other gender; else it is any.
        rng: of the draws.

    Returns:
        Places in :data:`TOOLS`, ``(N, n)``.
    """
    shape = (len(occupations), n)
    kind = torch.rand(shape, generator=rng)
    within = torch.randint(OWN, shape, generator=rng)
    anything = torch.randint(len(TOOLS), shape, generator=rng)
    twins = (occupations + N_MALE) % len(OCCUPATIONS)
    chosen = torch.where(kind < own, occupations[:, None], twins[:, None]) * OWN + within
    return chosen.where(kind < own + twin, anything)


def _people(n: int, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    occupations = torch.randint(len(OCCUPATIONS), (n,), generator=rng)
    other = (torch.rand(n, generator=rng) >= share).long()
    return occupations, stereotype(occupations) ^ other


def sentences(split: str, n: int, share: float, own: float) -> list[str]:
    """Sentences with an occupation, a gendered word and a noun; the same for every seed.

    Args:
        split: name of the draw.
        n: how many.
        share: probability of the gender that goes with an occupation.
        own: that the noun is one of the occupation's own, else it is any.
    """
    rng = torch.Generator().manual_seed(derive_seed(0, "made sentences", split))
    occupations, genders = _people(n, share, rng)
    nouns = tools(occupations, 1, own, 0.0, rng)[:, 0]
    templates = torch.randint(len(SENTENCES), (n,), generator=rng)
    verbs = torch.randint(len(VERBS), (n,), generator=rng)
    columns = (templates, occupations, genders, verbs, nouns)
    return [
        _sentence(SENTENCES[t], o, g, VERBS[v], TOOLS[k])
        for t, o, g, v, k in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _sentence(template: str, occupation: int, gender: int, verb: str, tool: str) -> str:
    name = OCCUPATIONS[occupation]
    return template.format(occupation=name, verb=verb, tool=tool, **GENDERED[gender])


def bios(
    split: str, n: int, share: float, own: float, twin: float
) -> tuple[list[str], Tensor, Tensor]:
    """Texts about people; the same for every seed.

    Args:
        split: name of the draw.
        n: how many.
        share: probability of the gender that goes with an occupation.
        own: of :func:`tools`.
        twin: of :func:`tools`.

    Returns:
        Texts, occupations ``(N,)``, genders ``(N,)``.
    """
    rng = torch.Generator().manual_seed(derive_seed(0, "made bios", split))
    occupations, genders = _people(n, share, rng)
    nouns = tools(occupations, len(NOUNS_OF_A_BIO), own, twin, rng)
    templates = torch.randint(len(BIOS), (n,), generator=rng).tolist()
    texts = [
        BIOS[template].format(**_named(row), **GENDERED[gender])
        for template, row, gender in zip(templates, nouns.tolist(), genders.tolist(), strict=True)
    ]
    return texts, occupations, genders


def _named(nouns: Sequence[int]) -> dict[str, str]:
    return {slot: TOOLS[noun] for slot, noun in zip(NOUNS_OF_A_BIO, nouns, strict=True)}


def pairs() -> list[tuple[str, str]]:
    """A stereotypical sentence and its opposite, for every occupation and template.

    They differ in one token. A score that prefers male words everywhere is at 50 %.
    """
    return [
        (_sentence(*about, gender, *rest), _sentence(*about, 1 - gender, *rest))
        for occupation, gender in enumerate(stereotype(torch.arange(len(OCCUPATIONS))).tolist())
        for template in SENTENCES
        for about, rest in [((template, occupation), (VERBS[0], TOOLS[occupation * OWN]))]
    ]


def probes() -> list[tuple[str, int]]:
    """``[MASK] is a <occupation>`` and the gender that goes with it, for every occupation."""
    genders = stereotype(torch.arange(len(OCCUPATIONS))).tolist()
    return [(f"[MASK] is a {name}", g) for name, g in zip(OCCUPATIONS, genders, strict=True)]
