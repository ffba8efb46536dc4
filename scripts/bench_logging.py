"""What following a run by W&B costs: `logger=wandb` (offline) against `logger=none`.

The shipped experiment `binary_connect/mnist_reduced` on its own data (from `RETABLE_MIRROR`, or
`--generated` images of the same size), with all its epochs or `--epochs` of them. Each run is
forked by the engine's forkserver; counted is everything from the order until its process has ended,
so the start of the follower and the wait for it too. Beside it the CPU seconds, the follower's
included and those of W&B's service not, which a busy machine inflates less. Both loggers have to
come to the same numbers. In turn, each first in its turn; best and median of the repeats. Exit code
1 where the ratio of the medians is above the target.

Example: RETABLE_MIRROR=/data/hub python scripts/bench_logging.py --repeats 5
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from retable.config.compose import compose, hydra_ready
from retable.launch.forkserver_client import Forkserver
from retable.launch.worker import Exit
from retable.runs import frozen, provenance, records
from retable.runs.attempts import Launched
from retable.runs.frozen import FrozenRun
from retable.runs.identity import targets_of
from retable.tracking import ledger

TARGET = 1.03
GENERATED = {
    "_target_": "retable.data.modules.GeneratedImages",
    "batch_size": 200,
    "preprocess": "center_each_set",
    "n_pool": 60_000,
    "n_validation": 10_000,
    "n_test": 10_000,
}


def frozen_run(
    logger: str, folder: Path, options: argparse.Namespace, epochs: int | None
) -> FrozenRun:
    """A run that has not begun, in a folder of its own."""
    overrides = ["experiment=binary_connect/mnist_reduced", "seed=1", f"paths.runs={folder}"]
    overrides += [f"logger={logger}", f"device.threads={options.threads}"]
    overrides += ["logger.mode=offline"] if logger == "wandb" else []
    overrides += [f"trainer.max_epochs={epochs}"] if epochs else []
    with hydra_ready():
        config = compose(overrides)
    if options.generated:
        config = config.model_copy(update={"data": GENERATED})
    run = frozen.freeze(config)
    frozen.write(run)
    return run


def cpu_of_children(pid: int) -> float:
    """CPU seconds of the processes that a process has waited for, and that they have."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def measure(server: Forkserver, run: FrozenRun) -> tuple[float, float, Any]:
    """Wall and CPU seconds of a run, and what must agree of its record."""
    launched = Launched(provenance.collect(Path(run.config.paths.runs)))
    begin, before = time.perf_counter(), cpu_of_children(server._process.pid)
    server.start(run, launched)
    ended = []
    while not ended:
        ended = server.wait(60)
    seconds = time.perf_counter() - begin
    record = records.read(run.folder / records.RUN_RECORD)
    assert ended[0].code == Exit.DONE, run.folder
    assert record is not None, run.folder
    told = ledger.read(run.folder / "attempts" / "1")
    assert (told is not None and told.finished) == (run.config.logger.name == "wandb"), told
    cpu = cpu_of_children(server._process.pid) - before
    return seconds, cpu, record.substance()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="fewer than the experiment has")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--generated", action="store_true", help="images that need no data")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    os.environ.setdefault("RETABLE_CACHE", str(root / "cache"))
    loggers = ["none", "wandb"]
    times: dict[str, list[float]] = {logger: [] for logger in loggers}
    cpus: dict[str, list[float]] = {logger: [] for logger in loggers}
    some = frozen_run("none", root / "targets", options, options.epochs).config
    with Forkserver(sorted(targets_of([some.data, some.model, some.callbacks]))) as server:
        measure(server, frozen_run("none", root / "warm", options, 2))  # decodes the data
        for repeat in range(options.repeats):
            found: dict[str, Any] = {}
            for logger in loggers[:: -1 if repeat % 2 else 1]:
                run = frozen_run(logger, root / f"{logger}{repeat}", options, options.epochs)
                seconds, cpu, found[logger] = measure(server, run)
                times[logger].append(seconds)
                cpus[logger].append(cpu)
            assert found["none"] == found["wandb"], found
    best = {name: min(values) for name, values in times.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    cpu_s = {name: statistics.median(values) for name, values in cpus.items()}
    ratio = median["wandb"] / median["none"]
    print(
        json.dumps(
            {
                "experiment": "binary_connect/mnist_reduced",
                "epochs": some.trainer.max_epochs,
                "threads": options.threads,
                "repeats": options.repeats,
                "load": round(os.getloadavg()[0], 1),
                "all_s": {k: [round(v, 1) for v in values] for k, values in times.items()},
                "best_s": {k: round(v, 2) for k, v in best.items()},
                "median_s": {k: round(v, 2) for k, v in median.items()},
                "median_cpu_s": {k: round(v, 2) for k, v in cpu_s.items()},
                "ratio_of_best": round(best["wandb"] / best["none"], 3),
                "ratio_of_medians": round(ratio, 3),
                "ratio_of_cpu": round(cpu_s["wandb"] / cpu_s["none"], 3),
                "target": TARGET,
            }
        ),
        flush=True,
    )
    shutil.rmtree(root)
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
