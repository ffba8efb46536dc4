"""Time to submit 1,000 runs to the cluster that SLURM_CONF names, against a loop of sbatch calls.

    slurm/dev-cluster/up; export SLURM_CONF=...
    uv run scripts/bench_submit.py [--runs 1000] [--calls 20] [--cluster dev] [--repeats 3] [--json]

- retable: `retable train -m experiment=risk_parity/random seed=... launcher=slurm`, a whole command
  in a process of its own: composed, validated, frozen, written, one job array; then `again`, which
  finds that all of it is queued.
- loop: what one would write without it: an sbatch per run, measured over --calls of them and
  extrapolated.

The jobs are held, so nothing runs, and are cancelled in the end. Runs are written below a temporary
folder. Exit code 1 where retable takes longer than 20 s.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 20.0


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--cluster", default="dev")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if "SLURM_CONF" not in os.environ:
        print("error: SLURM_CONF: name a cluster, such as slurm/dev-cluster/up prints")
        return 2
    took: dict[str, list[float]] = {"retable": [], "again": [], "loop": []}
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory(prefix="retable-bench-") as folder:
            for name in ("retable", "again"):
                took[name].append(_submit(Path(folder), given.runs, given.cluster))
            _check(Path(folder), given.runs)
        took["loop"].append(_loop(given.calls) / given.calls * given.runs)
    best = {name: min(seconds) for name, seconds in took.items()}
    if given.json:
        print(json.dumps({"runs": given.runs, "best_s": best, "all_s": took}, indent=2))
    else:
        print(f"{given.runs} runs, best of {given.repeats}:")
        print(f"  retable, one command        {best['retable']:7.2f} s")
        print(f"  the same command again      {best['again']:7.2f} s")
        print(f"  a loop of sbatch calls      {best['loop']:7.2f} s, from {given.calls} calls")
    return best["retable"] > LIMIT_S


def _submit(folder: Path, runs: int, cluster: str) -> float:
    command = [
        *(sys.executable, "-m", "retable", "train", "-m", "experiment=risk_parity/random"),
        *(f"seed=range(0,{runs})", "launcher=slurm", f"cluster={cluster}"),
        "cluster.options={hold: true}",
    ]
    begin = time.perf_counter()
    subprocess.run(
        command,
        env={**os.environ, "RETABLE_RUNS": str(folder / "runs")},
        cwd=folder,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begin


def _check(folder: Path, runs: int) -> None:
    """Every run is in the queue once, and taken out of it."""
    base = folder / "runs" / "_slurm"
    headers = [json.loads(path.read_text()) for path in base.glob("*/submission.json")]
    jobs = [array["job"] for header in headers for array in header["arrays"]]
    lines = _slurm("squeue", "--noheader", "--array", f"--jobs={','.join(jobs)}", "--format=%i")
    _slurm("scancel", *jobs)
    if len(set(lines.split())) != runs:
        raise SystemExit(f"error: {len(lines.split())} tasks are queued, not {runs}")


def _loop(calls: int) -> float:
    jobs: list[str] = []
    begin = time.perf_counter()
    for _ in range(calls):
        jobs.append(_slurm("sbatch", "--parsable", "--hold", "--wrap=true").strip())
    took = time.perf_counter() - begin
    _slurm("scancel", *jobs)
    return took


def _slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
