"""W&B's own reader on real files, also of writers that were killed."""

from __future__ import annotations

import pytest

from retable.runs.records import Status
from retable.tracking import naming, run_payload, tags
from retable.wandb_tools import segments
from sync_support import attempt, followed, rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A closed segment of three epochs, the frozen run, and the folder of all runs."""
    with pytest.MonkeyPatch.context() as patch:
        runs = tmp_path_factory.mktemp("segments") / "runs"
        patch.setenv("RETABLE_RUNS", str(runs))
        run = followed()
        tags.write(runs, "digits/accuracy", "smoke", {run.key: ["digits/accuracy", "a cell"]})
        attempt(run, 1)
        [folder] = (naming.folder(runs) / "wandb").iterdir()
        yield segments.file_of(folder), run


def test_a_closed_segment_is_read_whole(made):
    file, run = made
    segment = segments.read(file)
    assert segment.id == naming.run_id(run.key, run.fingerprint)
    assert (segment.steps, segment.rows) == ([0, 1, 2], rows(3))
    assert segment.tags == ["digits/accuracy", "a cell"]
    assert segment.project == "retable"
    assert segment.exit_code == 0
    assert segment.summary["status"] == Status.DONE.value
    assert run_payload.RECORD in segment.summary
    assert segment.summary["test/accuracy"] == 0.1 + 0.7


def test_of_a_file_that_ends_early_the_beginning_is_read(made, tmp_path):
    data = made[0].read_bytes()
    read = []
    for size in range(0, len(data), len(data) // 6):
        cut = tmp_path / "run-cut.wandb"
        cut.write_bytes(data[:size])
        segment = segments.read(cut)
        assert segment.rows == rows(3)[: len(segment.rows)]
        assert segment.exit_code is None
        read.append(len(segment.rows))
    assert read == sorted(read)
    assert {0, 3} <= set(read)


def test_what_the_service_had_written_before_a_kill_is_there(runs):
    run = followed()
    attempt(run, 1, end=2, status=None, closed=False)
    [folder] = (naming.folder(runs) / "wandb").iterdir()
    segment = segments.read(segments.file_of(folder))
    assert (segment.rows, segment.exit_code) == (rows(2), None)


def test_another_kind_of_file_is_an_empty_segment(tmp_path):
    file = tmp_path / "x.wandb"
    file.write_text("not a log of W&B's, certainly not")
    segment = segments.read(file)
    assert segment == segments.Segment()
    assert segments.file_of(tmp_path) == file
    assert segments.file_of(tmp_path / "nothing") is None
