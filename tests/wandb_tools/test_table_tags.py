"""Tags of a planned table's runs, and that launching writes them for runs that W&B follows."""

from __future__ import annotations

import json

import pytest

from retable.cli import workflow
from retable.runs import records
from retable.runs.records import Status
from retable.tables.grid import plan
from retable.tracking import tags
from retable.wandb_tools.table_tags import tags_of, write_tags
from support.mini import NAME, extra_root


def test_a_run_has_its_table_and_the_cells_that_it_stands_behind():
    grid = plan("digits/accuracy")
    found = tags_of(grid)
    slow = grid.cells["slow", "accuracy"]
    assert set(found) == {run.key for run in grid.runs()}
    for key in grid.cell_keys(slow):
        assert found[key] == [
            "digits/accuracy", "digits/accuracy: slow, accuracy", "digits/accuracy: slow, loss",
        ]  # fmt: skip


def test_runs_that_choose_a_setting_say_so_and_stand_behind_no_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path)))
    grid = plan(NAME)
    found = tags_of(grid)
    tuning = {run.key for run in grid.tuning_runs()}
    assert tuning
    assert {key for key, some in found.items() if some == [NAME, "tuning"]} == tuning


def test_only_tables_whose_runs_are_followed_are_written(runs):
    write_tags([plan("digits/accuracy")], pytest.fail)
    assert not runs.exists()
    grid = plan("digits/accuracy", overrides=["logger=wandb"])
    write_tags([grid], pytest.fail)
    for key, expected in tags_of(grid).items():
        assert tags.read(runs, "digits", key) == expected


def test_tags_that_cannot_be_written_are_a_warning(runs):
    runs.mkdir()
    (runs / "_wandb").write_text("in the way")
    said = []
    write_tags([plan("digits/accuracy", overrides=["logger=wandb"])], said.append)
    assert len(said) == 1
    assert "_wandb" in said[0]
    assert "runs of digits/accuracy have no tags" in said[0]


@pytest.mark.parametrize("logger", ["none", "wandb"])
def test_launching_a_table_writes_them_before_the_first_run(fake, runs, logger):
    file = runs / "_wandb" / "tags" / "digits" / "accuracy-smoke.json"
    there = []

    def look(run, pid):
        there.append(file.is_file())
        return 0

    fake.script = look
    grids = workflow.plan("digits/accuracy", "smoke", overrides=[f"logger={logger}"])
    workflow.launch_once(grids)
    assert there == [logger == "wandb"] * 2


def test_where_nothing_is_to_do_nothing_is_written(fake, runs):
    grids = workflow.plan("digits/accuracy", "smoke", overrides=["logger=none"])
    assert workflow.launch_once(grids).ok
    followed = workflow.plan("digits/accuracy", "smoke", overrides=["logger=wandb"])
    assert workflow.launch_once(followed).ok
    assert len(fake.log) == 2
    assert not (runs / "_wandb").exists()


@pytest.mark.slow
def test_starting_failed_runs_again_writes_them_too(fake, runs):
    from retable.cli.retry import retry_tables
    from retable.launch.worker import new_attempt
    from retable.runs import frozen

    (grid,) = workflow.plan("digits/accuracy", "smoke", overrides=["logger=none"])
    for run in grid.runs():
        frozen.write(run)
        attempt = new_attempt(run.folder)
        from support.mini import record

        failed = record(run, {}, status=Status.FAILED, error="broken")
        (attempt / "record.json").write_text(records.dump(failed))
    part = {"row": None, "column": None}
    retry_tables("digits/accuracy", "smoke", part, ["logger=wandb"], {"failed"}, wait=False)
    assert len(fake.log) == 2
    written = json.loads((runs / "_wandb" / "tags" / "digits" / "accuracy-smoke.json").read_text())
    assert set(written) == {run.key for run in grid.runs()}
