"""Both phases with published weights of BERT, and the scores of the paper's tables."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from retable.papers.base import Start
from retable.papers.peft_debias import sparse
from retable.papers.peft_debias.batches import InOrder
from retable.papers.peft_debias.downstream import Classify
from retable.papers.peft_debias.encoder import load_weights
from retable.papers.peft_debias.fairness import fprd, neutral_share
from retable.papers.peft_debias.stereoset import read_stereoset, stereoset
from retable.papers.peft_debias.upstream import MaskedWords


class LinearDecay(LambdaLR):
    """A rate that falls to zero in a straight line, and begins anew after that.

    Args:
        optimizer: whose rate it is.
        total: steps until it is zero.
    """

    def __init__(self, optimizer: Optimizer, total: int) -> None:
        super().__init__(optimizer, lambda step: 1 - step % total / total)


def published(start: Start) -> bool:
    """Whether weights are those of a file, which no module of this paper has named."""
    return not any(name.startswith("net.") for name in start.weights)


class Debias(MaskedWords):
    """Debiasing upstream from published weights; the pooler goes with them and is left alone.

    Classifiers downstream begin with that pooler, as the authors' do, though no masked language
    model has one. Where the data has StereoSet, the test also records ``test/ss_score``, the share
    of examples in which the stereotype is likelier than the anti-stereotype, and ``test/ss_lm``,
    that in which either is likelier than what is unrelated; both are means over target terms.

    Args:
        **options: of :class:`~retable.papers.peft_debias.upstream.MaskedWords`.
    """

    def build_model(self) -> None:
        """The network, with a pooler of any weights until a file brings its own."""
        super().build_model()
        like = self.net.get_submodule("cls.predictions.transform.dense")  # of the pooler's shape
        pooler = nn.ModuleDict({"dense": copy.deepcopy(like)})
        self.net.bert.pooler = pooler.requires_grad_(False)
        self._from = sparse.snapshot(self.net)

    def take_start(self, start: Start) -> None:
        """Take the weights of a file by Hugging Face's names, or of another run."""
        if not published(start):
            super().take_start(start)
            return
        load_weights(self.net, start.weights, source="start.file")
        self._from = sparse.snapshot(self.net)

    def on_test_epoch_end(self) -> None:
        """Record the scores of StereoSet too."""
        super().on_test_epoch_end()
        data: Any = cast("Any", self.trainer).datamodule
        path = data.stereoset_path()
        if path is not None:
            examples = read_stereoset(path, self.pairs)
            found = stereoset(self.log_probs, examples, data.tokenizer, device=self.device)
            self.add_result("test/ss_score", found.ss / 100)
            self.add_result("test/ss_lm", found.lm / 100)


class FineTune(Classify):
    """Fine-tuning downstream from published weights, or after a :class:`Debias`.

    Args:
        **options: of :class:`~retable.papers.peft_debias.downstream.Classify`.
    """

    def take_start(self, start: Start) -> None:
        """Take the weights of a file by Hugging Face's names, or of another run.

        Raises:
            ValueError: for a file where there is a patch.
        """
        if not published(start):
            super().take_start(start)
            return
        if self.patch != "none":
            raise ValueError(f"model.patch: {self.patch} comes from a run; give start.run")
        load_weights(self.net, start.weights, source="start.file")

    def logits_of(self, batches: InOrder) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits ``(N, C)`` of further texts, and all their columns in the same order."""
        logits: list[Tensor] = []
        columns: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for batch in batches:
                logits.append(self.net(batch["input_ids"], batch["attention_mask"]).float())
                for name in batch.keys() - {"input_ids", "attention_mask"}:
                    columns.setdefault(name, []).append(batch[name])
        return torch.cat(logits), {name: torch.cat(parts) for name, parts in columns.items()}


class Hateful(FineTune):
    """Finds hate; the test also records the difference of false positive rates on templates.

    These are ``test/fprd_iptts``, ``test/fprd_iptts_code`` with false positives among all texts,
    and ``test/positive_rate_iptts``: a classifier that is never positive has a difference of 0.

    Args:
        **options: of :class:`~retable.papers.peft_debias.downstream.Classify`.
    """

    def on_test_epoch_end(self) -> None:
        """Record what the template sentences show."""
        super().on_test_epoch_end()
        logits, given = self.logits_of(cast("Any", self.trainer).datamodule.templates())
        for name, mode in (("test/fprd_iptts", "paper"), ("test/fprd_iptts_code", "code")):
            found = fprd(
                given["label"], logits.argmax(1), given["mentions"], mode=cast("Any", mode)
            )
            self.add_result(name, found.value)
        self.add_result("test/positive_rate_iptts", found.positive_rate)


class Entails(FineTune):
    """Says whether a sentence follows from another; ``test/fn`` is the neutral share of Bias-NLI.

    Every pair there is neutral, so that 1 is no bias.

    Args:
        **options: of :class:`~retable.papers.peft_debias.downstream.Classify`.
    """

    def setup(self, stage: str) -> None:
        """Tell the network where a second sentence begins."""
        super().setup(stage)
        self.net.bert.embeddings.sep = cast("Any", self.trainer).datamodule.tokenizer.sep

    def on_test_epoch_end(self) -> None:
        """Record what the pairs of Bias-NLI show."""
        super().on_test_epoch_end()
        data: Any = cast("Any", self.trainer).datamodule
        logits, given = self.logits_of(data.neutral_pairs())
        self.add_result("test/fn", neutral_share(logits, int(given["label"][0])))
