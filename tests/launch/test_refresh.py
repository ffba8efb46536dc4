"""Refresh where a record can only be compared with its own bits: here, a paper kept elsewhere."""

from __future__ import annotations

import re
import shutil

import pytest
from msgspec import structs

from retable.launch import code_comparison
from retable.launch.dispatch import launch
from retable.launch.refresh import refresh
from retable.runs import provenance, records
from retable.runs.equality import lacks
from retable.runs.lease import Lease
from retable.runs.records import ResultRow, dump
from retable.tables import collect
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.util.errors import UserError
from support.again import published, rewrite, shifted


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of the table's runs, once they are done."""
    return tmp_path_factory.mktemp("finished") / "runs"


@pytest.fixture
def grid(fake, finished, runs):
    """A finished table: two settings, three seeds each, done once and copied."""
    grid = plan("digits/accuracy", "paper")
    if finished.exists():
        shutil.copytree(finished, runs)
    else:
        launch(list(grid.runs()))
        shutil.copytree(runs, finished)
    fake.log.clear()
    return grid


def setting(grid, row):
    return grid.cell_runs(grid.cells[row, "accuracy"])


def marks(grid):
    table = build(grid, collect.from_runs(grid, pytest.fail))
    return {place[0]: cell.marks for place, cell in table.cells.items() if cell.n_planned}


def test_nothing_is_stale(grid, fake):
    done = refresh(list(grid.runs()), pytest.fail)
    assert done.text() == "nothing is stale"
    assert done.ok
    assert fake.log == []


def test_one_seed_that_is_bitwise_equal_confirms_its_setting_only(grid, fake, runs):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64)
    before = {run.key: published(run) for run in grid.runs()}
    assert "stale" in marks(grid)["slow"]
    said = []
    done = refresh(list(grid.runs()), said.append)
    assert [run.config.seed for run in fake.log] == [0]
    assert (done.settings, done.confirmed, done.redone) == (1, 3, 0)
    assert done.ok
    first, second, third = said[0].splitlines()
    assert first == "1 stale setting, 3 runs: one seed of each setting runs again"
    assert second == (
        "    by the present code, beside the record's bits: 1, because its paper is kept outside of"
        " the repository"
    )
    assert re.fullmatch(r"    about \d+ s by the records' times, 2 at once", third)
    assert said[-1].endswith("the present code gives the bits of its record; 3 confirmed")
    for run in setting(grid, "slow"):
        new, old = published(run), before[run.key]
        assert new.fingerprint == run.fingerprint
        assert new.computed_by == "f" * 64
        assert new.substance() == old.substance()
        assert new.provenance == old.provenance  # the numbers are still the old code's
        (trace,) = new.blessings
        assert (trace.was, trace.now, trace.seed) == ("f" * 64, run.fingerprint, 0)
        assert (trace.against, trace.cpu) == (None, provenance.cpu_model())
        assert trace.old_sha256 == trace.new_sha256 == before[fake.log[0].key].substance_sha256()
    assert all(published(r) == before[r.key] for r in setting(grid, "fast"))
    assert "stale" not in marks(grid)["slow"]
    assert not (runs / "_refresh").exists()


@pytest.mark.slow
@pytest.mark.parametrize("by", [1e-9, 0.1])
def test_what_differs_is_said_and_done_again_only_when_told(grid, fake, by):
    olds = [
        rewrite(run, fingerprint="f" * 64, results=shifted(run, by))
        for run in setting(grid, "slow")
    ]
    said = []
    done = refresh(list(grid.runs()), said.append)
    assert len(fake.log) == 1
    assert not done.ok
    assert (done.confirmed, done.redone) == (0, 0)
    [why] = done.stale
    assert "(and 2 more of its setting): the present code gives other bits than its record" in why
    assert "because its paper is kept outside of the repository, first in test/accuracy: 0." in why
    assert why.endswith(", equal within tolerance of 0.0001") == (by < 1e-4)
    last = done.text().splitlines()[-1]
    assert last.startswith("keep those records by taking the edit back, or compute 3 runs anew")
    assert [published(run) for run in setting(grid, "slow")] == olds
    assert "stale" in marks(grid)["slow"]

    fake.log.clear()
    done = refresh(list(grid.runs()), said.append, redo=True)
    assert len(fake.log) == 2, "the seed that was run is taken as it is"
    assert (done.confirmed, done.redone, done.same) == (0, 3, 0)
    assert done.ok
    for run in setting(grid, "slow"):
        assert published(run).attempt == 2
        assert published(run).blessings == []
    assert "stale" not in marks(grid)["slow"]


def test_measured_times_stay_and_the_rest_is_confirmed(grid, fake):
    """Loss stands for a time here: it differs, and is left out of the comparison on both sides."""
    from retable.training import execute as runner

    original = runner.execute

    def timed(*args):
        outcome = original(*args)
        outcome.timing_metrics = ["test/loss"]
        return outcome

    def measured(record):
        return next(r.value for r in record.results if r.metric == "test/loss")

    for run in setting(grid, "slow"):
        results = [
            structs.replace(r, value=9.0) if r.metric == "test/loss" else r
            for r in published(run).results
        ]
        rewrite(run, fingerprint="f" * 64, timing_metrics=["test/loss"], results=results)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "execute", timed)
        done = refresh(list(grid.runs()), lambda _: None)
    assert (done.confirmed, done.redone) == (3, 0)
    for run in setting(grid, "slow"):
        assert measured(published(run)) == 9.0
        assert (
            published(run).provenance.commit
            == published(setting(grid, "fast")[0]).provenance.commit
        )


def test_what_records_more_now_is_confirmed_and_says_what_the_records_have_not(grid, fake):
    for run in setting(grid, "slow"):
        results = [r for r in published(run).results if r.metric != "test/loss"]
        rewrite(run, fingerprint="f" * 64, results=results)
    said = []
    done = refresh(list(grid.runs()), said.append)
    assert (done.confirmed, done.redone, len(fake.log)) == (3, 0, 1)
    assert done.ok
    assert said[-1].endswith(
        "equal in all that both its record and the present code record; that records test/loss"
        " besides, which these records have not; 3 confirmed"
    )
    for run in setting(grid, "slow"):
        assert published(run).blessings[0].also == ["test/loss"]
        assert lacks(published(run), "test/loss")
        assert not lacks(published(run), "test/accuracy")


def test_what_records_less_now_is_not_confirmed(grid, fake):
    more = ResultRow(metric="test/gone", value=1.0)
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, results=[*published(run).results, more])
    done = refresh(list(grid.runs()), lambda _: None)
    assert (done.confirmed, done.ok) == (0, False)
    assert "test/gone, which one of them has not" in done.stale[0]


@pytest.mark.slow
def test_a_run_that_fails_now_keeps_its_stale_record(grid, fake, monkeypatch):
    from retable.training import execute as runner

    olds = [rewrite(run, fingerprint="f" * 64) for run in setting(grid, "slow")]

    def broken(*_):
        raise RuntimeError("no more")

    monkeypatch.setattr(runner, "execute", broken)
    done = refresh(list(grid.runs()), lambda _: None)
    assert not done.ok
    assert "the present code does not do it: failed: RuntimeError: no more" in done.text()
    assert "--again" not in done.text(), "what fails would fail again"
    done = refresh(list(grid.runs()), lambda _: None, redo=True)
    assert len(done.stale) == 3
    assert "done again: failed: RuntimeError: no more" in done.text()
    assert [published(run) for run in setting(grid, "slow")] == olds


@pytest.mark.slow
def test_a_stopped_refresh_goes_on_where_it_was(grid, fake, monkeypatch):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, results=shifted(run, 1e-9))
    original, calls = code_comparison.launch, []

    def stop_the_second(runs, **more):
        calls.append(len(runs))
        summary = original(runs[:2] if len(calls) == 2 else runs, **more)
        summary.stopped = len(calls) == 2
        return summary

    monkeypatch.setattr(code_comparison, "launch", stop_the_second)
    done = refresh(list(grid.runs()), lambda _: None, redo=True)
    assert done.stopped
    assert done.redone == 2
    assert "the same command goes on from here" in done.text()
    fake.log.clear()
    assert refresh(list(grid.runs()), lambda _: None, redo=True).ok
    assert [run.config.seed for run in fake.log] == [2]


def test_a_record_that_another_runner_holds_stays_stale(grid, fake):
    runs = setting(grid, "slow")
    for run in runs:
        rewrite(run, fingerprint="f" * 64)
    lease = Lease.acquire(runs[1].folder, 60)
    try:
        done = refresh(list(grid.runs()), lambda _: None)
    finally:
        lease.release()
    assert done.confirmed == 2
    assert "another runner holds it" in done.text()
    assert published(runs[1]).fingerprint == "f" * 64


@pytest.mark.slow
def test_a_second_change_of_code_leaves_a_second_trace_outside_of_the_record_s_size(grid):
    (run, *_) = runs = setting(grid, "slow")
    for first in ("e", "f"):
        for run in runs:
            # What it was confirmed for is other code than the present by now.
            traces = [structs.replace(b, now="f" * 64) for b in published(run).blessings]
            rewrite(run, fingerprint=first * 64, blessings=traces)
        refresh(list(grid.runs()), lambda _: None)
    record = published(run)
    assert [b.was[0] for b in record.blessings] == ["e", "f"]
    assert record.computed_by[0] == "e"
    many = structs.replace(record, blessings=record.blessings * 50)
    assert len(dump(many)) > records.MAX_BYTES
    assert records.parse(dump(many), "x") == many


@pytest.mark.slow
def test_a_setting_of_two_codes_is_asked_for_both(grid, fake):
    first, second, third = setting(grid, "slow")
    rewrite(first, fingerprint="e" * 64)
    rewrite(second, fingerprint="f" * 64, results=shifted(second, 1e-9))
    rewrite(third, fingerprint="e" * 64)
    done = refresh(list(grid.runs()), lambda _: None)
    assert [run.config.seed for run in fake.log] == [0, 1]
    assert (done.settings, done.confirmed, len(done.stale)) == (2, 2, 1)
    assert published(third).fingerprint == third.fingerprint
    assert published(second).fingerprint == "f" * 64


def test_a_record_of_the_code_that_is_back_needs_no_run(grid, fake):
    """An edit that was confirmed and taken back again, or another branch and this one."""
    runs = setting(grid, "slow")
    first = [published(run) for run in runs]
    for run in runs:
        rewrite(run, fingerprint="e" * 64)
    assert refresh(list(grid.runs()), lambda _: None).confirmed == 3
    for run in runs:
        rewrite(run, fingerprint="d" * 64)  # confirmed for the present, then for other code
    fake.log.clear()
    said = []
    done = refresh(list(grid.runs()), said.append)
    assert fake.log == []
    assert (done.ok, done.back, done.settings) == (True, 3, 0)
    assert said == ["3 records of code that is the present one again"]
    assert [published(run).fingerprint for run in runs] == [r.fingerprint for r in first]
    assert all(len(published(run).blessings) == 1 for run in runs)
    assert all(published(run).computed_by == "e" * 64 for run in runs)


def test_one_refresh_of_the_same_code_at_a_time(grid, fake, monkeypatch, runs):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64)
    original = code_comparison.launch

    def meanwhile(todo, **more):
        with pytest.raises(UserError, match=r"another refresh goes on \(process \d+ on .*; try"):
            refresh(list(grid.runs()), lambda _: None)
        return original(todo, **more)

    with monkeypatch.context() as patch:
        patch.setattr(code_comparison, "launch", meanwhile)
        assert refresh(list(grid.runs()), lambda _: None).confirmed == 3
    assert not (runs / "_refresh").exists()


@pytest.mark.slow
def test_code_that_is_not_committed_is_warned_of_before_it_replaces_a_record(
    grid, fake, monkeypatch
):
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, results=shifted(run, 1e-9))
    original = provenance.collect
    monkeypatch.setattr(
        provenance, "collect", lambda *given: structs.replace(original(*given), dirty="d" * 64)
    )
    said = []
    assert refresh(list(grid.runs()), said.append, redo=True).redone == 3
    assert any(text.startswith("warning: the code has changes that are not") for text in said)


def test_what_was_computed_on_a_gpu_is_not_confirmed_without_one(grid, fake, monkeypatch):
    monkeypatch.setattr(provenance, "gpu", lambda: (None, None))
    for run in setting(grid, "slow"):
        rewrite(run, fingerprint="f" * 64, device="cuda")
    done = refresh(list(grid.runs()), lambda _: None)
    assert fake.log == []
    assert "was computed on cuda, which this machine does not have" in done.text()
