"""Training of a classifier with weight decay, and what is measured of its weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from retable.data.base import PaperDataModule
from retable.papers.base import PaperModule, Start, StepOutput
from retable.papers.weight_decay import curvature
from retable.papers.weight_decay.images import per_class
from retable.papers.weight_decay.snapshots import Snapshots, network
from retable.papers.weight_decay.sphere import norm, project
from retable.training.seeds import derive_seed

_LOOKED_AT = ("last", "ema")
_MEASURED = ("test/loss", "test/error")


class Classifier(PaperModule):
    """A network trained by SGD with coupled decay of all that is trained; its average beside it.

    ``train/loss`` and ``test/loss`` are cross-entropies without the penalty, which is
    ``train/penalty``, ``lambda / 2 ||w||^2``; ``error`` is the share of images that are
    classified wrongly. Every epoch also logs ``train/norm``, of all that is trained, that of the
    average, ``train/norm_ema``, and the rate, ``train/rate``. A test adds ``train/fitted_loss``,
    ``train/fitted_error`` (of the loader's images, in evaluation mode), ``hessian/trace`` and
    ``jacobian/squared`` (or ``jacobian/norm``) where they are asked for. When the rate falls for
    the first time, test images are looked at, for show: rows ``last/phase_1``, ``ema/phase_1``. Of
    that phase ``phase_1/loss`` is the mean of ``train/loss`` over its last tenth (the noise level)
    and ``phase_1/norm`` the norm at its end.

    Args:
        seed: the run's seed.
        net: images ``(B, C, H, W)`` to logits.
        ema: of the average of the weights: ``average = ema average + (1 - ema) w`` after each step,
            from the initial weights and without correction, as in the authors' code. Statistics of
            batch norm are estimated anew for it, on the training loader's images, which leave out a
            last batch that is not full.
        radius: keep the weights on the sphere of this radius; for a scale-invariant network.
        projected: after every step, or after every epoch as in the authors' code.
        snapshots: percentages of the epochs after which the weights are kept for other runs.
        snapshot: begin with those after this share of the run that this one starts from.
        watch: look at test images at the end of the first phase.
        hessian_images: images per class for trace and Jacobian, the first ones; 0: neither.
        probes: of the trace, per batch of 50, and of the Jacobian, per image.
        jacobian: of the logits by the weights; ``exact`` holds one Jacobian at a time.
        optimizer: ``_partial_`` of :class:`~retable.papers.weight_decay.sgd.CoupledSGD`.
        scheduler: ``_partial_`` of a scheduler.
        scheduler_interval: when it is stepped.
        channels_last: see the base.
    """

    splits = False
    kept_weights = ("ema",)

    def __init__(
        self,
        *,
        seed: int,
        net: nn.Module,
        ema: Annotated[float, Field(ge=0, lt=1)] = 0.999,
        radius: Annotated[float, Field(gt=0)] | None = None,
        projected: Literal["step", "epoch"] = "step",
        snapshots: Sequence[int] = (),
        snapshot: Annotated[float, Field(gt=0, le=1)] | None = None,
        watch: bool = True,
        hessian_images: Annotated[int, Field(ge=0)] = 0,
        probes: Annotated[int, Field(ge=1)] = 10,
        jacobian: Literal["none", "exact", "estimate"] = "none",
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
    ) -> None:
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.ema_factor, self.radius, self.projected = ema, radius, projected
        self.snapshot, self.watch, self._percents = snapshot, watch, tuple(snapshots)
        self.hessian_images, self.probes, self.jacobian = hessian_images, probes, jacobian
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            channels_last=channels_last,
        )

    def build_model(self) -> None:
        """The network, its average and its snapshots."""
        self.net = self._given[0]
        del self._given
        if self.radius is not None:
            project(self._trained(), self.radius)
        self.ema = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(self.ema_factor))
        self.ema.requires_grad_(False)
        self.ema.n_averaged.fill_(1)  # torch would begin with the weights after the first step
        self.snapshots = Snapshots(self.net, self._percents)
        # A run that is killed in its test gets its state back and nothing else.
        self.looked: Tensor
        self.register_buffer("looked", torch.full((2, 2), torch.nan, dtype=torch.float64))

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.net.parameters() if p.requires_grad]

    def optimized(self) -> Iterable[Any]:
        """All that is trained, weights of norms and biases with it."""
        return self._trained()

    def take_start(self, start: Start) -> None:
        """Take the network as another run has left it, or a snapshot; the average begins there."""
        weights = network(start, self.snapshot)
        self.net.load_state_dict(weights)
        self.ema.module.load_state_dict(weights)

    def on_fit_start(self) -> None:
        """Refuse snapshots that would be missed."""
        self.snapshots.refuse_missed(cast("Any", self.trainer).max_epochs)

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Cross-entropy and logits of a batch ``(B, C, H, W), (B,)``."""
        images, labels = batch
        logits = self.net(images).float()
        wrong = (logits.argmax(1) != labels).float().mean()
        return StepOutput(F.cross_entropy(logits, labels), logits, labels, {"error": wrong})

    def on_train_epoch_start(self) -> None:
        """Note the rate of the epoch: at its end the next one's is set already."""
        self._rate = self._group()["lr"]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Project, and take the weights into their average."""
        if self.radius is not None and self.projected == "step":
            project(self._trained(), self.radius)
        self.ema.update_parameters(self.net)

    def on_train_epoch_end(self) -> None:
        """Log norms and rate, keep a snapshot, look at test images."""
        if self.radius is not None and self.projected == "epoch":
            project(self._trained(), self.radius)
        size = norm(self._trained())
        averaged = dict(self.ema.module.named_parameters())
        trained = (averaged[k] for k, p in self.net.named_parameters() if p.requires_grad)
        found = {
            "train/norm": size,
            "train/norm_ema": norm(trained),
            "train/penalty": self._group()["weight_decay"] / 2 * size.square(),
            "train/rate": self._rate,
        }
        self.log_dict(found, batch_size=1)
        super().on_train_epoch_end()
        n_epochs = cast("Any", self.trainer).max_epochs
        self.snapshots.take(self.current_epoch + 1, n_epochs, self.net)
        if self.watch and self._group()["lr"] < self._rate and bool(self.looked.isnan().all()):
            self._look()

    def _group(self) -> dict[str, Any]:
        """Options of the optimiser as they are now."""
        return cast("Any", self.optimizers()).param_groups[0]

    @torch.no_grad()
    def _look(self) -> None:
        """Test both networks as they are now; training goes on as if nothing had been."""
        data = cast("Any", self.trainer).datamodule
        last = copy.deepcopy(self.net).eval()
        found = [_measured(net, data.test_dataloader()) for net in (last, self._averaged(data))]
        self.looked.copy_(torch.tensor(found, dtype=torch.float64))

    def _averaged(self, data: Any) -> nn.Module:
        """A network with the average of the weights, and statistics of batch norm of its own."""
        net = copy.deepcopy(self.ema.module)
        update_bn((images for images, *_ in data.train_dataloader()), net)
        return net.eval()

    def finish_weights(self, name: str | None, data: PaperDataModule) -> None:
        """Put the average in place."""
        if name == "ema":
            self.net.load_state_dict(self._averaged(data).state_dict())

    def on_test_epoch_end(self) -> None:
        """Record how well training images are fitted, and the curvature."""
        super().on_test_epoch_end()
        data = cast("Any", self.trainer).datamodule
        with torch.no_grad():
            loss, error = _measured(self.net, data.train_dataloader())
        self.add_result("train/fitted_loss", loss)
        self.add_result("train/fitted_error", error)
        if self.hessian_images:
            self._record_curvature(*data.train[:2])

    def _record_curvature(self, images: Tensor, labels: Tensor) -> None:
        chosen = per_class(labels, self.hessian_images)
        images, labels = images[chosen], labels[chosen]
        net = copy.deepcopy(self.net).eval()
        draws = torch.Generator().manual_seed(derive_seed(self.seed, "curvature"))
        trace = curvature.hessian_trace(net, images, labels, draws, probes=self.probes)
        self.add_result("hessian/trace", trace)
        if self.jacobian == "exact":
            squares = curvature.jacobian_squares(net, images)
            self.add_result("jacobian/norm", float(squares.sqrt().mean()))
            self.add_result("jacobian/squared", float(squares.mean()))
        elif self.jacobian == "estimate":
            squares = curvature.jacobian_squares_estimated(net, images, draws, probes=self.probes)
            self.add_result("jacobian/squared", float(squares.mean()))

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record what was looked at, and the end of the first phase."""
        phase = list(itertools.takewhile(lambda r: r["train/rate"] >= rows[0]["train/rate"], rows))
        plateau = [r["train/loss"] for r in phase[-max(1, len(phase) // 10) :]]
        self.add_result("phase_1/loss", sum(plateau) / len(plateau))
        self.add_result("phase_1/norm", phase[-1]["train/norm"])
        if bool(self.looked.isnan().all()):
            return
        for row, values in zip(_LOOKED_AT, self.looked.tolist(), strict=True):
            for metric, value in zip(_MEASURED, values, strict=True):
                self.add_result(metric, value, f"{row}/phase_1")


def _measured(net: nn.Module, batches: Iterable[Any]) -> tuple[float, float]:
    """Mean cross-entropy and share of errors of all images, weighed by batch."""
    loss = error = n = 0.0
    for images, labels in batches:
        logits = net(images).float()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        error += float((logits.argmax(1) != labels).sum())
        n += len(labels)
    return loss / n, error / n
