"""`retable rehearse`, and what `plan` makes of it."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retable.cli.main import app


def said(*args, code=0):
    done = CliRunner().invoke(app, [*args])
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_table_is_rehearsed_and_its_plan_has_the_estimate():
    found = json.loads(said("rehearse", "digits/accuracy", "--device", "h100", "--json"))
    (line,) = found["networks"]
    assert (line["settings"], line["runs"]) == (2, 6)
    assert line["status"] == "done"
    assert line["total_s"] == 6 * line["run_s"] == found["total_s"] > 0
    plan = said("plan", "digits/accuracy")
    assert "an estimate: 6 runs on H100 SXM at 30% of its peak (retable rehearse)" in plan
    text = said("rehearse", "digits/accuracy", "--row", "slow", "--share", "0.5")
    assert "digits/base [slow]" in text
    assert "at 50% of its" in text
    assert "1 thread at 50% of its peak" in said("plan", "digits/accuracy", "--row", "slow")


TABLE = """\
paper: digits
title: Faults
source: {paper_ref: "Table 1"}
metrics: {accuracy: {key: test/accuracy}}
seeds: 2
columns: {accuracy: {metric: accuracy, experiment: digits/base}}
"""


@contextmanager
def table_of(rows):
    """A table in RETABLE_EXTRA with these rows; its name."""
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "broken.yaml"
    file.write_text(TABLE + rows, encoding="utf-8")
    try:
        yield "digits/broken"
    finally:
        file.unlink()


@pytest.mark.slow
def test_what_cannot_be_stepped_is_named_with_exit_code_1():
    with table_of("rows: {good: [], bad: [model.fail=raise]}") as name:
        text = said("rehearse", name, code=1)
    assert "failed: digits/base [bad]: " in text.replace("\n", " ")
    assert "digits/base [good]" in text


def test_where_nothing_could_be_rehearsed_the_exit_code_is_2():
    lazy = "model._target_=retable.papers.digits.lazy.Lazy"
    with table_of(f"rows: {{good: [], lazy: [{lazy}]}}") as name:
        text = said("rehearse", name, "--row", "lazy", code=2)
        assert "not rehearsed: digits/base [lazy]: has lazy layers" in text.replace("\n", " ")
        said("rehearse", name)


def test_wrong_options_are_refused_before_anything_is_built(monkeypatch):
    for option, value, said_of in (
        ("--device", "a10", "did you mean 'a100'"),
        ("--share", "0", "above 0"),
        ("--share", "1.5", "at most 1"),
    ):
        done = CliRunner().invoke(app, ["rehearse", "digits/accuracy", option, value])
        assert done.exit_code != 0
        assert said_of in str(done.exception)
