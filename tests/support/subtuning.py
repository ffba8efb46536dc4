"""Small pretrained networks, and what runs of the paper `subtuning` leave behind."""

from __future__ import annotations

import copy
import functools

import torch
import yaml

from retable.papers.base import Start
from retable.papers.subtuning import networks
from retable.papers.subtuning.data import Generated
from support.training import attempt, config

SMALL = (
    "data.n_pool=100",
    "data.n_train=20",
    "data.batch_size=10",
    "data.n_validation=10",
    "data.n_test=20",
)
OVER_SETS = (
    "data.n_pool=100",
    "data.n_train=20",
    "data.n_test=20",
    "model.epochs=2",
    "model.batch_size=10",
)


class Tiny(Generated):
    """Generated images of 8 x 8."""

    def __init__(self, **options):
        super().__init__(**options)
        self.shape, self.sizes["test"] = (8, 8, 3), 10


def pretrained(name="resnet8", seed=1, **artifacts):
    """A network with a head of 10 and statistics of its own, as another run leaves it."""
    torch.manual_seed(seed)
    net = networks.network(name, 10)
    net.train()
    side = 32 if name.startswith("vit") else 8
    with torch.no_grad():
        net.fc.bias.uniform_(-0.1, 0.1)
        for _ in range(3):
            net(torch.randn(20, 3, side, side))
    return Start({f"net.{k}": v.clone() for k, v in net.state_dict().items()}, artifacts)


composed = functools.cache(config)


def small(experiment, *overrides):
    """Config of a smoke experiment on fewer images; composed once, which takes as long as a run."""
    by_steps = experiment in ("smoke", "smoke_first", "smoke_rgn", "smoke_head2toe")
    sizes = SMALL if by_steps else OVER_SETS
    made = copy.deepcopy(composed(experiment=f"subtuning/{experiment}"))
    made["data"]["_target_"] = "support.subtuning.Tiny"
    for override in (*sizes, *overrides):
        key, _, value = override.partition("=")
        *above, last = key.split(".")
        node = functools.reduce(dict.__getitem__, above, made)
        node[last] = yaml.safe_load(value)
    return made


def state_of(folder):
    """State of the module at the newest checkpoint of an attempt."""
    file = max((folder / "checkpoints").glob("epoch=*.ckpt"))
    return torch.load(file, weights_only=False)["state_dict"]


def ran(folder, experiment, *overrides, start=None):
    """Outcome of a run, and the state that it ends with."""
    outcome = attempt(small(experiment, *overrides), folder, start=start)[0]
    return outcome, state_of(folder)


def numbers(outcome):
    return {(r.metric, r.row): r.value for r in outcome.results}


def noisy_test(monkeypatch):
    """From now on test images and labels are others."""
    arrays = Generated.arrays

    def noise(self):
        found = arrays(self)
        draws = torch.Generator().manual_seed(5)
        images = found["test/images"]
        found["test/images"] = torch.randint(256, images.shape, generator=draws).to(torch.uint8)
        found["test/labels"] = torch.randint(10, (len(images),), generator=draws)
        return found

    monkeypatch.setattr(Generated, "arrays", noise)
