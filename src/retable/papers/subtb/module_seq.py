"""Training on spaces of sequences, and the run of the bit sequences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from retable.papers.base import PaperModule, StepOutput
from retable.papers.subtb.bitseq import BitSequences, exact_l1, log_partition, spearman
from retable.papers.subtb.bitseq_data import BitProblem
from retable.papers.subtb.losses import Weighting
from retable.papers.subtb.objectives import Name, Objective
from retable.papers.subtb.seq_model import SequenceModel
from retable.papers.subtb.sequences import MASKED, SequenceSpace, evaluation, tied_log_flow
from retable.papers.subtb.trajectories import Evaluation, Trajectories

SequenceObjective = Literal["subtb", "tb", "db", "modified_db", "fm"]
CURVE_POINTS = 10
MAX_ENUMERATED = 16
"""Bits up to which the model's whole distribution is compared with the target."""


class SequenceGFlowNet(PaperModule):
    """A causal Transformer trained on trajectories that it draws itself.

    One update is one call of the training step: ``batch_size`` trajectories are drawn without
    gradients, evaluated in one causal pass, and the objective's loss is returned.

    Args:
        seed: the run's seed.
        space: of sequences.
        objective: ``subtb``, ``tb``, ``db``, ``modified_db``, or ``fm``: flow matching, where the
            network's outputs are the log flows of edges. In a tree a state has one edge in, so
            that the condition is detailed balance with the sum of the edges out for log F.
        lam: lambda of SubTB.
        weighting: of subtrajectories, see :func:`~retable.papers.subtb.losses.subtb_loss`.
        batch_size: trajectories of an update.
        random_action: eps of the policy that draws.
        layers: Transformer layers.
        heads: attention heads.
        width: of the embedding.
        hidden: of the Transformer's dense layers.
        head: hidden layers before the outputs.
        dropout: in the pass with gradients.
        flow_init: log F of all states before training.
        log_z_init: log Z of TB before training.
        lr_log_z: learning rate of TB's log Z.
        optimizer: ``_partial_`` of an optimiser.
        scheduler: ``_partial_`` of a scheduler.
    """

    def __init__(
        self,
        *,
        seed: int,
        space: SequenceSpace,
        objective: SequenceObjective,
        lam: float,
        weighting: Weighting,
        batch_size: int,
        random_action: float,
        layers: int,
        heads: int,
        width: int,
        hidden: int,
        head: list[int] | None,
        dropout: float,
        flow_init: float,
        log_z_init: float,
        lr_log_z: float,
        optimizer: Any,
        scheduler: Any,
    ) -> None:
        self.space = space
        if objective not in get_args(SequenceObjective):
            known = ", ".join(get_args(SequenceObjective))
            raise ValueError(f"model.objective: {objective!r} is none of {known}")
        self.tied = objective == "fm"
        name: Name = "modified_db" if objective == "fm" else objective
        self.objective = Objective(name, lam=lam, weighting=weighting)
        self.batch_size, self.random_action = batch_size, random_action
        self.log_z_init, self.lr_log_z = log_z_init, lr_log_z
        self.sizes: dict[str, Any] = {
            "layers": layers,
            "heads": heads,
            "width": width,
            "hidden": hidden,
            "dropout": dropout,
            "head": head or [],
            "flow_init": flow_init,
        }
        super().__init__(seed=seed, optimizer=optimizer, scheduler=scheduler)

    def build_model(self) -> None:
        """The network, and TB's log Z."""
        self.network = SequenceModel(self.space, **self.sizes)
        if self.objective.has_log_z:
            self.log_z = nn.Parameter(torch.tensor(self.log_z_init))

    def optimized(self) -> Iterable[Any]:
        """The network's parameters; TB's log Z is a group with a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": list(self.network.parameters())}]
        if self.objective.has_log_z:
            groups.append({"params": [self.log_z], "lr": self.lr_log_z, "weight_decay": 0.0})
        return groups

    def draw(self, batch: int, random_action: float) -> Trajectories:
        """Draw and reward trajectories, without gradients."""
        raise NotImplementedError

    def evaluate(self, batch: Trajectories) -> Evaluation:
        """One causal pass over a batch, with gradients."""
        logits, log_flow = self.network(self.space.inputs(batch.actions))
        if self.tied:
            log_flow = tied_log_flow(self.space, logits)
        log_z = self.log_z if self.objective.has_log_z else None
        return evaluation(self.space, logits, log_flow, batch, log_z)

    @torch.no_grad()
    def log_partition(self) -> float:
        """The model's estimate of log Z: TB's parameter, or log F(s_0)."""
        if self.objective.has_log_z:
            return float(self.log_z)
        start = torch.full((1, 1), self.space.start, device=self.device)
        logits, log_flow = self.network(start)
        if self.tied:
            missing = ~self.space.valid[0].to(self.device)
            log_flow = logits.masked_fill(missing, MASKED).logsumexp(-1)
        return float(log_flow)

    def shared_step(self, batch: Any) -> StepOutput:
        """Draw, evaluate, and the objective's loss."""
        drawn = self.draw(self.batch_size, self.random_action)
        loss = self.objective.loss(self.evaluate(drawn))
        rewards = drawn.log_reward
        return StepOutput(loss, rewards, rewards, {"log_reward": rewards.mean()})

    def curve(self, rows: list[dict[str, float]], names: dict[str, str]) -> None:
        """Record ten points of logged metrics; the step is the percentage of the epochs.

        Args:
            rows: the history.
            names: logged metric by name of the result.
        """
        for point in range(1, CURVE_POINTS + 1):
            percent = 100 * point // CURVE_POINTS
            done = rows[: max(1, len(rows) * percent // 100)]
            for result, logged in names.items():
                values = [row[logged] for row in done if logged in row]
                if values:
                    self.add_result(result, values[-1], step=percent)


class BitSequenceGFlowNet(SequenceGFlowNet):
    """The bit sequences.

    Results: ``test/spearman`` of log p(x) and log R(x) on the test strings; ``test/modes``, modes
    that some training trajectory has come near; ``test/modes_area``, the mean over epochs of the
    share of modes found by its end, large where they are found early; ``test/log_reward``, mean
    over fresh samples; up to 16 bits ``test/l1``, the summed L1 distance to the target, and
    ``test/log_z_error``. Curves: ``curve/modes``, ``curve/spearman`` (on strings of other flips).

    Args:
        seed: the run's seed.
        n: bits.
        k: bits of a word.
        modes: number of modes.
        beta: reward exponent.
        per_bit: divide the distance by n.
        threshold: largest distance at which a mode counts as found; n / 4 where left out.
        problem: number of the draw of modes; the same for all seeds.
        validate_every: strings of a validation: each number of flips that is a multiple of it.
        test_samples: fresh samples of the test.

    The other arguments are those of :class:`SequenceGFlowNet`.
    """

    found: Tensor

    def __init__(
        self,
        *,
        seed: int,
        n: Annotated[int, Field(ge=8)] = 120,
        k: Annotated[int, Field(ge=1, le=10)] = 1,
        modes: Annotated[int, Field(ge=1)] = 60,
        beta: Annotated[float, Field(gt=0)] = 2.0,
        per_bit: bool = False,
        threshold: Annotated[int, Field(ge=0)] | None = None,
        problem: Annotated[int, Field(ge=0)] = 0,
        validate_every: Annotated[int, Field(ge=1)] = 8,
        test_samples: Annotated[int, Field(ge=1)] = 1024,
        objective: Literal["subtb", "tb", "db", "modified_db", "fm"] = "subtb",
        lam: Annotated[float, Field(ge=0)] = 1.9,
        weighting: Literal["within", "pooled", "geometric", "equal_within", "equal"] = "within",
        batch_size: Annotated[int, Field(ge=1)] = 16,
        random_action: Annotated[float, Field(ge=0, le=1)] = 0.001,
        layers: Annotated[int, Field(ge=1)] = 3,
        heads: Annotated[int, Field(ge=1)] = 8,
        width: Annotated[int, Field(ge=2)] = 64,
        hidden: Annotated[int, Field(ge=1)] = 64,
        head: list[int] | None = None,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        flow_init: float = 0.0,
        log_z_init: float = 0.0,
        lr_log_z: Annotated[float, Field(gt=0)] = 0.1,
        optimizer: Any = None,
        scheduler: Any = None,
    ) -> None:
        self.problem = BitProblem(n, k, modes, beta, per_bit, threshold, problem)
        self.environment = BitSequences(self.problem)
        self.validate_every, self.test_samples = validate_every, test_samples
        super().__init__(
            seed=seed,
            space=self.problem.space,
            objective=objective,
            lam=lam,
            weighting=weighting,
            batch_size=batch_size,
            random_action=random_action,
            layers=layers,
            heads=heads,
            width=width,
            hidden=hidden,
            head=head,
            dropout=dropout,
            flow_init=flow_init,
            log_z_init=log_z_init,
            lr_log_z=lr_log_z,
            optimizer=optimizer,
            scheduler=scheduler,
        )

    def build_model(self) -> None:
        """The network, and which modes have been found: part of every checkpoint."""
        super().build_model()
        self.register_buffer("found", torch.zeros(self.problem.modes, dtype=torch.bool))

    def draw(self, batch: int, random_action: float) -> Trajectories:
        """From torch's global generator, which the harness seeds by epoch."""
        return self.environment.draw(self.network, batch, random_action)

    def shared_step(self, batch: Any) -> StepOutput:
        """An update, which may find modes."""
        drawn = self.draw(self.batch_size, self.random_action)
        self.found |= self.environment.found(drawn.objects)
        loss = self.objective.loss(self.evaluate(drawn))
        rewards = drawn.log_reward
        return StepOutput(loss, rewards, rewards, {"log_reward": rewards.mean()})

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """The loss; at the epoch's end the modes found so far."""
        loss = super().training_step(batch, batch_idx)
        if self.trainer.is_last_batch:
            self.log("train/modes", self.found.sum().float())
        return loss

    def correlation(self, strings: Tensor) -> float:
        """Spearman correlation of log p and log R on strings ``(N, n)``."""
        strings = strings.to(self.device)
        log_p = self.environment.log_likelihood(self.network, strings)
        return spearman(log_p, self.problem.log_reward(self.problem.distances(strings)))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Correlation on flips that are not the test's."""
        strings = self.problem.strings("validation", self.validate_every)
        self.log("val/spearman", self.correlation(strings), batch_size=1)

    def on_validation_epoch_end(self) -> None:
        """Nothing is collected over batches: there is one."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """All numbers of the trained network."""
        self.add_result("test/spearman", self.correlation(self.problem.strings()))
        self.add_result("test/modes", float(self.found.sum()))
        fresh = self.draw(self.test_samples, 0.0)
        self.add_result("test/log_reward", float(fresh.log_reward.double().mean()))
        if self.problem.n <= MAX_ENUMERATED:
            distance, _ = exact_l1(self.problem, self.network)
            self.add_result("test/l1", distance)
            error = abs(self.log_partition() - log_partition(self.problem))
            self.add_result("test/log_z_error", error)

    def on_test_epoch_end(self) -> None:
        """Nothing is collected over batches: there is one."""

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """Curves, and how early modes are found."""
        self.curve(rows, {"curve/modes": "train/modes", "curve/spearman": "val/spearman"})
        shares = [row["train/modes"] / self.problem.modes for row in rows]
        self.add_result("test/modes_area", sum(shares) / len(shares))
