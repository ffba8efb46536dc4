"""A recorded run is found by folder or key, here or published, and frozen again as the same run."""

from __future__ import annotations

import os

import pytest
from msgspec import structs

from retable.launch.dispatch import launch
from retable.report.publish import publish
from retable.runs import frozen, records
from retable.runs.history import history_text
from retable.runs.lookup import REDO, find, history_of, newest_folder, refreeze
from retable.tables.grid import plan
from retable.util import paths
from retable.util.errors import UserError
from support.runs import freeze, newest


@pytest.fixture
def done(fake):
    """Two finished runs."""
    runs = [freeze(seed=0), freeze(seed=1)]
    launch(runs)
    return runs


def test_by_folder_key_and_prefix_with_or_without_paper(done):
    run, other = done
    texts = [str(run.folder), run.key, run.key[:8], f"digits/{run.key[:8]}"]
    assert {find(text).record.key for text in texts} == {run.key}
    assert find(other.key[:12]).record.seed == 1


def test_history_comes_with_it(done):
    found = find(done[0].key)
    assert [row["epoch"] for row in found.history] == [0]
    assert records.text_sha256(history_text(found.history)) == found.record.history_sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "neither a run's folder nor the first 4 or more characters"),
        ("../../etc", "neither a run's folder"),
        ("0" * 64, "there is none"),
        ("*", "neither"),
        ("runs", "is not a run folder"),
    ],
)
def test_what_is_no_run_is_refused(done, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        find(text)


def test_an_ambiguous_prefix_lists_what_begins_so(done, runs):
    for last in "ab":
        (runs / "digits" / ("f" * 63 + last)).mkdir()
    with pytest.raises(UserError, match="2 begin so: ffff"):
        find("ffff")


def test_side_folders_are_no_runs(done, runs):
    side = runs / "_verify" / ("e" * 64)
    side.mkdir(parents=True)
    with pytest.raises(UserError, match="there is none"):
        find("eeee")


def test_the_newest_attempt_of_a_run_may_be_where_it_is_redone(done, runs):
    run, other = done
    assert newest_folder(run.key[:8]) == run.folder
    assert newest_folder(str(run.folder / "attempts" / "1")) == run.folder
    side = run.below(runs / REDO / ("a" * 16))
    frozen.write(side)
    assert newest_folder(run.key[:8]) == run.folder  # nothing has been tried there
    attempt = side.folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    os.utime(attempt, (2e9, 2e9))
    assert newest_folder(run.key[:8]) == side.folder
    assert newest_folder(str(attempt)) == side.folder
    assert newest_folder(other.key[:8]) == other.folder


def test_a_run_without_a_record_is_refused(done, runs):
    (runs / "digits" / ("d" * 64)).mkdir()
    with pytest.raises(UserError, match="has no record"):
        find("dddd")


def test_a_published_run_is_found_where_none_is_here(fake, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    grid = plan("digits/accuracy", "smoke")
    launch(list(grid.runs()))
    publish(grid)
    run = next(iter(grid.runs()))
    here = find(run.key[:10])
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "empty"))
    published = find(run.key[:10])
    assert published.folder is None
    assert published.where.name == "accuracy-smoke.parquet"
    assert published.record == here.record
    assert published.history == here.history


def test_frozen_again_it_is_the_same_run_elsewhere(done, tmp_path):
    for run in done:
        again = refreeze(find(run.key).record, tmp_path / "side")
        assert (again.key, again.fingerprint) == (run.key, run.fingerprint)
        assert again.folder.is_relative_to(tmp_path / "side")
        assert again.config.device.threads == 1


@pytest.mark.parametrize("alone", [False, True])
def test_what_measured_time_alone_does_so_again(done, tmp_path, alone):
    record = structs.replace(find(done[0].key).record, alone=alone)
    assert refreeze(record, tmp_path / "side").config.launcher.alone is alone


def test_an_edited_record_cannot_be_frozen_again(done, tmp_path):
    record = newest(done[0])
    edited = structs.replace(record, config={**record.config, "seed": 7})
    with pytest.raises(UserError, match="its key does not follow from its config"):
        refreeze(edited, tmp_path)


def test_a_config_that_the_code_does_not_know_any_more_is_refused(done, tmp_path):
    record = newest(done[0])
    model = {**record.config["model"], "gone": 1}
    edited = structs.replace(record, config={**record.config, "model": model})
    with pytest.raises(UserError, match="gone"):
        refreeze(edited, tmp_path)


def test_a_lost_history_is_empty(done):
    run = done[0]
    record = newest(run)
    (run.folder / "attempts" / "1" / "history.jsonl").unlink()
    assert history_of(run.folder, record) == []
