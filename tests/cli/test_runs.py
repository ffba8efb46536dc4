"""`retable verify`, `diff` and `export`: what they print and with what they end."""

from __future__ import annotations

import json

import pytest
import torch
from retable.papers.digits.module import Perceptron
from typer.testing import CliRunner

from retable.cli.main import app
from retable.launch.dispatch import launch
from retable.util.errors import UserError
from support.again import published, rewrite, shifted
from support.runs import freeze


@pytest.fixture
def run(fake):
    one = freeze(seed=0)
    launch([one])
    return one


def called(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(args))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_run_is_verified_and_its_record_replaced_where_asked(run):
    assert "bitwise equal" in called("verify", run.key[:8])
    assert published(run).attempt == 1
    text = called("verify", run.key[:8], "--replace")
    assert text.endswith("the new record stands in the place of the old one\n")
    assert published(run).attempt == 2


def test_another_result_is_said_in_words_and_by_the_exit_code(run):
    rewrite(run, results=shifted(run, 0.5))
    assert "different" in called("verify", run.key[:8], code=1)
    found = json.loads(called("verify", run.key[:8], "--json", code=1))
    assert (found["key"], found["kind"], found["replaced"]) == (run.key, "different", False)
    assert found["detail"]


def test_two_runs_are_compared(run, fake):
    other = freeze(seed=1)
    launch([other])
    assert "seed" in called("diff", run.key[:8], other.key[:8])
    assert json.loads(called("diff", run.key[:8], other.key[:8], "--json"))


def test_a_network_is_written(run, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Perceptron,
        "export",
        lambda self, file, data: (torch.save(self.state_dict(), file), "weights")[1],
        raising=False,
    )
    file = tmp_path / "net"
    assert called("export", run.key[:8], str(file)).startswith(f"{file}: weights; made for")
    assert file.exists()


@pytest.mark.parametrize("command", [["verify"], ["export", "net"], ["diff", "00000000"]])
def test_a_run_that_there_is_not_is_refused(run, command):
    with pytest.raises(UserError, match="run 'ffff0000': there is none"):
        called(command[0], "ffff0000", *command[1:])
