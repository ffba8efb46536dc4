"""One whole run from what lies here: every step of the history once, and the record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from retable.runs import records
from retable.runs.records import Status
from retable.tracking import naming, run_payload, tags, wandb_run
from retable.wandb_tools import rewrite
from support.sync import attempt, followed, local_of, rows
from support.tracking import files_of, inspected


def merged(one, folder, after=-1):
    """What the process writes, read by W&B's own reader."""
    folder.mkdir()
    order = folder / "order.json"
    order.write_text(rewrite.order(one, folder, after))
    done = subprocess.run(
        [sys.executable, "-m", "retable.wandb_tools.rewrite", str(order)],
        capture_output=True, text=True, check=True, env=wandb_run.environment(),
    )  # fmt: skip
    return inspected(Path(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_a_killed_and_a_resumed_attempt_become_one_whole(runs, tmp_path):
    run = followed()
    tags.write(runs, "digits/accuracy", "smoke", {run.key: ["digits/accuracy"]})
    attempt(run, 1, end=3, status=None, closed=False)
    attempt(run, 2, begin=2, end=6)
    one = local_of(run)
    assert one.epochs == [0, 1, 2, 3, 4, 5]
    assert sorted(file.steps for file in files_of(run)) == [[0, 1, 2], [2, 3, 4, 5]]
    whole = merged(one, tmp_path / "whole")
    assert (whole.steps, whole.rows, whole.exit_code) == (one.epochs, rows(6), 0)
    assert whole.run["run_id"] == naming.run_id(run.key, run.fingerprint)
    assert whole.run["project"] == "retable"
    assert whole.tags == ["digits/accuracy"]
    assert whole.summary["status"] == "done"
    assert whole.summary["test/accuracy"] == 0.1 + 0.7
    assert whole.record == records.read(run.folder / "record.json")
    rest = merged(one, tmp_path / "rest", after=3)
    assert (rest.steps, rest.rows) == ([4, 5], rows(6)[4:])
    assert rest.record == whole.record


@pytest.mark.slow
@pytest.mark.parametrize("status", [Status.FAILED, Status.DIVERGED, Status.INTERRUPTED])
def test_how_a_run_ended_is_told(status, tmp_path):
    run = followed()
    attempt(run, 1, status=status)
    file = merged(local_of(run), tmp_path / "whole")
    assert (file.steps, file.rows) == ([0, 1, 2], rows(3))
    assert file.exit_code == 1
    assert file.summary["status"] == status.value
    assert (status.value in file.tags) == (status is not Status.INTERRUPTED)
    assert (run_payload.RECORD in file.summary) == (status is not Status.INTERRUPTED)


def test_what_is_written_is_what_the_follower_had_written(tmp_path):
    run = followed()
    attempt(run, 1)
    [told] = files_of(run)
    written = merged(local_of(run), tmp_path / "whole")
    for file in (told, written):
        assert file.run.pop("start_time")
    assert written.run == told.run
    assert (written.steps, written.rows, written.tags) == (told.steps, told.rows, told.tags)
    assert (written.record, written.exit_code) == (told.record, told.exit_code)


def test_an_order_says_nothing_of_where_things_are(runs, tmp_path):
    run = followed()
    attempt(run, 1)
    order = json.loads(rewrite.order(local_of(run), tmp_path / "x"))
    assert order.pop("folder") == str(tmp_path / "x")
    assert str(runs) not in json.dumps(order)
    assert order["opening"]["id"] == naming.run_id(run.key, run.fingerprint)
