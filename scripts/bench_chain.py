"""Settings that start from a trained network: as a chain against runs that each train it.

    uv run scripts/bench_chain.py [--children 20] [--seeds 5] [--epochs 40,4] [--workers 2] [--json]

- chain: `retable train -m` of the tests' own paper, --children learning rates of a new last layer
  with --seeds seeds each, which start from one network per seed.
- alone: as many runs that each train network and last layer: the epochs of both, in one run.

Counted are the trainings and epochs that the records tell; the time is that of the command, with
its start. Everything is written below a temporary folder.
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

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", default="40,4", help="of the network, and of the last layer")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    above, own = (int(number) for number in given.epochs.split(","))
    rates = ",".join(f"{0.01 * (1 + number):g}" for number in range(given.children))
    common = [
        f"model.optimizer.lr={rates}",
        f"seed=range(0,{given.seeds})",
        f"launcher.workers={given.workers}",
        "data.train_size=1200",
    ]
    chain = [
        "experiment=digits/tuned",
        f"trainer.max_epochs={own}",
        f"start.run.overrides=['trainer.max_epochs={above}']",
        "start.run.same=[data]",
    ]
    alone = ["experiment=digits/smoke", f"trainer.max_epochs={above + own}"]
    found = {
        name: _measure([*what, *common]) for name, what in (("chain", chain), ("alone", alone))
    }
    if given.json:
        print(json.dumps({**vars(given), **found}, indent=2))
        return 0
    print(f"{given.children} settings x {given.seeds} seeds, {above} + {own} epochs:")
    for name, of in found.items():
        print(
            f"  {name:6} {of['runs']:4} runs, {of['epochs']:6} epochs, {of['s']:7.1f} s with"
            f" {given.workers} at once"
        )
    print(f"  ratio  {found['alone']['s'] / found['chain']['s']:.2f}")
    return 0


def _measure(arguments: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="retable-bench-") as folder:
        runs = Path(folder) / "runs"
        extra = {"RETABLE_EXTRA": str(ROOT / "tests" / "extra"), "RETABLE_RUNS": str(runs)}
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "retable", "train", "-m", *arguments],
            env={**os.environ, **extra},
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - begin
        records = [json.loads(path.read_text()) for path in runs.glob("digits/*/record.json")]
        assert all(record["status"] == "done" for record in records)
        epochs = sum(record["config"]["trainer"]["max_epochs"] for record in records)
        return {"runs": len(records), "epochs": epochs, "s": round(seconds, 2)}


if __name__ == "__main__":
    sys.exit(main())
