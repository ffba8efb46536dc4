"""What is published can be gone on with: its records become runs again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs
from typer.testing import CliRunner

from retable.cli import workflow
from retable.cli.main import app
from retable.report import publish
from retable.report.restore import restore
from retable.runs import published_records, records
from retable.runs.history import history_text
from retable.tables import collect
from retable.tables.grid import plan
from retable.util import paths

NAME, PROTOCOL = "subtb/gradients", "reduced"
RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A copy of the published results, and an empty folder of runs."""
    copy = tmp_path / "results"
    shutil.copytree(RESULTS, copy)
    monkeypatch.setattr(paths, "results_dir", lambda: copy)
    monkeypatch.setattr(publish, "write_overview", lambda: None)
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "runs"))
    return copy


def substance(found):
    return {key: record.substance() for key, record in found.items()}


@pytest.mark.slow
def test_published_records_are_runs_again_and_give_the_same_publication(results):
    grid = plan(NAME, PROTOCOL)
    published = collect.from_results(grid)
    file = published_records.parquet_file(NAME, PROTOCOL)
    publish.rewrite("subtb", PROTOCOL)  # as the code and the table file stand
    histories, page = published_records.histories(file), file.with_suffix(".md").read_bytes()
    done = restore(grid)
    assert (done.written, done.here, done.refused) == (len(published), 0, [])
    found = collect.from_runs(grid, pytest.fail)
    assert substance(found) == substance(published)
    assert {k: r.fingerprint for k, r in found.items()} == {
        k: r.fingerprint for k, r in published.items()
    }
    publish.publish(grid)
    assert file.with_suffix(".md").read_bytes() == page
    assert published_records.histories(file) == histories
    again = restore(grid)
    assert (again.written, again.here) == (0, len(published))


@pytest.mark.slow
def test_a_thinned_history_is_left_out_and_published_again(results, monkeypatch):
    grid = plan(NAME, PROTOCOL)
    file = published_records.parquet_file(NAME, PROTOCOL)
    monkeypatch.setattr(published_records, "MAX_HISTORY", 3)
    whole = {k: history_text(json.loads(t)) for k, t in published_records.histories(file).items()}
    published_records.write(file, collect.from_results(grid), whole)
    thin = published_records.histories(file)
    assert all(len(json.loads(rows)) == 3 for rows in thin.values())
    restore(grid)
    assert not list((next(iter(grid.runs())).folder / "attempts").glob("*/history.jsonl"))
    publish.publish(grid)
    assert published_records.histories(file) == thin


def test_a_run_that_is_here_is_not_touched(results):
    grid = plan(NAME, PROTOCOL)
    restore(grid)
    run = next(iter(grid.runs()))
    record = run.folder / records.RUN_RECORD
    record.unlink()
    for path in run.folder.glob("attempts/*/record.json"):
        own = json.loads(path.read_text())
        path.write_text(json.dumps({**own, "wall_s": 1.25}))
    restore(grid)
    (found,) = run.folder.glob("attempts/*/record.json")
    assert json.loads(found.read_text())["wall_s"] == 1.25


def test_a_record_whose_key_does_not_follow_is_refused(results):
    grid = plan(NAME, PROTOCOL)
    file = published_records.parquet_file(NAME, PROTOCOL)
    found = collect.from_results(grid)
    key = next(iter(found))
    changed = {**found[key].config, "seed": 77}
    published_records.write(file, {**found, key: structs.replace(found[key], config=changed)}, {})
    done = restore(grid)
    assert done.written == len(found) - 1
    assert "its key does not follow from its config" in done.text()


@pytest.mark.slow
def test_by_the_command_line(tmp_path):
    def call(*args):
        env = {**os.environ, "RETABLE_RUNS": str(tmp_path / "runs")}
        env.pop("RETABLE_EXTRA", None)
        command = [sys.executable, "-m", "retable", "restore", *args]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    said = call("subtb/molecules")
    assert said.returncode == 2
    assert "nothing is published under protocol paper" in said.stderr
    assert f"{NAME} --protocol {PROTOCOL}" in said.stderr
    said = call("weight_decay/lm_const").stderr  # its own protocols, where it has some
    assert "; published are weight_decay/lm_const --protocol reduced" in said
    assert "weight_decay/norm" not in said
    done = call(NAME, "--protocol", PROTOCOL)
    assert done.stdout == f"{NAME}: 10 restored, 0 here already, 0 refused\n"


@pytest.mark.slow
def test_runs_of_settings_that_tuning_chose_come_at_once(results):
    name = "igb/weights"
    published = collect.from_results(workflow.plan(name, PROTOCOL, source="results")[0])
    said = CliRunner().invoke(app, ["restore", name, "--protocol", PROTOCOL])
    assert said.stdout == f"{name}: {len(published)} restored, 0 here already, 0 refused\n"
    (here,) = workflow.plan(name, PROTOCOL)
    assert substance(collect.from_runs(here, pytest.fail)) == substance(published)


@pytest.mark.slow
def test_parents_whose_weights_are_not_published_are_counted(results):
    """A search's weights are too large; its record and its artefact alone start nothing."""
    (grid,) = workflow.plan("subtuning/cifar10c", PROTOCOL, source="results")
    (parents,) = grid.only_started_from().values()
    done = restore(grid)
    assert len(done.bare) == len(parents) == 32
    assert {name.removeprefix("subtuning/") for name in done.bare} == {k[:12] for k in parents}
    assert f"`retable verify {done.bare[0]} --replace` makes its weights again" in done.text()
