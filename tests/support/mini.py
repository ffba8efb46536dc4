"""The mini-sweep whose outputs are the golden files: every verdict and every mark.

After a change that is meant to change what is printed:

    PYTHONPATH=tests python -m support.mini --write
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from retable.report import (
    claims_text,
    explain,
    json_csv,
    latex,
    markdown,
    paper_page,
    results_index,
    terminal,
)
from retable.report.svg import curves
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables.aggregate import Table, build
from retable.tables.grid import Grid, plan
from retable.tables.select import decide
from retable.tables.verdicts.judge import judge_all

NAME = "digits/verdicts"
HERE = Path(__file__).parents[1]
FILE = HERE / "report" / "mini" / "verdicts.yaml"
GOLDEN = HERE / "report" / "golden"
EXPLAINED = ("same,drift", "same,cost", "broken,accuracy", "unsure,accuracy", "quoted,accuracy")

ACCURACY = {
    0.01: (0.911, 0.910, 0.909),  # same
    0.02: (0.905, 0.915, 0.917),  # close
    0.03: (0.88, 0.93, 0.96),  # unsure
    0.04: (0.970, 0.971, 0.969),  # better
    0.05: (0.881, 0.880, 0.882),  # worse
    0.06: (0.90, 0.91, None),  # short
    0.07: (0.90, 0.91, 0.92),  # broken
    0.08: (0.90, 0.91, 0.89),  # old
    0.5: (0.92, 0.93, 0.91),  # chosen
}
DRIFT = {0.01: (0.60, 0.61, 0.62), 0.02: (0.1, 0.12, 0.11)}
COST = {0.01: (0.2, 0.4, 21.0), 0.02: (1.0, 1.5, 1.2)}


def extra_root(folder: Path) -> Path:
    """A copy of the tests' extra papers with the mini-sweep's table file in it."""
    root = folder / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], root)
    shutil.copy(FILE, root / "conf" / "table" / "digits" / "verdicts.yaml")
    return root


def record(run, results: dict[str, float], **changes) -> Record:
    fields = {
        "key": run.key,
        "paper": "digits",
        "experiment": run.config.experiment,
        "protocol": run.config.protocol,
        "seed": run.config.seed,
        "config": {},
        "status": Status.DONE,
        "results": [ResultRow(metric=name, value=value) for name, value in results.items()],
        "attempt": 1,
        "started": "2026-02-03T04:05:06+00:00",
        "wall_s": 36.0,
        "cpu_s": 36.0,
        "peak_memory_mb": 300.5,
        "device": "cpu",
        "threads": 1,
        "workers": 2,
        "fingerprint": run.fingerprint,
        "provenance": Provenance(
            commit="0123456789abcdef", dirty=None, packages="p", python="3.11.9", torch="2.11.0",
            cpu="Some CPU (R) @ 2 GHz", cores=2, accelerator="Some GPU",
        ),
    }  # fmt: skip
    return Record(**{**fields, **changes})


def sweep(grid: Grid) -> tuple[Grid, dict[str, Record]]:
    """The table with its choice made, and its records."""
    tuning: dict[str, Record] = {}
    for run in grid.tuning_runs():
        rate, hidden = run.config.model["optimizer"]["lr"], run.config.model["hidden"]
        if hidden == 9:  # the row that waits
            continue
        lost = rate == 0.6 and run.config.seed % 2 == 1
        changes = {"status": Status.DIVERGED, "error": "loss is NaN"} if lost else {}
        validation = {} if lost else {"val/accuracy": 0.9 if rate == 0.5 else 0.8}
        tuning[run.key] = record(
            run, {}, validation=validation, fingerprint="older" if rate == 0.5 else run.fingerprint,
            **changes,
        )  # fmt: skip
    grid = decide(grid, lambda _: tuning)
    found = dict(tuning)
    for run in grid.runs():
        if run.key in tuning or run.config.model["hidden"] == 9:
            continue
        rate, seed = round(run.config.model["optimizer"]["lr"], 3), run.config.seed
        value = ACCURACY[rate][seed]
        if value is None:
            continue
        results = {"test/accuracy": value, "test/loss": DRIFT.get(rate, (0.5, 0.6, 0.7))[seed]}
        results |= {"test/cost": COST[rate][seed]} if rate in COST else {}
        results |= {"test/depth": 3.0} if rate == 0.01 else {}
        changes = {}
        if rate == 0.07 and seed == 1:
            changes = {"status": Status.DIVERGED, "error": "test/accuracy is NaN"}
        if rate == 0.07 and seed == 2:
            changes = {"status": Status.FAILED, "error": "ValueError: <b>&_%\nmore"}
        if rate == 0.08:
            changes = {"fingerprint": "older"} if seed else {"device": "cuda"}
        if rate == 0.06:
            changes = {"fingerprint": "older"}
        found[run.key] = record(run, {} if "error" in changes else results, **changes)
    return grid, found


def planned(protocol: str = "paper") -> tuple[Grid, dict[str, Record]]:
    """The mini-sweep, where :func:`extra_root` is the extra folder."""
    return sweep(plan(NAME, protocol))


def tables() -> tuple[Table, Table]:
    """The mini-sweep, and the same under another protocol."""
    return tuple(judge_all([build(*planned(protocol)) for protocol in ("paper", "smoke")]))


def outputs() -> dict[str, str]:
    """What the golden files hold; of run keys only how many, they are pinned elsewhere."""
    full, smoke = tables()
    grid, found = planned()
    values = json_csv.as_json(full, source="runs")
    for cell in values["cells"]:
        cell["run_keys"] = len(cell["run_keys"])
    listed = [json_csv.finite(claims_text.as_json(c)) for c in full.claims]
    return {
        "verdicts.md": markdown.render(full, picture="verdicts.svg"),
        "verdicts.txt": terminal.render(full, width=100, colour=False),
        "verdicts_smoke.md": markdown.render(smoke, note="A <note>"),
        "paper.md": paper_page.render("digits", [full, smoke], ["a.md", "a-smoke.md"]),
        "paper.svg": paper_page.picture("digits", [full, smoke]),
        "overview.md": results_index.render({"digits": [full, smoke]}),
        "verdicts.tex": latex.render(full),
        "verdicts.csv": json_csv.as_csv(full),
        "verdicts.json": _json(values),
        "verdicts.svg": curves.render(full),
        "verdicts_claims.txt": claims_text.listing([full, smoke]) + "\n",
        "verdicts_claims.json": _json(listed),
        "verdicts_explained.txt": "\n\n".join(
            explain.explain(full, grid, found, place).as_text() for place in EXPLAINED
        )
        + "\n",
    }


def _json(values: object) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    os.environ["RETABLE_EXTRA"] = str(HERE / "extra")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RETABLE_EXTRA"] = str(extra_root(Path(folder)))
        made = outputs()
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    for name, content in made.items():
        (GOLDEN / name).write_text(content, encoding="utf-8")
