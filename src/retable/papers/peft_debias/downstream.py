"""Fine-tuning downstream: the patch is frozen, and the encoder with a new head trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from retable.papers.base import Start, StepOutput
from retable.papers.peft_debias import sparse
from retable.papers.peft_debias.encoder import classifier
from retable.papers.peft_debias.fairness import fprd, tpr_gap
from retable.papers.peft_debias.module import TextModule, fit
from retable.papers.peft_debias.patches import freeze_downstream


class Classify(TextModule):
    """Classifies texts with an encoder that another run has trained, patched or not.

    The test records accuracy, macro-averaged F1 (``test/f1``) and ``test/positive_rate``, the share
    of texts that is given class 1. Where texts have a gender: ``test/tpr_gap``, the root mean
    square over classes of the difference of the genders' true positive rates, and
    ``test/class_gap`` of each class (the step is its number). Where they mention identity terms:
    ``test/fprd``, the sum over terms of the distance of their false positive rate from that of all,
    and ``test/fprd_code`` with false positives among all texts, as the authors' code counts.

    Args:
        n_classes: of the head.
        patch: that of the run that this one starts from, with the same options; it stays as it is.
        class_weights: of the loss, whose mean is divided by their sum in the batch.
        freeze_layer_norm: leave LayerNorms as they are, as the authors do.
        **options: of :class:`~retable.papers.peft_debias.module.TextModule`.

    Raises:
        ValueError: for another number of class weights.
    """

    def __init__(
        self,
        *,
        n_classes: Annotated[int, Field(ge=2)],
        patch: Literal["none", "adapter", "prefix_flat", "prompt_input", "lora", "sft"] = "none",
        class_weights: list[float] | None = None,
        freeze_layer_norm: bool = True,
        **options: Any,
    ) -> None:
        if class_weights is not None and len(class_weights) != n_classes:
            n = len(class_weights)
            raise ValueError(f"model.class_weights: {n} numbers for {n_classes} classes")
        self.n_classes, self.patch, self.class_weights = n_classes, patch, class_weights
        self.freeze_layer_norm = freeze_layer_norm
        self._seen: list[dict[str, Tensor]] = []
        super().__init__(**options)

    def build_model(self) -> None:
        """The network with a patch, whose weights the start brings, and a new head."""
        self.net = classifier(
            self.network, self.vocabulary, self.n_classes, seed=self.seed, dropout=self.dropout
        )
        self.attach(self.net.bert, self.patch)
        freeze_downstream(self.net, freeze_layer_norm=self.freeze_layer_norm)
        if self.patch == "sft":
            self.kept = sparse.Masks(self.net)

    def build_losses(self) -> None:
        """Weights of the classes, which move with the module."""
        weights = None if self.class_weights is None else torch.tensor(self.class_weights)
        self.register_buffer("weights", weights, persistent=False)

    def build_metrics(self) -> None:
        """Accuracy and macro-averaged F1."""
        accuracy = MulticlassAccuracy(self.n_classes, average="micro")
        f1 = MulticlassF1Score(self.n_classes, average="macro")
        self.use_metrics(MetricCollection({"accuracy": accuracy, "f1": f1}))

    def take_start(self, start: Start) -> None:
        """Take the encoder and its patch; the head stays new, and a pooler that the other lacks.

        Raises:
            ValueError: where the two have other tensors, as those of another patch.
        """
        weights = start.weights
        masks = {n.removeprefix("masks."): w for n, w in weights.items() if "masks." in n}
        if (self.patch == "sft") != bool(masks):
            found = "a sparse patch" if masks else "no sparse patch"
            raise ValueError(f"model.patch: {self.patch}, but what it starts from has {found}")
        if masks:
            self.kept.load_state_dict(masks)
        encoder = {n: w for n, w in weights.items() if n.startswith("net.bert.")}
        new = {n for n in self.net.state_dict() if n.startswith(("bert.pooler.", "classifier."))}
        fit(self.net, encoder, own=new)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """A sparse patch: no gradient where it is."""
        if self.patch == "sft":
            sparse.check_optimizer(optimizer)
            free = {name: ~mask for name, mask in self.kept.by_name(self.net).items()}
            sparse.mask_gradients(self.net, free)

    def shared_step(self, batch: dict[str, Tensor]) -> StepOutput:
        """Loss and logits ``(B, C)`` of a batch."""
        logits = self.net(batch["input_ids"], batch["attention_mask"]).float()
        weights = cast("Tensor | None", self.weights)
        loss = F.cross_entropy(logits, batch["label"], weights)
        if self.trainer.testing:
            wanted = {n: batch[n] for n in ("label", "group", "mentions") if n in batch}
            self._seen.append({**wanted, "predicted": logits.argmax(1)})
        return StepOutput(loss, logits, batch["label"])

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self._seen = []

    def on_test_epoch_end(self) -> None:
        """Record the differences between groups."""
        super().on_test_epoch_end()
        seen = {name: torch.cat([one[name] for one in self._seen]) for name in self._seen[0]}
        label, predicted = seen["label"], seen["predicted"]
        self.add_result("test/positive_rate", float((predicted == 1).double().mean()))
        if "group" in seen:
            found = tpr_gap(label, seen["group"], predicted, self.n_classes)
            self.add_result("test/tpr_gap", found.percent / 100)
            for number, gap in enumerate(found.gaps.tolist()):
                if gap == gap:  # a class that lacks a gender has none
                    self.add_result("test/class_gap", gap / 100, step=number)
        if "mentions" in seen:
            for name, mode in (("test/fprd", "paper"), ("test/fprd_code", "code")):
                difference = fprd(label, predicted, seen["mentions"], mode=cast("Any", mode))
                self.add_result(name, difference.value)
