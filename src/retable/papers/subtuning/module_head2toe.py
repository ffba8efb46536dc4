"""Head2Toe as a run: features, a head with group lasso, and a head on what it selects."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import PaperModule, Start, StepOutput
from retable.papers.subtuning import head2toe, networks
from retable.papers.subtuning.module_base import OnAllImages
from retable.papers.subtuning.networks import Name
from retable.papers.subtuning.weights import load_start
from retable.training.seeds import derive_seed


class Head2Toe(OnAllImages):
    """Linear head on selected features of all layers of a frozen network.

    The fit is one epoch: it computes the features of all training images, not augmented, fits a
    head with group lasso, keeps the features of the largest scores, and fits a head on these.

    Args:
        seed: the run's seed.
        network: see :data:`~retable.papers.subtuning.networks.Name`.
        n_classes: of the labels.
        size: side of the images that the network is given; others are resized to it.
        target: features of a layer are pooled to at most so many.
        fraction: of the features that is kept.
        lasso: lambda.
        lr: of both heads.
        steps: of both heads.
    """

    chosen: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        *,
        seed: int,
        network: Name,
        n_classes: Annotated[int, Field(ge=2)],
        size: Annotated[int, Field(ge=8)],
        target: Annotated[int, Field(ge=1)] = 8192,
        fraction: Annotated[float, Field(gt=0, le=1)] = 0.01,
        lasso: Annotated[float, Field(ge=0)] = 1e-5,
        lr: Annotated[float, Field(gt=0)] = 0.01,
        steps: Annotated[int, Field(ge=1)] = 5000,
    ) -> None:
        self.network: Name = network
        self.n_classes, self.size, self.target = n_classes, size, target
        self.fraction, self.lasso, self.lr, self.steps = fraction, lasso, lr, steps
        super().__init__(seed=seed)

    def build_model(self) -> None:
        """The network, which stays as it is, and the head."""
        self.net = networks.network(self.network, self.n_classes, self.size)
        self.net.requires_grad_(False)
        n = sum(
            h.shape[1] for h in self._features(torch.zeros(1, 3, self.size, self.size)).values()
        )
        kept = max(1, int(self.fraction * n))
        self.register_buffer("chosen", torch.zeros(kept, dtype=torch.int64))
        self.register_buffer("weight", torch.zeros(kept, self.n_classes))
        self.register_buffer("bias", torch.zeros(self.n_classes))

    def build_metrics(self) -> None:
        """Accuracy."""
        accuracy = MulticlassAccuracy(self.n_classes, average="micro")
        self.use_metrics(MetricCollection({"accuracy": accuracy}))

    def take_start(self, start: Start) -> None:
        """Take pretrained weights of a file, or the network of another run."""
        load_start(self.net, start, self.network, "new")

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        return head2toe.features(self.net, images, self.target, 100, logits=False)

    def work(self) -> dict[str, float]:
        """Fit both heads."""
        images, labels = self.data.train[:2]
        found = self._features(images)
        draws = torch.Generator().manual_seed(derive_seed(self.seed, "heads"))
        h = head2toe.joined(found)
        weight, _ = head2toe.fit_head(
            h, labels, self.n_classes, self.lasso, self.lr, self.steps, draws
        )
        # In the order of the features, which `joined` needs.
        self.chosen = head2toe.select(weight, self.fraction).sort().values
        h = head2toe.joined(found, self.chosen)
        self.weight, self.bias = head2toe.fit_head(
            h, labels, self.n_classes, 0.0, self.lr, self.steps, draws
        )
        return {"train/loss": float(F.cross_entropy(h @ self.weight + self.bias, labels))}

    validation_step = PaperModule.validation_step
    on_validation_epoch_end = PaperModule.on_validation_epoch_end

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Cross-entropy and logits of a batch ``(B, C, H, W), (B,)``."""
        images, labels = batch
        logits = head2toe.joined(self._features(images), self.chosen) @ self.weight + self.bias
        return StepOutput(F.cross_entropy(logits, labels), logits, labels)
