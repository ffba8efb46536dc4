"""OpenWebText (Gokaslan, Cohen 2019) in GPT-2's vocabulary, as a file of 16-bit tokens."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from retable.data import fetch
from retable.data.fetch import DataUnavailable, sha256_of
from retable.data.own_data import agree, in_mirror
from retable.papers.weight_decay.text import Draw, Text
from retable.papers.weight_decay.text_characters import check_length
from retable.util.errors import UserError, brief, nearest

_DOCUMENTS = 1000
"""Tokenised at once."""
_COLUMN = "text"
_VOCABULARY = (
    "a file tokenizer.json, GPT-2's of openai-community/gpt2 on the hub; with"
    " data.vocabulary_sha256 it is fetched from there"
)


class OpenWebText(Text):
    """Documents one after the other, an end-of-text token after each; crops begin anywhere.

    They are read in the order of the hub's files and tokenised once, into the cache: 18 GB that
    are mapped, not read. Every ``1 / held_out``-th document is held out, so that no pass
    over all is needed before: nanoGPT draws as many of them at random.

    Args:
        corpus: data set on the hub, and folder below the mirror, with a column ``text``.
        vocabulary_file: a tokeniser of ``tokenizers`` with at most 65,536 tokens: below the mirror,
            or ``hub:OWNER/REPOSITORY/FILE``.
        vocabulary_sha256: of that file; null where it is not known: then preparing says what it is.
        end: the token after a document.
        held_out: share of the documents that are held out.
        checksum: of all tokens; null where it is not known: then preparing says what it is.
        **options: of :class:`~retable.papers.weight_decay.text.Text`.
    """

    def __init__(
        self,
        *,
        corpus: str = "Skylion007/openwebtext",
        vocabulary_file: str = "hub:openai-community/gpt2/tokenizer.json",
        vocabulary_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        end: str = "<|endoftext|>",
        held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.0005,
        checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.corpus, self.end, self.checksum = corpus, end, checksum
        self.vocabulary_file, self.vocabulary_sha256 = vocabulary_file, vocabulary_sha256
        self.every = round(1 / held_out)
        self._parts: tuple[Any, Any] | None = None

    def _vocabulary(self) -> Path:
        name, wanted = self.vocabulary_file.removeprefix("hub:"), self.vocabulary_sha256
        if name != self.vocabulary_file and wanted is not None:
            from huggingface_hub import hf_hub_url

            owner, repository, *inside = name.split("/")
            url = hf_hub_url(f"{owner}/{repository}", "/".join(inside))
            cache, mirror = self.paths.cache, self.paths.mirror
            return fetch.fetch(name, url, wanted, cache=cache, mirror=mirror)
        found = in_mirror("data.vocabulary_file", name, self.paths, _VOCABULARY)
        agree("data.vocabulary_sha256", found, sha256_of(found), wanted)
        return found

    @property
    def folder(self) -> Path:
        """Of the tokens, in the cache."""
        parts = (self.corpus, self.vocabulary_sha256, self.end, self.every)
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()
        return self.paths.cache / "tokens" / digest[:16]

    def prepare_data(self) -> None:
        """Tokenise what is not in the cache yet; compare its checksum with the config's."""
        vocabulary, folder = self._vocabulary(), self.folder
        with fetch.locked(folder):
            if not folder.is_dir():
                self._tokenise(vocabulary, folder)
        found = (folder / "sha256").read_text(encoding="utf-8").strip()
        agree("data.checksum", folder, found, self.checksum)

    def _tokenise(self, vocabulary: Path, folder: Path) -> None:
        """Write train.bin, held_out.bin and their checksum, all or nothing."""
        tokenizer = tokenizer_of(vocabulary)
        end = tokenizer.token_to_id(self.end)
        if end is None:
            near = nearest(self.end, tokenizer.get_vocab())
            raise UserError(f"data.end: {vocabulary} has no token '{self.end}'{near}")
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
        temporary.mkdir(parents=True)
        digest, number = hashlib.sha256(), 0
        try:
            with ExitStack() as stack:
                names = ("train", "held_out")
                files = [stack.enter_context((temporary / f"{n}.bin").open("wb")) for n in names]
                for texts in documents(self.corpus, self.paths.mirror):
                    for encoded in tokenizer.encode_batch(texts, add_special_tokens=False):
                        tokens = np.array([*encoded.ids, end], dtype="<u2").tobytes()
                        files[number % self.every == self.every - 1].write(tokens)
                        digest.update(tokens)
                        number += 1
            (temporary / "sha256").write_text(digest.hexdigest(), encoding="utf-8")
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def setup(self, stage: str) -> None:
        """Map the tokens; nothing is read.

        Raises:
            UserError: where a part is shorter than a sequence.
        """
        if self._parts is not None:
            return
        files = [self.folder / f"{name}.bin" for name in ("train", "held_out")]
        for file in files:
            check_length(file.stat().st_size // 2, self.context)
        self.vocabulary = tokenizer_of(self._vocabulary()).get_vocab_size()
        train, held_out = (np.memmap(file, dtype="<u2", mode="r") for file in files)
        self._parts = train, held_out

    def draw(self, held_out: bool) -> Draw:
        """Crops, gathered from the file and sent to the device a batch at a time."""
        assert self._parts is not None
        tokens, device = self._parts[held_out], self.device
        within = np.arange(self.context + 1)

        def draw(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
            shape = (n, size, 1)
            for batch in torch.randint(len(tokens) - self.context, shape, generator=generator):
                gathered = torch.from_numpy(tokens[batch.numpy() + within].astype(np.int64))
                if device.type == "cuda":
                    gathered = gathered.pin_memory()
                yield gathered.to(device, non_blocking=True)

        return draw


def tokenizer_of(path: Path) -> Any:
    """A tokeniser that takes special tokens in a text for plain text.

    Raises:
        UserError: where ``tokenizers`` is not installed, or the file is no tokeniser of 16 bits.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("OpenWebText needs tokenizers: install the extra 'weight-decay'") from None
    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise UserError(f"{path}: is no tokeniser ({brief(str(error))})") from None
    if tokenizer.get_vocab_size() > 2**16:
        raise UserError(f"{path}: has {tokenizer.get_vocab_size()} tokens, 65,536 are possible")
    tokenizer.encode_special_tokens = True
    return tokenizer


def documents(corpus: str, mirror: Path | None) -> Iterator[list[str]]:
    """Texts of a data set's training split in their order, many at a time.

    Raises:
        DataUnavailable: where it is neither in the mirror nor to be had from the hub.
        UserError: where it has no column ``text``, or cannot be read.
    """
    import datasets
    import datasets.exceptions

    folder = mirror / corpus if mirror is not None else None
    source = str(folder) if folder is not None and folder.is_dir() else corpus
    once = datasets.DownloadConfig(max_retries=1)
    try:
        stream: Any = datasets.load_dataset(
            source, split="train", streaming=True, download_config=once
        )
        features = stream.features or {}
        if _COLUMN not in features:
            raise UserError(f"{source}: has no column '{_COLUMN}'{nearest(_COLUMN, features)}")
        for batch in stream.iter(batch_size=_DOCUMENTS):
            yield batch[_COLUMN]
    except (ConnectionError, TimeoutError, datasets.exceptions.DatasetNotFoundError) as error:
        raise DataUnavailable(
            f"data.corpus: {corpus} is neither in a mirror nor to be had from the hub"
            f" ({brief(str(error))}); set RETABLE_MIRROR to a folder that holds {corpus} with its"
            " parquet files, or run where there is a network"
        ) from None
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"{source}: cannot be read ({brief(str(error))})") from None
