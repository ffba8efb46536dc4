"""Speed of planning and launching: four figures, each against its target and a plain baseline.

    uv run scripts/bench_engine.py [--json] [--repeats 3] [--only plan_cold,finished]

- plan_cold: `plan` of 100 cells x 100 seeds, nothing composed before; beside composing the 100
  settings with Hydra and nothing else.
- plan_warm: `plan` of 10,000 distinct settings that were composed before; beside Hydra alone,
  extrapolated from 100 of them.
- finished: `run` of a table of 100 cells x 10 seeds whose 1,000 records are there; beside reading
  those files with json.
- start: from one run's record to the next run's attempt, one worker; beside a process that imports
  torch and Lightning, which is what a run would cost without the forkserver.

Whole commands in processes of their own, imports included; the best of the repeats counts, and its
CPU time stands beside it because a busy machine inflates the wall clock. Exit code 1 where a target
is missed. Everything happens below a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

ROOT = Path(__file__).resolve().parents[1]
TARGETS_S = {"plan_cold": 10.0, "plan_warm": 10.0, "finished": 3.0, "start": 0.2}

HEAD = """paper: digits
title: Made by bench_engine.py
source: {{paper_ref: none, own: true}}
metrics: {{accuracy: {{key: test/accuracy, unit: "%", direction: max, margin: 1.0}}}}
seeds: {seeds}
"""
HYDRA_ALONE = """
import sys
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    for row in range(10):
        for column in range(10):
            OmegaConf.to_container(compose("run", overrides=[
                f"hydra.searchpath=[file://{sys.argv[2]}]", "experiment=digits/base",
                f"++model.hidden={column + 1}", f"++model.optimizer.lr={row + 1}e-3", "++seed=0",
            ]), resolve=True)
"""
JSON_ALONE = """
import json, pathlib, sys
for path in pathlib.Path(sys.argv[1]).glob("digits/*/record.json"):
    json.loads(path.read_bytes())
"""


@dataclass
class Figure:
    """One measured figure in seconds."""

    name: str
    target_s: float
    wall_s: float
    cpu_s: float | None
    baseline: str
    baseline_s: float

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.wall_s <= self.target_s


def table_text(rows: int, columns: int, seeds: int) -> str:
    """A table of distinct settings: both rows and columns change the model."""
    lines = [HEAD.format(seeds=seeds), "columns:\n"]
    for i in range(columns):
        own = f"metric: accuracy, experiment: digits/base, overrides: [model.hidden={i + 1}]"
        lines.append(f"  c{i}: {{{own}}}\n")
    lines.append("rows:\n")
    lines += [f"  r{i}: [model.optimizer.lr={i + 1}e-3]\n" for i in range(rows)]
    return "".join(lines)


class Bench:
    """A project of its own below a temporary folder."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self.extra, self.runs, self.cache = folder / "extra", folder / "runs", folder / "cache"
        self.folder, self.repeats = folder, repeats
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tests" / "extra", self.extra, ignore=ignore)
        tables = self.extra / "conf" / "table" / "digits"
        for name, size in {
            "seeds": (10, 10, 100),
            "settings": (100, 100, 1),
            "finished": (10, 10, 10),
        }.items():
            (tables / f"{name}.yaml").write_text(table_text(*size), encoding="utf-8")
        # One setting: a run of it takes well under a second.
        text = table_text(1, 1, 12).replace("digits/base", "digits/smoke")
        (tables / "chain.yaml").write_text(text, encoding="utf-8")
        os.environ.update(
            RETABLE_EXTRA=str(self.extra),
            RETABLE_RUNS=str(self.runs),
            RETABLE_CACHE=str(self.cache),
            WANDB_MODE="disabled",
        )

    def process(self, *command: str) -> tuple[float, float]:
        """Wall-clock and CPU seconds of a process."""
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command], cwd=self.folder, capture_output=True, text=True, check=False
        )
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            sys.exit(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall, cpu

    def best(self, *command: str, before: Callable[[], None] = lambda: None) -> tuple[float, float]:
        """The fastest of the repeats, by wall clock."""
        found: list[tuple[float, float]] = []
        for _ in range(self.repeats):
            before()
            found.append(self.process(*command))
        return min(found)

    def retable(self, *args: str, before: Callable[[], None] = lambda: None) -> tuple[float, float]:
        """The fastest of the repeats of a command of retable."""
        return self.best("-m", "retable", *args, before=before)

    def hydra_alone(self) -> float:
        """Seconds that Hydra needs for 100 settings, its import included."""
        conf, extra = ROOT / "conf", self.extra / "conf"
        return self.best("-c", HYDRA_ALONE, str(conf), str(extra))[0]

    def plan_cold(self) -> Figure:
        """`plan` of 100 cells x 100 seeds, nothing composed before."""

        def forget() -> None:
            shutil.rmtree(self.cache, ignore_errors=True)

        wall, cpu = self.retable("plan", "digits/seeds", before=forget)
        return self._figure("plan_cold", wall, cpu, "Hydra alone", self.hydra_alone())

    def plan_warm(self) -> Figure:
        """`plan` of 10,000 distinct settings that were composed before."""
        filling, _ = self.process("-m", "retable", "plan", "digits/settings")
        print(f"(composing 10,000 settings for the first time: {filling:.0f} s)", file=sys.stderr)
        wall, cpu = self.retable("plan", "digits/settings")
        name = "Hydra alone, 100 settings x 100"
        return self._figure("plan_warm", wall, cpu, name, 100 * self.hydra_alone())

    def finished(self) -> Figure:
        """`run` of a finished table of 100 cells x 10 seeds."""
        self._finish("digits/finished")
        wall, cpu = self.retable("run", "digits/finished")
        plain, _ = self.best("-c", JSON_ALONE, str(self.runs))
        return self._figure("finished", wall, cpu, "json alone", plain)

    def _finish(self, name: str) -> None:
        """Records for all runs of a table: one real run's, under each run's own key."""
        from retable.launch.dispatch import launch
        from retable.runs import frozen, records
        from retable.tables import grid

        os.chdir(self.folder)
        runs = list(grid.plan(name).runs())
        launch(runs[:1])
        done = records.read(runs[0].folder / records.RUN_RECORD)
        assert done is not None
        assert done.status is records.Status.DONE
        for run in runs[1:]:
            attempt = frozen.write(run) / "attempts" / "1"
            attempt.mkdir(parents=True)
            config = frozen.recorded(run.config)
            own = {"key": run.key, "seed": run.config.seed, "config": config}
            path = records.write_attempt(attempt, structs.replace(done, **own))
            records.publish(path, run.folder)

    def start(self) -> Figure:
        """From the record of a run to the next one's attempt, one worker; the median."""
        runs = self.folder / "chain"
        command = ("run", "digits/chain", "launcher.workers=1", f"paths.runs={runs}")
        self.process("-m", "retable", *command)
        # An attempt's folder is made once; nothing is made beside it later.
        begins = [p.stat().st_mtime for p in runs.glob("digits/*/attempts")]
        ends = [p.stat().st_mtime for p in runs.glob("digits/*/record.json")]
        pairs = zip(sorted(begins)[1:], sorted(ends)[:-1], strict=True)
        gaps = [begin - end for begin, end in pairs]
        plain, _ = self.best("-c", "import torch, pytorch_lightning")
        wall = statistics.median(gaps)
        print(f"(start: {min(gaps):.3f} to {max(gaps):.3f} s)", file=sys.stderr)
        return self._figure("start", wall, None, "importing torch, Lightning", plain)

    def _figure(
        self, name: str, wall: float, cpu: float | None, baseline: str, baseline_s: float
    ) -> Figure:
        return Figure(name, TARGETS_S[name], wall, cpu, baseline, baseline_s)


def hardware() -> str:
    """The machine, in a line."""
    from retable.runs.provenance import cpu_model

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, load {load},"
        f" Python {platform.python_version()}"
    )


def show(figures: list[Figure]) -> None:
    """Print the figures as a table."""
    print(f"{'figure':10} {'target':>8} {'wall':>8} {'CPU':>8}  baseline")
    for f in figures:
        cpu = "-" if f.cpu_s is None else f"{f.cpu_s:.2f} s"
        ratio = f"{f.baseline}: {f.baseline_s:.2f} s, ours is x {f.wall_s / f.baseline_s:.3f}"
        missed = "" if f.met else "  MISSED"
        print(f"{f.name:10} {f.target_s:6.1f} s {f.wall_s:6.2f} s {cpu:>8}  {ratio}{missed}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(TARGETS_S), help="figures, comma-separated")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - TARGETS_S.keys():
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(TARGETS_S)}")
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as folder:
        bench = Bench(Path(folder), options.repeats)
        figures: list[Figure] = [getattr(bench, name)() for name in names]
        os.chdir(ROOT)
    machine = hardware()
    if options.json:
        out: list[dict[str, Any]] = [
            {**asdict(f), "ratio": f.wall_s / f.baseline_s, "met": f.met} for f in figures
        ]
        print(json.dumps({"hardware": machine, "figures": out}, indent=2))
    else:
        show(figures)
        print(machine)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
