"""Small networks of equilibrium_prop in double precision, bound to a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from retable.papers.equilibrium_prop.conv import Conv
from retable.papers.equilibrium_prop.dense import MLP, Loop
from retable.papers.equilibrium_prop.phases import Readout, relax, residual


def small(kind="mlp", angle=0.0, seed=0):
    """A network of 23 neurons (conv: two layers of 52, deep: three of 265), drawn."""
    made = {
        "mlp": lambda: MLP(16, (10, 8), 5, angle),
        "loop": lambda: Loop(16, (10, 8), 5),
        "conv": lambda: Conv((2, 8, 8), (3, 4), angle),
        "deep": lambda: Conv((2, 16, 16), (3, 4, 5), angle),
    }[kind]()
    made.draw(torch.Generator().manual_seed(seed))
    return made.double()


def images(net, n=6, seed=1):
    """Images that fit a network of :func:`small`."""
    side = 4 * 2 ** (len(net.layers) - 1)
    shape = (2, side, side) if isinstance(net, Conv) else (1, 4, 4)
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)).double()


def bound(net, n=6, seed=1):
    """The system of images, without gradients."""
    return net.bind(images(net, n, seed)).detached()


def readout(net, n=6, classes=5, seed=2):
    """A readout drawn at random, and labels in turn."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, net.n_out, generator=generator).double() * net.n_out**-0.5
    bias = torch.randn(classes, generator=generator).double() * 0.1
    target = torch.eye(classes).double()[torch.arange(n) % classes]
    return Readout(weight, bias, target, net.layers["out"])


def settled(system):
    """u*, which has to be a fixed point."""
    u = relax(system, system.zeros(), 3000, stop=1e-14)
    assert float(residual(system, u).max()) < 1e-12
    return u


def write_imagenet32(root: Path, n: int = 4) -> None:
    """Files as ImageNet at 32 x 32 has them, of n images each."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"train_data_batch_{k}" for k in range(1, 11)), "val_data"]:
        data = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        labels = rng.integers(1, 1001, n)
        np.savez(root / f"{name}.npz", data=data, labels=labels, mean=data.mean(0))
