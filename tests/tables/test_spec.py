"""Table files: each refusal names file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retable.tables import spec
from retable.util.errors import UserError

FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits"
TEXT = (FOLDER / "accuracy.yaml").read_text(encoding="utf-8")
SLOW = "  slow: [model.optimizer.lr=0.01]"
SEEDS = "seeds: {paper: 3, smoke: 1}"
BOMB = "b0: &b0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
DIFFERS = "differs: Nothing"
WHY = "because: so, runs: [0123456789ab]"
HEAD = 'value: "91.30", spread: "0.50", spread_kind: std, n: 5'


@pytest.fixture
def table(tmp_path):
    """A table file of the digits paper with the given text."""
    folder = tmp_path / "digits"
    folder.mkdir()

    def write(text: str) -> Path:
        file = folder / "wrong.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def line_of(text: str, part: str) -> int:
    return 1 + next(i for i, line in enumerate(text.splitlines()) if part in line)


CHANGES = [
    # (old, new, message, part of the line that is named)
    ("margin: 1.0", "marign: 1.0", "metrics.accuracy.marign: unknown field", "marign"),
    ("margin: 1.0", "margin: -1.0", "metrics.accuracy.margin: -1.0 is not valid", "margin: -1"),
    ("margin: 1.0", "margin: big", "metrics.accuracy.margin: 'big'", "margin: big"),
    ("direction: max", "direction: mx", "'mx' is not valid; did you mean 'max'?", "mx"),
    ("direction: max", "direction: max, relative_to: slw", "no row 'slw'; did you mean", "slw"),
    ("direction: max", "direction: max, relative_to: quoted", "row 'quoted' is not run", "max, r"),
    ("{metric: accuracy", "{metric: acuracy", "no metric 'acuracy'; did you mean", "acuracy"),
    ("digits/base, smoke", "digits/bas, smoke", "experiment.paper: no experiment", "bas,"),
    (SLOW, "  slow: {experiment: {smoke: digits/tund}}", "slow.experiment.smoke: no exp", "tund"),
    ("digits/base, smoke", "3, smoke", "columns.accuracy.experiment", "paper: 3, smoke: digits"),
    ("paper: digits\n", "paper: digit\n", "paper: is 'digit', but the file", "digit"),
    ("paper: digits\n", "paper: a-b\n", "paper: must be one word of letters", "a-b"),
    ("paper: digits\n", "paper: class\n", "paper: cannot be 'class', no package", "class"),
    ("paper: digits\n", "paper: _x\n", "paper: cannot be '_x', no package", "_x"),
    ("paper: digits\n", "paper: meter\n", "retable.papers.meter is what papers share", "meter"),
    ("title: Test", "title: 3 #", "title: 3 is not valid", "title: 3"),
    ('source: {paper_ref: "Table 1", own: true}', "source: Table 1", "source: 'Table 1'", "source"),
    ('paper_ref: "Table 1"', 'paper_ref: ""', "source.paper_ref: '' is not valid", "source"),
    # Reported numbers.
    ('"91.30"', "91.30", "reported.slow.accuracy.value: write it in quotes", "91.30"),
    ('"91.30"', '"about 91"', "'about 91' is not a number", "about"),
    ('"91.30"', '"nan"', "'nan' is not a number", "nan"),
    ('"91.30"', '"1e999"', "'1e999' is too large", "1e999"),
    ('"91.30"', '"9_1"', "'9_1' is not a number", "9_1"),
    ('"0.50"', "0.50", "reported.slow.accuracy.spread: write it in quotes", "0.50"),
    ('"0.50"', '"-0.50"', "'-0.50' is negative", "-0.50"),
    (", spread_kind: std", "", "spread and spread_kind: give both or neither", "91.30"),
    ("spread_kind: std", "spread_kind: st", "did you mean 'std'?", "spread_kind: st,"),
    (", grade: primary", "", "reported.slow.accuracy.grade: is missing", "91.30"),
    ("grade: primary", "grade: primry", "'primry' is not valid; did you mean 'primary'?", "primry"),
    (', where: "Table 1, row 1"', "", "reported.slow.accuracy.where: is missing", "91.30"),
    ('where: "Table 1, row 1"', 'where: ""', "reported.slow.accuracy.where: ''", "91.30"),
    ("n: 5", "n: 0", "reported.slow.accuracy.n: 0", "91.30"),
    ("  quoted:\n    accuracy", "  quotd:\n    accuracy", "reported.quotd: no row", "quotd"),
    ("  fast:\n    accuracy", "  fast:\n    acuracy", "fast.acuracy: no column", "acuracy"),
    # Claims.
    ("better: fast", "better: fats", "claims.0.better: no row 'fats'; did you", "fats"),
    ("than: slow", "than: slw", "claims.0.than: no row 'slw'", "slw"),
    ("on: accuracy}", "on: acuracy}", "claims.0.on: no column 'acuracy'; did", "acuracy"),
    ("kind: ordering", "kind: order", "did you mean 'ordering'?", "kind: order,"),
    ("kind: ordering", "kind: ratio", "at_least, at_most, about: give one of them", "kind: ratio"),
    (", better: fast", "", "better, than: a claim of kind ordering names rows in both", "C1"),
    ("kind: ordering", "kind: not_judged", "why_not_judged: is needed", "C1"),
    # Figures, and causes of differences.
    (DIFFERS, f"figure: {{x: a, panels: [{{points: {{acuracy: 1}}}}]}}\n{DIFFERS}",
     "figure.panels.0.points.acuracy: no column 'acuracy'; did you mean", "figure"),
    (DIFFERS, f"figure: {{x: a, panels: [{{points: {{loss: 1}}, only: [slw]}}]}}\n{DIFFERS}",
     "figure.panels.0.only: no row 'slw'; did you mean 'slow'?", "figure"),
    (DIFFERS, f"figure: {{x: a, marks: lss, panels: [{{points: {{loss: 1}}}}]}}\n{DIFFERS}",
     "figure.marks: no column 'lss'; did you mean 'loss'?", "figure"),
    (DIFFERS, f"figure: {{x: a, lines: columns, panels: [{{points: {{loss: 1}}}}]}}\n{DIFFERS}",
     "figure.panels.0.points.loss: no row 'loss'", "figure"),
    (DIFFERS, f"figure: {{x: a, lines: columns, panels: [{{points: {{slow: 1}}, only: [slow]}}]}}"
     f"\n{DIFFERS}", "figure.panels.0.only: no column 'slow'", "figure"),
    (DIFFERS, f"figure: {{x: a, panels: []}}\n{DIFFERS}", "figure.panels: [] is not", "figure"),
    (DIFFERS, f"figure: {{y: a, panels: [{{points: {{loss: 1}}}}]}}\n{DIFFERS}",
     "figure.x: is missing", "figure"),
    (DIFFERS, f"why: [{{row: slw, {WHY}}}]\n{DIFFERS}",
     "why.0.row: no row 'slw'; did you mean 'slow'?", "why"),
    (DIFFERS, f"why: [{{row: slow, column: [loss, los], {WHY}}}]\n{DIFFERS}",
     "why.0.column: no column 'los'; did you mean 'loss'?", "why"),
    (DIFFERS, f"why: [{{claim: C2, {WHY}}}]\n{DIFFERS}",
     "why.0.claim: no claim 'C2'; did you mean 'C1'?", "why"),
    (DIFFERS, f"why: [{{row: slow, claim: C1, {WHY}}}]\n{DIFFERS}",
     "row, claim: give one of them", "why"),
    (DIFFERS, f"why: [{{row: slow, because: so, runs: [abc]}}]\n{DIFFERS}",
     "why.0.runs.0: 'abc' is not a run's key", "why"),
    # What make reproduce runs.
    (DIFFERS, f"quick: {{protocol: papr}}\n{DIFFERS}",
     "quick: no protocol 'papr'; did you mean 'paper'?", "quick"),
    (DIFFERS, f"quick: {{rows: [quoted]}}\n{DIFFERS}",
     "quick: none of these rows is run in these columns under paper", "quick"),
    (DIFFERS, f"quick: {{seeds: [0, 1]}}\n{DIFFERS}",
     "quick.seeds: [0, 1] is not valid: expected a number of seeds, 1 or more", "quick"),
    (DIFFERS, f"quick: {{rows: [slw]}}\n{DIFFERS}",
     "quick.rows: no row 'slw'; did you mean 'slow'?", "quick"),
    (DIFFERS, f"quick: {{columns: [loss, los]}}\n{DIFFERS}",
     "quick.columns: no column 'los'; did you mean 'loss'?", "quick"),
    (DIFFERS, f"quick: {{rows: []}}\n{DIFFERS}",
     "quick.rows: is empty; left out it is all rows", "quick"),
    (DIFFERS, f"quick: {{columns: [loss, loss]}}\n{DIFFERS}",
     "quick.columns: column 'loss' stands there twice", "quick"),
    (DIFFERS, f"counted_in: [accurcy]\n{DIFFERS}",
     "counted_in.0: no table 'accurcy'; did you mean 'accuracy'?", "counted_in"),
    (DIFFERS, f"counted_in: [wrong]\n{DIFFERS}", "counted_in.0: no table 'wrong'", "counted_in"),
    (DIFFERS, f"timing: together\n{DIFFERS}", "timing: 'together' is not valid", "timing"),
    (DIFFERS, f"quick: {{seeds: 4}}\n{DIFFERS}",
     "quick.seeds: 4 is more than the 3 of the table", "quick"),
    (DIFFERS, f"quick: {{sedes: 2}}\n{DIFFERS}",
     "quick.sedes: unknown field; did you mean 'seeds'?", "quick"),
    (DIFFERS, f"quick: maybe\n{DIFFERS}", "quick: 'maybe' is not valid: expected tr", "quick"),
    # Seeds.
    (SEEDS, "seeds: 0", "seeds: 0 is not valid: expected how many seeds", "seeds: 0"),
    (SEEDS, "seeds: 9999999999999999999", "seeds: 9999999999999999999 is not valid", "seeds: 9"),
    (SEEDS, "seeds: []", "seeds: [] is not valid", "seeds: []"),
    (SEEDS, "seeds: [0, 0]", "seeds: a seed stands twice", "seeds: [0"),
    (SEEDS, "seeds: [-1]", "seeds: [-1] is not valid", "seeds: [-1"),
    (SEEDS, "seeds: true", "seeds: True is not valid", "seeds: true"),
    (SEEDS, "seeds: many", "seeds: 'many' is not valid", "seeds: many"),
    (SEEDS, "seeds: {papr: 3}", "seeds.papr: no protocol 'papr'; did you mean 'paper'?", "papr"),
    (SLOW, "  slow: [seed=3]", "rows.slow.overrides: the table's seeds are in 'seeds'", "seed=3"),
    # Rows.
    (SLOW, "  slow: model.x=1", "rows.slow: 'model.x=1' is not valid", "model.x"),
    (SLOW, "  slow: [3]", "rows.slow.overrides.0: 3 is not valid", "[3]"),
    (SLOW, "  3: [a=1]", "rows.3: 3 is not valid", "  3:"),
    (SLOW, f"{SLOW}\n  slow: []", "not valid YAML: 'slow' stands twice", "slow: []"),
    # YAML.
    ("title:", "title: a\ntitle:", "not valid YAML: 'title' stands twice", "title: Test"),
    ("title:", "\ttitle:", "not valid YAML", "title"),
    ("title:", "? [a]\n: 1\ntitle:", "not valid YAML: a key has to be a word", "? [a]"),
    ("title:", "x: *nope\ntitle:", "not valid YAML: found undefined alias", "nope"),
    ("title: Test", "title: !!python/object/apply:os.system ['touch PWNED'] #",
     "not valid YAML: could not determine a constructor", "PWNED"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message", "part"), CHANGES)
def test_refusals_name_file_and_line(table, tmp_path, monkeypatch, old, new, message, part):
    monkeypatch.chdir(tmp_path)
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(UserError) as caught:
        spec.load_file(table(text))
    said = str(caught.value)
    assert message in said
    assert f"wrong.yaml, line {line_of(text, part)}: " in said
    assert "\n" not in said
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a table: expected key: value pairs"),
        ("- a\n- b\n", "is not a table"),
        ("hello", "is not a table"),
        ("paper: [1\n", "not valid YAML"),
        (TEXT + "\x00", "not valid YAML"),
        (TEXT.replace("paper: digits\n", ""), "paper: is missing"),
        (TEXT.replace("rows:\n", "rowz:\n"), "rowz: unknown field; did you mean 'rows'"),
        (TEXT + "---\na: 1\n", "not valid YAML"),
        (TEXT + "notes: &a [*a]\n", "line 26: refers to itself"),
        (TEXT + "null: 3\n", "None"),
        (TEXT + "'': 3\n", "line 26: '': unknown field"),
        (TEXT + "notes: [2024-02-30]\n", "line 26: not valid YAML: '2024-02-30' cannot be read"),
        (TEXT + "notes: [!!int x]\n", "line 26: not valid YAML: 'x' cannot be read"),
        (TEXT + "notes: " + "[" * 50 + "]" * 50, "line 26: is nested more than 40 deep"),
        (TEXT + "notes: " + "[" * 9000, "line 26: not valid YAML"),
        (TEXT + BOMB, "line 30: its aliases repeat more than 50000 values"),
        (TEXT + "\x1b[31m: 1\n", "line 26: not valid YAML: unacceptable character"),
        (TEXT + '"\\ud800": 1\n', "line 26: not valid YAML"),
        (TEXT + '"\\e[31m": 1\n', "\\x1b[31m: unknown field"),
        ("paper: digits\ntitle: x\nsource: {paper_ref: a}\nmetrics: {}\nseeds: 1\n"
         "columns: {}\nrows: {}\n", "metrics: {} is not valid"),
    ],
)  # fmt: skip
def test_files_that_are_no_tables(table, text, message):
    with pytest.raises(UserError, match=r"wrong\.yaml") as caught:
        spec.load_file(table(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_or_wrong_bytes_in_place_of_a_table():
    folder, file = FOLDER / "folder.yaml", FOLDER / "bytes.yaml"
    folder.mkdir()
    file.write_bytes(b"\xff\xfe\x00")
    try:
        with pytest.raises(UserError, match="no table 'digits/folder'"):
            spec.load("digits/folder")
        with pytest.raises(UserError, match=r"bytes\.yaml.*not valid YAML"):
            spec.load("digits/bytes")
        for name in ("", "../table/digits/accuracy", "/etc/passwd", "digits/accuracy.yaml"):
            with pytest.raises(UserError, match="no table"):
                spec.load(name)
    finally:
        folder.rmdir()
        file.unlink()


def test_on_is_a_word_and_true_is_not(table):
    text = TEXT.replace(SLOW, "  off: [a=1]\n  yes: [a=2]\n" + SLOW)
    loaded = spec.load_file(table(text))
    assert list(loaded.rows)[:3] == ["off", "yes", "slow"]
    assert loaded.claims[0].on == "accuracy"
    assert loaded.rows["quoted"].run is False
    assert loaded.metrics["loss"].margin == 0.1


def test_short_rows_seeds_and_protocols():
    loaded = spec.load("digits/accuracy")
    assert loaded.rows["slow"].overrides == ["model.optimizer.lr=0.01"]
    assert loaded.protocols() == ["paper", "smoke"]
    assert loaded.seed_list("paper") == [0, 1, 2]
    assert loaded.seed_list("smoke") == [0]
    assert loaded.experiment("accuracy", "smoke") == "digits/smoke"
    assert loaded.experiment("loss", "smoke") is None
    assert loaded.reported["slow"]["accuracy"].value == "91.30"


def test_every_shipped_table_is_valid():
    from retable.util import paths

    for name in paths.config_names("table"):
        loaded = spec.load(name)
        if loaded.counted_in:
            others = (spec.load(f"{loaded.paper}/{other}") for other in loaded.counted_in)
            assert _printed(loaded) <= set().union(*map(_printed, others)), name


def _printed(table):
    cells = [cell for row in table.reported.values() for cell in row.values()]
    return {cell.value for cell in cells if cell.grade == "primary"}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("quick: false", None), ("quick: true", 3), ("quick: {seeds: 2}", 2), ("", None)],
)
def test_quick_is_all_of_the_paper_s_protocol_or_what_is_said(table, text, seeds):
    quick = spec.load_file(table(f"{text}\n{TEXT}")).quick
    assert (quick is None) == (seeds is None)
    if quick is not None:
        assert quick.protocol == "paper"
        assert quick.seeds == (None if text == "quick: true" else seeds)
