"""How much of claim C4_order of subtuning/windows comes from overlapping windows alone.

    .venv/bin/python scripts/smooth_profiles.py

Windows of three neighbours share blocks and are fewer than blocks, which by itself raises the rank
correlation of a profile with depth. Here the profile of single blocks is averaged over the same
windows, for which nothing is trained, from the published records.
"""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import mean, stdev

import numpy as np
import polars as pl
from scipy.stats import spearmanr, t

from retable.util import paths

FILE = "subtuning/windows-reduced.parquet"
KINDS = {
    "singles": "single blocks",
    "averages": "averages of three",
    "windows3": "windows of three",
}


def profiles() -> dict[str, dict[tuple[str, int], list[float]]]:
    """Accuracies in the order of depth, by sets of blocks, corruption and seed."""
    found: dict[str, dict[tuple[str, int], list[float]]] = defaultdict(dict)
    for run in pl.read_parquet(paths.results_dir() / FILE).iter_rows(named=True):
        config = json.loads(run["config"])
        width = {"singles": 1, "windows3": 3}.get(config["model"]["sets"])
        by_row = {
            r["result_row"]: r["value"] for r in run["results"] if r["metric"] == "search/accuracy"
        }
        own = sorted(
            (int(row.split("+")[0][1:]), value)
            for row, value in by_row.items()
            if row.startswith("B") and row.count("+") + 1 == width
        )
        if own:
            place = config["data"]["corruption"], run["seed"]
            found[config["model"]["sets"]][place] = [value for _, value in own]
    found["averages"] = {
        place: np.convolve(values, np.full(3, 1 / 3), "valid").tolist()
        for place, values in found["singles"].items()
    }
    return found


def main() -> None:
    """Print the table, and the differences with 95 % intervals over seeds."""
    found = profiles()
    rho = {
        kind: {
            place: float(spearmanr(range(len(values)), values).statistic)
            for place, values in found[kind].items()
        }
        for kind in KINDS
    }
    corruptions = sorted({name for name, _ in rho["singles"]})
    print(f"{'rank correlation with depth':28s}" + "".join(f"{KINDS[k]:>20s}" for k in KINDS))
    for name in corruptions:
        means = [mean(r for (c, _), r in rho[kind].items() if c == name) for kind in KINDS]
        print(f"{name:28s}" + "".join(f"{value:20.2f}" for value in means))
    seeds = sorted({seed for _, seed in rho["singles"]})
    size = {
        kind: [mean(abs(rho[kind][name, seed]) for name in corruptions) for seed in seeds]
        for kind in KINDS
    }
    print(f"{'mean of absolute values':28s}" + "".join(f"{mean(size[k]):20.2f}" for k in KINDS))
    for better, than in (("averages", "singles"), ("windows3", "averages")):
        gaps = [a - b for a, b in zip(size[better], size[than], strict=True)]
        half = float(t.ppf(0.975, len(gaps) - 1)) * stdev(gaps) / len(gaps) ** 0.5
        low, high = mean(gaps) - half, mean(gaps) + half
        print(
            f"{KINDS[better]} less {KINDS[than]}: {mean(gaps):.2f} [{low:.2f}, {high:.2f}],"
            f" {len(gaps)} seeds"
        )


if __name__ == "__main__":
    main()
