"""Images per second of a training step of equilibrium propagation, against two plain versions.

The layered network of the paper (784-256-256-10, batches of 50, T1 = 150, T2 = 20, N = 0, plain
SGD), on one thread, the median of several rounds in turn:

- ours: `retable.papers.equilibrium_prop`, the input's part once a batch, two products a step;
- literal: the same equations written out in PyTorch as in the authors' loop, each connection and
  the input's part by themselves in every step, the derivative by torch.func.jvp through the phase;
- jax (if it can be imported): the same written out in JAX, jitted as one step, the input's part
  once a batch, the derivative by jax.jvp.

With `--conv` a step of the reduced protocol's convolutional network with the homeostatic loss:
`conv_joint` against `conv`, the same equations one by one and derivatives in forward mode.

    python scripts/bench_equilibrium.py
    python scripts/bench_equilibrium.py --conv --steps 4
    uv run --isolated --with jax python scripts/bench_equilibrium.py

All begin with the same weights; their losses and gradients are compared before anything is timed.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
if hasattr(os, "sched_setaffinity"):  # what XLA would start threads on
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.papers.equilibrium_prop.conv import Conv
from retable.papers.equilibrium_prop.conv_joint import JointConv
from retable.papers.equilibrium_prop.dense import MLP
from retable.papers.equilibrium_prop.module import Equilibrium
from retable.papers.equilibrium_prop.systems import Net

BATCH, FREE, NUDGED, RATE = 50, 150, 20, 0.01
NAMES = {
    "input": "net.input",
    "bias": "net.bias",
    "l2_l1": "net.weight.l2_l1",
    "out_l2": "net.weight.out_l2",
    "l1_l2": "net.weight.l1_l2",
    "l2_out": "net.weight.l2_out",
    "r": "readout.weight",
    "r_bias": "readout.bias",
}
Step = Callable[[Tensor, Tensor], tuple[float, dict[str, Any]]]


def module(net: Net | None = None, **options: Any) -> Equilibrium:
    """The module of a run, outside of a trainer."""
    net = MLP(angle=90.0) if net is None else net
    options = {"free_steps": FREE, "nudged_steps": NUDGED, **options}
    one = Equilibrium(seed=0, net=net, **options).train()
    given: Any = SimpleNamespace(is_last_batch=False, testing=False, global_step=0)
    one._trainer = given
    return one


def ours(one: Equilibrium, names: dict[str, str]) -> Step:
    """Our step."""
    optimizer = torch.optim.SGD(one.parameters(), lr=RATE)
    parameters = dict(one.named_parameters())

    def step(x: Tensor, y: Tensor) -> tuple[float, dict[str, Any]]:
        optimizer.zero_grad()
        output = one.shared_step((x, y))
        output.loss.backward()
        optimizer.step()
        return float(output.loss.detach()), {k: parameters[v].grad for k, v in names.items()}

    return step


def convolutional(homeostasis: float) -> dict[str, Step]:
    """Steps of the reduced protocol's convolutional network."""
    found: dict[str, Step] = {}
    for name, kind in (("ours", JointConv), ("literal", Conv)):
        net = kind((3, 16, 16), (8, 16, 32))
        one = module(net, free_steps=60, nudged_steps=15, homeostasis=homeostasis)
        found[name] = ours(one, {key: key for key, _ in one.named_parameters()})
    return found


def literal() -> Step:
    """The equations one by one."""
    parameters = dict(module().named_parameters())
    p = {name: parameters[full].detach().clone() for name, full in NAMES.items()}
    places = MLP().layers

    def sigma(u: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-4 * u + 2))

    def field(
        q: dict[str, Tensor], s: tuple[Tensor, Tensor, Tensor], x: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        one, two, out = s
        b = {name: q["bias"][place] for name, place in places.items()}
        return (
            x @ q["input"].T + b["l1"] + two @ q["l1_l2"].T,
            one @ q["l2_l1"].T + b["l2"] + out @ q["l2_out"].T,
            two @ q["out_l2"].T + b["out"],
        )

    def step(x: Tensor, y: Tensor) -> tuple[float, dict[str, Any]]:
        x = x.flatten(1)
        target = F.one_hot(y, 10).float()
        with torch.no_grad():
            u = tuple(x.new_zeros(len(x), n) for n in (256, 256, 10))
            for _ in range(FREE):
                one, two, out = field(p, tuple(sigma(v) for v in u), x)
                u = (one, two, out)

            def phase(beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                v = u
                for _ in range(NUDGED):
                    s = tuple(sigma(one) for one in v)
                    one, two, out = field(p, s, x)
                    z = s[2] @ p["r"].T + p["r_bias"]
                    v = (one, two, out + beta * (z.softmax(1) - target) @ p["r"])
                return sigma(v[0]), sigma(v[1]), sigma(v[2])

            beta = torch.zeros(())
            _, error = torch.func.jvp(phase, (beta,), (torch.ones(()),))
        s = tuple(sigma(one) for one in u)
        q = {name: value.requires_grad_() for name, value in p.items()}
        loss = F.cross_entropy(s[2] @ q["r"].T + q["r_bias"], y)
        fields = field(q, s, x)
        contracted = sum((f * e).sum() for f, e in zip(fields, error, strict=True)) / len(x)
        grads = torch.autograd.grad(loss + contracted, list(q.values()))
        with torch.no_grad():
            for value, grad in zip(p.values(), grads, strict=True):
                value.requires_grad_(False)
                value.sub_(RATE * grad)
        return float(loss.detach()), dict(zip(p, grads, strict=True))

    return step


def in_jax() -> Step | None:
    """The same, jitted; None where there is no JAX."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    parameters = dict(module().named_parameters())
    p = {name: jnp.asarray(parameters[full].detach().numpy()) for name, full in NAMES.items()}
    places = MLP().layers

    def sigma(u: Any) -> Any:
        return jax.nn.sigmoid(4 * u - 2)

    def driven(q: Any, x: Any) -> Any:
        return x @ q["input"].T + q["bias"][places["l1"]]

    def field(q: Any, s: Any, drive: Any) -> Any:
        one, two, out = s
        return (
            drive + two @ q["l1_l2"].T,
            one @ q["l2_l1"].T + q["bias"][places["l2"]] + out @ q["l2_out"].T,
            two @ q["out_l2"].T + q["bias"][places["out"]],
        )

    @jax.jit
    def update(q: Any, x: Any, target: Any) -> Any:
        drive = driven(q, x)
        u = tuple(jnp.zeros((len(x), n)) for n in (256, 256, 10))
        u = jax.lax.fori_loop(0, FREE, lambda _, v: field(q, tuple(map(sigma, v)), drive), u)

        def phase(beta: Any) -> Any:
            def one_step(_: int, v: Any) -> Any:
                s = tuple(map(sigma, v))
                one, two, out = field(q, s, drive)
                z = jax.nn.softmax(s[2] @ q["r"].T + q["r_bias"])
                return one, two, out + beta * (z - target) @ q["r"]

            return tuple(map(sigma, jax.lax.fori_loop(0, NUDGED, one_step, u)))

        _, error = jax.jvp(phase, (0.0,), (1.0,))
        s = tuple(map(sigma, u))

        def surrogate(w: Any) -> Any:
            logits = jax.nn.log_softmax(s[2] @ w["r"].T + w["r_bias"])
            loss = -(target * logits).sum(1).mean()
            fields = field(w, s, driven(w, x))
            return loss + sum((f * e).sum() for f, e in zip(fields, error)) / len(x), loss  # noqa: B905

        grads, loss = jax.grad(surrogate, has_aux=True)(q)
        return jax.tree.map(lambda value, grad: value - RATE * grad, q, grads), loss, grads

    state = [p]

    def step(x: Tensor, y: Tensor) -> tuple[float, dict[str, Any]]:
        target = F.one_hot(y, 10).float().numpy()
        state[0], loss, grads = update(state[0], x.flatten(1).numpy(), target)
        return float(loss), grads

    return step


def compare(steps: dict[str, Step], x: Tensor, y: Tensor) -> None:
    """End the script where losses or gradients of the first step differ from ours."""
    first = {name: step(x, y) for name, step in steps.items()}
    wanted_loss, wanted = first["ours"]
    for name, (loss, grads) in first.items():
        worst = max(
            float((torch.tensor(grads[k].__array__()) - wanted[k]).norm() / wanted[k].norm())
            for k in wanted
        )
        print(f"{name}: loss {loss:.6f}, gradients off ours by at most {worst:.1e} of their norm")
        if abs(loss - wanted_loss) > 1e-4 or worst > 1e-2:
            raise SystemExit(f"{name} computes something else")


def measure(steps: dict[str, Step], batches: list[tuple[Tensor, Tensor]], rounds: int) -> None:
    """Print the rate of each, the median of rounds in turn."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            for x, y in batches:
                step(x, y)
            rates[name].append(BATCH * len(batches) / (time.process_time() - start))
    for name, found in rates.items():
        print(
            f"{name}: {statistics.median(found):,.0f} images a second of processor time"
            f" ({min(found):,.0f} to {max(found):,.0f});"
            f" ours is {statistics.median(rates['ours']) / statistics.median(found):.2f} times that"
        )


def main() -> None:
    """Compare and time them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--conv", action="store_true", help="the small convolutional network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = (3, 16, 16) if options.conv else (1, 28, 28)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.rand(BATCH, *shape, generator=generator), torch.arange(BATCH) % 10)
        for _ in range(options.steps)
    ]
    if options.conv:
        steps = convolutional(0.0)
        compare(steps, *batches[0])
        print("without the homeostatic loss")
        measure(steps, batches, options.rounds)
        print("with it (its noise is in another order: not compared)")
        measure(convolutional(15.0), batches, options.rounds)
        return
    made = {"ours": ours(module(), NAMES), "literal": literal(), "jax": in_jax()}
    steps = {name: step for name, step in made.items() if step is not None}
    compare(steps, *batches[0])
    measure(steps, batches, options.rounds)


if __name__ == "__main__":
    main()
