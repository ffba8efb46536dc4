"""Settings are chosen by a validation metric on seeds of their own; the test split has no say."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import yaml
from msgspec import structs

from retable.launch.dispatch import launch
from retable.monitor.table_progress import progress_of
from retable.report import json_csv, markdown
from retable.report.publish import publish, render_published
from retable.runs.records import Provenance, Record, ResultRow, Status
from retable.tables import collect, spec
from retable.tables.aggregate import build
from retable.tables.grid import plan
from retable.tables.select import Candidate, _best, decide, overrides
from retable.tables.verdicts.judge import judge
from retable.util.errors import UserError

TABLE = {
    "paper": "digits",
    "title": "Accuracy at the best rate",
    "source": {"paper_ref": "Table 2"},
    "metrics": {"accuracy": {"key": "test/accuracy", "direction": "max"}},
    "seeds": {"paper": 2, "smoke": 2},
    "columns": {
        "accuracy": {
            "metric": "accuracy",
            "experiment": {"paper": "digits/base", "smoke": "digits/smoke"},
        }
    },
    "rows": {"narrow": ["model.hidden=8"], "wide": ["model.hidden=64"]},
    "select": {"over": {"model.optimizer.lr": [0.0001, 0.1]}, "by": "val/accuracy", "seeds": 2},
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write a table file into an extra root of this test."""
    import retable.papers.digits.module  # noqa: F401 - from where all tests have it

    root = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], root)
    monkeypatch.setenv("RETABLE_EXTRA", str(root))

    def write(**changes):
        content = json.loads(json.dumps({**TABLE, **changes}))
        file = root / "conf" / "table" / "digits" / "chosen.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    write()
    return write


def planned(**more):
    return plan("digits/chosen", "smoke", **more)


def record(run, *, val, test, status=Status.DONE):
    """A record of a run with planted metrics."""
    return Record(
        key=run.key, paper="digits", experiment="digits/smoke", protocol="smoke",
        seed=run.config.seed, config={}, status=status,
        results=[ResultRow(metric="test/accuracy", value=test)] if status is Status.DONE else [],
        attempt=1, started="2000-01-01T00:00:00+00:00", wall_s=1, cpu_s=1, peak_memory_mb=1,
        device="cpu", threads=1, workers=1, fingerprint=run.fingerprint,
        validation={"val/accuracy": val} if status is Status.DONE else {},
        provenance=Provenance(commit=None, dirty=None, packages="p", python="3", torch="2",
                    cpu="c", cores=1),
    )  # fmt: skip


def rate(run):
    return run.config.model["optimizer"]["lr"]


def planted(runs, val, test, **more):
    """Records whose metrics are functions of (rate, seed)."""
    out = {}
    for run in runs:
        of = rate(run), run.config.seed
        out[run.key] = record(run, val=val(*of), test=test(*of), **more)
    return out


def choice(grid, row="wide"):
    selection = grid.cells[row, "accuracy"].selection
    return selection.candidates[selection.chosen].values["model.optimizer.lr"]


def test_the_test_split_has_no_say(table):
    """Planted: by the test metric, on tuning or on reported seeds, the small rate would win."""
    grid = planned()
    found = planted(
        list(grid.runs()),
        val=lambda lr, seed: 0.9 if lr == 0.1 else 0.8,
        test=lambda lr, seed: 0.5 if lr == 0.1 else 0.99,
    )
    decided = decide(grid, lambda runs: found)
    assert choice(decided) == 0.1
    reported = [run for run in decided.runs() if run.config.seed < 2]
    assert {rate(run) for run in reported} == {0.1}
    cell = build(decided, {**found, **planted(reported, lambda *_: 0.9, lambda *_: 0.5)})
    assert cell.cells["wide", "accuracy"].mean == 0.5


def test_reported_numbers_come_from_the_reported_seeds_alone(table):
    grid = planned()
    found = planted(
        list(grid.runs()), val=lambda lr, _: lr, test=lambda _, seed: 100.0 if seed > 2 else 1.0
    )
    decided = decide(grid, lambda runs: found)
    runs = [run for run in decided.runs() if run.config.seed < 2]
    found |= planted(runs, lambda *_: 0.0, lambda *_: 1.0)
    cell = build(decided, found).cells["wide", "accuracy"]
    assert (cell.mean, sorted(cell.values)) == (1.0, [0, 1])


def test_rows_choose_each_for_themselves(table):
    grid = planned()
    best = {8: 0.0001, 64: 0.1}
    found = {
        run.key: record(run, val=rate(run) == best[run.config.model["hidden"]], test=0)
        for run in grid.runs()
    }
    decided = decide(grid, lambda runs: found)
    assert [choice(decided, row) for row in ("narrow", "wide")] == [0.0001, 0.1]


def test_tuning_runs_come_first_and_reported_ones_only_when_chosen(table):
    grid = planned()
    assert [run.config.seed for run in grid.runs()] == [1_000_000] * 4 + [1_000_001] * 4
    found = planted(list(grid.runs()), lambda lr, _: lr, lambda *_: 0)
    runs = list(decide(grid, lambda runs: found).runs())
    assert [run.config.seed for run in runs[8:]] == [0, 0, 1, 1]
    assert len({run.key for run in runs}) == 12


def test_nothing_is_chosen_while_a_tuning_run_is_missing_or_failed(table):
    grid = planned()
    runs = list(grid.runs())
    found = planted(runs, lambda lr, _: lr, lambda *_: 0)
    one = next(r for r in runs if r.config.model["hidden"] == 64)
    del found[one.key]
    decided = decide(grid, lambda runs: found)
    assert decided.cells["wide", "accuracy"].selection.chosen is None
    assert choice(decided, "narrow") == 0.1
    found |= planted([one], lambda *_: 0, lambda *_: 0, status=Status.FAILED)
    decided = decide(grid, lambda runs: found)
    cell = build(decided, found).cells["wide", "accuracy"]
    assert cell.marks[:2] == ["not selected yet", "partial 0/2"]


def test_a_candidate_that_diverged_is_never_chosen_and_marked(table):
    grid = planned()
    runs = list(grid.runs())
    found = planted(runs, lambda lr, _: lr, lambda *_: 0)
    bad = next(r for r in runs if rate(r) == 0.1 and r.config.model["hidden"] == 64)
    found |= planted([bad], lambda *_: 0, lambda *_: 0, status=Status.DIVERGED)
    decided = decide(grid, lambda runs: found)
    assert choice(decided) == 0.0001
    cell = build(decided, found).cells["wide", "accuracy"]
    assert "diverged 1/4 of the tuning runs" in cell.marks
    for run in runs:
        found |= planted([run], lambda *_: 0, lambda *_: 0, status=Status.DIVERGED)
    cell = build(decide(grid, lambda runs: found), found).cells["wide", "accuracy"]
    assert "every candidate diverged" in cell.selected


@pytest.mark.parametrize(
    ("scores", "direction", "best"),
    [
        ([1.0, 2.0], "min", 0),
        ([1.0, 2.0], "max", 1),
        ([2.0, 1.0, 1.0], "min", 1),  # the first of equals
        ([math.nan, 1.0], "min", 1),
        ([1.0, math.nan], "max", 0),
        ([math.nan, math.nan], "min", None),
        ([None, 1.0], "min", None),
    ],
)
def test_the_best_of_some_scores(scores, direction, best):
    candidates = [Candidate({}, None, score) for score in scores]
    assert _best(candidates, direction) == best


def test_a_metric_that_is_not_logged_is_named(table):
    table(select={**TABLE["select"], "by": "val/f1", "direction": "max"})
    grid = planned()
    found = planted(list(grid.runs()), lambda *_: 0, lambda *_: 0)
    with pytest.raises(UserError, match="'val/f1' is not logged by digits/smoke; valid: val/acc"):
        decide(grid, lambda runs: found)


def test_choices_made_on_other_code_are_marked(table):
    grid = planned()
    found = planted(list(grid.runs()), lambda lr, _: lr, lambda *_: 0)
    found = {k: structs.replace(r, fingerprint="f" * 64) for k, r in found.items()}
    cell = build(decide(grid, lambda runs: found), found).cells["wide", "accuracy"]
    assert "selection stale" in cell.marks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": "test/accuracy"}, "'test/accuracy' is not a validation metric"),
        ({"by": "train/accuracy"}, "is not a validation metric"),
        ({"seeds": [1, 7]}, r"seed 1 is also a seed of the table's numbers \(protocol paper\)"),
        ({"seeds": [7, 7]}, "a seed stands twice"),
        ({"by": "val/f1"}, "give select.direction"),
        ({"rows": ["wid"]}, "no row 'wid'; did you mean 'wide'"),
        ({"over": {"model.hidden": [1, 2]}}, "leave it out, or name in select.rows only the rows"),
        ({"over": {"seed": [1, 2]}}, "'seed' cannot be chosen"),
        ({"over": {"a b": [1, 2]}}, "'a b' cannot be chosen"),
        ({"over": {"model.optimizer.lr": [1]}}, "at least 2"),
        ({"over": {}}, "at least 1"),
        ({"ovr": {}}, "unknown field; did you mean 'over'"),
    ],
)
def test_a_wrong_select_is_refused_with_file_and_line(table, change, message):
    table(select={**TABLE["select"], **change})
    with pytest.raises(UserError, match=message) as error:
        spec.load("digits/chosen")
    assert "chosen.yaml, line " in str(error.value)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"model.optimizer.lr": [0.1, 0.1]}, "are the same run"),
        ({"device.threads": [1, 2]}, "are the same run"),  # unkeyed: changes no number
        ({"model.optimizer.rate": [0.1, 0.2]}, "rate"),
        ({"model.hidden2": [1, 2]}, "hidden2"),
    ],
)
def test_candidates_are_composed_and_validated_when_planned(table, over, message):
    table(select={**TABLE["select"], "over": over})
    with pytest.raises(UserError, match=message):
        planned()


def test_rows_that_do_not_choose_keep_their_setting(table):
    table(
        rows={"wide": [], "fixed": ["model.optimizer.lr=0.3"]},
        select={**TABLE["select"], "rows": ["wide"]},
    )
    grid = planned()
    assert grid.cells["fixed", "accuracy"].selection is None
    assert [r.config.seed for r in grid.cell_runs(grid.cells["fixed", "accuracy"])] == [0, 1]
    assert len(list(grid.runs())) == 4 + 2


@pytest.mark.parametrize("value", ["null", "0.1", "a,b", "it's", "a b", "x=${y}", "\\", True, 1.5])
def test_values_are_set_as_they_stand_in_the_file(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (text,) = overrides({"model.x": value})
    assert OverridesParser.create().parse_override(text).value() == value


@pytest.mark.slow
def test_from_file_to_published_table(table, fake, tmp_path):
    """Real trainings: 0.0001 learns nothing in an epoch, 0.1 does."""
    grid = planned()
    assert progress_of(grid).runs["to do"] == 8
    assert "chosen after the tuning runs" in progress_of(grid).as_text()
    launch(list(grid.runs()))
    decided = collect.decided_by_runs(grid)
    assert [choice(decided, row) for row in ("narrow", "wide")] == [0.1, 0.1]
    assert progress_of(decided).runs["to do"] == 4
    launch(list(decided.runs()))
    assert len(fake.log) == 12
    text = markdown.render(judge(build(decided, collect.from_runs(decided, pytest.fail))))
    assert "selected of 2 settings by val/accuracy = " in text
    assert "mean over seeds 1000000, 1000001" in text
    publish(decided)
    again = collect.decided_by_results(planned())
    assert choice(again) == 0.1
    assert render_published(planned()) == text
    cells = json_csv.as_json(build(again, collect.from_results(again)), source="results")["cells"]
    assert "model.optimizer.lr=0.1 selected" in cells[0]["selected"]


@pytest.mark.slow
def test_the_command_line_does_both_rounds(table, retable):
    done = retable("run", "digits/chosen", "--protocol", "smoke")
    assert "8 run, 0 already done" in done.stderr
    assert "settings of 2 of 2 cells are chosen" in done.stderr
    assert "4 run, 8 already done" in done.stderr
    assert "model.optimizer.lr=0.1 selected of 2 settings" in done.stdout
    again = retable("run", "digits/chosen", "--protocol", "smoke")
    assert "0 run, 12 already done" in again.stderr
    assert again.stdout == done.stdout
    assert Path(os.environ["RETABLE_EXTRA"]).is_dir()
