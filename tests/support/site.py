"""A small site of hand-made records, with texts in it that would like to be HTML."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from retable.report.site import inputs
from retable.report.site.build import Built, build
from retable.report.site.inputs import History, ShownTable
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables.aggregate import build as build_table
from retable.tables.claim_spec import Claim
from retable.tables.figure_spec import Figure, Panel
from retable.tables.grid import Grid, plan
from retable.tables.spec import TableSpec

HURT = "<img src=x onerror=hurt()>"
HURT_ERROR = "ValueError: </pre><script>hurt()</script> & more\nsecond line"
HURT_STATEMENT = "</script><script>hurt()</script> is better"
ACCURACY = {"slow": (0.9123, 0.9, 0.921), "fast": (0.95, 0.96, 0.94)}


def record(run, accuracy: float, **changes) -> Record:
    fields = {
        "key": run.key,
        "paper": run.config.paper,
        "experiment": f"digits/{HURT}",
        "protocol": run.config.protocol,
        "seed": run.config.seed,
        "config": {
            "model": {"lr": run.config.model["optimizer"]["lr"], "note": HURT},
            "seed": run.config.seed,
        },
        "status": Status.DONE,
        "results": [
            ResultRow(metric="test/accuracy", value=accuracy),
            ResultRow(metric="test/loss", value=1 - accuracy),
            ResultRow(metric="test/time_ms", result_row=HURT, step=3, value=12.5),
        ],
        "timing_metrics": ["test/time_ms"],
        "validation": {"val/accuracy": accuracy - 0.01},
        "attempt": 1,
        "best_epoch": 2,
        "started": "2026-02-03T04:05:06+00:00",
        "wall_s": 1.25,
        "cpu_s": 1.5,
        "peak_memory_mb": 300.5,
        "device": "cpu",
        "threads": 1,
        "workers": 2,
        "history_sha256": "h" * 64,
        "fingerprint": run.fingerprint,
        "provenance": Provenance(
            commit="0123456789abcdef", dirty=None, packages="p" * 64, python="3.11.9",
            torch="2.11.0", cpu="Some <i>CPU</i>", cores=2,
        ),
    }  # fmt: skip
    return Record(**{**fields, **changes})


def sweep(grid: Grid) -> dict[str, Record]:
    """All of it but the last seed of the fast row, which diverged."""
    found: dict[str, Record] = {}
    for row, values in ACCURACY.items():
        for run, value in zip(grid.cell_runs(grid.cells[row, "accuracy"]), values, strict=False):
            lost = row == "fast" and run.config.seed == 2
            changes = {"status": Status.DIVERGED, "error": HURT_ERROR, "results": []}
            found[run.key] = record(run, value, **(changes if lost else {}))
    return found


def history(record: Record) -> History:
    """Ten epochs, validated every second one."""
    rows: History = []
    for epoch in range(10):
        row = {"epoch": float(epoch), "train/loss": 1.0 / (1 + epoch) + record.seed / 100}
        if epoch % 2:
            row["val/loss"] = 1.2 / (1 + epoch) + record.seed / 50
        rows.append(row)
    return rows


def drawn(spec: TableSpec) -> TableSpec:
    """The table with a figure, and with claims of which one is HTML."""
    figure = Figure(
        x="seconds", lines="rows", panels=[Panel(points={"loss": 2.0, "accuracy": 1.0})]
    )
    claim = Claim(
        id="C<2>", statement=HURT_STATEMENT, kind="ordering", better="slow", than="fast",
        on="accuracy", grade="recalled",
    )  # fmt: skip
    other = Claim(id="C3", statement="It is good", kind="not_judged", why_not_judged="vague")
    return spec.model_copy(update={"figure": figure, "claims": [*spec.claims, claim, other]})


def made(
    *, transposed: bool = False, protocols: tuple[str, ...] = ("paper", "smoke")
) -> list[ShownTable]:
    """Tables as :func:`retable.report.site.inputs.from_results` gives them."""
    found: list[ShownTable] = []
    for protocol in protocols:
        grid = plan("digits/accuracy", protocol)
        spec = drawn(grid.spec).model_copy(update={"transposed": transposed})
        grid = replace(grid, spec=spec)
        records = sweep(grid)
        found.append(
            ShownTable(
                grid,
                build_table(grid, records),
                records,
                lambda key, records=records: history(records[key]),
            )
        )
    return inputs.judged(found)


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody sees."""


def built(folder: Path, tables: list[ShownTable] | None = None) -> Built:
    """A whole site."""
    return build(tables or made(), folder, origin="results", tell=quiet)


@cache
def once() -> ShownTable:
    """The table under the paper's protocol, made once."""
    return made(protocols=("paper",))[0]


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.said))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def html(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def given_data(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("retable.give(")
    return json.loads(text[len("retable.give(") : -len(");\n")])


def runs_data(site: Path) -> dict[str, dict]:
    """What the pages of all runs show, by key, with their words in place."""
    found: dict[str, dict] = {}
    for path in sorted((site / "runs").glob("*.js")):
        content = given_data(path)
        word = content["words"].__getitem__
        for key, run in content["runs"].items():
            assert key.startswith(path.stem)
            run["short"], run["name"] = word(run["short"]), word(run["name"])
            run["status"] = word(run["status"])
            for name in ("config", "facts"):
                texts = [*map(word, run[name])]
                run[name] = dict(zip(texts[::2], texts[1::2], strict=True))
            run["chain"] = [[*map(word, above)] for above in run.get("chain", [])]
            run["places"] = [
                [*map(word, place[:3]), [*map(word, place[3])]] for place in run["places"]
            ]
            found[key] = run
    return found
