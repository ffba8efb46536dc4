"""How far a run is, by the last row of its history."""

from __future__ import annotations

import json

import pytest

from retable.monitor import run_progress
from retable.monitor.run_progress import Epoch
from support.runs import freeze


def history(folder, attempt, *rows):
    path = folder / "attempts" / str(attempt) / "history.jsonl"
    path.parent.mkdir(parents=True)
    if rows:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


ROW = {"epoch": 2, "train/loss": 0.5, "val/loss": 0.7, "val/accuracy": 0.25}


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ([], "epoch 3, val/accuracy 0.25"),
        (["test/loss"], "epoch 3, val/loss 0.7"),
        (["test/f1", "test/loss"], "epoch 3, val/loss 0.7"),
        (["train/loss"], "epoch 3, train/loss 0.5"),
    ],
)
def test_the_last_row_with_what_is_wanted_most(tmp_path, wanted, shown):
    history(tmp_path, 1, {"epoch": 1, "val/accuracy": 0.9}, ROW)
    assert run_progress.newest(tmp_path, metrics=wanted).text() == shown


def test_the_config_says_of_how_many_and_which_metric_chooses(tmp_path):
    history(tmp_path, 1, ROW)
    config = freeze("best_epoch={monitor: val/loss,mode: min}", experiment="digits/base").config
    found = run_progress.newest(tmp_path, config, ["test/accuracy"])
    assert found.text() == "epoch 3 of 4, val/loss 0.7"
    assert run_progress.newest(tmp_path / "none", config) == Epoch(0, 4)


def test_an_attempt_that_goes_on_is_where_the_one_before_it_was(tmp_path):
    history(tmp_path, 1, ROW)
    history(tmp_path, 2)
    assert run_progress.newest(tmp_path).done == 3
    history(tmp_path, 3, {"epoch": 4, "train/loss": 0.1})
    assert run_progress.newest(tmp_path) == Epoch(5, None, "train/loss", 0.1)


@pytest.mark.parametrize("text", ["", "{", "[1]\n", '{"loss": 1}\n', '{"epoch": "x"}\n'])
def test_what_is_no_history_is_none(tmp_path, text):
    history(tmp_path, 1, ROW)
    (tmp_path / "attempts" / "1" / "history.jsonl").write_text(text)
    assert run_progress.newest(tmp_path) == Epoch(0)


def test_of_a_long_history_only_the_end_is_read(tmp_path):
    history(tmp_path, 1, *({"epoch": n, "train/loss": 1.0} for n in range(20_000)))
    assert run_progress.newest(tmp_path).done == 20_000
