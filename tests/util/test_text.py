"""Durations, counts and runs in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from retable.util.text import counted, duration, few, folder_name, on_table, run_name


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (9e4, "25.0 h")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_counts():
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_commands_on_tables():
    assert on_table("run", "digits/accuracy", "paper") == "retable run digits/accuracy"
    said = "retable run digits/accuracy --protocol smoke"
    assert on_table("run", "digits/accuracy", "smoke") == said


def test_names_of_runs():
    assert run_name("digits/base", 3, "0123456789abcdef") == "digits/base s3 01234567"
    assert folder_name("digits/0123456789abcdef") == "digits/01234567"
    assert folder_name(Path("/runs/digits/0123456789abcdef")) == "digits/01234567"


def test_of_many_names_the_first_are_named():
    names = [str(n) for n in range(9)]
    assert few(names[:8]) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert few(names) == "0, 1, 2, 3 and 5 more"
    assert few([]) == ""
