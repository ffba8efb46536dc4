"""What is said of a start that is written otherwise than it has to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.util.errors import UserError

FOLDER = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "experiment" / "digits"


@pytest.fixture
def refused():
    """What is said of an experiment with some lines and overrides; without its place."""
    file = FOLDER / "odd.yaml"

    def refusal(lines, *overrides):
        head = "# @package _global_\ndefaults: [/experiment/digits/smoke]\n"
        file.write_text(f"{head}{lines}\n", encoding="utf-8")
        with pytest.raises(UserError) as error:
            compose(["experiment=digits/odd", *overrides])
        return str(error.value)

    with hydra_ready():
        yield refusal
    file.unlink()


RUN = "start: {run: {experiment: digits/smoke"
GIVEN = [
    ("start: digits/smoke",
     "start: 'digits/smoke' is not valid: a run is named as"
     " start: {run: {experiment: digits/smoke}} (/"),
    ("start: {run: digits/smok}",
     "start.run: 'digits/smok' is not valid: a run is named as"
     " start: {run: {experiment: digits/smok}}; no experiment 'digits/smok'; did you mean 'd"),
    ("start: weights/a.pth",
     "start: 'weights/a.pth' is not valid: a file of weights is named as"
     " start: {file: weights/a.pth, sha256: ...} (/"),
    ("start: {experiment: digits/smoke}", "start.experiment: belongs into start.run.experiment (/"),
    ("start: {run: null}", "start.run: is null, and no file is named; start=null lets the run"),
    (f"{RUN}, overrides: model.hidden=8}}}}",
     "start.run.overrides: expected a list, such as ['model.hidden=8'] (/"),
    (f"{RUN}, overrides: {{model.hidden: 8}}}}}}",
     "start.run.overrides: expected a list of texts, such as ['model.hidden=8'] (/"),
    (f"{RUN}, overrides: [model.hidden: 8]}}}}",
     "start.run.overrides: {'model.hidden': 8} is no text: write 'model.hidden=8', as on the"),
    (f"{RUN}, overrides: [model.fail=a,b]}}}}",
     "start.run.overrides: 'b' is not key=value; an item of [...] ends at a comma, so that the"),
    (f"{RUN}, overrides: ['model.fail=a,b']}}}}",
     "start.run: Ambiguous value for argument 'model.fail=a,b': it has one value only; a list"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "said"), GIVEN)
def test_what_is_to_be_written_is_said(refused, lines, said):
    assert refused(lines, "seed=0").startswith(said)
    assert refused(lines).startswith(said)  # before that the seed is missing


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("start=digits/smoke", "a run is named as 'start={run: {experiment: digits/smoke}}' (over"),
        ("start.run=null", "start.run: is null, and no file is named; start=null lets the run"),
        ("start.run.overrides=[model.hidden=8]", "quote each override, such as 'start.run.overr"),
        ("start={run: {experiment: digits/smoke, overrides: [model.hidden=8]}}", "quote each over"),
    ],
)
def test_on_the_command_line_it_is_said_as_it_is_written_there(refused, override, said):
    assert said in refused(f"{RUN}}}}}", "seed=0", override)


def test_what_is_said_is_right(refused):
    assert refused(f"{RUN}}}}}", "model.hiden=3", "start=null").startswith("model.hiden: ")
    good = ["experiment=digits/odd", "seed=0"]
    for text in ("start={run: {experiment: digits/smoke}}", "start=null"):
        compose([*good, text])
    parent = compose([*good, 'start.run.overrides=["model.hidden=8"]']).start
    assert parent is not None
    assert parent.run is not None
    assert parent.run.model["hidden"] == 8
