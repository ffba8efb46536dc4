"""Small texts of the true structure for configs whose data only the user can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from retable.data.base import DataPaths
from retable.data.fetch import sha256_of
from retable.util.errors import UserError


def write_web(mirror: Path, corpus: str, vocabulary: str) -> tuple[list[str], Any]:
    """Documents in parquet files and a vocabulary of their bytes; texts, and the tokeniser."""
    import datasets
    import tokenizers

    texts = [f"document {k} says {'so ' * (k % 5)}<|endoftext|> and ends" for k in range(20)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]
    )
    tokenizer.train_from_iterator(texts, trainer)
    (mirror / vocabulary).parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(mirror / vocabulary))
    folder = mirror / corpus / "plain_text"
    folder.mkdir(parents=True)
    for number, part in enumerate((texts[:12], texts[12:])):
        file = folder / f"train-0000{number}-of-00002.parquet"
        datasets.Dataset.from_dict({"text": part}).to_parquet(file)
    return texts, tokenizer


def text_data(config: Any, mirror: Path, cache: Path) -> list[str]:
    """Write the text of a config below a mirror; the overrides that make a run read it."""
    few = ["data.context=4", "data.batch_size=2", "+data.eval_sequences=4"]
    if "file" in config.data:
        checksums = {"file": "sha256", "held_out": "held_out_sha256"}
        for key in (key for key in checksums if config.data.get(key)):
            file = mirror / config.data[key]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("to be or not to be " * 10, encoding="utf-8")
            few.append(f"data.{checksums[key]}={sha256_of(file)}")
        return few
    corpus, vocabulary = "Skylion007/openwebtext", "openai-community/gpt2/tokenizer.json"
    if not (mirror / corpus).is_dir():
        write_web(mirror, corpus, vocabulary)
    known = {"vocabulary_sha256": sha256_of(mirror / vocabulary), "held_out": 0.1}
    part = instantiate(config.data | known | {"_partial_": True})
    data = part(seed=0, paths=DataPaths(cache, mirror))
    try:
        data.prepare_data()
    except UserError:
        pass  # of the checksum, which it has found
    checksum = (data.folder / "sha256").read_text(encoding="utf-8")
    known = [f"data.vocabulary_sha256={known['vocabulary_sha256']}", "+data.held_out=0.1"]
    net = ["+model.net.vocabulary=300", "+model.net.layers=1", "+model.net.heads=1"]
    return [*few, *known, f"data.checksum={checksum}", *net, "+model.net.width=8"]
