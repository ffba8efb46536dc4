"""Columns over others in a table file: what is refused, with file, line and the nearest choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from retable.tables import spec
from retable.tables.over_columns_spec import METRICS, behind
from retable.util.errors import UserError
from support.over_columns import TEXT

TWO = "columns: [acc, loss], base: stl}"
RANKS = "columns: [acc, loss], exclude: [stl]}"
VALUES = "base: {values: {acc: 50.0, loss: 2}"
MR = "title: MR\n"
PAIR = "  pair: [model.optimizer.lr=0.04]"
DELTA = "columns.delta_m.over_columns"
SPREAD = "columns.uneven.over_columns"

CHANGES = [
    # (old, new, message, part of the line that is named)
    ("[acc, loss], base: stl", "[acc, los], base: stl",
     f"{DELTA}.columns: no column 'los'; did you mean 'loss'?", "los]"),
    ("[acc, loss], base: stl", "[acc, mr], base: stl",
     f"{DELTA}.columns: column 'mr' is over columns itself; name columns of runs' numbers, such as"
     " acc, loss", "mr]"),
    ("[acc, loss], base: stl", "[acc, acc], base: stl", "column 'acc' stands there twice",
     "acc, a"),
    ("[acc, loss], base: stl", "[], base: stl", f"{DELTA}.columns: [] is not valid", "[]"),
    ("kind: relative_change", "kind: relative_chang",
     f"{DELTA}.kind: 'relative_chang' is not valid; did you mean 'relative_change'?",
     "relative_chang,"),
    ("kind: relative_change, c", "c", f"{DELTA}.kind: is missing", "[acc, loss], base: stl"),
    (TWO, TWO.replace("base", "bse"), f"{DELTA}.bse: unknown field; did you mean 'base'?", "bse"),
    # The base.
    ("base: stl", "base: slt", f"{DELTA}.base: no row 'slt'; did you mean 'stl'?", "slt"),
    (", base: stl", "", f"{DELTA}: base: is missing: a row", "[acc, loss]}"),
    ("base: stl", "base: {row: stl, where: x}", "where, grade: are of values", "row: stl"),
    ("base: stl", "base: {}", f"{DELTA}.base: row, values: give one of them", "base: {}"),
    ("base: stl", "base: 3", f"{DELTA}.base: 3 is not valid: expected key: value", "base: 3"),
    ("  stl: {title", "  stl: {run: false, title", f"{DELTA}.base: row 'stl' is not run in", TWO),
    ("loss: 2}", "los: 2}", f"{SPREAD}.base.values.los: no column 'los' in over_columns.columns;"
     " did you mean 'loss'?", "los: 2"),
    (", loss: 2}", "}", f"{SPREAD}.base.values: no value of column 'loss'", "acc: 50.0}"),
    ("loss: 2}", "loss: 0}", "values.loss: 0: a relative change is from a positive", "loss: 0"),
    ("loss: 2}", "loss: many}", "values.loss: 'many' is not valid", "many"),
    (', where: "Table 9"', "", "where, grade: values come with both", "grade: recalled}"),
    ("grade: recalled}", "grade: recaled}", "did you mean 'recalled'?", "recaled"),
    ("base: {values", "base: {vlues", f"{SPREAD}.base.vlues: unknown field; did you mean 'values'",
     "vlues"),
    # Ranks.
    ("exclude: [stl]", "exclude: [slt]", "no row 'slt'; did you mean 'stl'?", "slt"),
    ("exclude: [stl]", "exclude: [stl, ls, gap]",
     "ranks are among two rows or more, and only pair has all columns (paper)", "gap]"),
    ("exclude: [stl]", "base: stl", "base: ranks have none; leave it out, or kind",
     RANKS[:20]),
    ("base: stl", "base: stl, exclude: [ls]", "exclude: is of kind mean_rank", "[ls]"),
    ("columns: [acc, loss]\n", "columns: [loss]\n", "columns: a spread is over two or more",
     "over_columns:\n"),
    # Metrics, of the parts and its own.
    ("direction: min, margin", "margin", "metric 'loss' of column 'loss' does not say what is"
     " better: give it direction: min or max", TWO),
    ("direction: min, margin", "direction: min, relative_to: ls, margin",
     "metric 'loss' of column 'loss' is relative to a row itself", TWO),
    (MR, f"{MR}    metric: loss\n", "metrics.loss.key: is 'test/loss', and column mr, which is over"
     " others, needs key: mean_rank", "loss: {key"),
    ("columns:\n", "  mean_rank: {key: mean_rank, direction: max}\ncolumns:\n",
     "metrics.mean_rank.direction: is 'max', and less is better", "mean_rank: {"),
    ("columns:\n", "  relative_change: {key: relative_change, direction: min}\ncolumns:\n",
     "metrics.relative_change.unit: is ''", "relative_change: {"),
    ("    margin: 0.5\n    over_columns: {kind: relative", "    over_columns: {kind: relative",
     "columns.delta_m.margin: is missing, and row ls, column delta_m has a reported", "delta_m:"),
    # What is of runs.
    (MR, f"{MR}    seeds: 2\n", "columns.mr: seeds: is of runs, and over_columns plans none",
     "mr:"),
    (MR, f"{MR}    experiment: digits/base\n", "columns.mr: experiment: is of runs", "  mr:"),
    (MR, f"{MR}    step: 0\n", "columns.mr: step: is of runs", "  mr:"),
    (PAIR, "  pair: {columns: [acc, mr]}",
     "rows.pair.columns: names 'mr' and not 'loss', which that is made of", "pair: {"),
    ("paper: digits/base, smoke: digits/smoke", "smoke: digits/smoke",
     f"{DELTA}.columns: no protocol has an experiment for all of them", TWO),
]  # fmt: skip


@pytest.fixture
def load(tmp_path):
    def read(text: str):
        folder = tmp_path / "digits"
        folder.mkdir(exist_ok=True)
        file = folder / "wrong.yaml"
        file.write_text(text, encoding="utf-8")
        return spec.load_file(Path(file))

    return read


@pytest.mark.parametrize(
    ("old", "new", "message", "part"),
    CHANGES,
)
def test_refusals_name_file_line_and_choice(load, old, new, message, part):
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(UserError) as caught:
        load(text)
    said = str(caught.value)
    assert message in said
    number = int(said.partition("wrong.yaml, line ")[2].partition(":")[0])
    assert part.strip() in text.splitlines()[number - 1]
    assert "\n" not in said


def test_its_metric_follows_from_its_kind_or_is_the_tables_own(load):
    table = load(TEXT)
    assert {table.columns[name].metric for name in ("delta_m", "uneven", "mr")} == set(METRICS)
    for kind in METRICS:
        metric = table.metrics[kind]
        assert (metric.key, metric.direction, metric.decimals) == (kind, "min", 2)
    own = "  ranks: {key: mean_rank, direction: min, decimals: 1}\ncolumns:\n"
    changed = TEXT.replace("columns:\n", own, 1).replace(MR, f"{MR}    metric: ranks\n")
    table = load(changed)
    assert table.columns["mr"].metric == "ranks"
    assert "mean_rank" not in table.metrics
    assert type(table).model_validate(table.model_dump(exclude_unset=True)) == table


def test_what_a_cell_is_made_of(load):
    table = load(TEXT.replace(PAIR, "  pair: {overrides: [model.hidden=8], seeds: 2}"))
    assert behind(table, "ls", "delta_m", "paper") == [
        ("ls", "acc"), ("ls", "loss"), ("stl", "acc"), ("stl", "loss"),
    ]  # fmt: skip
    assert behind(table, "stl", "delta_m", "paper") == []
    assert behind(table, "ls", "delta_m", "smoke") == []
    assert behind(table, "ls", "uneven", "paper") == [("ls", "acc"), ("ls", "loss")]
    assert {row for row, _ in behind(table, "ls", "mr", "paper")} == {"ls", "gap", "pair"}
    assert behind(table, "ls", "acc", "paper") == []
    # As many seeds as all that it is made of have.
    assert table.n_seeds("ls", "delta_m", "paper") == 3
    assert table.n_seeds("pair", "delta_m", "paper") == table.n_seeds("ls", "mr", "paper") == 2
    assert table.experiment("mr", "paper", "ls") == "digits/base"
    assert table.experiment("mr", "smoke", "ls") is None


def test_a_row_that_is_reported_only_is_neither_ranked_nor_a_base(load):
    quoted = f"{PAIR}\n  quoted: {{run: false}}"
    table = load(TEXT.replace(PAIR, quoted))
    assert behind(table, "quoted", "mr", "paper") == []
    assert ("quoted", "acc") not in behind(table, "ls", "mr", "paper")
