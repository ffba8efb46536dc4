"""Files of text with their checksums: hate data, template sentences, WikiText-2."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from retable.data import fetch
from retable.data.base import DataPaths
from retable.util.errors import UserError

_UPSTREAM = (
    "https://raw.githubusercontent.com/INK-USC/Upstream-Bias-Mitigation"
    "/41b604af6e45728d621f16a9e0ceda52647aa952/datasets"
)
_WIKITEXT = (
    "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"
)

SOURCES: dict[str, tuple[str, str]] = {
    "gab/train_adv.csv": (
        f"{_UPSTREAM}/gab/train_adv.csv",
        "265fdaec37e8fc31d6aa3dfd7d2f76e668041d145cc44ee22116f6f0363577d6",
    ),
    "gab/dev_adv.csv": (
        f"{_UPSTREAM}/gab/dev_adv.csv",
        "06655f0e8b20fa962f66240245b5cffde5fc95e67e9899dbf694446051183d47",
    ),
    "gab/test_adv.csv": (
        f"{_UPSTREAM}/gab/test_adv.csv",
        "9b4ae96c74d11f9648cb63f2ac360481367cd50e2f8eb5af5940a58202ca303a",
    ),
    "iptts77k/test.csv": (
        f"{_UPSTREAM}/iptts77k/test.csv",
        "88f9ac9384d977417544a5e46ecd6d72d00789d96043bddc3692086b840785b3",
    ),
    "wikitext-2/valid.txt": (
        f"{_WIKITEXT}/valid.txt",
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    ),
    "wikitext-2/test.txt": (
        f"{_WIKITEXT}/test.txt",
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    ),
}
"""Address and SHA-256 of files, by their names below the mirror."""

Labelled = tuple[list[str], Tensor]
"""Texts as they are in the file, and classes ``(N,)``."""

_REMOVED = re.compile(r"https?://\S+|www\.\S+|(?<!\w)@\w+")


def source(name: str, paths: DataPaths) -> Path:
    """Where a file of :data:`SOURCES` is, fetched where needed."""
    url, sha256 = SOURCES[name]
    return fetch.fetch(name, url, sha256, cache=paths.cache, mirror=paths.mirror)


def normalised(text: str) -> str:
    """A text without addresses and user mentions, with single spaces."""
    return " ".join(_REMOVED.sub(" ", text).split())


@contextmanager
def decoded(path: Path) -> Generator[None]:
    """Name a file that is not in UTF-8, without what is in it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None


def table(path: Path, columns: Sequence[str], delimiter: str = ",") -> dict[str, list[str]]:
    """Columns of a file with a header, in UTF-8.

    Raises:
        UserError: naming the column that is missing, or the row without as many fields as the
            header; for a file in another encoding.
    """
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file, decoded(path):
        reader = csv.DictReader(file, delimiter=delimiter)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: has no column {missing[0]}")
        found: dict[str, list[str]] = {name: [] for name in columns}
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                raise UserError(f"{path}, row {number}: has other fields than the header")
            for name in columns:
                found[name].append(row[name])
    return found


def classes(path: Path, values: Sequence[str], number: Mapping[str, int]) -> Tensor:
    """Classes of a column ``(N,)``.

    Raises:
        UserError: naming the row whose value is none of them; without the value, for a shifted
            column could be text.
    """
    for row, value in enumerate(values, 1):
        if value not in number:
            raise UserError(f"{path}, row {row}: its class is none of {', '.join(number)}")
    return torch.tensor([number[value] for value in values], dtype=torch.int64)


def gab(path: Path) -> Labelled:
    """Posts of the Gab hate corpus, class 1 for hate: a file with columns ``text``, ``label``."""
    found = table(path, ["text", "label"])
    return found["text"], classes(path, found["label"], {"0": 0, "1": 1})


def iptts(path: Path) -> Labelled:
    """Template sentences, class 1 for bad ones: a file with columns ``Text`` and ``Label``.

    Labels are words, or numbers in other copies.
    """
    found = table(path, ["Text", "Label"])
    number = {"NOT_BAD": 0, "BAD": 1, "0": 0, "1": 1}
    return found["Text"], classes(path, found["Label"], number)


def wikitext(path: Path) -> list[str]:
    """Sentences of WikiText-2, without headings; marks within words are joined again."""
    joined = re.sub(r" @([-,.])@ ", r"\1", path.read_text(encoding="utf-8"))
    lines = [line.strip() for line in joined.splitlines()]
    paragraphs = [line for line in lines if line and not line.startswith("=")]
    return [sentence for text in paragraphs for sentence in re.split(r"(?<= [.?!]) ", text)]
