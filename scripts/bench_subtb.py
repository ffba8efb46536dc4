"""Updates per second of GFlowNet training against torchgfn.

    uv run --group bench-gflownet scripts/bench_subtb.py [--seconds 10] [--skip-bits]

Side by side in one process with one thread: the same network with the same weights, batch,
environment, objective (SubTB(0.9), per trajectory; for bits 1.9) and Adam. An update is sampling 16
trajectories, loss, backward pass and step. The two take turns; counted are CPU seconds, which a
busy machine inflates less than those of the clock. First both losses are computed on the same
trajectories: exit code 1 where they differ by more than 1e-4.

torchgfn asks a network for one state at a time, so that for the bit sequences it runs the causal
Transformer over every prefix; ours runs it once per sequence and samples with kept keys and values.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from gfn.containers import Trajectories as TheirTrajectories
from gfn.estimators import DiscretePolicyEstimator, ScalarEstimator
from gfn.gflownet import SubTBGFlowNet
from gfn.gym import BitSequence
from gfn.gym import HyperGrid as TheirGrid
from gfn.preprocessors import IdentityPreprocessor, KHotPreprocessor
from torch import Tensor, nn

from retable.papers.subtb.bitseq import BitSequences
from retable.papers.subtb.bitseq_data import BitProblem
from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.losses import subtb_loss
from retable.papers.subtb.networks import MLP
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy, visits
from retable.papers.subtb.seq_model import SequenceModel
from retable.papers.subtb.sequences import evaluation
from retable.papers.subtb.trajectories import Trajectories
from retable.papers.subtb.visited import Visited
from retable.runs.provenance import cpu_model

TORCHGFN = "2.4.1"
BATCH = 16
TOLERANCE = 1e-4


def cpu_seconds(work: Callable[[], Any], seconds: float, least: int = 3) -> float:
    """Mean CPU seconds of a call, over about so many seconds; a first one warms up, if cheap."""
    if least > 1:
        work()
    begin, calls = time.process_time(), 0
    while calls < least or time.process_time() - begin < seconds:
        work()
        calls += 1
    return (time.process_time() - begin) / calls


class Head(nn.Module):
    """Some outputs of our grid network, dense, as torchgfn calls it."""

    def __init__(self, trunk: nn.Module, last: nn.Linear, span: slice) -> None:
        super().__init__()
        self.trunk, self.last, self.span = trunk, last, span
        self.input_dim, self.output_dim = trunk[0].in_features, span.stop - span.start

    def forward(self, x: Tensor) -> Tensor:
        """Some outputs of k-hot inputs."""
        h = self.trunk(x.to(self.last.weight.dtype))
        return nn.functional.linear(h, self.last.weight[self.span], self.last.bias[self.span])


def dense(network: MLP) -> tuple[nn.Sequential, nn.Linear]:
    """Trunk and last layer as torch's linear layers, with copies of the weights."""
    layers: list[nn.Linear] = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = weight.data.T.clone(), bias.data.clone()
        layers.append(layer)
    hidden = [m for layer in layers[:-1] for m in (layer, nn.LeakyReLU(network.slope))]
    return nn.Sequential(*hidden), layers[-1]


class Setting(ABC):
    """Both implementations of one setting."""

    env: Any
    theirs: SubTBGFlowNet
    their_optimizer: torch.optim.Optimizer

    @abstractmethod
    def our_update(self) -> float:
        """One update of ours; the loss."""

    def their_update(self) -> float:
        """One update of torchgfn's; the loss."""
        # Log probabilities are kept from sampling, which is the faster of its two ways.
        drawn = self.theirs.sample_trajectories(self.env, n=BATCH, save_logprobs=True)
        self.their_optimizer.zero_grad()
        loss = self.theirs.loss(self.env, drawn, recalculate_all_logprobs=False)
        loss.backward()
        self.their_optimizer.step()
        return loss.item()


class Grid(Setting):
    """Both implementations of one setting of the hypergrid."""

    def __init__(
        self, d: int, h: int, weighting: str = "geometric_within", lam: float = 0.9
    ) -> None:
        torch.manual_seed(0)
        self.ours = GridPolicy(HyperGrid(d, h, 1e-3), MLP(d, h, [256, 256], 2 * d + 2))
        trunk, last = dense(self.ours.network)
        self.env = TheirGrid(d, h, reward_fn_kwargs={"R0": 1e-3, "R1": 0.5, "R2": 2.0})
        heads = [
            Head(trunk, last, slice(*s))
            for s in ((0, d + 1), (d + 1, 2 * d + 1), (2 * d + 1, 2 * d + 2))
        ]
        hot = [KHotPreprocessor(height=h, ndim=d) for _ in heads]
        self.theirs = SubTBGFlowNet(
            pf=DiscretePolicyEstimator(heads[0], d + 1, hot[0]),
            pb=DiscretePolicyEstimator(heads[1], d + 1, hot[1], is_backward=True),
            logF=ScalarEstimator(heads[2], hot[2]),
            weighting=weighting,
            lamda=lam,
        )
        self.objective = Objective("subtb", lam)
        self.our_optimizer = torch.optim.Adam(self.ours.parameters(), lr=1e-3, fused=True)
        self.their_optimizer = torch.optim.Adam(self.theirs.parameters(), lr=1e-3, fused=True)

    def our_update(self) -> float:
        """One update of ours; the loss."""
        loss = self.objective.loss(self.ours.evaluate(self.ours.sample(BATCH)))
        loss.backward()
        self.our_optimizer.step()
        self.our_optimizer.zero_grad()
        return loss.item()

    def drawn(self) -> tuple[TheirTrajectories, Visited]:
        """The same trajectories in both forms."""
        drawn = self.theirs.sample_trajectories(self.env, n=BATCH, save_logprobs=False)
        lengths = drawn.terminating_idx
        grid, steps = self.ours.grid, int(lengths.max())
        strides = grid.moves[:-1]
        states = (drawn.states.tensor[:steps].clamp(min=0) * strides).sum(-1).T
        objects = states.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
        actions = drawn.actions.tensor[:steps, :, 0].T
        padded = Trajectories(states, actions, lengths, objects, grid.log_reward[objects])
        return drawn, visits(padded, grid)

    def difference(self) -> float:
        """Relative difference of the two losses on the same trajectories."""
        drawn, visited = self.drawn()
        names = {"geometric_within": "within", "geometric": "geometric"}
        names |= {name: name for name in ("equal", "equal_within")}
        found = self.ours.evaluate(visited)
        ours = subtb_loss(
            found.log_flow,
            found.log_pf,
            found.log_pb,
            found.lengths,
            self.objective.lam,
            names[self.theirs.weighting],
        )
        theirs = self.theirs.loss(self.env, drawn)
        return abs(ours.item() / theirs.item() - 1)

    def matrix_work(self, rows: int) -> float:
        """CPU seconds of the matrix products alone that an update cannot do without.

        One forward and two backward per layer, each for all rows at once (the input layer's are no
        products: its input is one-hot).
        """
        weights = [w.detach() for w in self.ours.network.weights[1:]]
        inputs = [torch.randn(rows, w.shape[0]) for w in weights]
        grads = [torch.randn(rows, w.shape[1]) for w in weights]

        def work() -> None:
            for x, w, g in zip(inputs, weights, grads, strict=True):
                torch.mm(x, w)
                torch.mm(g, w.T)
                torch.mm(x.T, g)

        return cpu_seconds(work, 1.0)


class Prefix(nn.Module):
    """Outputs of the causal Transformer after a prefix, as torchgfn asks for them."""

    def __init__(self, model: SequenceModel, flow: bool) -> None:
        super().__init__()
        self.model, self.flow = model, flow
        self.input_dim = model.space.steps
        self.output_dim = 1 if flow else model.space.actions + 1

    def forward(self, words: Tensor) -> Tensor:
        """Outputs after words ``(..., 120)``, -1 where there is none yet."""
        words = words.long()
        length = (words >= 0).sum(-1)
        start = torch.full_like(words[..., :1], self.model.space.start)
        tokens = torch.cat([start, words[..., :-1].clamp(min=0)], -1)
        flat = tokens.reshape(-1, tokens.shape[-1])
        # Nothing beyond the longest prefix is needed.
        last = length.reshape(-1).clamp(max=self.model.space.steps - 1)
        logits, flow = self.model(flat[:, : int(last.max()) + 1])
        at = torch.arange(len(flat))
        if self.flow:
            return flow[at, last].view(*length.shape, 1)
        # The stop, which torchgfn adds: the only action of a whole sequence, and then certain.
        found = torch.cat([logits[at, last], logits.new_zeros(len(flat), 1)], 1)
        return found.view(*length.shape, -1)


class Bits(Setting):
    """Both implementations of the bit sequences, n = 120 and k = 1."""

    def __init__(self, lam: float = 1.9) -> None:
        torch.manual_seed(0)
        problem = BitProblem(n=120, k=1)
        self.ours = BitSequences(problem)
        sizes: dict[str, Any] = {"layers": 3, "heads": 8, "width": 64, "hidden": 64}
        self.model = SequenceModel(problem.space, **sizes)
        copy = SequenceModel(problem.space, **sizes)
        copy.load_state_dict(self.model.state_dict())
        self.env = BitSequence(word_size=1, seq_size=120, n_modes=60)
        same = [IdentityPreprocessor(output_dim=120) for _ in range(2)]
        self.theirs = SubTBGFlowNet(
            pf=DiscretePolicyEstimator(Prefix(copy, False), self.env.n_actions, same[0]),
            pb=None,
            logF=ScalarEstimator(Prefix(copy, True), same[1]),
            lamda=lam,
            constant_pb=True,
        )
        self.objective = Objective("subtb", lam)
        self.our_optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.their_optimizer = torch.optim.Adam(self.theirs.parameters(), lr=1e-3, fused=True)

    def our_update(self) -> float:
        """One update of ours; the loss."""
        drawn = self.ours.draw(self.model, BATCH)
        logits, flow = self.model(self.ours.space.inputs(drawn.actions))
        loss = self.objective.loss(evaluation(self.ours.space, logits, flow, drawn))
        loss.backward()
        self.our_optimizer.step()
        self.our_optimizer.zero_grad()
        return loss.item()


def compare(name: str, setting: Setting, seconds: float, turns: int = 3) -> None:
    """Print updates per CPU second of both, in turns."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(turns):
        ours.append(cpu_seconds(setting.our_update, seconds / turns / 2))
        theirs.append(cpu_seconds(setting.their_update, seconds / turns / 2, least=1))
    a, b = min(ours), min(theirs)
    print(
        f"{name}: ours {1e3 * a:.2f} ms/update ({1 / a:.1f}/s), torchgfn {1e3 * b:.1f} ms"
        f" ({1 / b:.2f}/s), {b / a:.1f} times as fast",
        flush=True,
    )


def parts(setting: Grid, seconds: float) -> None:
    """Print what a step of ours costs, and which share is the network's own matrix work."""
    torch.manual_seed(1)
    visited = setting.ours.sample(BATCH)
    rows, steps = len(visited.cells), int(visited.time[-1]) + 1
    cost = {
        "sampling": cpu_seconds(
            lambda: (torch.manual_seed(1), setting.ours.sample(BATCH)), seconds / 5
        ),
        "evaluation": cpu_seconds(lambda: setting.ours.evaluate(visited), seconds / 5),
    }
    found = setting.ours.evaluate(visited)
    cost["loss"] = cpu_seconds(lambda: setting.objective.loss(found), seconds / 5)
    whole = cpu_seconds(
        lambda: setting.objective.loss(setting.ours.evaluate(visited)).backward(), seconds / 5
    )
    cost["backward"] = max(0.0, whole - cost["evaluation"] - cost["loss"])
    cost["Adam"] = cpu_seconds(setting.our_optimizer.step, seconds / 5)
    total, matrices = sum(cost.values()), setting.matrix_work(rows)
    listed = ", ".join(f"{name} {1e3 * value:.2f}" for name, value in cost.items())
    print(f"  a step of {rows} states in {steps} time steps, ms: {listed}")
    print(f"  matrix products alone: {1e3 * matrices:.2f} ms, {matrices / total:.0%} of the step")


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="CPU seconds per measurement")
    parser.add_argument("--skip-bits", action="store_true", help="without the bit sequences")
    options = parser.parse_args()
    found = version("torchgfn")
    if found != TORCHGFN:
        sys.exit(
            f"torchgfn is {found}; this compares with {TORCHGFN} (uv sync --group bench-gflownet)"
        )
    torch.set_num_threads(1)
    print(f"{cpu_model()}, torch {torch.__version__}, torchgfn {found}, one thread")
    worst = 0.0
    for weighting in ("geometric_within", "geometric", "equal", "equal_within"):
        for lam in (0.5, 0.9, 1.1, 1.9):
            difference = Grid(3, 8, weighting, lam).difference()
            worst = max(worst, difference)
            print(f"loss on the same trajectories, {weighting}, {lam}: differs by {difference:.1e}")
    for d, h in ((4, 12), (2, 12)):
        setting = Grid(d, h)
        # Not at the start, where trajectories are five steps long.
        for _ in range(600):
            setting.our_update()
        trunk, last = dense(setting.ours.network)
        mine = setting.theirs.pf.module
        mine.trunk.load_state_dict(trunk.state_dict())
        mine.last.load_state_dict(last.state_dict())
        compare(f"hypergrid D = {d}, H = {h}, batch {BATCH}", setting, options.seconds)
        if d == 4:
            parts(setting, options.seconds)
    if not options.skip_bits:
        compare(f"bit sequences n = 120, k = 1, batch {BATCH}", Bits(), options.seconds, turns=1)
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
