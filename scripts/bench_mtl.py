r"""A step of each gradient-balancing method, against the way of the authors' code and a peer.

An MLP of two hidden layers with n linear heads and squared losses. `ours` takes the gradients of
the tasks in a loop, `stacked` in one batched pass. `literal` is a loop, Frank-Wolfe, SLSQP or a
sequence of convex problems (with cvxpy and ECOS), and a backward pass of the weighted sum where
there are weights. `torchjd` is the peer, where it is installed. Printed are milliseconds from
batch to gradients (processor time; on a GPU that of the clock), best of interleaved rounds, and
ratios: to ours, and of ours to the plain sum.

    uv run --isolated --with torchjd --with cvxpy --with ecos --with quadprog --with qpsolvers \
        scripts/bench_mtl.py [--tasks 11] [--device cuda]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from retable.papers.igb.gradients import IMTLG, MGDA, CAGrad, NashMTL, PCGrad
from retable.papers.igb.task_gradients import backward

METHODS: dict[str, Callable[[], Any]] = {
    "sum": lambda: None,
    "MGDA": MGDA,
    "PCGrad": lambda: PCGrad(seed=0),
    "CAGrad": CAGrad,
    "IMTLG": IMTLG,
    "NashMTL": NashMTL,
}


class Net(nn.Module):
    """A trunk, a head for each task, and a batch of noise whose scales grow over the tasks."""

    def __init__(self, tasks: int, width: int, batch: int, device: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        hidden = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        self.trunk = nn.Sequential(*hidden)
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))
        self.x = torch.randn(batch, 64, device=device)
        self.y = torch.randn(tasks, batch, 1, device=device)
        self.y *= torch.logspace(0, 1, tasks, device=device)[:, None, None]
        self.to(device)
        self.shared, self.own = list(self.trunk.parameters()), list(self.heads.parameters())

    def each(self, features: Tensor) -> list[Tensor]:
        """One mean squared error a task."""
        pairs = zip(self.heads, self.y, strict=True)
        return [(head(features) - y).square().mean() for head, y in pairs]

    def losses(self) -> Tensor:
        """Those of the batch, ``(n,)``."""
        return torch.stack(self.each(self.trunk(self.x)))


def literal_mgda(g: Tensor) -> Tensor:
    """Frank-Wolfe with exact line search, at most 250 steps."""
    n, gram = len(g), np.array([[torch.dot(a, b).item() for b in g] for a in g])
    w = np.full(n, 1 / n)
    for _ in range(250):
        across = np.eye(n)[(gram @ w).argmin()] - w
        move = np.clip(-(across @ gram @ w) / (across @ gram @ across), 0, 1) * across
        w = w + move
        if np.abs(move).sum() < 1e-5:
            break
    return torch.from_numpy(n * w).to(g)


def literal_cagrad(g: Tensor) -> Tensor:
    """SLSQP for the inner problem; the direction."""
    n, gram = len(g), (g @ g.T).double().cpu().numpy()
    mean, radius = np.full(n, 1 / n), 0.4 * np.sqrt(gram.mean())
    w = minimize(
        lambda w: w @ gram @ mean + radius * np.sqrt(w @ gram @ w + 1e-8),
        mean,
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
    ).x
    inner = torch.from_numpy(w).to(g) @ g
    return n * (g.mean(0) + radius / inner.norm() * inner) / 1.16


def literal_pcgrad(g: Tensor) -> Tensor:
    """Projections of vectors, one by one; the direction."""
    others, mixed = list(g), g.clone()
    for own in mixed:
        random.shuffle(others)
        for other in others:
            if (product := torch.dot(own, other)) < 0:
                own -= product / other.norm() ** 2 * other
    return mixed.sum(0)


def literal_imtl_g(g: Tensor) -> Tensor:
    """The inverse of a matrix of products."""
    u = g / g.norm(dim=1, keepdim=True)
    units = (u[0] - u[1:]).T
    others = g[0] @ units @ torch.inverse((g[0] - g[1:]) @ units)
    return torch.cat([1 - others.sum()[None], others])


def literal_nash(n: int) -> Callable[[Tensor], Tensor]:
    """The sequence of convex problems, at most 20 a step, compiled once."""
    import cvxpy as cp

    last, a, unit, slope = np.ones(n), cp.Variable(n), cp.Parameter((n, n)), cp.Parameter(n)
    log_norm = cp.Parameter()
    limits = [-cp.log(a[i]) - cp.log(unit[i] @ a) <= log_norm for i in range(n)]
    problem = cp.Problem(cp.Minimize(cp.sum(unit @ a) + slope @ a), limits)

    def solve(g: Tensor) -> Tensor:
        nonlocal last
        gram = (g @ g.T).double().cpu().numpy()
        norm = np.linalg.norm(gram)
        unit.value, log_norm.value = gram / norm, np.log(norm)
        for _ in range(20):
            slope.value = (1 / last + (1 / (gram @ last)) @ gram) / norm
            problem.solve(solver="ECOS", warm_start=True, max_iters=100)
            before, last = last, np.asarray(a.value)
            if np.linalg.norm(last - before) < 1e-6:
                break
        return torch.from_numpy(last).to(g)

    return solve


LITERAL: dict[str, Callable[[Tensor], Tensor]] = {
    "MGDA": literal_mgda,
    "PCGrad": literal_pcgrad,
    "CAGrad": literal_cagrad,
    "IMTLG": literal_imtl_g,
}


def literal(net: Net, solve: Callable[[Tensor], Tensor]) -> None:
    """Loop, solver, and the backward pass of the weighted sum or the direction put in place."""
    net.zero_grad()
    losses = net.losses()
    rows = [torch.autograd.grad(loss, net.shared, retain_graph=True) for loss in losses]
    g = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    answer = solve(g)
    if len(answer) == len(losses):
        (answer * losses).sum().backward()
        return
    losses.sum().backward(inputs=net.own)
    for p, part in zip(net.shared, answer.split([p.numel() for p in net.shared]), strict=True):
        p.grad = part.view_as(p)


def torchjd(net: Net, aggregator: Any) -> None:
    """The peer's step; heads get the gradients of their own losses."""
    from torchjd import autojac

    net.zero_grad()
    features = net.trunk(net.x)
    autojac.mtl_backward(net.each(features), features=features)
    autojac.jac_to_grad(net.shared, aggregator)


def ways(name: str, net: Net, n: int) -> dict[str, Callable[[], Any]]:
    """The ways to the gradients of one method."""

    def own(method: Any, stacked: bool) -> Callable[[], Any]:
        return lambda: backward(net.losses(), method, net.shared, net.own, stacked=stacked)

    out: dict[str, Callable[[], Any]] = {"ours": own(METHODS[name](), stacked=False)}
    if name == "sum":
        return out
    out["stacked"] = own(METHODS[name](), stacked=True)
    solver = LITERAL.get(name)
    if name == "NashMTL" and all(importlib.util.find_spec(p) for p in ("cvxpy", "ecos")):
        solver = literal_nash(n)
    if solver is not None:
        out["literal"] = lambda: literal(net, solver)
    if importlib.util.find_spec("torchjd"):
        from torchjd import aggregation

        options = {"CAGrad": {"c": 0.4}, "NashMTL": {"n_tasks": n}}.get(name, {})
        if hasattr(aggregation, name):
            aggregator = getattr(aggregation, name)(**options)
            out["torchjd"] = lambda: torchjd(net, aggregator)
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, default in ("tasks", 11), ("width", 256), ("batch", 128), ("rounds", 15):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    net = Net(options.tasks, options.width, options.batch, options.device)
    peers = [p for p in ("torchjd", "cvxpy") if importlib.util.find_spec(p)]
    print(", ".join(f"{p} {importlib.metadata.version(p)}" for p in ["torch", *peers]), end="; ")
    print(f"{platform.processor() or platform.machine()}, one thread, {options}")
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    base = 0.0
    for name in METHODS:
        tasks = ways(name, net, options.tasks)
        best = dict.fromkeys(tasks, float("inf"))
        for _ in range(options.rounds):
            for way, task in tasks.items():
                net.x.normal_()  # other gradients each time, for what starts from the last answer
                begin = clock()
                task()
                if options.device != "cpu":
                    torch.cuda.synchronize()
                best[way] = min(best[way], 1000 * (clock() - begin))
        base = base or best["ours"]
        print(f"{name}: ours / sum {best['ours'] / base:.2f}")
        for way, ms in best.items():
            print(f"    {way:8} {ms:9.3f} ms  x {ms / best['ours']:7.2f}")


if __name__ == "__main__":
    main()
