"""A step of fast adversarial training, and the evaluation by PGD, against literal loops.

    RETABLE_MIRROR=... python scripts/bench_fat.py

FGSM-RS as the authors code it on CIFAR-10 with the network of protocol reduced, batches of 128, one
thread, float32.

The step (noise, gradient, adversarial batch, loss with soft targets, SGD) is measured against the
same as a loop over the network alone, against ``torchattacks.FGSM`` in place of noise and step
where that is installed (it pins ``requests``: ``pip install --no-deps --target DIR torchattacks``,
and DIR on PYTHONPATH), and against two passes forward and backward. All in turn, so that other work
on the machine slows down all.

The evaluation is measured on 500 test images, and a network of some epochs of that training or of
``--weights FILE``, a checkpoint of a run of protocol reduced: the more images stand, the smaller
the ratio. The literal loop passes all images through the network in every step and moves those that
are still classified rightly, as the authors' code does; ours leaves the others out. Both start at
the same images. Times are those of the processor.

With ``--compare N``: what PGD, APGD-CE and AutoAttack leave of N test images of the same network,
by ours, by pyautoattack and by torchattacks.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.config.compose import compose, hydra_ready
from retable.papers.converge_smooth.attacks import noise
from retable.papers.converge_smooth.evaluation import classified, survivors
from retable.papers.converge_smooth.losses import soft_cross_entropy, soft_targets
from retable.papers.converge_smooth.module import AdversarialTraining
from retable.papers.converge_smooth.strong import installed, unbroken
from retable.runs.weight_files import read
from retable.training.execute import build

BUDGET, STEP = 16 / 255, 2 / 255
OWN = "state_dict.net."
"""What names of the network's weights begin with in a checkpoint."""


def made(
    mirror: str | None,
) -> tuple[AdversarialTraining, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The module of protocol reduced, training and test images with labels; random without data."""
    with hydra_ready():
        options = ["experiment=converge_smooth/reduced", "trainer.precision=32-true", "seed=0"]
        config = compose(options).model_dump(mode="json")
    config["paths"]["mirror"] = mirror
    data, module = build(config)
    if mirror is None:
        generator = torch.Generator().manual_seed(0)
        items = torch.rand(2560, 3, 32, 32, generator=generator), torch.arange(2560) % 10
        return cast("Any", module), items, items
    data.prepare_data()
    data.setup("fit")
    train, test = cast("Any", data).train, cast("Any", data).test
    return cast("Any", module), (train[0].float(), train[1]), (test[0].float(), test[1])


def literal_step(net: nn.Module, optimizer: Any, images: Tensor, labels: Tensor) -> None:
    """The authors' FGSM-RS, written down."""
    start = (images + torch.empty_like(images).uniform_(-BUDGET, BUDGET)).clamp(0, 1)
    start.requires_grad_()
    F.cross_entropy(net(start), labels).backward()
    gradient = cast("Tensor", start.grad)
    attacked = (start + BUDGET * gradient.sign()).clamp(0, 1).detach()
    update(net, optimizer, attacked, labels)


def update(net: nn.Module, optimizer: Any, images: Tensor, labels: Tensor) -> None:
    """Forward, backward and a step of SGD."""
    optimizer.zero_grad()
    soft_cross_entropy(net(images), soft_targets(labels, 10, 0.6)).mean().backward()
    optimizer.step()


def literal_pgd(net: nn.Module, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
    """Which images 50 steps leave; every image is in every pass."""
    delta = (images + noise(images, BUDGET, draws)).clamp(0, 1) - images
    fallen = torch.zeros(len(images), dtype=torch.bool)
    for number in range(51):
        delta.requires_grad_()
        logits = net(images + delta)
        fallen |= logits.argmax(1) != labels
        if number == 50:
            break
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels), delta)
        moved = (delta.detach() + STEP * gradient.sign()).clamp(-BUDGET, BUDGET)
        moved = (images + moved).clamp(0, 1) - images
        delta = torch.where(fallen[:, None, None, None], delta.detach(), moved)
    return ~fallen


def seconds(work: Callable[[], object]) -> float:
    """Time of the processor that some work takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(work)
            if number:  # the first warms up
                taken[name].append(spent)
    return {name: statistics.median(times) for name, times in taken.items()}


def steps(module: AdversarialTraining, images: Tensor, labels: Tensor, rounds: int) -> None:
    """Compare the step."""
    net = module.net.train()
    module.train()
    images, labels = images[:128].contiguous(memory_format=torch.channels_last), labels[:128]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    ids = torch.arange(128)

    def ours() -> None:
        optimizer.zero_grad()
        module.shared_step((images, labels, ids)).loss.backward()
        optimizer.step()

    def two_passes() -> None:
        for _ in range(2):
            update(net, optimizer, images, labels)

    works: dict[str, Callable[[], object]] = {
        "ours": ours,
        "the authors' loop": lambda: literal_step(net, optimizer, images, labels),
        "two passes forward and backward": two_passes,
    }
    if importlib.util.find_spec("torchattacks"):
        attack = importlib.import_module("torchattacks").FGSM(net, eps=BUDGET)
        attack.set_model_training_mode(model_training=True)
        works["torchattacks' FGSM"] = lambda: update(net, optimizer, attack(images, labels), labels)
    found = in_turn(works, rounds)
    for name, spent in found.items():
        ratio = found["ours"] / spent
        print(f"step, {name}: {128 / spent:.0f} images/s; ours takes {ratio:.2f} of its time")


def trained(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train the network by the literal step."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for at in order.split(128):
            batch = images[at].contiguous(memory_format=torch.channels_last)
            literal_step(net, optimizer, batch, labels[at])


def evaluation(net: nn.Module, images: Tensor, labels: Tensor, rounds: int) -> None:
    """Compare PGD of 50 steps."""
    net.eval()
    left: dict[str, Tensor] = {}

    def ours() -> None:
        draws = torch.Generator().manual_seed(0)
        found = survivors(net, images, labels, draws, budget=BUDGET, step=STEP, after=[50])
        left["ours"] = found[50]

    def literal() -> None:
        left["literal"] = literal_pgd(net, images, labels, torch.Generator().manual_seed(0))

    found = in_turn({"ours": ours, "literal": literal}, rounds)
    clean = (net(images).argmax(1) == labels).double().mean()
    same = int((left["ours"] == left["literal"]).sum())
    robust = left["ours"].double().mean()
    print(
        f"PGD-50 on {len(labels)} images ({clean:.1%} right without, {robust:.1%} after it):"
        f" ours {found['ours']:.1f} s, literal {found['literal']:.1f} s,"
        f" {found['literal'] / found['ours']:.1f} times as long; {same} images with the same answer"
    )


def compare(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Print what each attack leaves, by each library that is installed."""
    net.eval()
    found: dict[str, Tensor] = {}
    draws = torch.Generator().manual_seed(0)
    own = survivors(net, images, labels, draws, budget=BUDGET, step=STEP, after=[50])
    found["PGD-50, ours"] = own[50]
    if installed():
        left = unbroken(net, images, labels, budget=BUDGET, seed=0)
        found["APGD-CE, pyautoattack"] = left["apgd-ce"]
        found["AutoAttack, pyautoattack"] = left["square"]
    if importlib.util.find_spec("torchattacks"):
        library = importlib.import_module("torchattacks")
        attacks = {
            "PGD-50": library.PGD(net, eps=BUDGET, alpha=STEP, steps=50),
            "APGD-CE": library.APGD(net, eps=BUDGET, steps=100, loss="ce", seed=0),
            "AutoAttack": library.AutoAttack(net, eps=BUDGET, n_classes=10, seed=0),
        }
        for name, attack in attacks.items():
            found[f"{name}, torchattacks"] = classified(net, attack(images, labels), labels)
    for name, left in found.items():
        print(f"{name}: {left.double().mean():.1%} of {len(labels)} images are left")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="RETABLE_MIRROR is where CIFAR-10 is read from; without it images are random.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=3, help="of training, before PGD")
    parser.add_argument("--rounds", type=int, default=15, help="repetitions of a step")
    parser.add_argument("--compare", type=int, default=0, help="test images")
    parser.add_argument("--weights", help="checkpoint, in place of that training")
    args = parser.parse_args()
    if args.rounds < 1 or min(args.epochs, args.compare) < 0:
        parser.error("--rounds: at least 1; --epochs and --compare: at least 0")
    if args.weights and not Path(args.weights).is_file():
        parser.error(f"--weights: there is no file {args.weights}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mirror = os.environ.get("RETABLE_MIRROR")
    module, train, test = made(str(Path(mirror).resolve()) if mirror else None)
    steps(module, *train, args.rounds)
    if args.weights:
        named = read(Path(args.weights)).items()
        own = {name.removeprefix(OWN): tensor for name, tensor in named if name.startswith(OWN)}
        module.net.load_state_dict(own)
    else:
        trained(module.net, *train, args.epochs)
    evaluation(module.net, test[0][:500], test[1][:500], 3)
    if args.compare:
        compare(module.net, test[0][: args.compare], test[1][: args.compare])


if __name__ == "__main__":
    main()
