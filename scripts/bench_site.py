"""Time and size of the site of very many runs: 10,000 in a table of 100 cells x 100 seeds.

    uv run scripts/bench_site.py [--runs 10000] [--epochs 60] [--folder DIR] [--json]

The records are made by retable's own writer: 20 results, the whole config, and a history of as
many epochs with five metrics. They are published, and the site is built from the published table
and, a second time, from the run folders. Whole commands in processes of their own, imports
included. Exit code 1 where a target is missed: built within 60 s, first page below 300 kB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S, FIRST_PAGE = 60.0, 300_000
ROWS = COLUMNS = 10
TABLE = """paper: digits
title: Made by bench_site.py
source: {{paper_ref: none, own: true}}
metrics: {{accuracy: {{key: test/accuracy, unit: "%", direction: max, margin: 1.0}}}}
seeds: {seeds}
columns:
{columns}
rows:
{rows}
reported:
{reported}
claims:
  - {{id: C1, statement: the first is better, kind: ordering, better: r0, than: r1}}
"""


def table_text(n_seeds: int) -> str:
    """A table of 10 x 10 settings."""
    own = "metric: accuracy, experiment: digits/base, overrides: [model.hidden={}]"
    one = 'value: "90.1", spread: "0.9", spread_kind: std, n: 5, grade: primary, where: nowhere'
    return TABLE.format(
        seeds=n_seeds,
        columns="\n".join(f"  c{i}: {{{own.format(i + 1)}}}" for i in range(COLUMNS)),
        rows="\n".join(f"  r{i}: [model.optimizer.lr={i + 1}e-3]" for i in range(ROWS)),
        reported="\n".join(f"  r{i}: {{c{i}: {{{one}}}}}" for i in range(ROWS)),
    )


def use(folder: Path) -> None:
    """A project of its own below a folder, for this process and those it starts."""
    os.environ.update(
        RETABLE_EXTRA=str(folder / "extra"),
        RETABLE_RUNS=str(folder / "runs"),
        RETABLE_CACHE=str(folder / "cache"),
        WANDB_MODE="disabled",
    )


def generate(folder: Path, n_runs: int, n_epochs: int) -> None:
    """Run folders of a finished table, as runs leave them, and the same published."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests" / "extra", folder / "extra", ignore=ignore)
    shutil.rmtree(folder / "extra" / "conf" / "table" / "digits")
    file = folder / "extra" / "conf" / "table" / "digits" / "many.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(table_text(n_runs // (ROWS * COLUMNS)), encoding="utf-8")
    use(folder)
    from retable.runs import published_records, records
    from retable.runs.history import history_text
    from retable.tables import grid

    planned = grid.plan("digits/many")
    rng = random.Random(0)
    found: dict[str, Any] = {}
    histories: dict[str, str] = {}
    for run in planned.runs():
        rows = history(rng, n_epochs)
        text = history_text(rows)
        record = made(run, rng, records.text_sha256(text))
        attempt = run.folder / "attempts" / "1"
        attempt.mkdir(parents=True)
        (attempt / "history.jsonl").write_text(text, encoding="utf-8")
        written = attempt / records.RUN_RECORD
        written.write_text(records.dump(record), encoding="utf-8")
        records.publish(written, run.folder)
        found[run.key], histories[run.key] = record, text
    path = published_records.parquet_file("digits/many", "paper")
    path.parent.mkdir(parents=True)
    published_records.write(path, found, histories)


def history(rng: random.Random, n_epochs: int) -> list[dict[str, float]]:
    """Losses that fall, with noise; validated in every epoch."""
    names = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr")
    return [
        {"epoch": float(epoch), **{name: 1 / (1 + epoch) + rng.gauss(0, 0.01) for name in names}}
        for epoch in range(n_epochs)
    ]


def made(run: Any, rng: random.Random, history_sha256: str) -> Any:
    """A finished run's record."""
    from retable.runs.frozen import recorded
    from retable.runs.provenance import cpu_model
    from retable.runs.records import Provenance, Record, ResultRow, Status

    curve = [
        ResultRow(metric="train/loss", result_row="curve", step=step, value=rng.random())
        for step in range(18)
    ]
    return Record(
        key=run.key,
        paper=run.config.paper,
        experiment=run.config.experiment,
        protocol=run.config.protocol,
        seed=run.config.seed,
        config=recorded(run.config),
        status=Status.DONE,
        results=[
            ResultRow(metric="test/accuracy", value=0.9 + rng.gauss(0, 0.01)),
            ResultRow(metric="test/loss", value=rng.random()),
            *curve,
        ],
        attempt=1,
        best_epoch=3,
        started="2026-01-01T00:00:00+00:00",
        wall_s=rng.uniform(1, 9),
        cpu_s=1.2,
        peak_memory_mb=300.0,
        device="cpu",
        threads=1,
        workers=2,
        weights_sha256="0" * 64,
        history_sha256=history_sha256,
        fingerprint=run.fingerprint,
        provenance=Provenance(
            commit="0123456789abcdef" * 2 + "01234567",
            dirty=None,
            packages="0" * 64,
            python=platform.python_version(),
            torch="2.11.0+cpu",
            cpu=cpu_model(),
            cores=2,
        ),
    )


def measure(source: str, output: Path) -> dict[str, Any]:
    """Build the site once; seconds, and bytes of what a visitor loads."""
    command = [sys.executable, "-m", "retable", "site", "--from", source, "--output", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    first = sum(
        (output / n).stat().st_size for n in ("index.html", "assets/site.css", "assets/site.js")
    )
    files = [p for p in output.rglob("*") if p.is_file()]

    def largest(pattern: str) -> int:
        return max(path.stat().st_size for path in output.glob(pattern))

    return {
        "from": source,
        "wall_s": round(wall, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": after.ru_maxrss // 1024,
        "files": len(files),
        "total_mb": round(sum(p.stat().st_size for p in files) / 1e6, 1),
        "first_page": first,
        "list_of_runs": largest("data/runs.js"),
        "table": largest("tables/*/*.html"),
        "cell": largest("cells/*/*/*.js"),
        "file_of_runs": largest("runs/*.js"),
    }


def main() -> int:
    """Generate, build twice, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000, help="a multiple of 100")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="keep everything below this empty folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as temporary:
        folder = options.folder or Path(temporary) / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        print(f"generating {options.runs} runs below {folder}", file=sys.stderr)
        generate(folder, options.runs, options.epochs)
        found = [measure(source, folder / f"site-{source}") for source in ("results", "runs")]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name in found[0]:
            print(f"{name:16} {'  '.join(f'{figure[name]:>12}' for figure in found)}")
    missed = [f for f in found if f["wall_s"] > LIMIT_S or f["first_page"] > FIRST_PAGE]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
