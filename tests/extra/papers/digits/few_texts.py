"""Data sets of the paper on debiasing, of whatever files a test has written.

A run is a process of its own, to which a test cannot tell checksums otherwise.
"""

from __future__ import annotations

from typing import Any

from retable.data.fetch import sha256_of
from retable.papers.peft_debias import cda, crows, data_bios, data_nli, data_text, text_files


def checksums(mirror: Any) -> list[tuple[Any, str, Any]]:
    """Modules, names and values: checksums of what is in a mirror."""
    sources = {n: (url, sha256_of(mirror / n)) for n, (url, _) in text_files.SOURCES.items()}
    lists = {name: sha256_of(mirror / "bias_nli" / name) for name in data_nli.WORD_LISTS}
    return [
        (text_files, "SOURCES", sources),
        (data_nli, "WORD_LISTS", lists),
        (cda, "WORDS_SHA256", sha256_of(mirror / cda.WORDS)),
        (crows, "CROWS_SHA256", sha256_of(mirror / crows.CROWS_FILE)),
    ]


def adopt(data: Any) -> None:
    """Take the files of a data module's mirror for the right ones."""
    for module, name, value in checksums(data.paths.mirror):
        setattr(module, name, value)


class BiasBios(data_bios.BiasBios):
    """As there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        adopt(self)


class Gab(data_text.Gab):
    """As there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        adopt(self)


class Lhc(data_text.Lhc):
    """As there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        adopt(self)


class Mnli(data_nli.Mnli):
    """As there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        adopt(self)
