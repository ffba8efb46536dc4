"""The Gab hate corpus for masked language models and as classes, and template sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from retable.papers.peft_debias import text_files
from retable.papers.peft_debias.batches import InOrder, Rows
from retable.papers.peft_debias.cda import listed_words
from retable.papers.peft_debias.data import Split
from retable.papers.peft_debias.data_real import RealText
from retable.papers.peft_debias.mentions import Match, mentions
from retable.papers.peft_debias.own_files import OwnFiles
from retable.util.errors import UserError

FILES: dict[Split, str] = {
    "train": "gab/train_adv.csv",
    "validation": "gab/dev_adv.csv",
    "test": "gab/test_adv.csv",
}
IPTTS = "iptts77k/test.csv"
WIKITEXT = ("wikitext-2/valid.txt", "wikitext-2/test.txt")
_LHC: dict[Split, str] = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
_WHAT = "a part of the large-scale hate corpus, as CSV with the columns text and label (1 for hate)"


class HateText(RealText):
    """Base of hate data: batches of classes have ``mentions`` ``(B, 54)`` of identity terms.

    Args:
        match: how terms are found, of :func:`~retable.papers.peft_debias.mentions.mentions`.
        **options: of :class:`~retable.papers.peft_debias.data_real.RealText`.
    """

    def __init__(self, *, match: Match = "word", **options: Any) -> None:
        super().__init__(**options)
        self.match: Match = match

    def prepare_data(self) -> None:
        """Have the template sentences."""
        super().prepare_data()
        if not self.mlm:
            text_files.source(IPTTS, self.paths)
        listed_words("group", self.paths)

    def normal(self, texts: Iterable[str], columns: Mapping[str, Tensor]) -> Rows:
        """Texts without addresses and user mentions, and what they mention."""
        kept = [text_files.normalised(text) for text in texts]
        return Rows(kept, {**columns, "mentions": mentions(kept, self.match)})

    def templates(self) -> InOrder:
        """Batches of the template sentences (IPTTS-77k), as those of the test."""
        return self.in_fixed_order(self.encoded(self.template_rows()))

    def template_rows(self) -> Rows:
        """Template sentences with their classes, 1 for bad ones."""
        texts, labels = text_files.iptts(text_files.source(IPTTS, self.paths))
        return Rows(texts, {"label": labels, "mentions": mentions(texts, self.match)})


class Gab(HateText):
    """Posts; addresses and user mentions are removed.

    With classes a batch has ``label``, 1 for hate, and ``mentions``. The words of WikiText-2 count
    for the vocabulary.

    Args:
        task: ``mlm`` or ``classification``.
        wikitext: add WikiText-2 (validation and test) to the training texts; for ``mlm`` alone.
        **options: of :class:`HateText`.

    Raises:
        UserError: for options that do not go together.
    """

    def __init__(
        self,
        *,
        task: Literal["mlm", "classification"],
        wikitext: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(task=task, **options)
        if wikitext and not self.mlm:
            raise UserError("data.wikitext: is for data.task=mlm; leave it out")
        self.wikitext = wikitext

    def prepare_data(self) -> None:
        """Have the files."""
        super().prepare_data()
        for name in (*FILES.values(), *WIKITEXT):
            text_files.source(name, self.paths)

    def counted(self) -> Iterable[str]:
        """Training posts and WikiText-2."""
        posts, _ = text_files.gab(text_files.source(FILES["train"], self.paths))
        return chain(map(text_files.normalised, posts), self._wikitext())

    def _wikitext(self) -> list[str]:
        files = (text_files.source(name, self.paths) for name in WIKITEXT)
        return [sentence for path in files for sentence in text_files.wikitext(path)]

    def rows(self, split: Split) -> Rows:
        """Posts of a split, with their classes or augmented."""
        posts, labels = text_files.gab(text_files.source(FILES[split], self.paths))
        rows = self.normal(posts, {"label": labels})
        if split == "train":
            rows = self.limited(rows)
        if not self.mlm:
            return rows
        added = self._wikitext() if split == "train" and self.wikitext else []
        return self.unlabelled([*rows.texts, *added], split)


class Lhc(HateText):
    """Large-scale hate corpus (Toraman et al. 2022): tweets that are hate or not.

    Of what is published there are numbers of tweets and no text; how the authors of PEFTDebias made
    two classes of three, and of which topics, is not known.

    Args:
        folder: below the mirror, with ``train.csv``, ``dev.csv``, ``test.csv``.
        checksums: of these.
        **options: of :class:`HateText`.
    """

    def __init__(
        self,
        *,
        folder: str = "lhc",
        checksums: Annotated[
            list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None],
            Field(min_length=3, max_length=3),
        ],
        **options: Any,
    ) -> None:
        super().__init__(task="classification", **options)
        self.files = OwnFiles(_LHC, folder, checksums, _WHAT, self.paths)

    def prepare_data(self) -> None:
        """Look whether the files are there and are those of the checksums."""
        super().prepare_data()
        self.files.check()

    def counted(self) -> Iterable[str]:
        """Training tweets."""
        return map(text_files.normalised, text_files.gab(self.files["train"])[0])

    def rows(self, split: Split) -> Rows:
        """Tweets of a split."""
        texts, labels = text_files.gab(self.files[split])
        rows = self.normal(texts, {"label": labels})
        return self.limited(rows) if split == "train" else rows
