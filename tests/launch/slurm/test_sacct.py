"""What sacct says of jobs that are gone, in its own words, and what is made of its silence."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.launch.slurm import sacct as accounting
from retable.launch.slurm.sacct import Account, Accounting, parse

# As SLURM 24.11 prints it: an array of which some tasks have ended, one was cancelled by a user
# while it ran, one is running, and the rest wait.
SAID = """\
1_0|FAILED|3:0|n1
1_1|CANCELLED by 1000|0:0|n1
1_2|RUNNING|0:0|n1
1_[3,5-7,9-11:2%2]|PENDING|0:0|None assigned
6_[0-2]|CANCELLED by 0|0:0|None assigned
8|OUT_OF_MEMORY|0:125|n2
"""


@pytest.fixture
def sacct(tmp_path, monkeypatch):
    """A script in the place of sacct; returns its calls."""

    def answer(text, code=0, error=""):
        path = tmp_path / "bin" / "sacct"
        path.parent.mkdir(exist_ok=True)
        (tmp_path / "answer").write_text(text)
        path.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f"cat {tmp_path}/answer\necho '{error}' >&2\nexit {code}\n"
        )
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    answer.calls = lambda: (
        (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
    )
    return answer


def test_every_task_of_an_answer_is_found():
    found = dict(parse(SAID))
    assert found["1", 0] == Account("FAILED", "3:0", "n1")
    assert found["1", 1].cancelled
    assert {task for job, task in found if job == "1"} == {0, 1, 2, 3, 5, 6, 7, 9, 11}
    assert found["1", 7] == Account("PENDING")
    assert not found["1", 2].over
    assert [found["6", task].cancelled for task in range(3)] == [True] * 3
    assert found["8", None].text() == "OUT_OF_MEMORY on n2"


def test_of_several_lines_of_a_task_the_last_counts():
    text = "5_0|NODE_FAIL|0:0|n1\n5_0|REQUEUED|0:0|n1\n5_0|COMPLETED|0:0|n2\n"
    assert dict(parse(text))["5", 0] == Account("COMPLETED", "0:0", "n2")


def test_lines_that_are_none_of_its_are_left_out():
    text = (
        "5_0.batch|FAILED|1:0|n1\n\n5.extern|COMPLETED|0:0|n1\n5_0|\nx|FAILED|1:0|n1\n5_1||0:0|\n"
    )
    assert dict(parse(text)) == {}
    assert dict(parse("5_[0-99999999999]|PENDING|0:0|\n")) == {}


@given(st.text(alphabet="0123456789_[]-,:%| ABC\n", max_size=80))
def test_whatever_it_prints_is_read(text):
    for (job, task), account in parse(text):
        assert job.isdecimal()
        assert task is None or task >= 0
        assert account.state


@pytest.mark.parametrize(
    ("account", "text"),
    [
        (Account("FAILED", "3:0", "n1"), "FAILED (exit code 3) on n1"),
        (Account("FAILED", "0:9", "n1"), "FAILED (signal 9) on n1"),
        (Account("TIMEOUT", "0:0", "n2"), "TIMEOUT on n2"),
        (Account("NODE_FAIL"), "NODE_FAIL"),
    ],
)
def test_it_is_said_in_words(account, text):
    assert account.text() == text


def test_one_call_for_all_and_none_for_nothing(sacct):
    sacct(SAID)
    found = Accounting()
    assert found.ask([]) == {}
    assert sacct.calls() == []
    accounts = found.ask([("1", 0), ("1", 2), ("6", 1)])
    assert accounts["6", 1].cancelled
    (call,) = sacct.calls()
    assert "--jobs=1,6" in call
    assert found.missing is None


def test_what_is_over_is_not_asked_for_again(sacct):
    sacct(SAID)
    found = Accounting()
    found.ask([("1", 0), ("1", 2)])
    assert found.ask([("1", 0)])["1", 0].state == "FAILED"
    assert len(sacct.calls()) == 1
    sacct("1_2|TIMEOUT|0:0|n1\n")
    assert found.ask([("1", 0), ("1", 2)])["1", 2].state == "TIMEOUT"
    assert len(sacct.calls()) == 2


def test_an_accounting_that_is_off_is_named(sacct):
    sacct("", code=1, error="Slurm accounting storage is disabled")
    found = Accounting()
    assert found.ask([("1", 0)]) == {}
    assert found.missing.startswith("sacct: Slurm accounting storage is disabled; so nobody knows")
    sacct("", code=1, error="sacct: error: slurm_persist_conn_open: Unable to connect to slurmdbd")
    assert found.ask([("1", 0)]) == {}
    assert "Unable to connect" in found.missing
    sacct(SAID)
    assert ("1", 0) in found.ask([("1", 0)])
    assert found.missing is None


def test_without_the_command_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    found = Accounting()
    assert found.ask([("1", 0)]) == {}
    assert found.missing.startswith("sacct: not found; ")


def test_one_that_hangs_is_given_up(sacct, monkeypatch, tmp_path):
    sacct("")
    (tmp_path / "bin" / "sacct").write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setattr(accounting, "_TIMEOUT_S", 0.3)
    found = Accounting()
    assert found.ask([("1", 0)]) == {}
    assert found.missing.startswith("sacct: no answer in 0.3 s; ")


def test_a_configuration_that_is_gone_is_not_tried(sacct, monkeypatch):
    sacct(SAID)
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
    found = Accounting()
    assert found.ask([("1", 0)]) == {}
    assert "/nowhere/slurm.conf" in found.missing
    assert sacct.calls() == []
