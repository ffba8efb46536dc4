"""What `show` says of a table file besides its cells."""

from __future__ import annotations

import pytest

from retable.report import listing
from retable.report.listing import show_text
from retable.tables import spec
from retable.util.errors import UserError
from support import heat

TABLE = """\
paper: digits
title: Accuracy
source: {paper_ref: "Table 2", own: true}
metrics: {accuracy: {key: test/accuracy, direction: max, margin: 1.0}}
seeds: {smoke: 2}
columns:
  accuracy: {metric: accuracy, experiment: {smoke: digits/tuned}}
  loss: {metric: accuracy, experiment: {smoke: digits/smoke}}
rows: {slow: [model.optimizer.lr=0.01]}
"""


def shown(text):
    with heat.files(text) as file:
        return show_text("digits/shown", spec.load_file(file)).splitlines()


def test_what_starts_from_another_run_is_said_and_nothing_of_what_is_broken(monkeypatch):
    lines = shown(TABLE)
    assert "chain: digits/tuned starts from digits/smoke" in lines
    assert (
        lines[lines.index("metrics:") + 1]
        == "    accuracy: test/accuracy, larger is better, margin 1"
    )
    assert sum(line.startswith("chain:") for line in lines) == 1
    assert not any(line.startswith("figure:") for line in lines)

    def broken(overrides):
        raise UserError("model: no")

    monkeypatch.setattr(listing, "compose", broken)
    assert shown(TABLE) == [line for line in lines if not line.startswith("chain:")]


def test_what_settings_are_chosen_by_is_said():
    over = "select: {over: {model.hidden: [8, 16], model.bias: [true, false]}, by: val/accuracy"
    lines = shown(TABLE + over + "}\n")
    at = lines.index(
        "select, for all rows: of 4 settings the largest val/accuracy, mean over seeds 1000000 to"
        " 1000002"
    )
    assert lines[at + 1 : at + 3] == ["    model.hidden: 8, 16", "    model.bias: true, false"]
    some = shown(f"{TABLE}{over}, direction: min, seeds: [7], rows: [slow]}}\n")
    assert "select, for rows slow: of 4 settings the smallest val/accuracy, of the seed 7" in (some)
    assert not any(line.startswith("select") for line in shown(TABLE))


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("{x: epoch, panels: [{title: Both, points: {accuracy: 1, loss: 2}}]}",
         "figure: curves over epoch; 1 panel: Both"),
        ("{kind: scatter, panels: [{x: accuracy, y: loss}]}",
         "figure: scatter, loss over accuracy; 1 panel"),
        ("{kind: cells, x: width, y: rate, panels:"
         " [{title: Both, rows: {slow: 1}, columns: {accuracy: 2}}]}",
         "figure: cells over rate and width; 1 panel: Both"),
        ("{kind: heat, artifact: cosines, title: cosine, panels:"
         " [{row: slow, column: accuracy, array: all}]}",
         "figure: heat, cosine (artefact cosines); 1 panel"),
        ("{kind: image, artifact: cosines, title: weights, panels:"
         " [{row: slow, column: accuracy, array: all, seed: 1}]}",
         "figure: image, weights (artefact cosines); 1 panel"),
    ],
)  # fmt: skip
def test_that_a_table_has_a_figure_is_said(figure, said):
    lines = shown(f"{TABLE}figure: {figure}\n")
    assert said in lines


def test_what_is_quick_how_a_claim_is_tested_and_notes_are_said():
    rest = """\
quick: {protocol: smoke, seeds: 1, columns: [loss]}
notes: [Two seeds., "  Spaces.  "]
claims:
  - {id: C1, statement: It is no worse, kind: not_worse, better: slow, than: fast, margin: 1,
     grade: derived}
  - {id: C2, statement: It is high, kind: threshold, better: slow, on: accuracy, at_least: 0.5}
"""
    both = TABLE.replace("rows: {slow:", "rows: {fast: [model.optimizer.lr=0.02], slow:")
    lines = shown(both + rest)
    assert "quick (make reproduce): protocol smoke, 1 seed, columns loss" in lines
    assert "    C1 (not_worse, margin 1, derived): It is no worse" in lines
    assert "    C2 (threshold, at least 0.5): It is high" in lines
    assert lines[lines.index("notes:") + 1 :] == ["    Two seeds.", "    Spaces."]
    assert "reported:" not in lines
    plain = shown(TABLE)
    assert not any(line.startswith(("quick", "notes:")) for line in plain)


def test_what_it_means_that_a_run_has_no_number_is_said():
    lines = shown(TABLE.replace("margin: 1.0}", "margin: 1.0, absent: no collapse}"))
    assert lines[lines.index("metrics:") + 1].endswith(
        "margin 1; where a run has none: no collapse"
    )


def test_a_reported_number_has_its_grade_its_place_and_its_note():
    cell = 'accuracy: {value: "97.4", grade: primary, where: Table 1, note: "suspicious: twice"}'
    lines = shown(f"{TABLE}reported: {{slow: {{{cell}}}}}\n")
    assert "    slow, accuracy: 97.4 [primary] Table 1; suspicious: twice" in lines
