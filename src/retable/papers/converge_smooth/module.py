"""Adversarial training with and without a smoothed loss, and its robustness after every epoch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from retable.papers.base import PaperModule, StepOutput
from retable.papers.converge_smooth.attacks import Loss, Perturbed, inner, noise
from retable.papers.converge_smooth.checks import (
    refuse_batch,
    refuse_budget,
    refuse_early_end,
    refuse_items,
)
from retable.papers.converge_smooth.evaluation import classified, survivors
from retable.papers.converge_smooth.losses import soft_cross_entropy, soft_targets, unaligned
from retable.papers.converge_smooth.overfitting import summary
from retable.papers.converge_smooth.priors import Prior
from retable.papers.converge_smooth.recipe import Attack, refuse_beside_replays, refuse_other_kinds
from retable.papers.converge_smooth.replays import Replays
from retable.papers.converge_smooth.smoothing import Centre, MeanLoss, Smoothing
from retable.training.seeds import derive_seed

_STATE = "converge_smooth"
_PIXEL = 1 / 255


class AdversarialTraining(PaperModule):
    """A network trained on adversarial images.

    Every epoch it logs accuracies of validation images, ``val/clean``, ``val/fgsm`` and
    ``val/pgd_10``, and of training images the loss without further terms
    (``train/adversarial_loss``), by how much its mean differs from that of the epoch before
    (``train/loss_change``), the one that is smoothed (``train/smoothed_loss``) and the shares of
    batches (or images) whose loss the term lowers (``train/lowered``) or raises
    (``train/raised``). A test has ``test/clean``, ``test/fgsm``, ``test/pgd_10``, ``test/pgd_20``,
    ``test/pgd_50`` and ``test/cw``. After the fit the run records ``overfitting/collapsed`` and,
    where it is 1, ``overfitting/epoch``, ``.../share`` and ``.../jump`` (:mod:`.overfitting`);
    on validation images PGD-10 of the best epoch, ``overfitting/best`` (and which one it is,
    ``.../best_epoch``), and that of the last by it, ``overfitting/kept``; with
    ``watch`` what the authors' choice of the epoch by test images would give,
    ``watched/best_pgd_10``.

    Args:
        seed: the run's seed.
        net: images ``(B, C, H, W)`` in [0, 1] to logits.
        n_classes: outputs of the network.
        n_images: of the set, validation images with them: perturbations are kept for so many.
        attack: of the training, an :class:`Attack`.
        budget: L-infinity radius in 255ths.
        factor: what the label has of the target; 1 is the usual cross-entropy.
        match: weight of the squared distance between the logits of adversarial and starting images,
            with gradients through both (lamda of the FGSM-MEP code).
        align: weight of GradAlign's term.
        smoothing: the ConvergeSmooth term, a :class:`Smoothing`.
        centralise: weight of the distance to the mean of earlier weights, an interpretation.
        replays: steps on every batch, whose perturbation goes on from one to the next (Free-AT).
        eval_step: of PGD in evaluation, in 255ths.
        watch: test batches of which PGD-10 is measured after every epoch, too.
        optimizer: ``_partial_`` of an optimiser.
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
        attack: Any,
        smoothing: Any,
        n_classes: Annotated[int, Field(ge=2)] = 10,
        n_images: Annotated[int, Field(ge=1)] = 50_000,
        budget: Annotated[float, Field(gt=0)] = 16.0,
        factor: Annotated[float, Field(gt=0, le=1)] = 0.6,
        match: Annotated[float, Field(ge=0)] = 0.0,
        align: Annotated[float, Field(ge=0)] = 0.0,
        centralise: Annotated[float, Field(ge=0)] = 0.0,
        replays: Annotated[int, Field(ge=1)] = 1,
        eval_step: Annotated[float, Field(gt=0)] = 2.0,
        watch: Annotated[int, Field(ge=0)] = 0,
        optimizer: Any = None,
        scheduler: Any = None,
        scheduler_interval: Literal["epoch", "epoch_start", "step"] = "epoch",
        channels_last: bool = False,
    ) -> None:
        refuse_other_kinds(attack, smoothing)
        refuse_budget("model.budget", budget)
        if replays > 1:
            refuse_beside_replays(attack, match, smoothing)
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.n_classes, self.n_images = n_classes, n_images
        self.attack: Attack = attack
        self.smoothing: Smoothing = smoothing
        self.budget, self.eval_step = budget * _PIXEL, eval_step * _PIXEL
        self.factor, self.match, self.align = factor, match, align
        self.centralise, self.replays, self.watch = centralise, replays, watch
        self.mean_loss, self.epoch_loss, self.centre = MeanLoss(), MeanLoss(), Centre()
        self.prior = attack.prior(self.budget)
        self._replayed = Replays()
        self._anew = False
        self._unseen = False
        self._taken: dict[str, Any] = {}
        self._draws = torch.Generator()
        self.automatic_optimization = replays == 1
        super().__init__(
            seed=seed,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            channels_last=channels_last,
        )

    def build_model(self) -> None:
        """The network."""
        self.net = self._given[0]
        del self._given

    def build_metrics(self) -> None:
        """Accuracy of what the loss is of: adversarial images in training, clean ones else."""
        metric = MulticlassAccuracy(self.n_classes, average="micro")
        self.use_metrics(MetricCollection({"accuracy": metric}))

    # Training.

    def on_fit_start(self) -> None:
        """Refuse data and phases that the options do not go with."""
        refuse_items(cast("Any", self.trainer).datamodule.train, self.n_images, self.n_classes)
        if self.smoothing.weight or self.centralise:
            refuse_early_end(self.smoothing.phases, self.trainer.max_epochs)
        self._unseen = True

    def on_train_epoch_start(self) -> None:
        """Draw by the epoch alone."""
        epoch = self.current_epoch
        self._draws.manual_seed(derive_seed(self.seed, "attack", epoch))
        self.centre.mean = [mean.to(self.device) for mean in self.centre.mean]
        self._anew = epoch % self.attack.reset == 0

    def shared_step(self, batch: tuple[Tensor, Tensor, Tensor]) -> StepOutput:
        """Loss of a batch ``(B, C, H, W), (B,), (B,)``; out of training the attacks on it."""
        if not self.training:
            return self._evaluated(batch)
        images, labels, ids = batch
        if self._unseen:
            refuse_batch(images)
            self._unseen = False
        targets = soft_targets(labels, self.n_classes, self.factor)
        initial = self.smoothing.weight > 0 and self.smoothing.on == "initial"
        keep = self.match > 0 or initial
        perturbed = self._perturbed(images, labels, ids, targets, keep=keep)
        logits = self.net(perturbed.images).float()
        self.epoch_loss.add(losses := soft_cross_entropy(logits, targets))
        adversarial = losses.mean()
        logs = {"adversarial_loss": adversarial.detach()}
        loss = adversarial
        if self.match:
            loss = loss + self.match * F.mse_loss(logits, perturbed.logits)
        if self.align:
            loss = loss + self.align * self._unaligned(images, labels)
        if self.smoothing.weight:
            loss = loss + self._smooth(images, perturbed, targets, logs)
        if self.centralise and self.centre.count and self._centred():
            loss = loss + self.centralise * self.centre.distance(list(self.net.parameters()))
        return StepOutput(loss, logits, labels, logs)

    def _raised(self, labels: Tensor, targets: Tensor) -> Loss:
        if self.attack.labels == "soft":
            return lambda logits: soft_cross_entropy(logits, targets)
        return lambda logits: F.cross_entropy(logits, labels, reduction="none")

    def _perturbed(
        self, images: Tensor, labels: Tensor, ids: Tensor, targets: Tensor, *, keep: bool
    ) -> Perturbed:
        loss = self._raised(labels, targets)
        if self.replays > 1:
            return self._replayed.begin(images)
        if self.prior is not None:
            self._begin(self.prior, images)
            return self.prior(self.net, images, ids, loss, keep=keep)
        return self.attack(self.net, images, loss, self._draws, budget=self.budget, keep=keep)

    def _begin(self, prior: Prior, images: Tensor) -> None:
        """Take what a checkpoint has, or begin anew where it is time."""
        if "prior" in self._taken:
            prior.load(self._taken.pop("prior"), images.device)
        if self._anew or prior.kept is None:
            n = len(images) if prior.kind == "batch" else self.n_images
            prior.reset(n, images, self._draws)
            self._anew = False

    def _unaligned(self, images: Tensor, labels: Tensor) -> Tensor:
        """GradAlign's term: gradients at the images and at noise around them, differentiable."""
        found: list[Tensor] = []
        for at in (images, images + noise(images, self.budget, self._draws)):
            at = at.detach().requires_grad_()
            loss = F.cross_entropy(self.net(inner(at)).float(), labels, reduction="sum")
            found.append(torch.autograd.grad(loss, at, create_graph=True)[0])
        return unaligned(*found)

    def _smooth(
        self, images: Tensor, perturbed: Perturbed, targets: Tensor, logs: dict[str, Tensor]
    ) -> Tensor:
        match self.smoothing.on:
            case "initial":
                logits = perturbed.logits
            case "start":
                logits = self.net(perturbed.start).float()
            case _:
                logits = self.net(images).float()
        losses = soft_cross_entropy(logits, targets)
        self.mean_loss.add(losses)
        logs["smoothed_loss"] = losses.detach().mean()
        term = side = losses.new_zeros(())
        if self.smoothing.active(self.current_epoch):
            width = self.smoothing.width(self.mean_loss.change)
            term, side = self.smoothing.term(losses, self.mean_loss.previous, width)
        logs["lowered"], logs["raised"] = (side > 0).float().mean(), (side < 0).float().mean()
        return term

    def _centred(self) -> bool:
        """Whether weights are drawn to their mean: not in the first two epochs of a phase."""
        begun = max(start for start in self.smoothing.phases if start <= self.current_epoch)
        return self.current_epoch >= begun + 2

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """One step, or as many as replays."""
        if self.replays == 1:
            return super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        loss: Any = None
        for _ in range(self.replays):
            loss = super().training_step(batch, batch_idx)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self._replayed.move(self.attack.step * self.budget, self.budget)
        return loss

    def on_train_epoch_end(self) -> None:
        """Close the epoch's mean loss, and take its weights into their mean."""
        super().on_train_epoch_end()
        self.mean_loss.close()
        self.epoch_loss.close()
        if self.current_epoch:
            self.log("train/loss_change", abs(self.epoch_loss.change), batch_size=1)
        if self.centralise:
            if self.current_epoch + 1 in self.smoothing.phases:
                self.centre = Centre()
            else:
                self.centre.add(list(self.net.parameters()))

    # Evaluation.

    def on_validation_epoch_start(self) -> None:
        """The same starts of attacks in every epoch."""
        self._starts = torch.Generator().manual_seed(derive_seed(self.seed, "evaluation"))

    def on_test_epoch_start(self) -> None:
        """The same starts for every set of weights."""
        self.on_validation_epoch_start()

    def _evaluated(self, batch: tuple[Tensor, Tensor, Tensor]) -> StepOutput:
        images, labels, _ = batch
        with torch.autocast(images.device.type, enabled=False):
            logits = self.net(images.float())
        after = (10, 20, 50) if self.trainer.testing else (10,)
        found = {"clean": logits.argmax(1) == labels}
        found["fgsm"] = self._survivors(images, labels, self.budget, (1,))[1]
        robust = self._survivors(images, labels, self.eval_step, after)
        found |= {f"pgd_{n}": mask for n, mask in robust.items()}
        if self.trainer.testing:
            found["cw"] = self._survivors(images, labels, self.eval_step, (20,), "margin")[20]
        logs = {name: mask.float().mean() for name, mask in found.items()}
        return StepOutput(F.cross_entropy(logits, labels), logits, labels, logs)

    def _survivors(
        self,
        images: Tensor,
        labels: Tensor,
        step: float,
        after: tuple[int, ...],
        loss: Literal["ce", "margin"] = "ce",
    ) -> dict[int, Tensor]:
        return survivors(
            self.net, images, labels, self._starts,
            budget=self.budget, step=step, after=after, loss=loss,
        )  # fmt: skip

    def on_validation_epoch_end(self) -> None:
        """Look at test images, too, where the authors' choice of the epoch is to be shown."""
        super().on_validation_epoch_end()
        if not self.watch or self.trainer.sanity_checking:
            return
        clean: list[Tensor] = []
        robust: list[Tensor] = []
        data: Any = cast("Any", self.trainer).datamodule
        for number, (images, labels, _) in enumerate(data.test_dataloader()):
            if number == self.watch:
                break
            clean.append(classified(self.net, images, labels))
            robust.append(self._survivors(images, labels, self.eval_step, (10,))[10])
        shares = {"watched/clean": clean, "watched/pgd_10": robust}
        self.log_dict({k: torch.cat(v).float().mean() for k, v in shares.items()}, batch_size=1)

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Record whether and when the training collapsed, and the choice by test images."""
        for name, value in summary(rows, chance=1 / self.n_classes).items():
            self.add_result(name, value)

    # State that a resumed run needs.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put perturbations, mean losses and mean weights into the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        state: dict[str, Any] = {"losses": self.mean_loss.state()}
        state["epoch_losses"] = self.epoch_loss.state()
        if self.prior is not None:
            state["prior"] = self.prior.state()
        if self._replayed.kept is not None:
            state["replayed"] = self._replayed.kept
        if self.centre.count:
            state["centre"] = {"mean": self.centre.mean, "count": self.centre.count}
        checkpoint[_STATE] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them; tensors go to the device when it is known."""
        super().on_load_checkpoint(checkpoint)
        self._taken = dict(checkpoint.get(_STATE, {}))
        if "losses" in self._taken:
            self.mean_loss = MeanLoss(*self._taken.pop("losses"))
            self.epoch_loss = MeanLoss(*self._taken.pop("epoch_losses"))
        self._replayed = Replays(self._taken.pop("replayed", None))
        if "centre" in self._taken:
            kept = self._taken.pop("centre")
            self.centre.mean, self.centre.count = list(kept["mean"]), kept["count"]
