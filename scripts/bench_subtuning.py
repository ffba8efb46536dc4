"""A greedy search over the blocks of ResNet-20, against the loop of the paper's authors.

    RETABLE_MIRROR=... python scripts/bench_subtuning.py

200 images of CIFAR-10 with gaussian noise, five folds, 6 epochs, batches of 32, AdamW 1e-3, cosine
per epoch, mirrored at random; times are of the processor. The rule is the authors' (patience, eps
0.01). Their loop passes every batch through the whole network, in which frozen parameters have no
gradients; ours computes once what comes before the first tuned block, and folds the batch norms of
frozen blocks. Both draw the same heads, orders and mirror images. Every set is scored by both in
turn, so that other work on the machine slows down both; the searches are in step as long as they
pick the same blocks. Without RETABLE_MIRROR weights and images are random, which takes as long but
picks nothing of meaning.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.data.base import DataPaths
from retable.papers.base import Start
from retable.papers.subtuning import networks, search
from retable.papers.subtuning.augment import Flip
from retable.papers.subtuning.candidates import Recipe, SetTrainer, accuracy, folds_of
from retable.papers.subtuning.data import CorruptedImages
from retable.papers.subtuning.networks import Blocks
from retable.papers.subtuning.weights import load_start
from retable.training.seeds import derive_seed

CHECKSUM = "0df352e820f099757b77249b73cffad3ad177dc633ff4ad4116263db8c634d9c"
Scorer = Callable[[Sequence[int], Sequence[Tensor]], float]
WEIGHTS = "weights/cifar10_resnet20-12fca82f.th"


class Literal:
    """The authors' loop: the whole network at every step, in the modes that they set."""

    def __init__(self, sets: SetTrainer) -> None:
        self.sets, self.images, self.labels = sets, sets.plain.images, sets.labels

    def cross_validated(self, tuned: Sequence[int], folds: Sequence[Tensor]) -> float:
        """Mean accuracy over folds, of a training on the images of all the others each."""
        values = list[float]()
        for v, fold in enumerate(folds):
            others = torch.cat([other for w, other in enumerate(folds) if w != v])
            net = self._train(tuned, others, v)
            with torch.no_grad():
                values.append(accuracy(net(self.images[fold]), self.labels[fold]))
        return sum(values) / len(values)

    def _train(self, tuned: Sequence[int], chosen: Tensor, fold: int) -> nn.Module:
        recipe, seed = self.sets.recipe, self.sets.seed
        net = copy.deepcopy(self.sets.net)
        if recipe.head == "new":
            torch.manual_seed(derive_seed(seed, "head", fold))
            net.fc = nn.Linear(net.fc.in_features, net.fc.out_features)
        net.requires_grad_(False)
        for module in (*(net.blocks[i] for i in tuned), net.fc):
            module.requires_grad_(True)
        optimizer = recipe.optimizer([p for p in net.parameters() if p.requires_grad])
        assert recipe.scheduler is not None
        scheduler = recipe.scheduler(optimizer)
        augment = cast("Callable[[Tensor, torch.Generator], Tensor]", recipe.augment)
        for epoch in range(recipe.epochs):
            draws = torch.Generator().manual_seed(derive_seed(seed, "order", fold, epoch))
            order = chosen[torch.randperm(len(chosen), generator=draws)]
            for items in order.split(recipe.batch_size):
                net.eval()
                for i in tuned:
                    net.blocks[i].train()
                loss = F.cross_entropy(net(augment(self.images[items], draws)), self.labels[items])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
        return net.eval()


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description="a greedy search beside the authors' loop")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="times that each set is scored")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--new-head", action="store_true", help="draw one instead of keeping it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    mirror = os.environ.get("RETABLE_MIRROR")
    net, images, labels = _given(Path(mirror) if mirror else None, given.images, given.seed)
    recipe = Recipe(
        given.epochs,
        32,
        functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01),
        functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=given.epochs),
        head="new" if given.new_head else "kept",
        augment=Flip(),
    )
    folds = folds_of(given.images, given.folds, given.seed)

    def scorers() -> dict[str, Scorer]:
        fast = dataclasses.replace(recipe, channels_last=True)
        ours, theirs = (SetTrainer(net, images, labels, r, 10, given.seed) for r in (fast, recipe))
        return {"retable": ours.cross_validated, "authors": Literal(theirs).cross_validated}

    # What a trainer has computed of images in one round is not there in the next.
    rounds = [scorers() for _ in range(given.rounds)]
    greedy = functools.partial(search.greedy, len(net))
    known: dict[str, dict[search.Set, float]] = {name: {} for name in rounds[0]}
    seconds: dict[str, list[float]] = {name: [] for name in known}
    ends: dict[str, search.Found] = {}
    while len(ends) < len(known):
        times: dict[str, list[float]] = {name: [] for name in known}
        asked = {name: search.pending(scores, greedy) for name, scores in known.items()}
        for ways, (name, blocks) in itertools.product(rounds, asked.items()):
            if isinstance(blocks, search.Found):
                ends[name] = blocks
                continue
            begin = time.process_time()
            known[name][blocks] = ways[name](blocks, folds)
            times[name].append(time.process_time() - begin)
        for name, own in times.items():
            seconds[name] += [statistics.median(own)] if own else []
        if not given.json:
            print(_line(asked["retable"], times), file=sys.stderr)
    found = _summary(known, seconds, ends)
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    for name in known:
        one = found[name]
        print(
            f"{name}: {one['seconds']:.1f} s for {one['sets']} sets, picks {one['picks']},"
            f" accuracy {one['accuracy']:.3f}"
        )
    print(
        f"{found['times_as_fast']:.2f} times as fast; picks"
        f" {'equal' if found['equal_picks'] else 'differ'}; of {found['shared']} sets that both"
        f" have scored {found['equal_scores']} have equal scores, the largest difference is"
        f" {found['largest_difference']:.4f}"
    )
    return 0


def _line(blocks: search.Set | search.Found, times: dict[str, list[float]]) -> str:
    """How long a set has taken, of the search's own."""
    name = "end" if isinstance(blocks, search.Found) else search.named(blocks, 9)
    return f"{name}: " + ", ".join(
        f"{way} {statistics.median(own):.2f} s" for way, own in times.items() if own
    )


def _summary(
    known: dict[str, dict[search.Set, float]],
    seconds: dict[str, list[float]],
    ends: dict[str, search.Found],
) -> dict[str, Any]:
    ours, theirs = known["retable"], known["authors"]
    gaps = [abs(ours[blocks] - theirs[blocks]) for blocks in ours.keys() & theirs.keys()]
    found: dict[str, Any] = {
        name: {
            "seconds": sum(seconds[name]),
            "sets": len(scores),
            "picks": [f"B{i + 1}" for i in ends[name].steps],
            "accuracy": ends[name].score,
        }
        for name, scores in known.items()
    }
    return found | {
        "times_as_fast": sum(seconds["authors"]) / sum(seconds["retable"]),
        "equal_picks": ends["retable"].steps == ends["authors"].steps,
        "shared": len(gaps),
        "equal_scores": sum(gap < 1e-9 for gap in gaps),
        "largest_difference": max(gaps),
    }


def _given(mirror: Path | None, n: int, seed: int) -> tuple[Blocks, Tensor, Tensor]:
    """Network, images and labels; random ones without a mirror."""
    torch.manual_seed(seed)
    net = networks.network("resnet20", 10)
    if mirror is None:
        images, labels = torch.randn(n, 3, 32, 32), torch.arange(n) % 10
        with torch.no_grad():
            net.train()(images)  # statistics of batch norm
        return net, images, labels
    file = torch.load(mirror / WEIGHTS, map_location="cpu", weights_only=True)
    weights = {f"state_dict.{name}": w for name, w in file["state_dict"].items()}
    load_start(net, Start(weights), "resnet20", "kept")
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(os.environ.get("RETABLE_CACHE", folder))
        data = CorruptedImages(
            seed=seed,
            paths=DataPaths(cache, mirror),
            checksum=CHECKSUM,
            corruption="gaussian_noise",
            n_train=n,
            batch_size=32,
        )
        data.setup("fit")
    assert data.train is not None
    images, labels = data.train
    return net, images, labels


if __name__ == "__main__":
    sys.exit(main())
