"""Looks in a table file: what is refused, with its line, and which each cell has."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from retable.tables import spec
from retable.tables.looks_spec import looks_of
from retable.util.errors import UserError

FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits"
TEXT = (FOLDER / "accuracy.yaml").read_text(encoding="utf-8")
SEEDS = "seeds: {paper: 3, smoke: 1}\n"


def with_looks(looks, seeds=SEEDS, more=()):
    """The digits' table with looks, in the line after its seeds."""
    text = TEXT.replace(SEEDS, f"{seeds}looks: {looks}\n")
    for old, new in more:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads a table file of the digits paper with the given text."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "digits" / "wrong.yaml"
    file.parent.mkdir()

    def read(text):
        file.write_text(text, encoding="utf-8")
        return spec.load_file(file)

    return read


ON = "{fixed: 2026-01-02, "
LOSS = [("{metric: loss,", "{metric: loss, seeds: 2,")]


@pytest.mark.parametrize(
    ("looks", "more", "message"),
    [
        (ON + "at: [[3, 2]]}", (), "looks.at.0: [3, 2]: expected ascending numbers"),
        (ON + "at: [[3, 3]]}", (), "looks.at.0: [3, 3]: expected ascending numbers"),
        (ON + "at: [[2, 4]]}", (), "none ends at 3 seeds, which row slow"),
        (ON + "at: [[1, 3]]}", LOSS, "at 2 seeds, which row slow, column loss has"),
        (ON + "at: [[1, 3], [1, 2, 5]]}", (), "at.1: 3 looks, and 2 in the first"),
        (ON + "at: [[1, 3], [2, 3]]}", (), "looks.at.1: two of 'at' end at 3 seeds"),
        (ON + "at: [[1, 3], [1, 2]]}", (), "at.1: no cell has 2 seeds under paper"),
        (ON + "protocol: papr, at: [[1, 3]]}", (), "protocol: no protocol 'papr'; did"),
        (ON + "protocol: smoke, at: [[1, 3]]}", (), "none ends at 1 seeds"),
        (ON + "at: [[3]]}", (), "looks.at.0: [3] is not valid"),
        (ON + "at: [3]}", (), "looks.at.0: 3 is not valid"),
        (ON + "at: [[0, 3]]}", (), "looks.at.0.0: 0 is not valid"),
        (ON + "at: []}", (), "looks.at: [] is not valid"),
        ("{fixed: soon, at: [[1, 3]]}", (), "looks.fixed: 'soon' is not valid"),
        ("{at: [[1, 3]]}", (), "looks.fixed: is missing"),
        (ON + "att: [[1, 3]]}", (), "looks.att: unknown field; did you mean 'at'"),
        ("3", (), "looks: 3 is not valid: expected key: value pairs"),
    ],
)  # fmt: skip
def test_refusals_name_file_and_line(load, looks, more, message):
    text = with_looks(looks, more=more)
    line = 1 + next(i for i, one in enumerate(text.splitlines()) if one.startswith("looks:"))
    with pytest.raises(UserError) as caught:
        load(text)
    said = str(caught.value)
    assert message in said
    assert f"wrong.yaml, line {line}: " in said
    assert "\n" not in said


def test_a_row_and_the_one_it_is_relative_to_are_looked_at_together(load):
    of_two = "slow: {overrides: [model.optimizer.lr=0.01], seeds: 2}"
    more = [
        ("direction: max", "direction: max, relative_to: fast"),
        ("slow: [model.optimizer.lr=0.01]", of_two),
    ]
    with pytest.raises(UserError, match="row slow, column accuracy has other looks than row fast"):
        load(with_looks("{fixed: 2026-01-02, at: [[1, 3], [1, 2]]}", more=more))


def test_a_cell_has_the_looks_that_end_at_its_own_number(load):
    table = load(with_looks("{fixed: 2026-01-02, at: [[1, 3], [1, 2]]}", more=LOSS))
    assert table.looks.fixed == date(2026, 1, 2)
    assert looks_of(table, ("slow", "accuracy"), "paper").seeds == [1, 3]
    assert looks_of(table, ("slow", "loss"), "paper").seeds == [1, 2]
    assert looks_of(table, ("slow", "loss"), "paper").fixed == "2026-01-02"
    assert looks_of(table, ("slow", "accuracy"), "smoke") is None


@pytest.mark.parametrize(
    "name",
    [
        "main_comparison",
        "expanded_comparison",
        "nuisance_losses",
        "released_other_rows",
        "xgboost_check",
    ],
)
def test_the_schedule_of_decision_9_is_the_one_declared(name):
    table = spec.load(f"r_learner/{name}")
    schedule = {"n250": [30, 100], "n500": [5, 30], "n1000": [5, 20]}
    found = {}
    for row, of_row in table.rows.items():
        for column in table.columns:
            if of_row.runs_in(column):
                (size,) = (part for part in f"{row}_{column}".split("_") if part in schedule)
                found.setdefault(size, []).append(looks_of(table, (row, column), "paper"))
    for size, seeds in schedule.items():
        assert {tuple(looks.seeds) for looks in found[size]} == {tuple(seeds)}
        assert {looks.fixed for looks in found[size]} == {"2026-11-29"}
    assert table.seed_list("paper") == list(range(100))
