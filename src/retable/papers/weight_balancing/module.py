"""Training of a classifier on long-tailed data, and what is measured of its features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import Arrays, PaperModule, Start, StepOutput
from retable.papers.weight_balancing import losses
from retable.papers.weight_balancing.adjustment import KINDS, adjusted, best_tau, class_accuracies
from retable.papers.weight_balancing.classifiers import (
    FixedETF,
    max_norm_radius,
    normalised,
    project,
)
from retable.papers.weight_balancing.geometry import between_classes, cosine_map, fisher_ratio
from retable.papers.weight_balancing.long_tail import GROUPS, groups
from retable.papers.weight_balancing.probe import probed
from retable.training.seeds import derive_seed

_BY_CLASS = 20
"""Up to so many classes results are by class as well; a record holds 200 of them."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
Seen = tuple[Tensor, Tensor, Tensor]
"""Features ``(N, d)``, logits ``(N, C)`` and labels ``(N,)`` of a set."""


class OneStage(PaperModule):
    """A network with a dense last layer, trained at once; logit adjustments are rows of its record.

    A run records ``test/accuracy`` (mean over classes) and the same of the groups, ``test/many``,
    ``test/medium`` and ``test/few``, and ``test/of_class`` (the step is the class; artefact
    ``accuracy`` where there are more than 20). Rows ``additive`` and ``multiplicative`` have all
    but the last after logit adjustment with the tau that is best on validation, ``l2`` and ``tau``
    with a normalised classifier. ``train/fitted`` is the share of training images that the tested
    network classifies rightly. Of the features ``train/`` and ``test/fisher_ratio`` and ``_cosine``
    (between classes), as the training loader gives its images, so augmented where they are; of the
    classifier the norms per class (``weights/norm``), their means per group and the ratio of few to
    many.

    Args:
        seed: the run's seed.
        net: network with ``features`` (``(B, d)``) and a dense layer ``fc``.
        classifier: ``linear``, or ``etf``: fixed rows with a trained bias.
        loss: ``ce``; ``cb``, the class-balanced loss; ``cb_binary``, its form of Alshammari et al.;
            ``focal``; ``dot`` regression.
        beta: of the class-balanced loss.
        gamma: of the focal loss.
        reweight_from: epoch from which the loss is that, and cross-entropy before (DRW).
        decay: lambda, added to the gradient as ``lambda theta`` for all that is trained.
        decay_norms: whether batch norm's weights and biases are decayed.
        train_norms: whether they are trained; else they stay 1 and 0.
        feature_decay: zeta of feature regularisation.
        taus: grid of tau of logit adjustment.
        norm_tau: power of the norm in row ``tau``.
        limits: of the groups, see :func:`~retable.papers.weight_balancing.long_tail.groups`.
        flip: record rows ``flip``, ``l2_flip`` and ``tau_flip`` as well, whose logits are means
            over an image and its mirror image, as in the code of Alshammari et al.
        optimizer: ``_partial_`` of an optimiser, whose own decay is left out.
        scheduler: ``_partial_`` of a scheduler.
        scheduler_interval: when it is stepped.
        channels_last: see the base.
    """

    splits = False

    def __init__(
        self,
        *,
        seed: int,
        net: nn.Module,
        classifier: Literal["linear", "etf"] = "linear",
        loss: Literal["ce", "cb", "cb_binary", "focal", "dot"] = "ce",
        beta: Annotated[float, Field(gt=0, lt=1)] = 0.9999,
        gamma: Annotated[float, Field(ge=0)] = 2.0,
        reweight_from: Annotated[int, Field(ge=0)] = 0,
        decay: Annotated[float, Field(ge=0)] = 0.0,
        decay_norms: bool = True,
        train_norms: bool = True,
        feature_decay: Annotated[float, Field(ge=0)] = 0.0,
        taus: list[float] | None = None,
        norm_tau: Annotated[float, Field(ge=0)] = 1.9,
        limits: tuple[int, int] | None = None,
        flip: bool = False,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
    ) -> None:
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.classifier, self.kind = classifier, loss
        self.beta, self.gamma, self.reweight_from = beta, gamma, reweight_from
        self.decay, self.decay_norms, self.train_norms = decay, decay_norms, train_norms
        self.feature_decay = feature_decay
        self.taus = [0.05 * i for i in range(41)] if taus is None else taus
        self.norm_tau, self.limits, self.flip = norm_tau, limits, flip
        self._n: list[int] | None = None
        self._weights: Tensor | None = None
        self._test: list[tuple[Tensor, Tensor, Tensor]] = []
        self._left: dict[str, Arrays] = {}
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            channels_last=channels_last,
        )

    def build_model(self) -> None:
        """The network, with the classifier that is asked for."""
        net: Any = self._given[0]
        del self._given
        if self.classifier == "etf":
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "etf"))
            net.fc = FixedETF(net.fc.out_features, net.fc.in_features, generator)
        if not self.train_norms:
            for layer in net.modules():
                if isinstance(layer, _NORMS):
                    layer.requires_grad_(False)
        self.net = net
        self.n_classes: int = net.fc.out_features

    def build_metrics(self) -> None:
        """Accuracy, averaged over classes."""
        metric = MulticlassAccuracy(self.n_classes, average="macro")
        self.use_metrics(MetricCollection({"accuracy": metric}))

    def optimized(self) -> Iterable[Any]:
        """What is trained, in a group that is decayed and one that is not."""
        norms = {id(p) for m in self.modules() if isinstance(m, _NORMS) for p in m.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        plain = [] if self.decay_norms else [p for p in trained if id(p) in norms]
        rest = [p for p in trained if self.decay_norms or id(p) not in norms]
        found = [{"params": rest, "weight_decay": self.decay}]
        return [*found, {"params": plain, "weight_decay": 0.0}] if plain else found

    @property
    def n_per_class(self) -> list[int]:
        """Training images of every class, as the data module says or has them."""
        if self._n is None:
            self._n = getattr(self._data(), "n_per_class", None)
        if self._n is None:
            labels: Tensor = self._data().train[1]
            self._n = torch.bincount(labels.cpu(), minlength=self.n_classes).tolist()
        return self._n

    def _data(self) -> Any:
        return cast("Any", self.trainer).datamodule

    def features(self, images: Tensor) -> Tensor:
        """What the classifier is given, ``(B, d)``."""
        return self.net.features(images)

    def _loss(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        kind = self.kind if self.current_epoch >= self.reweight_from else "ce"
        match kind:
            case "cb" | "cb_binary":
                if self._weights is None:
                    self._weights = losses.class_balanced_weights(self.n_per_class, self.beta)
                weights = self._weights = self._weights.to(logits.device)
                by_name = {"cb": losses.class_balanced, "cb_binary": losses.class_balanced_binary}
                return by_name[kind](logits, labels, weights)
            case "focal":
                return losses.focal(logits, labels, self.gamma)
            case "dot":
                weight = self.net.fc.weight
                return losses.dot_regression(logits, labels, features, weight)
            case _:
                return F.cross_entropy(logits, labels)

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Loss and logits of a batch ``(B, C, H, W), (B,)``."""
        images, labels = batch
        features = self.features(images).float()
        logits = self.net.fc(features).float()
        loss = self._loss(features, logits, labels)
        if self.feature_decay:
            loss = loss + losses.feature_regularisation(features, self.feature_decay)
        if self.trainer.testing:
            mirrored = self.features(images.flip(3)).float() if self.flip else features
            self._test.append((features.detach(), mirrored.detach(), labels))
        return StepOutput(loss, logits, labels)

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self._test = []

    def on_test_epoch_end(self) -> None:
        """Record the groups, the adjusted logits, the features and the classifier."""
        super().on_test_epoch_end()
        data = self._data()
        features, mirrored, labels = (torch.cat(part) for part in zip(*self._test, strict=True))
        self._test = []
        self._record_classifiers(features, labels)
        if self.flip:
            self._record_classifiers(features, labels, mirrored)
        if len(data.validation[0]):
            self._record_adjusted(features, labels, self._seen(data.val_dataloader()))
        seen = self._seen(data.train_dataloader())
        self.add_result("train/fitted", float((seen[1].argmax(1) == seen[2]).double().mean()))
        self._record_features("train", seen[0], seen[2])
        self._record_features("test", features, labels)
        self._record_classifier()

    @torch.no_grad()
    def _seen(self, batches: Iterable[Any]) -> Seen:
        parts: list[Seen] = []
        for images, labels in batches:
            features = self.features(images).float()
            parts.append((features, self.net.fc(features), labels))
        features, logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        return features, logits, labels

    def _record(self, row: str, logits: Tensor, labels: Tensor) -> None:
        """Accuracy by group, means over classes; that of all where it is not logged already."""
        found = class_accuracies(logits.argmax(1), labels, self.n_classes).cpu()
        if row:
            self.add_result("test/accuracy", float(found.mean()), row)
        else:
            self._record_by_class("test/of_class", found)
        for name, classes in zip(GROUPS, groups(self.n_per_class, self.limits), strict=True):
            if len(classes):
                self.add_result(f"test/{name}", float(found[classes].mean()), row)
        self._left.setdefault("accuracy", {})[row or "plain"] = found

    def _record_by_class(self, metric: str, values: Tensor) -> None:
        if len(values) <= _BY_CLASS:
            for label, value in enumerate(values.tolist()):
                self.add_result(metric, value, step=label)

    def _record_classifiers(
        self, features: Tensor, labels: Tensor, mirrored: Tensor | None = None
    ) -> None:
        """The classifier as it is, and with normalised rows."""
        fc = self.net.fc
        seen = [features] if mirrored is None else [features, mirrored]
        for name, tau in (("", 0.0), ("l2", 1.0), ("tau", self.norm_tau)):
            weight = normalised(fc.weight, tau) if tau else fc.weight
            logits = sum(F.linear(one, weight, fc.bias) for one in seen) / len(seen)
            row = "_".join(filter(None, (name, "flip" if mirrored is not None else "")))
            self._record(row, cast("Tensor", logits), labels)

    def _record_adjusted(self, features: Tensor, labels: Tensor, validation: Seen) -> None:
        logits = self.net.fc(features)
        for kind in KINDS:
            tau = best_tau(validation[1], validation[2], self.n_per_class, kind, self.taus)
            self.add_result("adjustment/tau", tau, kind)
            self._record(kind, adjusted(logits, self.n_per_class, kind, tau), labels)

    def _record_features(self, stage: str, features: Tensor, labels: Tensor) -> None:
        cosines = cosine_map(features, labels, self.n_classes)
        self.add_result(f"{stage}/cosine", between_classes(cosines))
        self._left.setdefault("cosines", {})[stage] = cosines.float()
        self._add_if_finite(f"{stage}/fisher_ratio", fisher_ratio(features, labels))
        for depth, layer in enumerate(probed(features, derive_seed(self.seed, "probe")), start=1):
            self._add_if_finite(f"{stage}/fisher_ratio_probe", fisher_ratio(layer, labels), depth)

    def _add_if_finite(self, metric: str, value: float, step: int | None = None) -> None:
        if value == value:  # NaN: nothing is left to take the ratio of
            self.add_result(metric, value, step=step)

    def _record_classifier(self) -> None:
        norms = self.net.fc.weight.detach().norm(dim=1).double().cpu()
        self._record_by_class("weights/norm", norms)
        means: dict[str, float] = {}
        for name, classes in zip(GROUPS, groups(self.n_per_class, self.limits), strict=True):
            if len(classes):
                means[name] = float(norms[classes].mean())
                self.add_result(f"weights/{name}", means[name])
        if {"few", "many"} <= means.keys():
            self.add_result("weights/few_to_many", means["few"] / means["many"])
        self._left["norms"] = {"rows": norms}

    def artifacts(self) -> dict[str, Arrays]:
        """Cosine maps, norms of the classifier's rows, and accuracies by class."""
        return self._left


class SecondStage(OneStage):
    """The classifier alone is trained further, on the features of another run's network.

    Args:
        share: MaxNorm's radius is the shortest row's norm and this share of the range of norms, as
            they are at the start; rows are projected after every epoch. None: no MaxNorm.
        norms_move: whether batch norm goes on with its statistics, as in the authors' code.
        **options: of :class:`OneStage`.
    """

    def __init__(
        self,
        *,
        share: Annotated[float, Field(ge=0, le=1)] | None = None,
        norms_move: bool = False,
        **options: Any,
    ) -> None:
        self.share, self.norms_move = share, norms_move
        super().__init__(**options)

    def build_model(self) -> None:
        """The network of which the classifier alone is trained."""
        super().build_model()
        self.radius: Tensor
        self.register_buffer("radius", torch.full((), torch.inf))
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name.startswith("fc."))
        self.train()  # Lightning leaves modules in the mode that it finds them in

    def take_start(self, start: Start) -> None:
        """Take all of the network, and the radius from its classifier."""
        self.load_state_dict({**start.weights, "radius": self.radius})
        if self.share is not None:
            weight = self.net.fc.weight.detach()
            self.radius.copy_(max_norm_radius(weight, self.share))

    def train(self, mode: bool = True) -> SecondStage:
        """Leave the extractor in evaluation mode, unless its norms are to move."""
        super().train(mode)
        if not self.norms_move:
            self.net.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """Without a graph: nothing below the classifier is trained."""
        with torch.no_grad():
            return super().features(images)

    def on_train_epoch_end(self) -> None:
        """Project the rows that are longer than the radius."""
        super().on_train_epoch_end()
        if self.share is not None:
            fc = self.net.fc
            with torch.no_grad():
                fc.weight.copy_(project(fc.weight, self.radius))
