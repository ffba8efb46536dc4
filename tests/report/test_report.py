"""Markdown, CSV, JSON and Parquet of a small sweep of hand-made records.

After a change that is meant to change what is printed: python tests/report/test_report.py --write
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from retable import locations
from retable.errors import UserError
from retable.records import (
    MAX_RESULTS,
    Provenance,
    Record,
    ResultRow,
    Status,
    run_folder,
    write_attempt,
)
from retable.report import data, markdown, parquet, publish, text
from retable.tables.aggregate import build
from retable.tables.grid import Grid, plan

GOLDEN = Path(__file__).parent / "golden"
ACCURACY = {"slow": (0.9123, 0.9, 0.921), "fast": (0.95, 0.96, 0.94)}


def made(run, accuracy: float, **changes) -> Record:
    fields = {
        "key": run.key,
        "paper": run.config.paper,
        "experiment": run.config.experiment,
        "protocol": run.config.protocol,
        "seed": run.config.seed,
        "config": {"model": {"lr": 0.1}, "seed": run.config.seed},
        "status": Status.DONE,
        "results": [
            ResultRow(metric="test/accuracy", value=accuracy),
            ResultRow(metric="test/loss", value=1 - accuracy),
            ResultRow(metric="test/weight", result_row="a", step=3, value=1e-300),
        ],
        "attempt": 1,
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
            commit="0123456789abcdef", dirty=None, packages="p", python="3.11.9", torch="2.11.0",
            cpu="Some CPU", cores=2,
        ),
    }  # fmt: skip
    return Record(**{**fields, **changes})


def sweep(grid: Grid) -> dict[str, Record]:
    """All of it but the last seed of the fast row, which diverged."""
    found: dict[str, Record] = {}
    for row, values in ACCURACY.items():
        for run, value in zip(grid.cell_runs(grid.cells[row, "accuracy"]), values, strict=True):
            diverged = row == "fast" and run.config.seed == 2
            changes = {"status": Status.DIVERGED, "error": "NaN", "results": []} if diverged else {}
            found[run.key] = made(run, value, **changes)
    return found


def outputs() -> dict[str, str]:
    """What the golden files hold; keys are shortened, they are pinned elsewhere."""
    grid = plan("digits/accuracy")
    table = build(grid, sweep(grid))
    smoke = build(plan("digits/accuracy", "smoke"), {})
    values = data.as_json(table, source="runs")
    for cell in values["cells"]:
        cell["run_keys"] = len(cell["run_keys"])
    return {
        "accuracy.md": markdown.render(table),
        "accuracy_empty.md": markdown.render(smoke, note="A <note>"),
        "accuracy.csv": data.as_csv(table),
        "accuracy.json": json.dumps(values, indent=1, ensure_ascii=False) + "\n",
    }


def test_outputs_are_the_golden_ones():
    for name, content in outputs().items():
        golden = (GOLDEN / name).read_text(encoding="utf-8")
        assert content == golden, f"{name}; if that is meant: python {__file__} --write"


def test_markdown_in_detail():
    out = outputs()
    table = out["accuracy.md"]
    assert "| Fast \\| &lt;b>rate&lt;/b> |" in table
    assert "<b>" not in table
    assert "91.11 ± 1.06 (3)<br>91.30 ± 0.50 (5) |" in table
    assert "95.50 ± 0.71 (2/3)<br>95.0‡" in table  # the diverged run fills nothing
    assert "–<br>97.2§" in table  # reported, not run
    assert "0.210†" in table
    assert "diverged 1/3" in table
    for note in ("† reported", "‡ reported", "§ computed"):
        assert note in table
    assert "commit 0123456789ab;" in table
    empty = out["accuracy_empty.md"]
    assert "X<br>91.30" in empty
    assert "**A <note>**" in empty
    assert "no records" in empty
    lines = [line for line in table.splitlines() if line.startswith("|") and "id" not in line[:4]]
    widths = {line.replace("\\|", "").count("|") for line in lines[:5]}
    assert len(widths) == 1  # every row of the grid has as many cells


def test_json_has_what_is_promised():
    values = json.loads(outputs()["accuracy.json"])
    for cell in values["cells"]:
        assert {
            "row", "column", "metric", "mean", "std", "n", "n_planned", "reported", "verdict",
            "marks", "run_keys",
        } <= cell.keys()  # fmt: skip
        if cell["reported"] is not None:
            assert cell["reported"].keys() == {
                "value", "spread", "spread_kind", "n", "grade", "where"
            }  # fmt: skip
    by = {(c["row"], c["column"]): c for c in values["cells"]}
    assert by["slow", "accuracy"]["reported"]["value"] == "91.30"
    assert (by["fast", "accuracy"]["n"], by["fast", "accuracy"]["n_planned"]) == (2, 3)
    assert by["quoted", "accuracy"]["mean"] is None


def test_numbers_as_printed():
    from retable.tables.parts import Metric, Reported

    plain, exact = Metric(key="a"), Metric(key="a", decimals=1)
    reported = Reported(value="1.30", grade="primary", where="x", spread="0.1", spread_kind="std")
    assert text.number(1.23456, plain) == "1.235"
    assert text.number(1.23456, plain, reported) == "1.235"
    assert text.number(1.26, exact, reported) == "1.3"
    assert text.number(0.00012, Metric(key="a", scientific=True)) == "1.200e-04"
    assert text.theirs(reported) == "1.30 ± 0.1"
    assert text.theirs(None) == ""


# Parquet.


def full_record(grid: Grid) -> Record:
    run = next(grid.runs())
    results = [
        ResultRow(metric=f"m{i % 7}", result_row="r" * (i % 3), step=i or None, value=v)
        for i, v in enumerate([0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 1e16 + 1] * 20)
    ]
    return made(
        run, 0.5, results=results[:MAX_RESULTS], timing_metrics=["m1"], resumed_from_epoch=2,
        best_epoch=3, weights_sha256="w", error="é\n\"'", wall_s=0.1 + 0.2, experiment=None,
        config={"a": [1, 2.5, None, {"b": "ü"}], "c": True},
    )  # fmt: skip


def test_parquet_round_trip_is_exact(tmp_path):
    grid = plan("digits/accuracy")
    found = sweep(grid)
    first = full_record(grid)
    found[first.key] = first
    path = tmp_path / "t.parquet"
    parquet.write(path, found, {})
    assert parquet.read(path) == [found[key] for key in sorted(found)]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    again = tmp_path / "u.parquet"
    parquet.write(again, dict(reversed(found.items())), {})
    assert again.read_bytes() == path.read_bytes()
    parquet.write(again, {r.key: r for r in parquet.read(path)}, {})
    assert again.read_bytes() == path.read_bytes()
    parquet.write(again, {}, {})
    assert parquet.read(again) == []


def test_histories_are_thinned_and_kept(tmp_path):
    rows = [{"epoch": float(i)} for i in range(1234)]
    thin = parquet.thinned(rows)
    assert len(thin) == parquet.MAX_HISTORY
    assert (thin[0], thin[-1]) == (rows[0], rows[-1])
    steps = [b["epoch"] - a["epoch"] for a, b in pairwise(thin)]
    assert max(steps) - min(steps) <= 1
    assert parquet.thinned(rows[:100]) == rows[:100]
    assert len({r["epoch"] for r in parquet.thinned(rows[:101])}) == 100
    record = full_record(plan("digits/accuracy"))
    path = tmp_path / "t.parquet"
    parquet.write(
        path, {record.key: record}, {record.key: "".join(f"{json.dumps(r)}\n" for r in rows)}
    )
    assert json.loads(pl.read_parquet(path)["history"][0]) == thin


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"x" * 500])
def test_a_broken_parquet_file_is_named(tmp_path, content):
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read"):
        parquet.read(path)


# Publishing.


@pytest.fixture
def published(runs, tmp_path, monkeypatch):
    """The small sweep on disk, results in a folder of this test."""
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    monkeypatch.setattr(locations, "results_dir", lambda: extra / "results")
    grid = plan("digits/accuracy")
    for key, record in sweep(grid).items():
        folder = run_folder(runs, "digits", key)
        attempt = folder / "attempts" / "1"
        attempt.mkdir(parents=True)
        (attempt / "history.jsonl").write_text('{"epoch":0}\n')
        write_attempt(attempt, record)
        write_attempt(folder, record)
    return grid, extra / "results"


def test_publish_writes_what_its_own_records_give(published, runs):
    grid, results = published
    path, table = publish.publish(grid)
    assert path == results / "digits" / "accuracy.md"
    first = {p.name: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    assert first.keys() == {"accuracy.md", "accuracy.parquet", "README.md"}
    assert table.cells["slow", "accuracy"].n == 3
    # From the published file alone, and again from the runs: the same bytes.
    publish.publish(grid)
    shutil.rmtree(runs)
    assert publish.render_published(plan("digits/accuracy")).encode() == first["accuracy.md"]
    assert {p.name: p.read_bytes() for p in results.rglob("*") if p.is_file()} == first
    overview = first["README.md"].decode()
    assert "| [digits/accuracy](digits/accuracy.md) | Test accuracy by learning rate | paper |" in (
        overview
    )
    assert "| 5/5 |" in overview or "| 4/5 |" in overview
    with pytest.raises(UserError, match="nothing to publish"):
        publish.publish(grid)


def test_other_protocols_have_files_of_their_own(published):
    _, results = published
    assert publish.published() == []
    (results / "digits").mkdir(parents=True)
    for name in ("accuracy", "accuracy-smoke"):
        parquet.write(results / "digits" / f"{name}.parquet", {}, {})
    assert publish.published() == [("digits/accuracy", "smoke"), ("digits/accuracy", "paper")]
    assert publish.published_file("digits/accuracy", "smoke").name == "accuracy-smoke.md"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    os.environ["RETABLE_EXTRA"] = str(Path(__file__).parents[1] / "extra")
    GOLDEN.mkdir(exist_ok=True)
    for name, content in outputs().items():
        (GOLDEN / name).write_text(content, encoding="utf-8")
