"""A masked language model: pre-training, and debiasing upstream with the encoder frozen."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, cast

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from retable.data.base import PaperDataModule
from retable.papers.base import Start, StepOutput
from retable.papers.peft_debias import made, sparse
from retable.papers.peft_debias.crows import CrowsPair, crows, crows_file, read_crows
from retable.papers.peft_debias.encoder import masked_lm
from retable.papers.peft_debias.masked import masked_at, off_balance, target_log_probs
from retable.papers.peft_debias.module import TextModule, fit
from retable.papers.peft_debias.patches import freeze_upstream, patch_parameters, share
from retable.util.errors import UserError

Trained = Literal["all", "adapter", "prefix_flat", "prompt_input", "lora", "sft"]


class MaskedWords(TextModule):
    """Predicts masked words, and is scored for its preference of stereotypes.

    The test records ``test/perplexity`` of the masked words; ``test/crows``, the share of pairs
    whose stereotypical sentence is the likelier one, of ``test/n_pairs``, and its distance from a
    half (``test/off_balance``); of generated texts ``test/probe``, the share of occupations for
    whose ``[MASK] is a ...`` the pronoun of the stereotype is the likelier one. ``patch/share`` is
    the number of a patch's parameters for each of the network's.

    Args:
        trained: all weights (pre-training, Full-Debias), a patch alone, or ``sft``: all but
            LayerNorms, then from the start again the most changed alone.
        sft_share: share of the encoder's weights that ``sft`` trains in the end.
        sft_rewind: epoch at which it goes back to the start.
        pull: strength of the L1 pull to the start, see
            :func:`~retable.papers.peft_debias.sparse.pull`; a patch alone is not pulled.
        freeze_layer_norm: leave LayerNorms as they are, where all weights are trained.
        freeze_head: leave the head as it is, so that all that is learned is in the patch. The
            authors' code trains it with every patch. It scores ``sft`` with the trained head, other
            patches with that of the start, and so does this.
        pairs: sentences of the score: generated ones, or an axis of CrowS-Pairs.
        **options: of :class:`~retable.papers.peft_debias.module.TextModule`.

    Raises:
        ValueError: for ``sft_rewind`` without ``sft``, or the other way round.
    """

    def __init__(
        self,
        *,
        trained: Trained = "all",
        sft_share: Annotated[float, Field(gt=0, le=1)] = 0.01,
        sft_rewind: Annotated[int, Field(ge=1)] | None = None,
        pull: Annotated[float, Field(ge=0)] = 0.0,
        freeze_layer_norm: bool = False,
        freeze_head: bool = True,
        pairs: Literal["made", "gender", "race"] = "made",
        **options: Any,
    ) -> None:
        if (trained == "sft") != (sft_rewind is not None):
            raise ValueError(f"model.sft_rewind: {sft_rewind} with model.trained={trained}")
        self.trained, self.pairs, self.freeze_layer_norm = trained, pairs, freeze_layer_norm
        self.sft_share, self.sft_rewind, self.pull = sft_share, sft_rewind, pull
        self.freeze_head = freeze_head
        self._from: dict[str, Tensor] = {}
        super().__init__(**options)

    def build_model(self) -> None:
        """The network with its patch, of which only what is asked for can be trained."""
        self.net = masked_lm(self.network, self.vocabulary, seed=self.seed, dropout=self.dropout)
        if self.attach(self.net.bert, self.trained):
            freeze_upstream(self.net, freeze_head=self.freeze_head)
        elif self.trained == "sft":
            sparse.untie(self.net)
            sparse.freeze_layer_norm(self.net)
            if self.freeze_head:
                self.net.cls.requires_grad_(False)
            self.masks = sparse.Masks(self.net)
        elif self.freeze_layer_norm:
            sparse.freeze_layer_norm(self.net)
        self._from = sparse.snapshot(self.net)

    def take_start(self, start: Start) -> None:
        """Take the encoder and the head of another run; a patch stays at its own start."""
        fit(self.net, start.weights, own=patch_parameters(self.net))
        self._from = sparse.snapshot(self.net)

    def on_train_start(self) -> None:
        """Move what training is measured from to the device."""
        self._from = {name: w.to(self.device) for name, w in self._from.items()}

    def shared_step(self, batch: dict[str, Tensor]) -> StepOutput:
        """Mean loss over the masked words of a batch; those that it has none of give zero."""
        hidden = self.net.bert(batch["input_ids"], batch["attention_mask"])
        chosen = batch["labels"] != -100
        logits = self.net.cls["predictions"](hidden[chosen]).float()
        total = F.cross_entropy(logits, batch["labels"][chosen], reduction="sum")
        n = max(int(chosen.sum()), 1)
        loss = total / n
        if self.training and self.pull and self.trained in ("all", "sft"):
            loss = loss + sparse.pull(self.net, self._from, self.pull)
        return StepOutput(loss, items=n)

    def on_train_epoch_start(self) -> None:
        """Go back to the start where it is time, with the most changed weights alone to train."""
        super().on_train_epoch_start()
        if self.current_epoch != self.sft_rewind:
            return
        k = sparse.budget(self.net, self.sft_share)
        self.masks.set(sparse.most_changed(self.net, self._from, k))
        sparse.rewind(self.net, self._from)
        cast("Any", self.optimizers()).optimizer.state.clear()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """After the rewind: no gradient where a mask is false."""
        if self.sft_rewind is not None:
            sparse.check_optimizer(optimizer)
            if self.current_epoch >= self.sft_rewind:
                sparse.mask_gradients(self.net, self.masks.by_name(self.net))

    def log_probs(self, batch: dict[str, Tensor]) -> Tensor:
        """Of every token in every place, ``(B, T, V)``."""
        logits = self.net(batch["input_ids"], batch["attention_mask"])
        return logits.float().log_softmax(-1)

    def finish_weights(self, name: str | None, data: PaperDataModule) -> None:
        """A patch is tested with the head of the start, whether or not it has been trained.

        Raises:
            UserError: where the weights of ``sft`` are of an epoch before the rewind.
        """
        if self.trained == "sft" and not self.masks.selected():
            raise UserError(
                f"model.sft_rewind: {self.sft_rewind} is after the epoch that is tested, when"
                " nothing was selected yet; leave best_epoch out, or give more trainer.max_epochs"
            )
        if not self.freeze_head and patch_parameters(self.net):
            for key, parameter in self.net.named_parameters():
                if key.startswith("cls."):
                    parameter.copy_(self._from[key])

    def on_test_epoch_end(self) -> None:
        """Record the perplexity, the scores and the patch's size."""
        loss = self._meters["test"].close({})["loss"]
        self.add_result("test/perplexity", math.exp(float(loss)))
        data: Any = cast("Any", self.trainer).datamodule
        if self.pairs == "made":
            pairs = [CrowsPair(*two, "stereo", "gender") for two in made.pairs()]
            self.add_result("test/probe", self._probe(data.tokenizer))
        else:
            pairs = read_crows(crows_file(data.paths), self.pairs)
        scores = crows(self.log_probs, pairs, data.tokenizer, device=self.device)
        self.add_result("test/crows", scores.percent / 100)
        self.add_result("test/off_balance", off_balance(scores.percent) / 100)
        self.add_result("test/n_pairs", scores.n)
        if self.trained != "all":
            self.add_result("patch/share", self._share())

    def _share(self) -> float:
        """Of a patch, for each parameter of the network; tied ones count once."""
        if self.trained == "sft":
            untied = cast("Any", self.net.cls["predictions"]).decoder.weight.numel()
            return self.masks.selected() / (sum(p.numel() for p in self.parameters()) - untied)
        return share(self.net)

    def _probe(self, tokenizer: Any) -> float:
        """Share of occupations whose pronoun in ``[MASK] is a ...`` is that of the stereotype."""
        right = 0
        for text, gender in made.probes():
            ids = tokenizer.encode(text)
            place = ids.index(tokenizer.mask)
            of: list[float] = []
            for word in ("he", "she"):
                queries = masked_at(ids, [place], tokenizer.mask)
                queries.targets = [tokenizer.number[word]]
                found = target_log_probs(
                    self.log_probs, queries, pad=tokenizer.pad, device=self.device
                )
                of.append(float(found[0]))
            right += (of[1] > of[0]) == bool(gender)
        return right / len(made.OCCUPATIONS)
