"""What the harness costs: an epoch of a shipped experiment against a plain PyTorch loop.

Both do the same mathematics on the same tensors: BinaryConnect's MNIST network in batches of 200,
loss and error of every batch, at the epoch's end the recomputed statistics, validation under both
kinds of statistics, the choice of the best epoch, a row of history, and a durable checkpoint; the
rows have to be equal. The shipped experiments (`mnist_reduced` at 3 x 256, `mnist` at 3 x 1024) run
through `retable.training.execute.execute`, as every run does, on generated images of MNIST's
sizes. The second epoch of each is timed, the one that validates. Interleaved, each in turn first;
best and median of the repeats.

Example: python scripts/bench_overhead.py --widths 256 1024 --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from retable.config.compose import compose, hydra_ready
from retable.papers.binary_connect.losses import square_hinge
from retable.papers.binary_connect.module import recompute
from retable.papers.binary_connect.networks import binary_layers, use_statistics
from retable.training.execute import Context, build, execute, seed_everything
from retable.training.seeds import derive_seed

EPOCHS = 2


def config_of(width: int, regularizer: str, folder: Path) -> dict[str, Any]:
    """The shipped experiment on generated images of MNIST's sizes."""
    with hydra_ready():
        config = compose(
            [
                f"experiment=binary_connect/{'mnist' if width == 1024 else 'mnist_reduced'}",
                f"model.widths=[{width},{width},{width}]",
                f"model.regularizer={regularizer}",
                f"trainer.max_epochs={EPOCHS}",
                "stages=[fit]",
                "seed=1",
                f"paths.runs={folder}/runs",
                f"paths.cache={folder}/cache",
            ]
        ).model_dump()
    config["data"] = {
        "_target_": "retable.data.modules.GeneratedImages",
        "batch_size": config["data"]["batch_size"],
        "preprocess": config["data"]["preprocess"],
        "n_pool": 60_000,
        "n_validation": 10_000,
        "n_test": 1_000,
    }
    return config


Measured = tuple[float, dict[str, float]]
"""Seconds of the second epoch, and its row of history."""


def harness(config: dict[str, Any], folder: Path) -> Measured:
    """The run."""
    ends: list[float] = []
    outcome = execute(config, Context(folder, on_epoch=lambda *_: ends.append(time.perf_counter())))
    return ends[1] - ends[0], outcome.history[1]


def plain(config: dict[str, Any], folder: Path) -> Measured:
    """The same training without the harness."""
    torch.use_deterministic_algorithms(config["trainer"]["deterministic"])  # as the run does
    data, module = build(config)
    data.setup("fit")
    network, seed = module.network, int(config["seed"])
    inputs, labels = data.train
    optimizer = module._optimizer(network.parameters())
    scheduler = module._scheduler(optimizer)
    binary = binary_layers(network)
    size = config["data"]["batch_size"]
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"score": float("inf")}
    ends: list[float] = []
    for epoch in range(EPOCHS):
        seed_everything(derive_seed(seed, "epoch", epoch))
        network.train()
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        order = torch.randperm(len(labels), generator=generator)
        losses, wrong = [], torch.tensor(0)
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            x, y = inputs.index_select(0, chosen), labels.index_select(0, chosen)
            outputs = network(x)
            loss = square_hinge(outputs, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for layer in binary:
                layer.clip()
            losses.append(loss.detach())
            wrong += (outputs.argmax(1) != y).sum()
        row = {
            "epoch": epoch,
            "train/loss": float(torch.stack(losses).double().mean()),
            "train/error": float(wrong) / len(losses) / size,
        }
        if (epoch + 1) % config["trainer"]["check_val_every_n_epoch"] == 0:
            recompute(network, data.training_inputs(module.recompute_images))
            row |= _validate(network, *data.validation)
        score = row.get("val/error", float("inf"))
        if score <= best["score"]:
            weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
            best = {"epoch": epoch, "score": score, "weights": weights}
        scheduler.step()
        history.append(row)
        _save(folder, epoch, network, optimizer, scheduler, history, best)
        ends.append(time.perf_counter())
    return ends[1] - ends[0], history[1]


def _validate(network: torch.nn.Module, inputs: Any, labels: Any) -> dict[str, float]:
    loss = wrong = wrong_running = 0.0
    with torch.no_grad():
        for x, y in zip(inputs.split(1000), labels.split(1000), strict=True):
            outputs = network(x)
            loss += float(square_hinge(outputs, y)) * len(y)
            wrong += int((outputs.argmax(1) != y).sum())
            use_statistics(network, "running")
            wrong_running += int((network(x).argmax(1) != y).sum())
            use_statistics(network, "recomputed")
    n = len(labels)
    return {"val/loss": loss / n, "val/error": wrong / n, "val/error_running": wrong_running / n}


def _save(
    folder: Path, epoch: int, network: Any, optimizer: Any, scheduler: Any, *rest: Any
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "checkpoint.tmp"
    with temporary.open("wb") as file:
        state = (network.state_dict(), optimizer.state_dict(), scheduler.state_dict(), *rest)
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / f"epoch={epoch}.ckpt")


def _agree(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        abs(value - other[name]) <= 1e-12 + 1e-6 * abs(value) for name, value in one.items()
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--regularizers", nargs="+", default=["none", "det", "stoch"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    root = Path(tempfile.mkdtemp())
    for width in options.widths:
        for regularizer in options.regularizers:
            config = config_of(width, regularizer, root)
            variants = {"plain": plain, "harness": harness}
            times: dict[str, list[float]] = {name: [] for name in variants}
            for repeat in range(options.repeats):
                rows: dict[str, dict[str, float]] = {}
                for name in sorted(variants, reverse=repeat % 2 == 1):
                    seconds, rows[name] = variants[name](config, root / f"{name}{repeat}")
                    times[name].append(seconds)
                assert _agree(rows["plain"], rows["harness"]), rows
            best = {name: min(values) for name, values in times.items()}
            median = {name: statistics.median(values) for name, values in times.items()}
            print(
                json.dumps(
                    {
                        "network": f"3 x {width}",
                        "regularizer": regularizer,
                        "threads": options.threads,
                        "best_s": {k: round(v, 3) for k, v in best.items()},
                        "median_s": {k: round(v, 3) for k, v in median.items()},
                        "ratio_of_best": round(best["harness"] / best["plain"], 3),
                        "ratio_of_medians": round(median["harness"] / median["plain"], 3),
                    }
                ),
                flush=True,
            )
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
