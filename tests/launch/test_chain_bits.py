"""From which bits a run begins that starts from another one, and what is said when these change."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import torch
from msgspec import structs

from retable.launch import redo
from retable.launch.dispatch import launch
from retable.launch.summary import Summary
from retable.launch.worker import Exit
from retable.runs import frozen, records, starts
from retable.runs.lookup import find
from retable.runs.record_set import Found
from retable.training.tested import tensors_sha256
from retable.util.errors import UserError
from support.chains import tuned, weights
from support.runs import checkpoints, freeze, newest, record_of


def test_without_its_weights_a_parent_is_done_but_nothing_can_start_from_it(fake):
    child = tuned()
    launch([child.parent])
    shutil.rmtree(child.parent.folder / "attempts" / "1" / "checkpoints")
    [(_, reason)] = launch([child]).blocked
    assert reason.startswith(f"it starts from {child.parent.label}, which is done, but whose")
    assert f"`retable verify digits/{child.parent.key[:12]} --replace`" in reason
    assert redo.verify(find(child.parent.key), replace=True).replaced
    assert launch([child]) == Summary(done=1)


def test_weights_that_are_not_the_recorded_ones_are_not_taken(fake):
    child, other = tuned(), freeze("model.optimizer.lr=0.3")
    launch([child.parent, other])
    path = checkpoints(child.parent)[-1]
    content = torch.load(path, weights_only=False)
    content["state_dict"] = weights(other)
    torch.save(content, path)
    [(_, message)] = launch([child]).failed
    assert "its weights or artefacts are not the recorded ones" in message
    with pytest.raises(UserError, match="not the recorded ones"):
        starts.read_start(child)


def test_artefacts_are_read_back_and_checked(fake):
    above = ["model._target_=retable.papers.digits.averaged.Averaged"]
    child = tuned("model._target_=retable.papers.digits.averaged.Averaged", above=above)
    assert launch([child]) == Summary(done=2)
    start, taken = starts.read_start(child)
    assert taken.artifacts == record_of(child.parent).artifacts
    assert int(start.artifacts["average"]["count"]) == 2
    file = child.parent.folder / "attempts/1/artifacts/average.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x01\x02\x03")
    with pytest.raises(UserError, match="are not the recorded ones"):
        starts.read_start(child)
    file.unlink()
    assert "whose weights are not here" in starts.obstacle(child)


def test_best_weights_are_those_that_were_tested(fake):
    best = ["trainer.max_epochs=3", "best_epoch={monitor: val/loss,mode: max}"]
    child = tuned(above=best)
    launch([child.parent])
    content = torch.load(checkpoints(child.parent)[-1], weights_only=False)
    assert content["retable"]["best"]["epoch"] == 0
    start, _ = starts.read_start(child)
    chosen = content["retable"]["best"]["weights"]
    assert all(torch.equal(start.weights[name], chosen[name]) for name in chosen)
    assert len(start.history) == 3


def test_what_another_parent_s_bits_have_begun_is_not_gone_on_with(fake):
    """The parent is done again, with other bits, while its child is stopped after an epoch."""
    from retable.launch.worker import perform
    from support.runs import LAUNCHED

    child = tuned("trainer.max_epochs=3")
    launch([child.parent])
    stop = threading.Event()
    stop.set()
    frozen.write(child)
    assert perform(child.folder, LAUNCHED, stop) == Exit.INTERRUPTED
    assert perform(child.folder, LAUNCHED, stop) == Exit.INTERRUPTED
    assert newest(child).resumed_from_epoch == 1  # the same bits: it goes on
    path = checkpoints(child.parent)[-1]
    content = torch.load(path, weights_only=False)
    content["state_dict"] = {n: w + 1 for n, w in content["state_dict"].items()}
    torch.save(content, path)
    record = record_of(child.parent)
    (child.parent.folder / "record.json").unlink()
    other = structs.replace(record, weights_sha256=tensors_sha256(content["state_dict"]))
    (child.parent.folder / "record.json").write_text(records.dump(other))
    assert perform(child.folder, LAUNCHED) == Exit.DONE
    assert record_of(child).resumed_from_epoch is None
    assert record_of(child).started_from.weights_sha256 == other.weights_sha256
    after = torch.load(checkpoints(child, 3)[-1], weights_only=False)["state_dict"]
    assert torch.equal(after["net.0.weight"], content["state_dict"]["net.0.weight"])


def stale(run, *others):
    kept = {one.key: record for one in (run, *others) if (record := record_of(one))}
    return Found.of(kept).stale(run, [run.config.seed]).tolist()


def test_what_makes_a_child_stale(fake):
    child = tuned()
    launch([child])
    assert stale(child, child.parent) == [False]
    assert stale(child) == [False]  # nothing is said against it

    def rewritten(run, **changes):
        path = run.folder / "record.json"
        before = path.read_bytes()
        path.unlink()
        path.write_text(records.dump(structs.replace(records.parse(before, ""), **changes)))
        return before

    before = rewritten(child.parent, fingerprint="0" * 64)  # its code has changed
    assert stale(child, child.parent) == [True]
    (child.parent.folder / "record.json").write_bytes(before)
    before = rewritten(child.parent, weights_sha256="0" * 64)  # done again, with other bits
    assert stale(child, child.parent) == [True]
    (child.parent.folder / "record.json").write_bytes(before)
    assert stale(child, child.parent) == [False]
    rewritten(child, fingerprint="0" * 64)
    assert stale(child, child.parent) == [True]
    assert stale(child.parent) == [False]
    assert np.array_equal(Found.of({}).stale(child, [0, 1]), [False, False])


def test_what_is_stale_is_done_again_parents_first(fake, runs):
    child = tuned()
    launch([child])
    before = record_of(child).substance()
    for run in (child.parent, child):
        path = run.folder / "record.json"
        old = records.dump(structs.replace(record_of(run), fingerprint="0" * 64))
        path.unlink()
        path.write_text(old)
    assert stale(child, child.parent) == [True]
    fake.log.clear()
    summary = redo.redo([child, child.parent], lambda some, _: launch(some))
    assert (summary.done, summary.kept) == (2, [])
    assert [run.key for run in fake.log] == [child.parent.key, child.key]
    assert stale(child, child.parent) == [False]
    assert record_of(child).substance() == before
    assert not (runs / "_again").exists()
    # A child that is stale by its parent alone is done from that one's new weights.
    path = child.folder / "record.json"
    other = structs.replace(record_of(child).started_from, weights_sha256="0" * 64)
    earlier = {"started": "2026-01-01T00:00:00+00:00", "started_from": other}
    old = records.dump(structs.replace(record_of(child), **earlier))
    path.unlink()
    path.write_text(old)
    assert stale(child, child.parent) == [True]
    fake.log.clear()
    summary = redo.redo([child], lambda some, _: launch(some))
    assert (summary.done, summary.kept, len(fake.log)) == (1, [], 1)
    assert stale(child, child.parent) == [False]


def test_a_new_child_of_a_stale_parent_begins_with_the_new_weights(fake, runs):
    child = tuned()
    launch([child.parent])
    path = child.parent.folder / "record.json"
    old = records.dump(structs.replace(record_of(child.parent), fingerprint="0" * 64))
    path.unlink()
    path.write_text(old)
    fake.log.clear()
    with pytest.MonkeyPatch.context() as patch:  # left to a cluster, whose jobs put it in place
        patch.setattr(redo, "redo", lambda *_: Summary(queued=1))
        summary = redo.launch_anew([child])
        [(waiting, reason)] = summary.blocked
    assert (waiting.key, summary.queued, fake.log) == (child.key, 1, [])
    assert "the same command does it when that is done" in reason
    summary = redo.launch_anew([child])
    assert (summary.done, summary.kept) == (2, [])
    assert [run.key for run in fake.log] == [child.parent.key, child.key]
    assert stale(child, child.parent) == [False]


@pytest.mark.slow
def test_a_child_is_verified_from_its_parent_s_weights(fake, runs):
    child = tuned()
    launch([child])
    fake.log.clear()
    assert redo.verify(find(child.key)).comparison.kind == "bitwise equal"
    assert [run.key for run in fake.log] == [child.key]
    # Where these are not here any more, the parent is done aside first; nothing stays of that.
    shutil.rmtree(child.parent.folder / "attempts")
    fake.log.clear()
    assert redo.verify(find(child.key)).comparison.kind == "bitwise equal"
    assert [run.key for run in fake.log] == [child.parent.key, child.key]
    assert not (child.parent.folder / "attempts").exists()
    assert not (runs / "_verify").exists()


def test_what_a_module_says_before_there_are_artefacts_is_no_refusal(monkeypatch):
    from retable.papers.digits.tuned import Tuned

    from retable.launch import preflight

    def take_start(self, start):
        raise ValueError(f"model.hidden: needs masks, not {sorted(start.artifacts)}")

    monkeypatch.setattr(Tuned, "take_start", take_start)
    assert preflight.first_refusal([tuned().config.model_dump(mode="json")]) is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.hidden=8"],
            "Perceptron cannot take the weights of digits/smoke (Perceptron): net.0.weight is"
            " (32, 64) there and (8, 64) here (and 6 more)",
        ),
        (
            ["model._target_=retable.papers.digits.averaged.Averaged"],
            "Averaged cannot take the weights of digits/smoke (Perceptron): there is no ema",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_runs(runs, overrides, message):
    run = tuned("model._target_=retable.papers.digits.module.Perceptron", *overrides)
    with pytest.raises(UserError) as caught:
        launch([run])
    assert f"start.run: {message}" in str(caught.value)
    assert not runs.exists()
