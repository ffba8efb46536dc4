"""Small files of text, by characters: Tiny Shakespeare and WikiText-2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from retable.data import fetch
from retable.data.own_data import in_mirror
from retable.papers.weight_decay.text import Draw, Text, crops
from retable.util.errors import UserError

SOURCES = {
    "tinyshakespeare/input.txt": "https://raw.githubusercontent.com/karpathy/char-rnn/master/data"
    "/tinyshakespeare/input.txt",
    **{
        f"wikitext-2/{part}.txt": "https://raw.githubusercontent.com/pytorch/examples/main"
        f"/word_language_model/data/wikitext-2/{part}.txt"
        for part in ("train", "valid", "test")
    },
}
"""Where files can be fetched from, by their names below the mirror."""

HELD_OUT = 0.1
"""Share of a text, its end, that is held out where no other file is."""


class CharacterText(Text):
    """A file of text; tokens are its characters, numbered in their order.

    Args:
        file: name below the mirror; those in :data:`SOURCES` are fetched where they are not there.
        sha256: of it.
        held_out: file that is held out; null: the last tenth of ``file``.
        held_out_sha256: of that file.
        **options: of :class:`~retable.papers.weight_decay.text.Text`.
    """

    def __init__(
        self,
        *,
        file: str,
        sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
        held_out: str | None = None,
        held_out_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if (held_out is None) != (held_out_sha256 is None):
            raise UserError("data.held_out: needs data.held_out_sha256, and the other way round")
        self.files = {"file": (file, sha256)}
        if held_out is not None and held_out_sha256 is not None:
            self.files["held_out"] = held_out, held_out_sha256
        self._parts: tuple[Tensor, Tensor] | None = None

    def _path(self, key: str) -> Path:
        name, sha256 = self.files[key]
        cache, mirror = self.paths.cache, self.paths.mirror
        if name in SOURCES:
            return fetch.fetch(name, SOURCES[name], sha256, cache=cache, mirror=mirror)
        found = fetch.find(name, sha256, cache=cache, mirror=mirror)
        return found or in_mirror(f"data.{key}", name, self.paths, "a text in UTF-8")

    def prepare_data(self) -> None:
        """Have the files."""
        for key in self.files:
            self._path(key)

    def setup(self, stage: str) -> None:
        """Put the text on the device, once.

        Raises:
            UserError: where a part of it is shorter than a sequence.
        """
        if self._parts is not None:
            return
        texts = [_code_points(self._path(key)) for key in self.files]
        known = np.unique(np.concatenate(texts))
        tokens = [torch.from_numpy(np.searchsorted(known, text)).int() for text in texts]
        if len(tokens) == 1:
            n = int(len(tokens[0]) * (1 - HELD_OUT))
            tokens = [tokens[0][:n], tokens[0][n:]]
        for part in tokens:
            check_length(len(part), self.context)
        self.vocabulary = len(known)
        self._parts = tokens[0].to(self.device), tokens[1].to(self.device)

    def draw(self, held_out: bool) -> Draw:
        """Crops of the text."""
        assert self._parts is not None
        return crops(self._parts[held_out], self.context)


def check_length(n: int, context: int) -> None:
    """Refuse a context that is longer than a text.

    Raises:
        UserError: naming the greatest one.
    """
    if n <= context:
        raise UserError(f"data.context: {context} is longer than a text of {n}; {n - 1} at most")


def _code_points(path: Path) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Characters as numbers, ``(N,)``; carriage returns are kept."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8 (byte {error.start})") from None
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
