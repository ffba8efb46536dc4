"""The protocol that is meant where none is given."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from retable.cli.options import Name, Protocol
from retable.tables import spec
from retable.util import paths

app = typer.Typer()


@app.command()
def chosen(name: Name, protocol: Protocol = "paper") -> None:
    typer.echo(protocol)


def called(*args: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, args, catch_exceptions=False)
    return done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def protocols(monkeypatch):
    """Tables of a paper by name, with their protocols."""
    found = {
        "p/small": ["reduced", "smoke"],
        "p/both": ["paper", "reduced"],
        "q/two": ["reduced", "middle"],
        "r/smoke": ["smoke"],
    }

    class Table:
        def __init__(self, name):
            self.protocols = lambda: found[name]

    monkeypatch.setattr(spec, "load", Table)
    monkeypatch.setattr(paths, "config_names", lambda _: sorted(found))


def test_the_only_one_besides_smoke_is_taken_and_said(protocols):
    assert called("p/small") == ("reduced", "protocol reduced: p/small has no other besides smoke")
    assert called("p/both") == ("paper", "")
    assert called("p") == ("paper", "")  # one of its tables has it


@pytest.mark.parametrize("name", ["q/two", "r/smoke", "x/none"])
def test_else_the_command_says_what_there_is(protocols, name):
    assert called(name) == ("paper", "")


def test_what_is_given_is_taken(protocols):
    assert called("p/small", "--protocol", "paper") == ("paper", "")
    assert called("--protocol", "smoke", "p/small") == ("smoke", "")
