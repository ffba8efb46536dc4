"""One whole run from what lies here: every step of the history once, and the record."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from retable.runs import records
from retable.runs.history import history_text
from retable.runs.records import Status
from retable.tracking import naming, run_payload, tags, wandb_run
from retable.wandb_tools import local_runs, rewrite, segments
from sync_support import attempt, followed, local_of, rows


def merged(one, folder, after=-1):
    """What the process writes, read by W&B's own reader."""
    folder.mkdir()
    order = folder / "order.json"
    order.write_text(rewrite.order(one, folder, after))
    done = subprocess.run(
        [sys.executable, "-m", "retable.wandb_tools.rewrite", str(order)],
        capture_output=True, text=True, check=True, env=wandb_run.environment(),
    )  # fmt: skip
    return segments.read(segments.Path(done.stdout.splitlines()[-1]))


def test_segments_of_a_killed_and_a_resumed_attempt_become_one_whole(runs, tmp_path):
    run = followed()
    tags.write(runs, "digits/accuracy", "smoke", {run.key: ["digits/accuracy"]})
    attempt(run, 1, end=3, status=None, closed=False)
    attempt(run, 2, begin=2, end=6)
    one = local_of(run)
    assert one.epochs == [0, 1, 2, 3, 4, 5]
    parts = [segments.read(segments.file_of(folder)) for folder in one.segments]
    assert [part.steps for part in parts] == [[0, 1, 2], [2, 3, 4, 5]]
    assert not any(rewrite.is_whole(part, one) for part in parts)
    whole = merged(one, tmp_path / "whole")
    assert rewrite.is_whole(whole, one)
    assert (whole.steps, whole.rows) == (one.epochs, rows(6))
    assert whole.tags == ["digits/accuracy"]
    told = records.parse(whole.summary[run_payload.RECORD], "summary")
    assert told == records.read(run.folder / "record.json")
    rest = merged(one, tmp_path / "rest", after=3)
    assert (rest.steps, rest.rows) == ([4, 5], rows(6)[4:])
    assert not rewrite.is_whole(rest, one)


@pytest.mark.parametrize("status", [Status.FAILED, Status.DIVERGED, Status.INTERRUPTED])
def test_how_a_run_ended_is_told(status, tmp_path):
    run = followed()
    attempt(run, 1, status=status)
    one = local_of(run)
    [folder] = one.segments
    assert rewrite.is_whole(segments.read(segments.file_of(folder)), one)
    segment = merged(one, tmp_path / "whole")
    assert rewrite.is_whole(segment, one)
    assert segment.exit_code == 1
    assert segment.summary["status"] == status.value
    assert (status.value in segment.tags) == (status is not Status.INTERRUPTED)
    assert (run_payload.RECORD in segment.summary) == (status is not Status.INTERRUPTED)


def test_a_segment_with_other_tags_history_or_record_is_not_whole(runs):
    run = followed()
    path = attempt(run, 1)
    segment = segments.read(segments.file_of(local_of(run).segments[0]))
    assert rewrite.is_whole(segment, local_of(run))
    tags.write(runs, "digits/accuracy", "paper", {run.key: ["digits/accuracy"]})
    assert not rewrite.is_whole(segment, local_of(run))
    tags.write(runs, "digits/accuracy", "paper", {run.key: []})
    assert rewrite.is_whole(segment, local_of(run))
    (path / local_runs.HISTORY).write_text(history_text(rows(4)))
    assert not rewrite.is_whole(segment, local_of(run))
    (path / local_runs.HISTORY).write_text(history_text(rows(3)))
    content = json.loads((path / "record.json").read_text())
    (path / "record.json").write_text(json.dumps({**content, "wall_s": 2.5}))
    assert not rewrite.is_whole(segment, local_of(run))


def test_an_order_says_nothing_of_where_things_are(runs, tmp_path):
    run = followed()
    attempt(run, 1)
    order = json.loads(rewrite.order(local_of(run), tmp_path / "x"))
    assert order.pop("folder") == str(tmp_path / "x")
    assert str(runs) not in json.dumps(order)
    assert order["opening"]["id"] == naming.run_id(run.key, run.fingerprint)
