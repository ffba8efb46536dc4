"""Options that contradict each other, and names of nothing, are refused before anything is read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from retable.cli.main import app
from retable.util.errors import UserError


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["show", "experiment=risk_parity/random", "--json"],
            "--json: is for a table; the config of an experiment is YAML",
        ),
        (
            ["publish", "binary_connect/tabel2", "--from", "results"],
            "'binary_connect/tabel2'; did you mean 'binary_connect/table2'?",
        ),
        (
            ["publish", "binary_connect", "--from", "results", "--partial"],
            "--partial: is for runs that are here; --from results has none",
        ),
        (
            ["table", "risk_parity/iterations", "--format", "csv", "--json"],
            "--json: contradicts --format csv; give one of them",
        ),
        (
            ["table", "risk_parity/iterations", "--explain", "newton,t1_n25", "--format", "md"],
            "--explain --format md: a cell is explained as text or json",
        ),
        (
            ["refresh", "__pycache__", "--dry-run"],
            "no table, paper, experiment or run '__pycache__'",
        ),
    ],
    ids=str,
)
def test_it_says_which_and_why(args, said):
    done = CliRunner().invoke(app, args)
    assert isinstance(done.exception, UserError), done.output
    assert said in str(done.exception)
