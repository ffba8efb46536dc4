"""Language models in one pass: decoupled weight decay, its variants, and what it does to rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from retable.papers.base import Arrays, PaperModule, Start, StepOutput
from retable.papers.weight_decay.norms import Norms
from retable.papers.weight_decay.schedule import rate
from retable.papers.weight_decay.snapshots import Snapshots, network
from retable.papers.weight_decay.text import Batches
from retable.util.errors import UserError

DECAYED = ("wte", "wpe", "mlp", "attn", "lm_head")
"""What a name contains of the parameters that are decayed, in the authors' code."""


class LanguageModel(PaperModule):
    """A network that predicts the next token, trained with AdamW or SGD.

    The learning rate and the norm ``||w||`` over all decayed parameters together belong to an
    iteration; both are those that its step begins with. ``train/loss`` is the cross-entropy of the
    epoch's batches in nats, without any penalty, and so are ``val/loss`` and ``test/loss``. A run
    also logs ``train/norm`` and ``train/rate`` (of the epoch's last iteration), ``train/penalty``
    with ``l2``, ``excess`` (loss less the least possible one) where that is known, and records
    ``test/train_loss``, on a fixed sample of training sequences, and ``test/gap``, that is
    ``test/loss`` less this. Artefact ``norms`` has ``norm`` and ``rate`` by iteration.

    Args:
        seed: the run's seed.
        net: ``(B, T)`` tokens to ``(B, T, V)`` logits.
        lr: rate after the warm-up, eta.
        min_lr: rate from ``horizon`` on; null: ``lr``, so that the rate stays constant.
        warmup: iterations in which the rate rises from 0.
        horizon: iteration at which half a cosine from ``lr`` to ``min_lr`` ends.
        decay: lambda, given to the optimiser: decoupled in AdamW, ``lambda w`` added to the
            gradient in SGD.
        decay_times: lambda is ``decay`` times this. A shortened training has the paper's
            ``sum_t eta_t lambda``, which is the shrinkage, with a lambda that is so much greater.
        decay_on: ``matrices``, whose names contain one of :data:`DECAYED`, or ``all``, with the
            gains of LayerNorm.
        l2: adds ``l2 ||w||^2``, without 1/2, over the same parameters to what is minimised.
        snapshots: percentages of the epochs after which the weights are kept for other runs.
        snapshot: begin with those after this share of the run that this one starts from; null:
            with those that it has tested.
        match: begin with a network of its own, and take from the parent its artefact ``norms``
            alone: the rate is ``eta_t ||w'_t|| / ||w_t||``, with eta and w of the parent.
        match_rest: whether what is not decayed has this rate as well, as the paper speaks of one;
            else eta_t, as in the parent, since the loss does depend on the size of a gain.
        optimizer: ``_partial_`` of an optimiser; rate and decay are set here.
    """

    def __init__(
        self,
        *,
        seed: int,
        net: nn.Module,
        lr: Annotated[float, Field(gt=0)],
        min_lr: Annotated[float, Field(ge=0)] | None = None,
        warmup: Annotated[int, Field(ge=0)] = 0,
        horizon: Annotated[int, Field(ge=0)] = 0,
        decay: Annotated[float, Field(ge=0)] = 0.0,
        decay_times: Annotated[float, Field(gt=0)] = 1.0,
        decay_on: Literal["matrices", "all"] = "matrices",
        l2: Annotated[float, Field(ge=0)] = 0.0,
        snapshots: Sequence[int] = (),
        snapshot: Annotated[float, Field(gt=0, le=1)] | None = None,
        match: bool = False,
        match_rest: bool = True,
        optimizer: Any = None,
    ) -> None:
        if match and (decay or l2 or snapshot is not None):
            raise UserError("model.match: takes no decay, no l2 and no snapshot; leave them out")
        if min_lr is not None and min_lr != lr and horizon <= warmup:
            raise UserError(f"model.horizon: has to be after the warm-up, {warmup}, not {horizon}")
        self._given = (net,)  # a module cannot be kept as one before the base is there
        self.lr, self.min_lr = lr, lr if min_lr is None else min_lr
        self.warmup, self.horizon = warmup, horizon
        self.decay, self.decay_on, self.l2 = decay * decay_times, decay_on, l2
        self._percents, self.snapshot = tuple(snapshots), snapshot
        self.match, self.match_rest = match, match_rest
        self._followed: tuple[Tensor, Tensor] | None = None
        self._penalised: Tensor | None = None
        self._tested: list[tuple[Tensor, int]] = []
        super().__init__(seed=seed, optimizer=optimizer)

    def build_model(self) -> None:
        """The network that is given, and what is kept of its training."""
        [self.net] = self._given
        del self._given
        self.norms = Norms()
        self.snapshots = Snapshots(self.net, self._percents)

    def decayed(self) -> list[nn.Parameter]:
        """Parameters that are decayed; a tied one is among them once."""
        named = self.net.named_parameters()
        everything = self.decay_on == "all"
        return [p for name, p in named if everything or any(part in name for part in DECAYED)]

    def optimized(self) -> Iterable[Any]:
        """A group that is decayed, and one of the rest that is not."""
        decayed = self.decayed()
        known = {id(parameter) for parameter in decayed}
        rest = [p for p in self.net.parameters() if id(p) not in known]
        groups = [{"params": decayed, "weight_decay": self.decay, "lr": self.lr}]
        return [*groups, {"params": rest, "weight_decay": 0.0, "lr": self.lr}] if rest else groups

    @property
    def _data(self) -> Any:
        return cast("Any", self.trainer).datamodule

    def take_start(self, start: Start) -> None:
        """Take the norms, a snapshot, or the weights that the parent has tested."""
        if self.match:
            if "norms" not in start.artifacts:
                found = sorted(start.artifacts) or "none"
                raise UserError(
                    "model.match: the run that this one starts from has left no artefact 'norms'"
                    f" (left: {found}); start from one of a {type(self).__name__}"
                )
            norms = start.artifacts["norms"]
            self._followed = norms["norm"], norms["rate"]
            return
        self.net.load_state_dict(network(start, self.snapshot))

    def on_fit_start(self) -> None:
        """Refuse what does not fit together before the first iteration."""
        data, n_epochs = self._data, self.trainer.max_epochs or 0
        for given, limit, name in (
            (data.context, getattr(self.net, "context", data.context), "context"),
            (data.vocabulary, getattr(self.net, "vocabulary", data.vocabulary), "vocabulary"),
        ):
            if given > limit:
                raise UserError(f"model.net.{name}: is {limit}, the data needs {given}")
        self.snapshots.refuse_missed(n_epochs)

    def on_train_start(self) -> None:
        """Refuse to follow a run that was shorter."""
        if self._followed is None:
            return
        batches, every = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        needed = (self.trainer.max_epochs or 0) * math.ceil(batches / every)
        if len(self._followed[0]) < needed:
            raise UserError(
                f"model.match: the run that this one starts from has {len(self._followed[0])}"
                f" iterations, {needed} are needed; set trainer.max_epochs as there"
            )

    def shared_step(self, batch: tuple[Tensor, Tensor]) -> StepOutput:
        """Cross-entropy of a batch ``(B, T), (B, T)``, mean over all tokens."""
        tokens, targets = batch
        loss = F.cross_entropy(self.net(tokens).flatten(0, 1).float(), targets.flatten())
        floor = self._data.floor
        logs = {} if floor is None else {"excess": loss.detach() - floor}
        if self.l2 and self.training:
            weights = torch.stack([w.square().sum() for w in self.decayed()])
            self._penalised = self.l2 * weights.sum()
            logs["penalty"] = self._penalised.detach()
        return StepOutput(loss, logs=logs, items=len(tokens))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """What is minimised; the base meters the cross-entropy alone."""
        loss: Any = super().training_step(batch, batch_idx)
        penalty, self._penalised = self._penalised, None
        return loss if penalty is None else loss + penalty

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Set the rate of this iteration, and note it and the norm."""
        t, norm = self.trainer.global_step, norm_of(optimizer.param_groups[0]["params"])
        if self._followed is None:
            eta = plain = rate(
                t, lr=self.lr, min_lr=self.min_lr, warmup=self.warmup, horizon=self.horizon
            )
        else:
            norms, rates = self._followed
            plain = float(rates[t])
            eta = plain * float(norm) / float(norms[t])
        decayed, *rest = optimizer.param_groups
        decayed["lr"] = eta
        for group in rest:
            group["lr"] = eta if self.match_rest else plain
        self.norms.add(norm, eta)

    def on_train_epoch_end(self) -> None:
        """Log norm and rate, and keep a snapshot where one is due."""
        super().on_train_epoch_end()
        measured = self.norms.gather()
        self.log("train/norm", measured["norm"][-1])
        self.log("train/rate", measured["rate"][-1])
        self.snapshots.take(self.current_epoch + 1, self.trainer.max_epochs or 0, self.net)

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self._tested = []

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Log a test batch."""
        loss: Any = super().test_step(batch, batch_idx)
        self._tested.append((loss.detach(), len(batch[0])))
        return loss

    def on_test_epoch_end(self) -> None:
        """Record the loss on as much of the training data, and what the test's is more."""
        super().on_test_epoch_end()
        train = _mean(self._train_losses(self._data.sample()))
        self.add_result("test/train_loss", train)
        self.add_result("test/gap", _mean(self._tested) - train)
        self._tested = []

    @torch.no_grad()
    def _train_losses(self, batches: Batches) -> list[tuple[Tensor, int]]:
        precision = cast("Any", self.trainer).precision_plugin
        with precision.forward_context():
            return [(self.shared_step(batch).loss, len(batch[0])) for batch in batches]

    def artifacts(self) -> dict[str, Arrays]:
        """Norms and rates by iteration."""
        return {"norms": self.norms.gather()}


def norm_of(parameters: Iterable[Tensor]) -> Tensor:
    """Euclidean norm over all parameters together, a scalar that stays on their device."""
    return nn.utils.get_total_norm([parameter.detach() for parameter in parameters])


def _mean(losses: list[tuple[Tensor, int]]) -> float:
    """Mean over sequences, in float64."""
    sizes = torch.tensor([size for _, size in losses], dtype=torch.float64)
    values = torch.stack([loss for loss, _ in losses]).cpu().double()
    return float((values * sizes).sum() / sizes.sum())
