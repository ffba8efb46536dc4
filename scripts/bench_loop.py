"""The edit loop: edit a module, run it once, see its numbers; against plain Lightning.

    uv run scripts/bench_loop.py [--rounds 5] [--json]

- retable: `retable train experiment=digits/smoke seed=0` of the tests' own paper after each of
  --rounds edits of its module, so that the record is stale and the run is done again.
- plain: a script that builds the same module and data and calls `Trainer.fit` and `test`, after the
  same edits, as one has it before there is a harness.

Both in turn, in one run. Everything is written below a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
PLAIN = """
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from retable.config.schema import PathsConfig
from retable.papers.digits.data import Digits
from retable.papers.digits.module import Perceptron

torch.set_num_threads(1)
pl.seed_everything(0)
module = Perceptron(seed=0, hidden=32, optimizer=partial(torch.optim.SGD, lr=0.1))
paths = PathsConfig(runs=".", cache=".")
data = Digits(seed=0, paths=paths, batch_size=100, noise=0.1, train_size=200)
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
)
trainer.fit(module, datamodule=data)
trainer.test(module, datamodule=data)
"""


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    took: dict[str, list[tuple[float, float]]] = {"retable": [], "plain": []}
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as folder:
        extra = Path(folder) / "extra"
        shutil.copytree(ROOT / "tests" / "extra", extra)
        module = extra / "papers" / "digits" / "module.py"
        text = module.read_text()
        commands = {
            "retable": ["-m", "retable", "train", "experiment=digits/smoke", "seed=0"],
            "plain": ["-c", PLAIN],
        }
        for number in range(given.rounds + 1):  # the first round only fills caches
            module.write_text(f"{text}\n\nEDIT = {number}\n")
            for name, command in commands.items():
                spent = _measure(command, extra, Path(folder))
                if number:
                    took[name].append(spent)
    found = {
        name: {"wall_s": median(w for w, _ in each), "cpu_s": median(c for _, c in each)}
        for name, each in took.items()
    }
    if given.json:
        print(json.dumps({"rounds": given.rounds, **found}, indent=2))
        return 0
    for name, of in found.items():
        print(
            f"{name:8} {of['wall_s']:6.2f} s by the clock, {of['cpu_s']:6.2f} s of processor time"
        )
    ratio = {key: found["retable"][key] / found["plain"][key] for key in ("wall_s", "cpu_s")}
    print(f"ratio    {ratio['wall_s']:6.2f}                   {ratio['cpu_s']:6.2f}")
    return 0


def _measure(command: list[str], extra: Path, folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of processor time, of a command and all that it starts."""
    where = {"RETABLE_EXTRA": str(extra), "RETABLE_RUNS": str(folder / "runs")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **where},
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter() - begin
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
