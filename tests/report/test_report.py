"""Numbers as text, Parquet and publishing of a small sweep of hand-made records."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise

import polars as pl
import pytest

from retable.report import formatting, publish
from retable.runs import published_records
from retable.runs.records import (
    MAX_RESULTS,
    Provenance,
    Record,
    ResultRow,
    Status,
    run_folder,
    write_attempt,
)
from retable.tables.grid import Grid, plan
from retable.util import paths
from retable.util.errors import UserError

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


def test_numbers_as_printed():
    from retable.tables.spec_parts import Metric, Reported

    plain, exact = Metric(key="a"), Metric(key="a", decimals=1)
    reported = Reported(value="1.30", grade="primary", where="x", spread="0.1", spread_kind="std")
    assert formatting.number(1.23456, plain) == "1.235"
    assert formatting.number(1.23456, plain, reported) == "1.235"
    assert formatting.number(1.26, exact, reported) == "1.3"
    assert formatting.number(0.00012, Metric(key="a", scientific=True)) == "1.200e-04"
    assert formatting.theirs(reported) == "1.30 ± 0.1"
    assert formatting.theirs(None) == ""


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
    published_records.write(path, found, {})
    assert published_records.read(path) == [found[key] for key in sorted(found)]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    again = tmp_path / "u.parquet"
    published_records.write(again, dict(reversed(found.items())), {})
    assert again.read_bytes() == path.read_bytes()
    published_records.write(again, {r.key: r for r in published_records.read(path)}, {})
    assert again.read_bytes() == path.read_bytes()
    published_records.write(again, {}, {})
    assert published_records.read(again) == []


def test_histories_are_thinned_and_kept(tmp_path):
    rows = [{"epoch": float(i)} for i in range(1234)]
    thin = published_records.thinned(rows)
    assert len(thin) == published_records.MAX_HISTORY
    assert (thin[0], thin[-1]) == (rows[0], rows[-1])
    steps = [b["epoch"] - a["epoch"] for a, b in pairwise(thin)]
    assert max(steps) - min(steps) <= 1
    assert published_records.thinned(rows[:100]) == rows[:100]
    assert len({r["epoch"] for r in published_records.thinned(rows[:101])}) == 100
    record = full_record(plan("digits/accuracy"))
    path = tmp_path / "t.parquet"
    published_records.write(
        path, {record.key: record}, {record.key: "".join(f"{json.dumps(r)}\n" for r in rows)}
    )
    assert json.loads(pl.read_parquet(path)["history"][0]) == thin


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"x" * 500])
def test_a_broken_parquet_file_is_named(tmp_path, content):
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read"):
        published_records.read(path)


# Publishing.


@pytest.fixture
def published(runs, tmp_path, monkeypatch):
    """The small sweep on disk, results in a folder of this test."""
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    monkeypatch.setattr(paths, "results_dir", lambda: extra / "results")
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
    assert first.keys() == {"accuracy.md", "accuracy.parquet", "README.md", "README.svg"}
    assert table.cells["slow", "accuracy"].n == 3
    # From the published file alone, and again from the runs: the same bytes.
    publish.publish(grid)
    shutil.rmtree(runs)
    assert publish.render_published(plan("digits/accuracy")).encode() == first["accuracy.md"]
    assert {p.name: p.read_bytes() for p in results.rglob("*") if p.is_file()} == first
    page = (results / "digits" / "README.md").read_text()
    assert (
        "| [Test accuracy by learning rate](accuracy.md)<br>`digits/accuracy` | paper | 5 | 2/5 |"
        " 1 cell compared: 0 reproduced" in page
    )
    with pytest.raises(UserError, match=r"nothing to publish under protocol \w+, .* .retable run "):
        publish.publish(grid)


def test_other_protocols_have_files_of_their_own(published):
    _, results = published
    assert publish.published() == []
    (results / "digits").mkdir(parents=True)
    for name in ("accuracy", "accuracy-smoke"):
        published_records.write(results / "digits" / f"{name}.parquet", {}, {})
    assert publish.published() == [("digits/accuracy", "smoke"), ("digits/accuracy", "paper")]
    assert publish.published_file("digits/accuracy", "smoke").name == "accuracy-smoke.md"
