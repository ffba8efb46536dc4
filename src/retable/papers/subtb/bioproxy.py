"""The proxies of AMP and GFP: a Transformer fitted to a file of sequences that the user has.

AMP is a classifier, whose score is the probability of being antimicrobial; GFP a regression of
normalised fluorescence, whose score is the prediction less the smallest target of the file.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retable.data.fetch import locked, sha256_of
from retable.papers.subtb.bioseq import ALPHABET, Powers, Task
from retable.papers.subtb.seq_model import sinusoids
from retable.training.seeds import derive_seed
from retable.util.errors import UserError, brief

COLUMNS = ("sequence", "target")


@dataclass(frozen=True)
class Labelled:
    """A file's content.

    Attributes:
        words: ``(N, L)``, 0 behind a sequence's end.
        lengths: ``(N,)``.
        targets: ``(N,)`` float32.
    """

    words: Tensor
    lengths: Tensor
    targets: Tensor


def read_file(path: Path, max_length: int) -> Labelled:
    """Read a file of sequences.

    Raises:
        UserError: with file and line, for what is wrong in it.
    """
    index = {letter: number for number, letter in enumerate(ALPHABET)}
    rows: list[list[int]] = []
    targets: list[float] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{path}: has no column '{missing[0]}'; needs {list(COLUMNS)}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                text = (row["sequence"] or "").strip().upper()
                unknown = next((letter for letter in text if letter not in index), None)
                if unknown is not None:
                    raise UserError(f"{where}: {brief(repr(unknown))} is none of {ALPHABET}")
                if not 1 <= len(text) <= max_length:
                    raise UserError(f"{where}: length {len(text)} is not in 1 .. {max_length}")
                rows.append([index[letter] for letter in text])
                targets.append(float(row["target"]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV file ({error})") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a target is no number ({brief(str(error))})") from None
    if len(rows) < 10:
        raise UserError(f"{path}: {len(rows)} sequences are too few to fit a proxy")
    lengths = torch.tensor([len(row) for row in rows])
    words = torch.zeros(len(rows), max_length, dtype=torch.long)
    for number, row in enumerate(rows):
        words[number, : len(row)] = torch.tensor(row)
    return Labelled(words, lengths, torch.tensor(targets, dtype=torch.float32))


class ProxyNetwork(nn.Module):
    """A Transformer that sees both ways, the mean over positions, and one output."""

    positions: Tensor

    def __init__(self, max_length: int, layers: int = 4, heads: int = 8, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), width)
        self.register_buffer("positions", sinusoids(max_length, width), persistent=False)
        layer = nn.TransformerEncoderLayer(width, heads, width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output = nn.Linear(width, 1)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Outputs ``(B,)`` of words ``(B, L)``."""
        behind = torch.arange(words.shape[1], device=words.device) >= lengths[:, None]
        x = self.embedding(words) + self.positions[: words.shape[1]]
        x = self.encoder(x, src_key_padding_mask=behind)
        pooled = x.masked_fill(behind[..., None], 0.0).sum(1) / lengths.clamp_min(1)[:, None]
        return self.output(pooled)[:, 0]


@dataclass(frozen=True)
class Proxy(Powers):
    """A fitted proxy as a score."""

    network: ProxyNetwork | None = None
    task: Task = "amp"
    lowest: float = 0.0

    @torch.no_grad()
    def score(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Probability of AMP; prediction less the smallest target of GFP."""
        assert self.network is not None
        found = self.network.to(words.device)(words, lengths)
        return found.sigmoid() if self.task == "amp" else found - self.lowest


def fit(
    data: Labelled,
    task: Task,
    seed: int,
    *,
    rate: float = 1e-4,
    decay: float = 1e-6,
    batch: int = 256,
    patience: int = 5,
    max_epochs: int = 200,
    **sizes: int,
) -> ProxyNetwork:
    """Fit a proxy: four fifths to train on, early stopping on the rest, best weights kept.

    Args:
        data: the file's content.
        task: classification or regression.
        seed: of split, initialisation and order.
        rate: Adam's.
        decay: weight decay.
        batch: sequences of a step.
        patience: checks, one an epoch, without a better loss.
        max_epochs: at most.
        sizes: of :class:`ProxyNetwork`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "proxy", task))
        order = torch.randperm(len(data.words))
        held, kept = order[: len(order) // 5], order[len(order) // 5 :]
        network = ProxyNetwork(data.words.shape[1], **sizes)
        optimizer = torch.optim.Adam(network.parameters(), rate, weight_decay=decay)
        best, waited = float("inf"), 0
        weights: dict[str, Any] = {}
        for _ in range(max_epochs):
            network.train()
            for chosen in kept[torch.randperm(len(kept))].split(batch):
                optimizer.zero_grad()
                _loss(network, data, chosen, task).backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                losses = [_loss(network, data, c, task) * len(c) for c in held.split(batch)]
            loss, waited = float(torch.stack(losses).sum()) / len(held), waited + 1
            if loss < best:
                best, waited = loss, 0
                weights = {k: v.clone() for k, v in network.state_dict().items()}
            if waited >= patience:
                break
    if weights:
        network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _loss(network: ProxyNetwork, data: Labelled, chosen: Tensor, task: Task) -> Tensor:
    found = network(data.words[chosen], data.lengths[chosen])
    if task == "amp":
        return F.binary_cross_entropy_with_logits(found, data.targets[chosen])
    return F.mse_loss(found, data.targets[chosen])


def proxy(
    task: Task,
    max_length: int,
    *,
    path: Path,
    cache: Path,
    exponent: float,
    floor: float,
    seed: int = 0,
    **options: Any,
) -> Proxy:
    """The proxy of the user's file, fitted once and kept in the cache.

    Args:
        task: which.
        max_length: of its sequences.
        path: the file.
        cache: folder for the fitted weights.
        exponent: of the reward.
        floor: smallest score that is rewarded.
        seed: of the fit; the same for all runs, so that they share one reward.
        options: of :func:`fit`.
    """
    data = read_file(path, max_length)
    settings = "-".join(f"{name}={value}" for name, value in sorted(options.items()))
    kept = cache / "subtb" / f"{task}-{sha256_of(path)[:16]}-{max_length}-{seed}{settings}.pt"
    sizes = {k: v for k, v in options.items() if k in {"layers", "heads", "width"}}
    with locked(kept):  # of runs that begin together one fits it
        if not kept.is_file():
            temporary = kept.with_suffix(".tmp")
            torch.save(fit(data, task, seed, **options).state_dict(), temporary)
            temporary.replace(kept)
    network = ProxyNetwork(max_length, **sizes)
    network.load_state_dict(torch.load(kept, weights_only=True))
    network = network.eval().requires_grad_(False)
    return Proxy(exponent, floor, network, task, float(data.targets.min()))
