"""BiasBios (De-Arteaga et al. 2019): the occupation of a person from a text, or the text alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from retable.papers.peft_debias import text_files
from retable.papers.peft_debias.batches import Rows
from retable.papers.peft_debias.cda import listed_words
from retable.papers.peft_debias.data import Split
from retable.papers.peft_debias.data_real import RealText
from retable.papers.peft_debias.own_files import OwnFiles

OCCUPATIONS = tuple(
    occupation
    for occupations in (
        "accountant architect attorney chiropractor comedian composer dentist dietitian dj",
        "filmmaker interior_designer journalist model nurse painter paralegal pastor",
        "personal_trainer photographer physician poet professor psychologist rapper",
        "software_engineer surgeon teacher yoga_teacher",
    )
    for occupation in occupations.split()
)
"""The 28, in the alphabet's order, which is that of their numbers."""

FILES: dict[Split, str] = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
_WHAT = (
    "the split of github.com/shauli-ravfogel/nullspace_projection, as CSV with the columns text, p"
    " (occupation) and g (m or f)"
)


class BiasBios(RealText):
    """Bios; with classes a batch has ``label`` and ``group``, 0 for male and 1 for female.

    Args:
        task: ``mlm`` or ``classification``.
        folder: below the mirror, with ``train.csv``, ``dev.csv``, ``test.csv``.
        checksums: SHA-256 of these; null where it is not known: then preparing says what it is.
        **options: of :class:`~retable.papers.peft_debias.data_real.RealText`.
    """

    classes = len(OCCUPATIONS)
    class_names = OCCUPATIONS

    def __init__(
        self,
        *,
        task: Literal["mlm", "classification"],
        folder: str = "biasbios",
        checksums: Annotated[
            list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None],
            Field(min_length=3, max_length=3),
        ],
        **options: Any,
    ) -> None:
        super().__init__(task=task, **options)
        self.files = OwnFiles(FILES, folder, checksums, _WHAT, self.paths)

    def prepare_data(self) -> None:
        """Look whether the files are there and are those of the checksums."""
        super().prepare_data()
        self.files.check()
        listed_words("gender", self.paths)

    def _read(self, split: Split) -> Rows:
        path = self.files[split]
        found = text_files.table(path, ["text", "p", "g"])
        numbers = {name: k for k, name in enumerate(OCCUPATIONS)}
        columns = {
            "label": text_files.classes(path, found["p"], numbers),
            "group": text_files.classes(path, found["g"], {"m": 0, "f": 1}),
        }
        return Rows([" ".join(text.split()) for text in found["text"]], columns)

    def counted(self) -> Iterable[str]:
        """Training bios."""
        return self._read("train").texts

    def rows(self, split: Split) -> Rows:
        """Bios of a split, with their classes or augmented."""
        rows = self._read(split)
        if split == "train":
            rows = self.limited(rows)
        return self.unlabelled(rows.texts, split) if self.mlm else rows
