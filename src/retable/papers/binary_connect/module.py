"""Training and evaluation with binary weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import MetricCollection

from retable.papers.base import PaperModule, StepOutput
from retable.papers.binary_connect import histogram
from retable.papers.binary_connect.losses import square_hinge
from retable.papers.binary_connect.metrics import ErrorRate
from retable.papers.binary_connect.networks import (
    Recipe,
    binary_layers,
    cnn,
    mlp,
    norms,
    use_statistics,
)
from retable.papers.binary_connect.packed import pack, save, sizes

CURVE_POINTS = 10


class BinaryConnect(PaperModule):
    """A network with real or binary weights, square hinge loss and batch normalisation.

    Beside ``test/error`` and ``test/loss`` a run records points of its learning curves
    (``curve/train_loss`` and ``curve/val_error``, the step is the percentage of the epochs), and
    with binary weights the histogram of the first layer's stored weights and the size and error
    of the network with packed weights.

    Args:
        seed: the run's seed.
        regularizer: ``none``; ``det`` or ``stoch`` BinaryConnect; ``dropout`` of half of the
            hidden activations.
        network: ``mlp``, or ``cnn`` for images of ``shape``.
        widths: of the hidden dense layers.
        channels: of the pairs of convolutions.
        shape: channels, height and width of an image.
        n_classes: number of classes.
        optimizer: ``_partial_`` of an optimiser.
        scheduler: ``_partial_`` of a scheduler.
        magnitude: H of binary weights: the layer's Glorot coefficient g, or 1.
        weight_spread: stored weights start uniform within so many H (2 in the code of the
            paper's MNIST results, 1 in the code published later).
        rate_scaling: ``glorot``: weights learn with the rate times ``1 / g`` (ADAM) or ``1 / g^2``
            (SGD, with or without Nesterov momentum); ``none`` where H = g, which is the same.
        dropout: probability for ``regularizer: dropout``.
        hinge: reduction of the loss over classes.
        momentum: share of the newest batch in batch normalisation's moving averages.
        normalization: what batch normalisation divides by.
        statistics: evaluation with the moving averages or with recomputed statistics.
        recompute_images: training images for the latter; all where left out.
    """

    splits = True

    def __init__(
        self,
        *,
        seed: int,
        regularizer: Literal["none", "det", "stoch", "dropout"],
        network: Literal["mlp", "cnn"] = "mlp",
        widths: list[int],
        channels: list[int] | None = None,
        shape: tuple[int, int, int] = (1, 28, 28),
        n_classes: Annotated[int, Field(ge=2)] = 10,
        optimizer: Any = None,
        scheduler: Any = None,
        magnitude: Literal["glorot", "one"] = "glorot",
        weight_spread: Annotated[float, Field(gt=0)] = 2.0,
        rate_scaling: Literal["none", "glorot"] = "none",
        dropout: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        hinge: Literal["sum", "mean"] = "sum",
        momentum: Annotated[float, Field(gt=0, le=1)] = 0.1,
        normalization: Literal["variance", "deviation"] = "variance",
        statistics: Literal["running", "recomputed"] = "recomputed",
        recompute_images: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        if network == "cnn" and not channels:
            raise ValueError("model.channels: a cnn needs some")
        self.regularizer, self.kind = regularizer, network
        self.widths, self.channels = widths, channels or []
        self.shape = (shape[0], shape[1], shape[2])
        self.n_classes = n_classes
        self.recipe = Recipe(
            mode="none" if regularizer == "dropout" else regularizer,
            magnitude=magnitude,
            weight_spread=weight_spread,
            dropout=dropout if regularizer == "dropout" else 0.0,
            momentum=momentum,
            normalization=normalization,
        )
        self.rate_scaling: Literal["none", "glorot"] = rate_scaling
        self.hinge: Literal["sum", "mean"] = hinge
        self.statistics: Literal["running", "recomputed"] = statistics
        self.recompute_images = recompute_images
        super().__init__(seed=seed, optimizer=optimizer, scheduler=scheduler)

    def build_model(self) -> None:
        """The network."""
        if self.kind == "cnn":
            self.network = cnn(self.recipe, self.shape, self.channels, self.widths, self.n_classes)
        else:
            channels, height, width = self.shape
            n_in = channels * height * width
            self.network = mlp(self.recipe, n_in, self.widths, self.n_classes)
        use_statistics(self.network, self.statistics)
        self.binary = binary_layers(self.network)

    def build_metrics(self) -> None:
        """The error rate."""
        self.use_metrics(MetricCollection({"error": ErrorRate()}))

    def optimized(self) -> Iterable[Any]:
        """All parameters; where rates are scaled, each binary layer's weights are a group."""
        if self.rate_scaling == "none" or self.recipe.mode == "none":
            return self.parameters()
        return self._scaled_groups()

    def _scaled_groups(self) -> list[dict[str, Any]]:
        if "lr" not in self._optimizer.keywords:
            raise ValueError("model.optimizer.lr: is needed where rates are scaled")
        rate = float(self._optimizer.keywords["lr"])
        power = _scaling_power(self._optimizer.func)
        groups = [
            {"params": [layer.weight], "lr": rate / layer.glorot**power} for layer in self.binary
        ]
        scaled = {id(layer.weight) for layer in self.binary}
        return [{"params": [p for p in self.parameters() if id(p) not in scaled]}, *groups]

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Loss and outputs of a batch ``(B, C, H, W), (B,)``."""
        images, labels = batch
        outputs = self.network(images)
        loss = square_hinge(outputs, labels, reduction=self.hinge)
        logs: dict[str, Tensor] = {}
        if not self.training and self.statistics == "recomputed":
            # What the moving averages of training would have given, to see what they cost.
            use_statistics(self.network, "running")
            logs["error_running"] = error_rate(self.network(images), labels)
            use_statistics(self.network, "recomputed")
        return StepOutput(loss, outputs, labels, logs)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The step, then the clip: after the scaled update, of binary layers' weights alone."""
        super().optimizer_step(*args, **kwargs)
        for layer in self.binary:
            layer.clip()

    def on_validation_epoch_start(self) -> None:
        """Recompute the statistics of batch normalisation with the weights of evaluation."""
        if self.statistics == "recomputed":
            recompute(self.network, self._data().training_inputs(self.recompute_images))

    def on_test_epoch_start(self) -> None:
        """As before a validation: the tested weights may be of an epoch that had none."""
        self.on_validation_epoch_start()

    def _data(self) -> Any:
        return cast("Any", self.trainer).datamodule

    def on_test_epoch_end(self) -> None:
        """Log the test, then look at the stored weights and at the network with packed ones."""
        super().on_test_epoch_end()
        if self.recipe.mode == "none":
            return
        first = self.binary[0]
        shares = histogram.shares(first.weight.detach() / first.scale)
        for number, share in enumerate(shares.tolist(), start=1):
            self.add_result("weights/histogram", share, step=number)
        for name, share in histogram.named(first.weight.detach() / first.scale).items():
            self.add_result("weights/share", share, name)
        self._deploy()

    def _deploy(self) -> None:
        """Pack the binary weights and test what comes out beside the network it comes from."""
        network = self._with_binary_weights(self._data())
        packed = pack(network)
        wrong = changed = total = 0
        with torch.no_grad():
            for images, labels in self._data().test_dataloader():
                found, expected = packed(images).argmax(1), network(images).argmax(1)
                wrong += int((found != labels).sum())
                changed += int((found != expected).sum())
                total += len(labels)
        self.add_result("packed/error", wrong / total)
        self.add_result("packed/changed_predictions", changed)
        for name, count in sizes(network, packed).items():
            self.add_result(f"packed/{name}", count)

    def _with_binary_weights(self, data: Any) -> nn.Sequential:
        """A copy of the network that evaluates with binary weights, its statistics made for them.

        Deterministic BinaryConnect does so anyway; stochastic evaluates with the real weights.
        """
        network = copy.deepcopy(self.network).eval()
        if self.recipe.mode == "stoch":
            for layer in binary_layers(network):
                layer.mode = "det"
            if self.statistics == "recomputed":
                recompute(network, data.training_inputs(self.recompute_images))
        return network

    def export(self, file: Path, data: Any) -> str:
        """Write the network with packed binary weights (:mod:`.packed`)."""
        if self.recipe.mode == "none":
            raise ValueError(f"regularizer {self.regularizer}: the weights are not binary")
        network = self._with_binary_weights(data)
        packed = pack(network)
        save(packed, file)
        size = sizes(network, packed)
        return (
            f"{size['bytes']:.0f} bytes of weights, biases and norms,"
            f" {size['ratio']:.1f} times less than with weights of 16 bits"
        )

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record ten points of the learning curves; the step is the percentage of the epochs."""
        for point in range(1, CURVE_POINTS + 1):
            percent = 100 * point // CURVE_POINTS
            done = rows[: max(1, len(rows) * percent // 100)]
            self.add_result("curve/train_loss", done[-1]["train/loss"], step=percent)
            validated = [row["val/error"] for row in done if "val/error" in row]
            if validated:
                self.add_result("curve/val_error", validated[-1], step=percent)


def _scaling_power(optimizer: type[torch.optim.Optimizer]) -> int:
    """Power of ``1 / g`` that a rate is scaled with: ADAM does not see the scale of a gradient."""
    if issubclass(optimizer, torch.optim.Adam) and not issubclass(optimizer, torch.optim.AdamW):
        return 1
    if issubclass(optimizer, torch.optim.SGD):
        return 2
    raise ValueError(
        f"model.rate_scaling: the paper scales rates of SGD and ADAM, not of {optimizer.__name__}"
    )


@torch.no_grad()
def recompute(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the recomputed statistics: means over batches, with the weights of evaluation.

    Args:
        network: any network with :class:`BatchNorm`; left in evaluation mode.
        batches: inputs of training batches.
    """
    network.eval()
    for norm in norms(network):
        norm.measure(True)
    for batch in batches:
        network(batch)
    if any(norm.measured == 0 for norm in norms(network)):
        raise ValueError("model.recompute_images: is less than one batch of training images")
    for norm in norms(network):
        norm.measure(False)


def error_rate(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of items whose largest output ``(B, K)`` is not at their label ``(B,)``."""
    return (outputs.argmax(1) != labels).double().mean()
