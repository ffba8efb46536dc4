"""Whoever waits is told how far it is, and nobody else."""

from __future__ import annotations

import sys

import pytest

from retable.util import progress
from retable.util.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_nothing_within_two_seconds_and_then_a_line_now_and_then(clock, capsys):
    with Progress("reading records", 100_000) as it:
        for step in range(250):
            clock[0] = 100 + step / 10
            it.at(400 * step)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading records: 8,000 of 100,000",
        "reading records: 48,000 of 100,000",
        "reading records: 88,000 of 100,000",
    ]


def test_quick_things_say_nothing(clock, capsys):
    with Progress("reading records", 10) as it:
        for step in range(19):
            clock[0] = 100 + step / 10
            it.at(step)
    assert capsys.readouterr() == ("", "")


def test_a_live_line_is_cleared_at_the_end_also_after_an_error(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def interrupted() -> None:
        with Progress("reading records", 10) as it:
            for step in range(10):
                clock[0] = 100 + step
                it.at(step)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    err = capsys.readouterr().err
    assert err.count("reading records") == 8
    assert "\n" not in err
    assert err.endswith("\r\x1b[K")


def test_one_task_follows_another_and_a_message_stays(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress() as it:
        clock[0] = 103
        it.stage("reading tables", 1, 4)
        it.say("one is broken")
        clock[0] = 104
        it.stage("writing pages", 2, 1_000)
        clock[0] = 105
        it.advance()
    shown = capsys.readouterr().err
    assert shown == (
        "\r\x1b[Kreading tables: 1 of 4\r\x1b[Kone is broken\n"
        "\r\x1b[Kwriting pages: 2 of 1,000\r\x1b[Kwriting pages: 3 of 1,000\r\x1b[K"
    )
