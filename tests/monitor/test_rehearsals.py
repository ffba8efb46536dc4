"""Rehearsals of tables: what the settings are called that are told of."""

from __future__ import annotations

from retable.launch.rehearsal.devices import GPUS
from retable.launch.rehearsal.records import Rehearsed
from retable.monitor.rehearsals import Line, Rehearsal


def line(found, *cells):
    return Line("digits/base", found, dict.fromkeys(row for row, _ in cells), list(cells))


def test_all_rows_that_failed_are_named_with_the_column_where_others_of_them_are_well():
    well = line(Rehearsed("done", 1), ("a", "x"), ("b", "x"))
    rows = [(row, "y") for row in "acdef"]
    failed = line(Rehearsed("failed", 2, reason="no"), *rows)
    notes = Rehearsal([well, failed], GPUS["a100"], 0.3).notes()
    assert notes[1:] == ["failed: digits/base [a, y; c; d; e; f]: no"]
    assert failed.name == "digits/base [a, c, d, ...]"  # short in the table


def test_the_last_line_counts_the_runs_that_its_hours_are_of():
    known = line(Rehearsed("done", 1), ("a", "x"))
    known.runs, known.estimates, known.total_s = 5, [2.0], 10.0
    other = line(Rehearsed("left", 2, reason="no"), ("b", "x"))
    other.runs = 20
    for lines, runs in (([known], "5"), ([known, other], "5 of 25")):
        columns = Rehearsal(lines, GPUS["a100"], 0.3).table().columns
        assert [columns[0].footer, columns[1].footer, columns[-1].footer] == ["all", runs, "10 s"]
