"""Verify: recorded runs once more, and nothing lost on the way."""

from __future__ import annotations

import pytest
from msgspec import structs

from retable.launch import redo, worker
from retable.launch.dispatch import launch
from retable.runs import records
from retable.runs.lease import Lease
from retable.runs.lookup import find, refreeze
from retable.runs.records import Status
from retable.util.errors import UserError
from support.again import published, rewrite, shifted
from support.runs import freeze, newest


@pytest.fixture
def run(fake):
    """A finished run."""
    frozen = freeze()
    launch([frozen])
    fake.log.clear()
    return frozen


def test_the_same_again_is_bitwise_equal_and_changes_nothing(run, runs):
    before = (run.folder / "record.json").read_bytes()
    done = redo.verify(find(run.key))
    assert done.comparison.kind == "bitwise equal"
    assert done.comparison.context == []
    assert (run.folder / "record.json").read_bytes() == before
    assert len(records.attempts(run.folder)) == 1
    assert not (runs / "_verify").exists()


def test_another_device_or_version_is_said_and_a_small_difference_tolerated(run):
    record = published(run)
    rewrite(
        run,
        results=shifted(run, 1e-6),
        device="cuda",
        provenance=structs.replace(record.provenance, torch="1.0"),
    )
    comparison = redo.verify(find(run.key)).comparison
    assert comparison.kind == "equal within tolerance"
    assert "device cuda / cpu" in comparison.context
    assert any(text.startswith("torch 1.0 / ") for text in comparison.context)
    assert "should be bitwise" not in comparison.detail


def test_a_small_difference_without_a_reason_is_pointed_out(run):
    rewrite(run, results=shifted(run, 1e-6))
    comparison = redo.verify(find(run.key)).comparison
    assert comparison.kind == "equal within tolerance"
    assert "should be bitwise" in comparison.detail


def test_where_they_part_first_is_named(run):
    rewrite(run, results=shifted(run, 0.1), history_sha256="0" * 64)
    path = run.folder / "attempts" / "1" / "history.jsonl"
    text = path.read_text().replace('"train/lr":0.1', '"train/lr":0.2')
    assert text != path.read_text()
    path.write_text(text)
    comparison = redo.verify(find(run.key)).comparison
    assert comparison.kind == "different"
    assert comparison.detail.startswith("first in epoch 0, train/lr: 0.2 / 0.1")


def test_a_run_that_fails_now_is_different(run, monkeypatch):
    def broken(*_):
        raise RuntimeError("no more")

    from retable.training import execute as runner

    monkeypatch.setattr(runner, "execute", broken)
    done = redo.verify(find(run.key), replace=True)
    assert done.comparison.kind == "different"
    assert "failed: RuntimeError: no more" in done.comparison.detail
    assert not done.replaced
    assert published(run).status is Status.DONE


def test_replace_puts_the_new_record_in_place_under_the_lease(run, monkeypatch, runs):
    old = rewrite(run, fingerprint="f" * 64, results=shifted(run, 0.1))
    done = redo.verify(find(run.key), replace=True)
    assert done.replaced
    new = published(run)
    assert new.fingerprint == run.fingerprint
    assert new.attempt == 2
    assert new.results != old.results
    assert records.read(run.folder / "attempts" / "1" / "record.json") == old
    assert (run.folder / "attempts" / "2" / "history.jsonl").is_file()
    assert (runs / "_store" / f"{new.provenance.packages}.txt").is_file()
    assert not list(run.folder.glob("*lease*"))
    assert not list(run.folder.glob(".*"))


def test_nothing_is_replaced_while_another_runner_holds_it(run, monkeypatch):
    before = published(run)
    lease = Lease.acquire(run.folder, 60)
    assert lease is not None
    try:
        with pytest.raises(UserError, match="another runner holds it"):
            redo.verify(find(run.key), replace=True)
    finally:
        lease.release()
    assert published(run) == before


@pytest.mark.parametrize("step", ["copytree", "write_attempt", "replace_published"])
def test_a_kill_while_replacing_leaves_the_old_or_the_new_record(run, monkeypatch, step):
    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    old, side = rewrite(run, fingerprint="f" * 64), side_of(run)
    with monkeypatch.context() as patch:
        owner = redo.shutil if step == "copytree" else redo.records
        patch.setattr(owner, step, kill)
        with pytest.raises(Killed):
            redo.put_in_place(run, side)
    assert records.read_run(run.folder, pytest.fail) == old
    redo.put_in_place(run, side)
    assert records.read_run(run.folder, pytest.fail).fingerprint == run.fingerprint


def side_of(run):
    """The run done again elsewhere."""
    aside = refreeze(published(run), run.folder.parents[1] / "_aside")
    launch([aside])
    return aside.folder


def test_a_diverged_run_is_compared_by_its_end(fake):
    frozen = freeze("model.fail=diverge")
    launch([frozen])
    done = redo.verify(find(frozen.key), replace=True)
    assert done.comparison.kind == "bitwise equal"
    assert not done.replaced  # only a done one may be put in place
    assert newest(frozen).attempt == 1


def test_what_has_no_result_cannot_be_verified(fake):
    frozen = freeze("model.fail=raise")
    launch([frozen])
    with pytest.raises(UserError, match="is failed; only an ended run has a result"):
        redo.verify(find(frozen.key))


def test_stopped_is_said_so(run, monkeypatch):
    monkeypatch.setattr(worker, "perform", lambda *_: worker.Exit.DONE)
    original = redo.launch

    def stopped(runs, **more):
        summary = original([], **more)
        summary.stopped = True
        return summary

    monkeypatch.setattr(redo, "launch", stopped)
    assert redo.verify(find(run.key)).stopped
