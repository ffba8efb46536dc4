"""Reading and writing of histories: whole, broken, the newest, and what is shown of one."""

from __future__ import annotations

import pytest

from retable.runs import history

ROWS = [{"epoch": 0, "train/loss": 1.5}, {"epoch": 1, "train/loss": 0.5, "val/accuracy": 0.25}]


def written(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / history.FILE).write_text(text, encoding="utf-8")
    return folder / history.FILE


def test_what_is_written_is_read(tmp_path):
    file = written(tmp_path, history.history_text(ROWS))
    assert (
        history.read(tmp_path)
        == history.read_or_empty(tmp_path)
        == history.readable_rows(file)
        == ROWS
    )
    assert history.last_row(file) == ROWS[-1]
    assert history.read(tmp_path / "none") == []
    assert history.metrics_of(ROWS) == ["train/loss", "val/accuracy"]


def test_a_broken_line_is_an_error_nothing_or_left_out_as_asked(tmp_path):
    file = written(tmp_path, history.history_text(ROWS[:1]) + '{"epoch": 1, "tra')
    with pytest.raises(ValueError, match="Unterminated"):
        history.read(tmp_path)
    assert history.read_or_empty(tmp_path) == []
    assert history.readable_rows(file) == ROWS[:1]
    assert history.last_row(file) is None
    assert history.readable_rows(tmp_path / "none") == []


def test_only_the_two_newest_attempts_say_how_far_a_run_is(tmp_path):
    attempts = [tmp_path / name for name in "321"]
    assert history.file_of_newest(attempts) is None
    oldest = written(tmp_path / "1", "")
    assert history.file_of_newest(attempts) is None
    before = written(tmp_path / "2", "")
    assert history.file_of_newest(attempts) == before
    assert history.file_of_newest(attempts[2:]) == oldest


@pytest.mark.parametrize(
    ("there", "wanted", "shown"),
    [
        (["epoch", "train/loss", "val/f1"], [], "val/f1"),
        (["train/f1", "train/loss", "val/loss"], ["test/f1"], "train/f1"),
        (["train/f1", "val/f1"], ["test/f1"], "val/f1"),
        (["train/f1", "val/f1"], ["val/loss", "train/f1"], "train/f1"),
        (["train/a", "train/loss"], ["test/b"], "train/loss"),
        (["b", "a", "step"], [], "a"),
        (["epoch", "step"], ["epoch"], "epoch"),
        ([], ["test/f1"], ""),
    ],
)
def test_the_metric_to_show(there, wanted, shown):
    assert history.shown_metric(there, wanted) == shown
