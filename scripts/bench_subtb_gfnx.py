"""Updates per second of GFlowNet training on the hypergrid against gfnx (JAX).

    uv run --group bench-gflownet scripts/bench_subtb_gfnx.py [--seconds 10]

Side by side in one process on one core: the same perceptron, batch, environment, objective
(SubTB(0.9), per trajectory) and Adam. gfnx gives environment, reward and rollout; the objective is
in its baselines' scripts, not in the package, and written here in a form that costs less than
theirs: all pairs of states by one difference of cumulated sums instead of a sum per pair. Its whole
update, sampling included, is one function compiled by XLA. First the two losses are computed on the
same trajectories: exit code 1 where they differ by more than 1e-4.
"""

from __future__ import annotations

import os

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import argparse
import sys
from functools import partial
from importlib.metadata import version
from typing import Any

import gfnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from bench_subtb import BATCH, TOLERANCE, cpu_seconds

from retable.papers.subtb.hypergrid import HyperGrid
from retable.papers.subtb.networks import MLP
from retable.papers.subtb.objectives import Objective
from retable.papers.subtb.rollout import GridPolicy, visits
from retable.papers.subtb.trajectories import Trajectories
from retable.runs.provenance import cpu_model

GFNX = "0.0.1"
LAM = 0.9


def outputs(weights: Any, x: Any, d: int, slope: float) -> dict[str, Any]:
    """Our network in JAX."""
    for w, b in weights[:-1]:
        x = jax.nn.leaky_relu(x @ w + b, slope)
    out = x @ weights[-1][0] + weights[-1][1]
    return {
        "forward_logits": out[..., : d + 1],
        "backward_logits": out[..., d + 1 : 2 * d + 1],
        "log_flow": out[..., -1],
    }


def log_softmax(logits: Any, invalid: Any, taken: Any) -> Any:
    """Log probabilities of the taken actions."""
    found = jax.nn.log_softmax(jnp.where(invalid, -1e9, logits), axis=-1)
    return jnp.take_along_axis(found, taken[..., None], axis=-1)[..., 0]


def subtb(log_flow: Any, log_pf: Any, log_pb: Any, lengths: Any) -> Any:
    """SubTB(lambda): log_flow ``(B, T + 1)`` with log R at the end, the others ``(B, T)``."""
    steps = log_pf.shape[1]
    real = jnp.arange(steps) < lengths[:, None]
    d = jnp.where(real, log_pf - log_pb, 0.0)
    u = log_flow - jnp.pad(jnp.cumsum(d, 1), ((0, 0), (1, 0)))
    step = jnp.arange(steps + 1)
    distance = step[None, :] - step[:, None]
    inside = (distance > 0) & (step[None, None, :] <= lengths[:, None, None])
    weight = jnp.where(inside, LAM ** jnp.maximum(distance - 1, 0), 0.0)
    squared = jnp.square(u[:, :, None] - u[:, None, :])
    return ((weight * squared).sum((1, 2)) / weight.sum((1, 2))).mean()


class Gfnx:
    """gfnx's side."""

    def __init__(self, d: int, h: int, network: MLP) -> None:
        self.d, self.slope = d, network.slope
        self.env = gfnx.HypergridEnvironment(gfnx.EasyHypergridRewardModule(), dim=d, side=h)
        self.params = self.env.init(jax.random.PRNGKey(0))
        self.load(network)
        self.optimizer = optax.adam(1e-3)
        self.state = self.optimizer.init(self.weights)
        self.key = jax.random.PRNGKey(1)
        self.update_fn = jax.jit(self._update)

    def load(self, network: MLP) -> None:
        """Take our weights over."""
        pairs = zip(network.weights, network.biases, strict=True)
        self.weights = [
            (jnp.array(w.detach().numpy()), jnp.array(b.detach().numpy())) for w, b in pairs
        ]

    def policy(self, key: Any, obs: Any, weights: Any) -> Any:
        """As the rollout asks for it."""
        out = outputs(weights, obs, self.d, self.slope)
        return out["forward_logits"], {}

    def rollout(self, key: Any, weights: Any) -> Any:
        """A batch of trajectories."""
        drawn, _ = gfnx.utils.forward_rollout(
            key, BATCH, self.policy, weights, self.env, self.params
        )
        return drawn

    def loss(self, weights: Any, drawn: Any) -> Any:
        """Of trajectories."""
        out = outputs(weights, drawn.obs, self.d, self.slope)
        each = partial(jax.vmap, in_axes=(1, None), out_axes=1)
        forward = each(self.env.get_invalid_mask)(drawn.state, self.params)
        backward = each(self.env.get_invalid_backward_mask)(drawn.state, self.params)
        log_pf = log_softmax(out["forward_logits"], forward, drawn.action)
        lengths = jnp.sum(~drawn.pad, 1)
        parent = jnp.where(drawn.action < self.d, drawn.action, 0)[:, :-1]
        log_pb = log_softmax(out["backward_logits"][:, 1:], backward[:, 1:], parent)
        # The transition to the end is the stop, whose parent is certain.
        log_pb = jnp.pad(log_pb, ((0, 0), (0, 1)))
        ends = jnp.arange(log_pf.shape[1]) == lengths[:, None] - 1
        log_pb = jnp.where(ends, 0.0, log_pb)
        reward = jnp.sum(jnp.where(drawn.pad, 0.0, drawn.log_gfn_reward), 1)
        flow = jnp.pad(out["log_flow"], ((0, 0), (0, 1)))
        at_end = jnp.arange(flow.shape[1]) == lengths[:, None]
        flow = jnp.where(at_end, reward[:, None], flow)
        return subtb(flow, log_pf, log_pb, lengths)

    def _update(self, key: Any, weights: Any, state: Any) -> Any:
        key, drawing = jax.random.split(key)
        loss, grads = jax.value_and_grad(self.loss)(weights, self.rollout(drawing, weights))
        changes, state = self.optimizer.update(grads, state, weights)
        return key, optax.apply_updates(weights, changes), state, loss

    def update(self) -> float:
        """One update; the loss."""
        self.key, self.weights, self.state, loss = self.update_fn(
            self.key, self.weights, self.state
        )
        return float(loss)


class Ours:
    """Our side."""

    def __init__(self, d: int, h: int) -> None:
        torch.manual_seed(0)
        self.policy = GridPolicy(HyperGrid(d, h, 1e-3), MLP(d, h, [256, 256], 2 * d + 2))
        self.objective = Objective("subtb", LAM, form="recursion")
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=1e-3, fused=True)

    def update(self) -> float:
        """One update; the loss."""
        loss = self.objective.loss(self.policy.evaluate(self.policy.sample(BATCH)))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def loss(self, drawn: Any) -> float:
        """Of gfnx's trajectories."""
        grid = self.policy.grid
        lengths = torch.tensor(np.asarray(jnp.sum(~drawn.pad, 1)))
        steps = int(lengths.max())
        at = torch.tensor(np.asarray(drawn.state.state))[:, :steps].long()
        states = (at * grid.moves[:-1]).sum(-1)
        actions = torch.tensor(np.asarray(drawn.action))[:, :steps].long()
        objects = states.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
        batch = Trajectories(states, actions, lengths, objects, grid.log_reward[objects])
        return self.objective.loss(self.policy.evaluate(visits(batch, grid))).item()


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="CPU seconds per measurement")
    options = parser.parse_args()
    found = version("gfnx")
    if found != GFNX:
        sys.exit(f"gfnx is {found}; this compares with {GFNX} (uv sync --group bench-gflownet)")
    torch.set_num_threads(1)
    print(
        f"{cpu_model()}, torch {torch.__version__}, jax {jax.__version__}, gfnx {found}, one core"
    )
    worst = 0.0
    for d, h in ((4, 12), (2, 12)):
        ours = Ours(d, h)
        # Not at the start, where trajectories are five steps long.
        for _ in range(600):
            ours.update()
        theirs = Gfnx(d, h, ours.policy.network)
        drawn = theirs.rollout(jax.random.PRNGKey(2), theirs.weights)
        difference = abs(ours.loss(drawn) / float(theirs.loss(theirs.weights, drawn)) - 1)
        worst = max(worst, difference)
        print(f"loss on the same trajectories, D = {d}: differs by {difference:.1e}")
        times = [
            [cpu_seconds(side.update, options.seconds / 6) for side in (ours, theirs)]
            for _ in range(3)
        ]
        a, b = (min(side) for side in zip(*times, strict=True))
        print(
            f"hypergrid D = {d}, H = {h}, batch {BATCH}: ours {1e3 * a:.2f} ms/update, gfnx"
            f" {1e3 * b:.2f} ms, {b / a:.1f} times as fast",
            flush=True,
        )
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
