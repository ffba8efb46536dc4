"""`retable run --within`: what is done, what is left, what is refused."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from retable.cli.main import app


def called(*args, code=0):
    done = CliRunner().invoke(app, ["run", "digits/accuracy", "--protocol", "smoke", *args])
    assert done.exit_code == code, done.output
    return done


@pytest.mark.slow
def test_the_cells_that_fit_are_done_and_the_others_said(fake):
    """Nothing is known of the cost at first; an estimate is enough."""
    nothing = called("--within", "1h")
    assert "within 1h: 0 cells, about 0 s; 2 cells left" in nothing.stderr
    said = "left: 2 cells (slow, accuracy; fast, accuracy): nothing is known of the cost; try "
    hint = "retable rehearse digits/accuracy --protocol smoke"
    assert f"{said}{hint}\n" in nothing.stderr
    assert "nothing is run; retable table digits/accuracy --protocol smoke shows" in nothing.stderr
    assert nothing.stdout == ""
    CliRunner().invoke(app, hint.split()[1:])
    little = called("--within", "0.00001s")
    assert "within 0.00001s: 0 cells, about 0 s; 2 cells left" in little.stderr
    assert little.stdout == ""
    whole = called("--within", "1h")
    assert "within 1h: 2 cells, about " in whole.stderr
    assert "; 0 cells left" in whole.stderr
    assert "| slow | X" not in whole.stdout
    assert "within 1h: 0 cells, about 0 s; 0 cells left" in called("--within", "1h").stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--within", "soon"], "--within soon: expected a duration, such as 8h, 90min or 2d"),
        (["--within", "8h", "--until-decided"], "--within: the seeds that --until-decided will"),
    ],
)
def test_what_cannot_be_is_refused(runs, args, said):
    done = CliRunner().invoke(app, ["run", "digits/accuracy", *args])
    assert done.exception is not None
    assert said in str(done.exception) + done.output
    assert not runs.exists()
