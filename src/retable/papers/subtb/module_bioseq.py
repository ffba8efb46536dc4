"""The run of AMP and GFP: peptides and proteins that a proxy, or planted motifs, reward."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from retable.papers.subtb.bioproxy import proxy
from retable.papers.subtb.bioseq import Motifs, Score, Task, mean_edit_distance, space_of, top
from retable.papers.subtb.module_seq import SequenceGFlowNet
from retable.papers.subtb.seq_model import sample
from retable.papers.subtb.trajectories import Trajectories
from retable.papers.subtb.user_files import user_files


class BioSequenceGFlowNet(SequenceGFlowNet):
    """AMP (variable length, a stop action) or GFP (fixed length).

    Results: of ``test_samples`` fresh samples ``test/top100_reward``, the mean score of the
    ``top`` best, and ``test/top100_diversity``, their mean pairwise edit distance; further
    ``test/mean_reward`` and ``test/length`` of all samples.

    Args:
        seed: the run's seed.
        task: ``amp`` or ``gfp``.
        reward: ``proxy``, fitted to the user's file ``subtb/<task>.csv``; ``motifs``, made up,
            which tests no statement of the paper.
        max_length: in place of the task's.
        min_length: of AMP.
        exponent: of the proxy's reward.
        floor: smallest score of the proxy that is rewarded.
        test_samples: fresh samples of the test.
        best: how many of them are the top.

    The other arguments are those of
    :class:`~retable.papers.subtb.module_seq.SequenceGFlowNet`.
    """

    def __init__(
        self,
        *,
        seed: int,
        task: Literal["amp", "gfp"],
        reward: Literal["proxy", "motifs"] = "proxy",
        max_length: Annotated[int, Field(ge=3)] | None = None,
        min_length: Annotated[int, Field(ge=0)] = 0,
        exponent: Annotated[float, Field(gt=0)] = 1.0,
        floor: Annotated[float, Field(gt=0)] = 1e-6,
        test_samples: Annotated[int, Field(ge=2)] = 1000,
        best: Annotated[int, Field(ge=2)] = 100,
        objective: Literal["subtb", "tb", "db", "modified_db", "fm"] = "subtb",
        lam: Annotated[float, Field(ge=0)] = 1.9,
        weighting: Literal["within", "pooled", "geometric", "equal_within", "equal"] = "within",
        batch_size: Annotated[int, Field(ge=1)] = 16,
        random_action: Annotated[float, Field(ge=0, le=1)] = 0.01,
        layers: Annotated[int, Field(ge=1)] = 3,
        heads: Annotated[int, Field(ge=1)] = 8,
        width: Annotated[int, Field(ge=2)] = 64,
        hidden: Annotated[int, Field(ge=1)] = 64,
        head: list[int] | None = None,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        flow_init: float = 0.0,
        log_z_init: float = 0.0,
        lr_log_z: Annotated[float, Field(gt=0)] = 0.01,
        optimizer: Any = None,
        scheduler: Any = None,
    ) -> None:
        self.task: Task = task
        self.reward: Literal["proxy", "motifs"] = reward
        self.exponent, self.floor = exponent, floor
        self.test_samples, self.best = test_samples, best
        self.scored: Score | None = Motifs() if reward == "motifs" else None
        super().__init__(
            seed=seed,
            space=space_of(task, max_length, min_length),
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

    def score(self) -> Score:
        """The score; the proxy is fitted, or read from the cache, when it is first asked for."""
        if self.scored is None:
            data = user_files(self)
            # No part of the module: neither trained nor written into checkpoints.
            self.scored = proxy(
                self.task,
                self.space.max_length,
                path=data.path(self.task),
                cache=data.paths.cache,
                exponent=self.exponent,
                floor=self.floor,
            )
        return self.scored

    def setup(self, stage: str) -> None:
        """Find the data, or say what is missing, before anything is computed."""
        self.score()

    def scores(self, actions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words ``(B, max_length)``, their numbers ``(B,)`` and scores ``(B,)``."""
        words = actions[:, : self.space.max_length].clamp_max(self.space.words - 1)
        counts = lengths - int(self.space.stop)
        return words, counts, self.score().score(words, counts)

    def draw(self, batch: int, random_action: float) -> Trajectories:
        """From torch's global generator, which the harness seeds by epoch."""
        actions, lengths = sample(self.network, batch, random_action=random_action)
        words, _, score = self.scores(actions, lengths)
        return Trajectories(actions, actions, lengths, words, self.score().log_reward(score))

    @torch.no_grad()
    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Fresh samples of the policy itself."""
        actions, lengths = sample(self.network, self.test_samples)
        words, counts, score = self.scores(actions, lengths)
        chosen = top(score, self.best)
        self.add_result("test/top100_reward", float(score[chosen].double().mean()))
        diversity = mean_edit_distance(words[chosen], counts[chosen])
        self.add_result("test/top100_diversity", diversity)
        self.add_result("test/mean_reward", float(score.double().mean()))
        self.add_result("test/length", float(counts.double().mean()))

    def on_test_epoch_end(self) -> None:
        """Nothing is collected over batches: there is one."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """There is nothing to choose by."""

    def on_validation_epoch_end(self) -> None:
        """Nothing is collected."""

    def on_history(self, rows: list[dict[str, float]]) -> None:
        """The mean log-reward of training."""
        self.curve(rows, {"curve/log_reward": "train/log_reward"})
