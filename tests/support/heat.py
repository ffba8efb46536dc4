"""A table whose figure is heat maps of what its runs have left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from msgspec import structs
from torch import Tensor

from retable.runs.artifacts import file_of, write_artifacts
from retable.runs.records import Record, ResultRow
from retable.tables.aggregate import Table
from retable.tables.grid import Grid
from retable.tables.heat_spec import Heat, Image
from support.records import leave, plain_record

NAME = "digits/heat"
FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf"
FILE = FOLDER / "table" / f"{NAME}.yaml"
FIGURE = """\
figure:
  kind: heat
  artifact: cosines
  title: cosine of last-layer weights
  x: class
  y: class
  panels:
    - {title: "slow & all", row: slow, column: accuracy, array: all}
    - {title: fast, row: fast, column: accuracy, array: half}
"""
TABLE = f"""\
paper: digits
title: Cosines of <b>classes</b>
source: {{paper_ref: "Figure 2", own: true}}
metrics: {{accuracy: {{key: test/accuracy, direction: max, margin: 1.0}}}}
seeds: {{smoke: 2, paper: 1}}
columns:
  accuracy: {{metric: accuracy, experiment: {{smoke: digits/cosines}}}}
  other: {{metric: accuracy, experiment: {{paper: digits/cosines}}, overrides: [model.hidden=8]}}
rows: {{slow: [model.optimizer.lr=0.01], fast: [model.optimizer.lr=0.1], quoted: {{run: false}}}}
{FIGURE}"""
EXPERIMENT = """\
# @package _global_
defaults: [/experiment/digits/smoke]
model: {_target_: retable.papers.digits.cosines.Cosines}
"""


@contextmanager
def files(table: str = TABLE) -> Iterator[Path]:
    """The table's file and its experiment, in the tests' extra folder; gives the table's."""
    experiment = FOLDER / "experiment" / "digits" / "cosines.yaml"
    FILE.write_text(table, encoding="utf-8")
    experiment.write_text(EXPERIMENT, encoding="utf-8")
    try:
        yield FILE
    finally:
        FILE.unlink()
        experiment.unlink()


def leave_runs(grid: Grid) -> None:
    """Leave a record and the artefact of every run, of which nobody has run any."""
    for number, run in enumerate(grid.runs()):
        attempt = run.folder / "attempts" / "1"
        attempt.mkdir(parents=True)
        square = torch.eye(10) - number / 10
        left = write_artifacts(attempt, {"cosines": {"all": square, "half": square[:, :5].clone()}})
        results = [ResultRow(metric="test/accuracy", value=0.5)]
        fields = {"key": run.key, "seed": run.config.seed, "fingerprint": run.fingerprint}
        record = plain_record(**fields, results=results, artifacts=left)
        leave(Path(run.config.paths.runs), record)


def with_arrays(
    table: Table, folder: Path, arrays: dict[str, dict[str, Tensor]], **figure
) -> Table:
    """A table drawn as heat maps or images, of which some runs have left an artefact ``maps``.

    Args:
        table: with records of done runs.
        folder: for the files.
        arrays: by key of the run, in the place of what it has left.
        figure: fields of the figure, a heat map unless its kind is given.
    """
    content = {"kind": "heat", "artifact": "maps", "title": "level", **figure}
    kind = Image if content["kind"] == "image" else Heat
    spec = table.spec.model_copy(update={"figure": kind.model_validate(content)})
    known = dict(table.records)
    for key, left in arrays.items():
        (folder / key).mkdir(parents=True)
        known[key] = structs.replace(
            known[key], artifacts=write_artifacts(folder / key, {"maps": left})
        )

    def place(record: Record, name: str) -> Path:
        return file_of(folder / record.key, name)

    return replace(table, spec=spec, records=known, artifact_file=place)


def text_of(value: float) -> str:
    """A number as it stands in its cell, with two digits."""
    text = f"{value:.2f}".replace("-", "−")
    return "0.00" if text == "−0.00" else text
