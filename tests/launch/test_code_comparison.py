"""Refresh with a record's own commit beside the present code: every way in which that can end."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from msgspec import structs

from retable.config.compose import from_values
from retable.launch import code_comparison, commit_code, stale
from retable.launch.commit_code import Answer, Code, Unavailable
from retable.launch.dispatch import launch
from retable.launch.refresh import refresh
from retable.runs import frozen, provenance
from retable.runs.records import Status
from support.again import published, rewrite, shifted
from support.runs import freeze

COMMIT, FIRST = "c" * 40, "f" * 64


class Commit:
    """Stands in for the code of a commit: the present one, with a twist.

    Attributes:
        change: what its record of a run has instead.
        answer: what it says instead, where not None.
        mixed: what the present code has under the commit's packages; None: these are the same.
    """

    def __init__(self) -> None:
        self.change = lambda run: {}
        self.answer, self.mixed, self.error = None, None, None
        self.orders = []

    def of_commit(self, commit, say):
        if self.error:
            raise Unavailable(self.error)
        python = "/elsewhere/python" if self.mixed else sys.executable
        return Code(f"commit {commit[:12]}", Path("/tree/src"), Path(python))

    def execute(self, code, orders):
        self.orders.append((code.name, orders))
        if self.answer:
            return self.answer
        by_commit = code.name == f"commit {COMMIT[:12]}"
        for order in orders:
            run = frozen.freeze(from_values(order.values))
            launch([run])
            change = self.change if by_commit else self.mixed
            rewrite(run, **change(run))
        return Answer({order.key: order.fingerprint for order in orders})


@pytest.fixture
def commit(monkeypatch):
    made = Commit()
    monkeypatch.setattr(commit_code, "of_commit", made.of_commit)
    monkeypatch.setattr(commit_code, "execute", made.execute)
    monkeypatch.setattr(stale, "why_not_by_commit", lambda record: None)
    return made


@pytest.fixture
def stale_run(fake):
    """A run as another processor and an older commit have left it: other bits, other code."""
    run = freeze()
    launch([run])
    fake.log.clear()
    source = structs.replace(published(run).provenance, commit=COMMIT, cpu="another")
    rewrite(run, fingerprint=FIRST, provenance=source, results=shifted(run, 1e-6), threads=2)
    return run


def test_a_record_of_another_processor_is_confirmed_where_both_sides_agree_here(
    stale_run, commit, fake, runs
):
    old, said = published(stale_run), []
    done = refresh([stale_run], said.append)
    assert done.ok
    assert done.text() == "1 stale setting: 1 record confirmed"
    assert "    by the present code and beside it by the record's own commit: cccccccccccc (1)" in (
        said[0].splitlines()
    )
    # Which metric rounds to the larger one is the processor's choice.
    text = re.sub(r"1\.[01]e-06 \(test/(loss|accuracy)\)", "SOME", said[-1].split(": ", 1)[1])
    assert text == (
        "the present code gives the bits of its commit cccccccccccc (beside the record of another"
        " processor: equal within tolerance, largest relative difference SOME, tolerance 0.0001);"
        " 1 confirmed"
    )
    [(name, [order])] = commit.orders
    assert name == "commit cccccccccccc"
    assert (order.key, order.fingerprint) == (stale_run.key, FIRST)
    # The old side gets config, seed, threads and devices: nothing that it may not know.
    assert {k: order.values[k] for k in old.config} == old.config
    assert order.values["device"] == {"accelerator": "cpu", "threads": 2}
    assert set(order.values) - set(old.config) == {
        "experiment", "protocol", "device", "paths", "logger", "launcher",
    }  # fmt: skip
    assert all(Path(p).is_absolute() for p in order.values["paths"].values() if p)
    new = published(stale_run)
    assert new.results == old.results
    assert new.provenance == old.provenance
    (trace,) = new.blessings
    assert (trace.was, trace.now, trace.against) == (FIRST, stale_run.fingerprint, COMMIT)
    assert trace.cpu == provenance.cpu_model()
    assert trace.old_sha256 == trace.new_sha256 != old.substance_sha256()
    assert not (runs / "_refresh").exists()


@pytest.mark.slow
def test_a_confirmed_record_with_other_numbers_than_any_code_here_is_pointed_out(stale_run, commit):
    """As long trainings have on another processor, and a record that somebody edited."""
    rewrite(stale_run, results=shifted(stale_run, 0.5))
    done = refresh([stale_run], lambda _: None)
    assert (done.ok, done.confirmed, done.other_numbers) == (True, 1, 1)
    assert "1 confirmed setting: the record has other numbers than any code here" in done.text()


@pytest.mark.slow
def test_bits_that_differ_confirm_nothing_though_they_are_the_record_s(stale_run, commit):
    commit.change = lambda run: {"results": shifted(run, 1e-12)}
    old = published(stale_run)
    done = refresh([stale_run], lambda _: None)
    assert published(stale_run) == old
    [why] = done.stale
    assert "the present code gives other bits than its commit cccccccccccc here, first in" in why
    assert (
        ", equal within tolerance of 0.0001; cause: the code, as the packages are the same" in why
    )
    assert "compute 1 run anew with --again" in done.text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mixed", "cause"),
    [
        (
            lambda run: {"results": shifted(run, 0.5)},
            "the packages, as with the old ones the code",
        ),
        (lambda run: {}, "the code, as with the old packages too it gives"),
        (
            lambda run: {"status": Status.FAILED, "error": "x"},
            "code or packages, not known: with the old",
        ),
    ],
)
def test_code_or_packages_is_found_out_with_the_old_packages(stale_run, commit, mixed, cause):
    commit.change = lambda run: {"results": shifted(run, 0.5)}
    commit.mixed = mixed
    [why] = refresh([stale_run], lambda _: None).stale
    assert "here, first in test/accuracy: 0." in why
    assert "within tolerance" not in why
    assert f"; cause: {cause}" in why
    [_, second] = commit.orders
    assert second[0] == "the present code with the packages of commit cccccccccccc"
    [order] = second[1]
    assert order.fingerprint == stale_run.fingerprint
    assert order.values["device"]["threads"] == 2


def test_a_commit_that_is_not_the_record_s_code_confirms_nothing(stale_run, commit, fake):
    commit.answer = Answer({stale_run.key: "e" * 64})
    [why] = refresh([stale_run], lambda _: None).stale
    assert (
        "was not computed by the code of its commit cccccccccccc: fingerprint ffffffffffff, there"
        " eeeeeeeeeeee" in why
    )
    assert fake.log == [], "the present code need not run"


def test_a_commit_that_does_not_give_its_own_bits_on_its_own_processor_is_said_first(
    stale_run, commit, fake
):
    """Here too the two sides agree: the record is the one that nobody can make again."""
    source = structs.replace(published(stale_run).provenance, cpu=provenance.cpu_model())
    rewrite(stale_run, provenance=source)
    said = []
    [why] = refresh([stale_run], said.append).stale
    assert "its commit cccccccccccc does not give its bits on its own kind of processor" in why
    assert "equal within tolerance" in why
    assert why.endswith(said[2].partition(": ")[2])
    assert published(stale_run).fingerprint == FIRST
    assert len(fake.log) == 1


@pytest.mark.slow
def test_processors_of_one_name_are_told_apart_where_both_records_say_which(stale_run, commit):
    source = published(stale_run).provenance
    assert source.cpu_id is not None
    other = {"cpu": provenance.cpu_model(), "cpu_id": "another generation"}
    rewrite(stale_run, provenance=structs.replace(source, **other))
    assert refresh([stale_run], lambda _: None).ok


@pytest.mark.slow
def test_a_record_that_was_replaced_meanwhile_stays_as_it_is(stale_run, commit):
    execute = commit_code.execute

    def replace_it(code, orders):
        rewrite(stale_run, fingerprint="d" * 64)
        return execute(code, orders)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_code, "execute", replace_it)
        done = refresh([stale_run], lambda _: None)
    assert "its record was replaced meanwhile" in done.text()
    assert published(stale_run).fingerprint == "d" * 64


@pytest.mark.slow
def test_a_commit_that_cannot_be_made_here_leaves_the_record_s_bits(stale_run, commit):
    commit.error = "uv cannot make the environment"
    said = []
    [why] = refresh([stale_run], said.append).stale
    assert "than its record, which is all there is to compare with because uv cannot make" in why
    assert (
        said[1] == "uv cannot make the environment; its runs are compared with their records' bits"
    )
    assert commit.orders == []
    run = freeze(seed=1)
    launch([run])
    rewrite(run, fingerprint=FIRST)
    assert refresh([run], lambda _: None).ok
    assert published(run).blessings[0].against is None


def test_what_its_commit_refuses_or_fails_at_stays_stale(stale_run, commit):
    commit.answer = Answer(refused={stale_run.key: "model.norm: unknown"})
    [why] = refresh([stale_run], lambda _: None).stale
    assert "its commit cccccccccccc refuses it: model.norm: unknown" in why
    commit.answer = None
    commit.change = lambda run: {"status": Status.FAILED, "error": "ValueError: no\nmore"}
    [why] = refresh([stale_run], lambda _: None).stale
    assert "its commit cccccccccccc does not do it here: failed: ValueError: no" in why


@pytest.mark.slow
def test_ctrl_c_in_either_side_stops_and_confirms_nothing(stale_run, commit, monkeypatch, fake):
    commit.answer = Answer({stale_run.key: FIRST}, stopped=True)
    done = refresh([stale_run], lambda _: None, redo=True)
    assert (done.stopped, done.stale, fake.log) == (True, [], [])
    commit.answer = None
    original = code_comparison.launch

    def stopped(runs, **more):
        summary = original([], **more)
        summary.stopped = True
        return summary

    with monkeypatch.context() as patch:
        patch.setattr(code_comparison, "launch", stopped)
        assert refresh([stale_run], lambda _: None).stopped
    assert published(stale_run).fingerprint == FIRST
    # What its commit has done is not done a second time.
    fake.log.clear()
    assert refresh([stale_run], lambda _: None).ok
    assert len(fake.log) == 1


@pytest.mark.slow
def test_again_replaces_what_could_not_be_confirmed(stale_run, commit):
    commit.change = lambda run: {"results": shifted(run, 0.5)}
    done = refresh([stale_run], lambda _: None, redo=True)
    assert (done.confirmed, done.redone, done.ok) == (0, 1, True)
    new = published(stale_run)
    assert (new.fingerprint, new.blessings, new.threads) == (stale_run.fingerprint, [], 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"commit": None}, "its record names no commit"),
        ({"dirty": "d" * 64}, "it was computed with changes that were not committed"),
        ({"commit": "0" * 40}, "commit 000000000000 is not in this repository"),
    ],
)
def test_why_a_commit_cannot_be_asked(stale_run, monkeypatch, change, reason):
    monkeypatch.setattr(stale, "_is_elsewhere", lambda target: False)
    record = published(stale_run)
    source = structs.replace(record.provenance, **{"dirty": None, **change})
    assert stale.why_not_by_commit(structs.replace(record, provenance=source)) == reason


def test_without_git_or_uv_it_says_so(monkeypatch):
    head = provenance.git("rev-parse", "HEAD").strip()
    commit_code.why_unknown.cache_clear()
    assert commit_code.why_unknown(head) is None
    commit_code.why_unknown.cache_clear()
    monkeypatch.setattr(commit_code, "_uv", lambda: None)
    assert commit_code.why_unknown(head) == (
        "uv, which makes the environment of a commit, is not installed (pip install uv)"
    )
    commit_code.why_unknown.cache_clear()
    monkeypatch.setattr(provenance, "git", lambda *_: None)
    assert commit_code.why_unknown(head) == "there is no git repository here"
    commit_code.why_unknown.cache_clear()
