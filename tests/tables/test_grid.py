"""From table files to runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retable.report.listing import show_text
from retable.tables.grid import expand_names, plan
from retable.tables.spec import load
from retable.util.errors import UserError

FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits"
TEXT = (FOLDER / "accuracy.yaml").read_text(encoding="utf-8")


@pytest.fixture
def table():
    """Make another table of the digits paper, for one test."""
    file = FOLDER / "made.yaml"

    def write(*changes: tuple[str, str]) -> str:
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        file.write_text(text, encoding="utf-8")
        return "digits/made"

    yield write
    file.unlink()


def refusal(name: str, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        plan(name, *args, **kwargs)
    return str(caught.value)


def test_cells_runs_and_seeds():
    grid = plan("digits/accuracy")
    # The quoted row is reported only; two metrics of one setting share their runs.
    assert set(grid.cells) == {(r, c) for r in ("slow", "fast") for c in ("accuracy", "loss")}
    runs = list(grid.runs())
    assert len(runs) == len({run.key for run in runs}) == 6
    # Evenly: every setting with the first seed, then every setting with the next.
    assert [run.config.seed for run in runs] == [0, 0, 1, 1, 2, 2]
    assert runs[0].config.model["optimizer"]["lr"] == 0.01
    assert [r.config.seed for r in plan("digits/accuracy", n_seeds=2).runs()] == [0, 0, 1, 1]
    assert len(list(plan("digits/accuracy", rows=["fast"], columns=["loss"]).runs())) == 3
    smoke = plan("digits/accuracy", "smoke")
    assert set(smoke.cells) == {("slow", "accuracy"), ("fast", "accuracy")}


def test_names():
    assert expand_names("digits/accuracy") == ["digits/accuracy"]
    assert expand_names("digits") == ["digits/accuracy"]
    assert len(expand_names("risk_parity")) > 1
    for name in ("", "digit", "digits/", "../x", "/", "é", "x" * 9999):
        with pytest.raises(UserError, match="no table or paper"):
            expand_names(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nosuch", "; valid: binary_connect, "),  # near none: all papers
        ("digits/a", "; did you mean 'digits/accuracy'?"),  # never the paper that it names
        ("digits/" + 30 * "z", "; valid: digits/accuracy"),
        ("digits/acuracy", "; did you mean 'digits/accuracy'?"),
        ("binary_conect/table2", "; did you mean 'binary_connect/table2'?"),
        ("digit", "; did you mean 'digits'?"),
    ],
)
def test_what_there_is_besides_an_unknown_name(name, hint):
    with pytest.raises(UserError) as error:
        expand_names(name)
    assert str(error.value).startswith(f"no table or paper '{name}'{hint}")


def test_an_experiment_is_no_table_and_its_commands_are_said():
    said = r"^'digits/smoke' is an experiment, .* `retable train experiment=digits/smoke` runs it$"
    with pytest.raises(UserError, match=said):
        expand_names("digits/smoke")


def test_unknown_names_and_ranges():
    assert "did you mean 'slow'?" in refusal("digits/accuracy", rows=["slw"])
    assert "did you mean 'accuracy'?" in refusal("digits/accuracy", columns=["acc"])
    assert "did you mean 'smoke'?" in refusal("digits/accuracy", "smok")
    for n in (0, -1, 4):
        assert "has 1 to 3 seeds" in refusal("digits/accuracy", n_seeds=n)


def test_unkeyed_overrides_pass_and_keyed_ones_are_named():
    plain = plan("digits/accuracy")
    other = plan("digits/accuracy", overrides=["launcher.workers=2", "device.threads=2"])
    assert [r.key for r in other.runs()] == [r.key for r in plain.runs()]
    assert other.cells["slow", "loss"].setting.config.launcher.workers == 2
    said = refusal("digits/accuracy", overrides=["launcher.workers=2", "model.hidden=64"])
    assert "override 'model.hidden=64': would change what digits/accuracy runs" in said
    assert "workers" not in said
    assert "override 'seed=7'" in refusal("digits/accuracy", overrides=["seed=7"])
    said = refusal("digits/accuracy", overrides=["protocol=smoke"])
    assert said == "override 'protocol=smoke': say --protocol smoke instead"
    assert "launcher.worker" in refusal("digits/accuracy", overrides=["launcher.worker=2"])


def test_two_cells_that_are_one_number_are_refused(table):
    name = table(("lr=0.01", "lr=0.1"))
    assert "row fast, column accuracy is the same number of the same run as row slow" in refusal(
        name
    )
    # Spelt differently, or different in what is not keyed: still the same run.
    assert "the same number" in refusal(table(("lr=0.01", "lr=1e-1")))
    assert "the same number" in refusal(table(("model.optimizer.lr=0.01", "paths.cache=elsewhere")))
    said = refusal(table(("{metric: loss,", "{metric: accuracy,")))
    assert (
        "row slow, column loss is the same number of the same run as row slow, column acc" in said
    )


def test_a_wrong_override_names_its_cell_and_another_paper_is_refused(table):
    said = refusal(table(("lr=0.01", "lrr=0.01")))
    assert said.startswith("digits/made, row slow, column accuracy: model.optimizer.lrr: ")
    assert "did you mean 'lr'?" in said
    said = refusal(table(("lr=0.01", "lr=0.01, paper=others")))
    assert "is of paper 'others', the table of 'digits'" in said


def test_deterministic_cells_use_one_seed(table):
    grid = plan(table(("loss: {key", "loss: {deterministic: true, key")))
    assert len(grid.cell_runs(grid.cells["slow", "loss"])) == 1
    assert len(grid.cell_runs(grid.cells["slow", "accuracy"])) == 3
    assert len(list(grid.runs())) == 6
    assert len(list(plan("digits/made", columns=["loss"]).runs())) == 2


def test_a_row_brings_the_row_that_it_is_relative_to(table):
    name = table(("loss: {key", "loss: {relative_to: slow, key"))
    assert set(plan(name, rows=["fast"], columns=["loss"]).cells) == {
        ("fast", "loss"), ("slow", "loss")
    }  # fmt: skip
    assert set(plan(name, rows=["fast"], columns=["accuracy"]).cells) == {("fast", "accuracy")}


def test_a_row_can_be_limited_to_some_columns(table):
    name = table(
        (
            "  slow: [model.optimizer.lr=0.01]",
            "  slow: {overrides: [model.optimizer.lr=0.01], columns: [loss]}",
        )
    )
    grid = plan(name)
    assert ("slow", "loss") in grid.cells
    assert ("slow", "accuracy") not in grid.cells
    assert ("fast", "accuracy") in grid.cells
    wrong = table(("  slow: [model.optimizer.lr=0.01]", "  slow: {columns: [los]}"))
    message = refusal(wrong)
    assert "rows.slow.columns: no column 'los'; did you mean 'loss'?" in message


def test_a_row_can_be_limited_to_some_protocols(table):
    slow = "  slow: [model.optimizer.lr=0.01]"
    limited = "  slow: {overrides: [model.optimizer.lr=0.01], protocols: [paper]}"
    name = table((slow, limited))
    assert ("slow", "accuracy") in plan(name).cells
    assert set(plan(name, "smoke").cells) == {("fast", "accuracy")}
    assert plan(name).cells["slow", "accuracy"].setting.key == (
        plan("digits/accuracy").cells["slow", "accuracy"].setting.key
    )
    assert "model.optimizer.lr=0.01; in paper alone" in show_text(name, load(name))
    message = refusal(table((slow, limited.replace("paper", "papr"))))
    assert "rows.slow.protocols: no protocol 'papr'; did you mean 'paper'?" in message


def test_keys_and_folders_are_those_of_the_runs(table):
    plain = plan("digits/accuracy")
    mixed = plan(table(("loss: {key", "loss: {deterministic: true, key")))
    for grid in (plain, mixed, plan("digits/accuracy", columns=["loss"], n_seeds=2)):
        runs = list(grid.runs())
        assert list(grid.run_folders().items()) == [(r.key, str(r.folder.parent)) for r in runs]
        for cell in grid.cells.values():
            assert grid.cell_keys(cell) == [run.key for run in grid.cell_runs(cell)]
        keys = [key for setting, seeds in grid.settings() for key in setting.keys(seeds)]
        assert sorted(keys) == sorted(run.key for run in runs)


def test_a_column_or_row_may_have_fewer_seeds(table):
    name = table(("title: Loss,", "title: Loss, seeds: {paper: 1},"))
    grid = plan(name)
    counts = {place: len(grid.cell_seeds(cell)) for place, cell in grid.cells.items()}
    assert counts == {("slow", "accuracy"): 3, ("slow", "loss"): 1,
                      ("fast", "accuracy"): 3, ("fast", "loss"): 1}  # fmt: skip
    assert len(list(grid.runs())) == 6  # the settings are those of the other column
    only = plan(name, columns=["loss"])
    assert [run.config.seed for run in only.runs()] == [0, 0]
    assert len(only.run_folders()) == 2
    fast = plan(
        table(
            ("overrides: [model.optimizer.lr=0.1]", "overrides: [model.optimizer.lr=0.1], seeds: 2")
        )
    )
    assert len(fast.cell_keys(fast.cells["fast", "loss"])) == 2
    assert [run.config.seed for run in fast.runs()] == [0, 0, 1, 1, 2]
    assert len(list(plan("digits/made", n_seeds=1).runs())) == 2


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("4", "columns.loss.seeds: 4, and the table has 3 seeds"),
        ("{paper: 4}", "columns.loss.seeds.paper: 4, and the table has 3 seeds"),
        ("{papr: 1}", "columns.loss.seeds.papr: no protocol 'papr'; did you mean 'paper'?"),
        ("0", "columns.loss.seeds"),
        ("[0, 1]", "columns.loss.seeds"),
    ],
)
def test_seeds_of_a_column_that_the_table_does_not_have(table, seeds, message):
    assert message in refusal(table(("title: Loss,", f"title: Loss, seeds: {seeds},")))


def test_a_row_takes_one_of_the_weights_that_its_run_tests(table):
    averaged = "model._target_=retable.papers.digits.averaged.Averaged"
    tested = "tested={last: {}, ema: {weights: ema}}"
    fast = next(line for line in TEXT.splitlines() if line.lstrip().startswith("fast:"))
    overrides = f'["{averaged}", "{tested}"]'

    def with_row(name: str) -> str:
        more = f", result_row: {name}" if name else ""
        return table((fast, f"  fast: {{title: Fast, overrides: {overrides}{more}}}"))

    cell = plan(with_row("ema")).cells["fast", "accuracy"]
    assert cell.address.result_row == "ema"
    assert cell.setting.config.tested == {"last": {}, "ema": {"weights": "ema"}}
    for wrong, hint in (("emma", "not 'emma'; did you mean 'ema'?"), ("", "not ''")):
        message = refusal(with_row(wrong))
        assert message.startswith("digits/made, row fast, column accuracy: its run tests the rows")
        assert hint in message


def test_a_row_has_an_experiment_of_its_own_such_as_a_second_stage(table):
    slow = "  slow: [model.optimizer.lr=0.01]"
    own = "overrides: [model.optimizer.lr=0.01], experiment: {smoke: digits/tuned}"
    name = table((slow, f"  slow: {{{own}}}"))
    cells = plan(name, "smoke").cells
    second, first = cells["slow", "accuracy"].setting, cells["fast", "accuracy"].setting
    assert (second.config.experiment, first.config.experiment) == ("digits/tuned", "digits/smoke")
    assert second.parent is not None
    assert second.config.model["optimizer"]["lr"] == 0.01
    # In a protocol that it does not name it is not run; its reported number stays.
    assert {row for row, _ in plan(name).cells} == {"fast"}
    assert "slow: smoke: digits/tuned, model.optimizer.lr=0.01" in show_text(name, load(name))


def test_runs_that_others_start_from_come_before_them_and_are_counted_once(table):
    name = table(("smoke: digits/smoke}", "smoke: digits/tuned}"), ("smoke: 1", "smoke: 2"))
    grid = plan(name, "smoke")
    runs = list(grid.runs())
    above = runs[0]
    # One parent for both rows, seed by seed.
    assert [run.config.experiment for run in runs] == [
        "digits/smoke", "digits/tuned", "digits/tuned",
        "digits/smoke", "digits/tuned", "digits/tuned",
    ]  # fmt: skip
    assert [run.config.seed for run in runs] == [0, 0, 0, 1, 1, 1]
    assert runs[1].parent == runs[2].parent == above
    assert list(grid.run_folders()) == [run.key for run in runs]
    assert next((s.key, seeds) for s, seeds in grid.settings()) == (above.key, [0, 1])
    assert grid.only_started_from() == {"digits/smoke": [above.key, runs[3].key]}
    assert plan("digits/accuracy").only_started_from() == {}
    for override in ("start=null", "++start.run.same=[data]"):
        with pytest.raises(UserError) as caught:
            plan(name, "smoke", overrides=[override])
        assert f"override '{override}': would change what {name} runs" in str(caught.value)
    # Of a setting that fills a cell with fewer seeds the others are only started from.
    fast = '  fast: {title: "Fast | <b>rate</b>", overrides: [model.optimizer.lr=0.1]}'
    few = plan(
        table(
            ("smoke: 1", "smoke: 2"),
            ("  slow: [model.optimizer.lr=0.01]", "  slow: {experiment: {smoke: digits/tuned}}"),
            (fast, "  fast: {overrides: [], seeds: {smoke: 1}}"),
        ),
        "smoke",
    )
    assert few.cells["fast", "accuracy"].setting.key == above.key
    assert few.only_started_from() == {"digits/smoke": [runs[3].key]}
    # A row that changes data reaches one end of the chain only.
    changed = table(
        ("smoke: digits/smoke}", "smoke: digits/tuned}"),
        ("[model.optimizer.lr=0.01]", "[data.noise=0.2]"),
    )
    assert "row slow, column accuracy: data.noise: is 0.2 here and 0.1 in the run" in refusal(
        changed, "smoke"
    )
