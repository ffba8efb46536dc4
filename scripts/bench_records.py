"""Speed of collecting very many records: 100,000 of 15 kB, in a table of 100 cells x 1,000 seeds.

    uv run scripts/bench_records.py [--runs 100000] [--folder DIR] [--repeats 3] [--json]

- cold: `retable table` with no index, the records in the page cache.
- warm: `retable table` again, with the index; every file is still checked by name, size and times.
- plan: `retable plan`, with the index.
- loop: the straightforward way: read every record, validate it against the schema, group in
  Python; a process of its own, without planning, checking or printing anything.

How it is fast. Cold: records are read in as many processes as there are cores and checked by
msgspec, as in the loop. What the table needs of a record (its number in each cell, status,
fingerprint, provenance: some 130 bytes of 15 kB) is kept in an index, one file per table,
`runs/_index/<paper>/<table>-<protocol>.npz`, under a checksum. Warm: of the 1.5 GB nothing is read
but that file of 14 MB; one `stat` per record says whether it is still the file that was read (size,
mtime, ctime, inode), and only what is not is read again. The keys of all seeds of a setting are
hashed from one prepared text. Columns are NumPy's and not Parquet, because importing a library that
reads Parquet costs a tenth of all the time there is.

Whole commands in processes of their own, imports included; the best of the repeats counts. The
numbers of the table are compared with those of the loop. Exit code 1 where a target is missed: cold
within 10 s, warm within 2 s, and at least 3 times faster than the loop. The records are generated
through retable's own writer, below a temporary folder or, to be used again, below --folder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

ROOT = Path(__file__).resolve().parents[1]
COLD_S, WARM_S, RATIO = 10.0, 2.0, 3.0
ROWS = COLUMNS = 10
SETTLED_S = 3.0  # records younger than two seconds are never taken from an index

TABLE = """paper: digits
title: Made by bench_records.py
source: {{paper_ref: none, own: true}}
metrics: {{accuracy: {{key: test/accuracy, unit: "%", direction: max, margin: 1.0}}}}
seeds: {seeds}
columns:
{columns}
rows:
{rows}
reported:
{reported}
"""
LOOP = """
import json, pathlib, statistics, sys
import msgspec
from retable.runs.records import Record
groups = {}
for path in pathlib.Path(sys.argv[1]).glob("digits/*/record.json"):
    record = msgspec.json.decode(path.read_bytes(), type=Record)
    if record.status == "done":
        value = record.value("test/accuracy")
        model = record.config["model"]
        setting = f"{model['hidden']}, {model['optimizer']['lr']}"
        groups.setdefault(setting, []).append(value)
found = {s: [statistics.fmean(v), statistics.stdev(v), len(v)] for s, v in groups.items()}
print(json.dumps(found))
"""


@dataclass
class Figure:
    """One measured command: wall-clock and CPU seconds of the best try, wall clock of all."""

    name: str
    wall_s: float
    cpu_s: float
    tries_s: list[float]


def table_text(n_seeds: int) -> str:
    """A table of 10 x 10 settings."""
    own = "metric: accuracy, experiment: digits/base, overrides: [model.hidden={}]"
    columns = [f"  c{i}: {{{own.format(i + 1)}}}" for i in range(COLUMNS)]
    rows = [f"  r{i}: [model.optimizer.lr={i + 1}e-3]" for i in range(ROWS)]
    one = 'value: "90.1", spread: "0.9", spread_kind: std, n: 5, grade: primary, where: nowhere'
    reported = [f"  r{i}: {{c{i}: {{{one}}}}}" for i in range(ROWS)]
    return TABLE.format(
        seeds=n_seeds,
        columns="\n".join(columns),
        rows="\n".join(rows),
        reported="\n".join(reported),
    )


def use(folder: Path) -> None:
    """A project of its own below a folder, for this process and those it starts."""
    os.environ.update(
        RETABLE_EXTRA=str(folder / "extra"),
        RETABLE_RUNS=str(folder / "runs"),
        RETABLE_CACHE=str(folder / "cache"),
        WANDB_MODE="disabled",
        # Compiled once, as wherever retable is installed, and not into the checkout.
        PYTHONPYCACHEPREFIX=str(folder / "bytecode"),
    )
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def generate(folder: Path, n_runs: int) -> None:
    """Run folders of a finished table, as runs leave them; nothing where they are there already."""
    use(folder)
    done = folder / f"{n_runs}-records"
    if done.exists():
        return
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder}: holds something else; give an empty folder")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests" / "extra", folder / "extra", ignore=ignore)
    file = folder / "extra" / "conf" / "table" / "digits" / "many.yaml"
    file.write_text(table_text(n_runs // (ROWS * COLUMNS)), encoding="utf-8")
    print(f"generating {n_runs} records below {folder}", file=sys.stderr)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_column, range(COLUMNS)))
    time.sleep(SETTLED_S)
    done.touch()


def _column(column: int) -> None:
    """Records of one column's runs."""
    import random

    from retable.runs import frozen, records
    from retable.tables import grid

    planned = grid.plan("digits/many")
    for row in range(ROWS):
        cell = planned.cells[f"r{row}", f"c{column}"]
        first = _record(cell.setting)
        rng = random.Random(100 * row + column)
        for run in planned.cell_runs(cell):
            curve = [_result("train/loss", rng.random(), "curve", step) for step in range(175)]
            numbers = [
                _result("test/accuracy", 0.9 + rng.gauss(0, 0.01)),
                _result("test/loss", rng.random()),
            ]
            own = {
                "key": run.key,
                "seed": run.config.seed,
                "config": frozen.recorded(run.config),
                "results": [*numbers, *curve],
                "wall_s": rng.uniform(1, 9),
            }
            # As records.write_attempt does, but for syncing every file to the disk.
            attempt = run.folder / "attempts" / str(first.attempt)
            attempt.mkdir(parents=True)
            written = attempt / records.RUN_RECORD
            written.write_text(records.dump(structs.replace(first, **own)), encoding="utf-8")
            records.publish(written, run.folder)


def _result(metric: str, value: float, row: str = "", step: int | None = None) -> Any:
    from retable.runs.records import ResultRow

    return ResultRow(metric=metric, value=value, result_row=row, step=step)


def _record(run: Any) -> Any:
    from retable.runs.provenance import cpu_model
    from retable.runs.records import Provenance, Record, Status

    provenance = Provenance(
        commit="0123456789abcdef" * 2 + "01234567",
        dirty=None,
        packages="0" * 64,
        python=platform.python_version(),
        torch="2.11.0+cpu",
        cpu=cpu_model(),
        cores=2,
    )
    return Record(
        key=run.key,
        paper=run.config.paper,
        experiment=run.config.experiment,
        protocol=run.config.protocol,
        seed=0,
        config={},
        status=Status.DONE,
        attempt=1,
        best_epoch=3,
        started="2026-01-01T00:00:00+00:00",
        wall_s=1.5,
        cpu_s=1.2,
        peak_memory_mb=300.0,
        device="cpu",
        threads=1,
        workers=2,
        weights_sha256="1" * 64,
        history_sha256="2" * 64,
        fingerprint=run.fingerprint,
        provenance=provenance,
        validation={"val/accuracy": 0.9, "val/loss": 0.3},
    )


class Bench:
    """Commands measured on a folder of records."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self.folder, self.repeats = folder, repeats
        self.index = folder / "runs" / "_index"

    def best(
        self, name: str, *command: str, before: Callable[[], None] = lambda: None
    ) -> tuple[Figure, str]:
        """The fastest of the repeats, and what it printed."""
        tries: list[tuple[float, float]] = []
        out = ""
        for _ in range(self.repeats):
            before()
            usage, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            done = subprocess.run(
                [sys.executable, *command], cwd=self.folder, capture_output=True, text=True
            )
            wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode != 0:
                sys.exit(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
            cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
            tries.append((wall, cpu))
            out = done.stdout
            print(f"({name}: {wall:.2f} s)", file=sys.stderr)
        return Figure(name, *min(tries), [wall for wall, _ in tries]), out

    def forget(self) -> None:
        """Delete the index."""
        shutil.rmtree(self.index, ignore_errors=True)

    def measure(self) -> dict[str, Figure]:
        """All figures; refuses numbers that are not those of the loop."""
        loop, numbers = self.best("loop", "-c", LOOP, str(self.folder / "runs"))
        cold, _ = self.best("cold", "-m", "retable", "table", "digits/many", before=self.forget)
        warm, _ = self.best("warm", "-m", "retable", "table", "digits/many")
        plan, _ = self.best("plan", "-m", "retable", "plan", "digits/many")
        self.repeats = 1
        _, table = self.best("json", "-m", "retable", "table", "digits/many", "--json")
        _compare(json.loads(numbers), json.loads(table)["cells"])
        return {figure.name: figure for figure in (loop, cold, warm, plan)}


def _compare(loop: dict[str, list[float]], cells: list[dict[str, Any]]) -> None:
    for cell in cells:
        row, column = int(cell["row"][1:]), int(cell["column"][1:])
        mean, std, n = loop[f"{column + 1}, {float(f'{row + 1}e-3')}"]
        same = math.isclose(cell["mean"], 100 * mean) and math.isclose(cell["std"], 100 * std)
        if not same or cell["n"] != n:
            sys.exit(f"{cell['row']}, {cell['column']}: the table and the loop disagree")
    if len(cells) != len(loop):
        sys.exit(f"{len(cells)} cells, {len(loop)} groups")


def hardware() -> str:
    """The machine, in a line."""
    from retable.runs.provenance import cpu_model

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, load {load},"
        f" Python {platform.python_version()}"
    )


def main() -> int:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000, help="a multiple of 100")
    parser.add_argument("--folder", type=Path, help="where records are kept; temporary if left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    if options.runs < 200 or options.runs % 100:
        parser.error("--runs: a multiple of 100, at least 200")
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as temporary:
        folder = (options.folder or Path(temporary) / "records").absolute()
        generate(folder, options.runs)
        figures = Bench(folder, options.repeats).measure()
    ratio = figures["loop"].wall_s / figures["warm"].wall_s
    met = {
        "cold": figures["cold"].wall_s <= COLD_S,
        "warm": figures["warm"].wall_s <= WARM_S,
        "ratio": ratio >= RATIO,
    }
    out = {
        "hardware": hardware(),
        "records": options.runs,
        "figures": {name: asdict(figure) for name, figure in figures.items()},
        "loop_over_warm": ratio,
        "loop_over_cold": figures["loop"].wall_s / figures["cold"].wall_s,
        "met": met,
    }
    if options.json:
        print(json.dumps(out, indent=2))
    else:
        for f in figures.values():
            print(f"{f.name:6} {f.wall_s:7.2f} s wall, {f.cpu_s:7.2f} s CPU")
        print(f"warm is {ratio:.1f} times faster than the loop, cold {out['loop_over_cold']:.1f}")
        print(f"missed: {', '.join(name for name, ok in met.items() if not ok) or 'nothing'}")
        print(out["hardware"])
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
