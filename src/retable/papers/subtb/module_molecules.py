"""The run of the molecules: made-up fragments and reward, or the sEH task where its files are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from retable.papers.base import PaperModule, StepOutput
from retable.papers.subtb import molecule_data
from retable.papers.subtb.bitseq import spearman
from retable.papers.subtb.molecule_data import MoleculeReward, ToyReward
from retable.papers.subtb.molecule_exact import key_of, log_likelihood, state_of
from retable.papers.subtb.molecule_model import MoleculeModel, evaluate, sample
from retable.papers.subtb.molecules import Fragments, MoleculeSpace
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.trajectories import Trajectories
from retable.papers.subtb.user_files import user_files
from retable.training.seeds import derive_seed


class MoleculeGFlowNet(PaperModule):
    """Fragment molecules.

    Results: ``test/correlation``, Pearson's, and ``test/spearman`` of exact log p(x) and log R(x)
    on held-out molecules; ``test/log_reward``, mean over fresh samples.

    Held-out molecules are drawn by a uniform policy, once and for all runs alike; those of the
    paper are a file of the authors' that is not read here.

    Args:
        seed: the run's seed.
        reward: ``toy``, which tests no statement of the paper, or ``seh``, which needs the user's
            files (:mod:`.molecule_data`).
        max_blocks: fragments of the largest molecule.
        min_blocks: of the smallest.
        exponent: of the reward, with ``seh``.
        objective: see :class:`~retable.papers.subtb.objectives.Objective`.
        lam: lambda of SubTB.
        weighting: of subtrajectories.
        batch_size: trajectories of an update.
        random_action: eps of the policy that draws.
        width: of the network.
        rounds: of messages.
        flow_init: log F of all states before training.
        log_z_init: log Z of TB before training.
        lr_log_z: learning rate of TB's log Z.
        test_molecules: held-out molecules.
        test_samples: fresh samples.
        optimizer: ``_partial_`` of an optimiser.
        scheduler: ``_partial_`` of a scheduler.
    """

    def __init__(
        self,
        *,
        seed: int,
        reward: Literal["toy", "seh"] = "seh",
        max_blocks: Annotated[int, Field(ge=2)] = 8,
        min_blocks: Annotated[int, Field(ge=1)] = 2,
        exponent: Annotated[float, Field(gt=0)] = 10.0,
        objective: Literal["subtb", "tb", "db", "modified_db"] = "subtb",
        lam: Annotated[float, Field(ge=0)] = 1.0,
        weighting: Literal["within", "pooled", "geometric", "equal_within", "equal"] = "within",
        batch_size: Annotated[int, Field(ge=1)] = 4,
        random_action: Annotated[float, Field(ge=0, le=1)] = 0.05,
        width: Annotated[int, Field(ge=2)] = 256,
        rounds: Annotated[int, Field(ge=1)] = 10,
        flow_init: float = 0.0,
        log_z_init: float = 30.0,
        lr_log_z: Annotated[float, Field(gt=0)] = 5e-4,
        test_molecules: Annotated[int, Field(ge=3)] = 200,
        test_samples: Annotated[int, Field(ge=1)] = 500,
        optimizer: Any = None,
        scheduler: Any = None,
    ) -> None:
        self.kind = reward
        self.max_blocks, self.min_blocks, self.exponent = max_blocks, min_blocks, exponent
        self.objective = Objective(objective, lam=lam, weighting=weighting)
        self.batch_size, self.random_action = batch_size, random_action
        self.sizes: dict[str, Any] = {"width": width, "rounds": rounds, "flow_init": flow_init}
        self.log_z_init, self.lr_log_z = log_z_init, lr_log_z
        self.test_molecules, self.test_samples = test_molecules, test_samples
        super().__init__(seed=seed, optimizer=optimizer, scheduler=scheduler)

    def build_model(self) -> None:
        """The network of the toy; that of the sEH task has its size from a file (:meth:`setup`)."""
        self.rewarded: MoleculeReward | None = None
        self.network: MoleculeModel | None = None
        if self.kind == "toy":
            self._build(molecule_data.TOY, ToyReward(len(molecule_data.TOY.ports)))
        if self.objective.has_log_z:
            self.log_z = nn.Parameter(torch.tensor(self.log_z_init))

    def _build(self, fragments: Fragments, reward: MoleculeReward) -> None:
        self.space = MoleculeSpace(fragments, self.max_blocks, self.min_blocks)
        self.network = MoleculeModel(self.space, **self.sizes)
        # No part of the module: neither trained nor written into checkpoints.
        self.__dict__["rewarded"] = reward

    def setup(self, stage: str) -> None:
        """Find the sEH task's files, or say what is missing, before anything is computed."""
        if self.network is not None:
            return
        data = user_files(self)
        fragments, proxy = data.path("fragments"), data.path("seh_proxy")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "network"))
            self._build(
                molecule_data.read_fragments(fragments),
                molecule_data.read_proxy(proxy, self.exponent),
            )

    def optimized(self) -> Iterable[Any]:
        """The network's parameters; TB's log Z is a group with a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": list(self.built().parameters())}]
        if self.objective.has_log_z:
            groups.append({"params": [self.log_z], "lr": self.lr_log_z})
        return groups

    def built(self) -> MoleculeModel:
        """The network."""
        assert self.network is not None
        return self.network

    def log_reward(self, objects: Tensor) -> Tensor:
        """Return log R ``(B,)`` of molecules."""
        assert self.rewarded is not None
        return self.rewarded.log_reward(objects)

    def shared_step(self, batch: Any) -> StepOutput:
        """Draw, evaluate, and the objective's loss."""
        drawn = sample(self.built(), self.batch_size, random_action=self.random_action)
        states, actions, lengths, objects = drawn
        rewards = self.log_reward(objects)
        log_z = self.log_z if self.objective.has_log_z else None
        found = evaluate(
            self.built(), Trajectories(states, actions, lengths, objects, rewards), log_z
        )
        loss = self.objective.loss(found)
        return StepOutput(loss, rewards, rewards, {"log_reward": rewards.mean()})

    def held_out(self) -> Tensor:
        """Different molecules ``(N, blocks, 4)`` of a uniform policy, the same for all seeds."""
        keys: dict[Any, None] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(0, "held-out molecules"))
            for _ in range(50):  # a small space may have fewer
                objects = sample(self.built(), self.test_molecules, random_action=1.0)[3]
                keys |= {key_of(state): None for state in objects.cpu()}
                if len(keys) >= self.test_molecules:
                    break
        chosen = list(keys)[: self.test_molecules]
        return torch.stack([state_of(key, self.space) for key in chosen])

    def policy(self, states: Tensor) -> Tensor:
        """Log P_F of states, without gradients, on the CPU."""
        with torch.no_grad():
            return self.built().log_policy(states.to(self.device))[0].cpu()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Correlation on held-out molecules, and fresh samples."""
        objects = self.held_out()
        log_p = torch.tensor([log_likelihood(x, self.space, self.policy) for x in objects])
        log_reward = self.log_reward(objects)
        pearson = torch.corrcoef(torch.stack([log_p, log_reward]).double())[0, 1]
        self.add_result("test/correlation", float(pearson))
        self.add_result("test/spearman", spearman(log_p, log_reward))
        fresh = sample(self.built(), self.test_samples)[3]
        self.add_result("test/log_reward", float(self.log_reward(fresh).double().mean()))

    def on_test_epoch_end(self) -> None:
        """Nothing is collected over batches: there is one."""
