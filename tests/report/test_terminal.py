"""Tables for a terminal: what Markdown says, folded to the width, with colours."""

from __future__ import annotations

import re
import sys

import pytest

from retable.report import layout, markdown, terminal
from support.mini import extra_root, tables

ESCAPE = re.compile(r"\x1b\[([\d;]*)m")
WIDTHS = (40, 72, 100, 300)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("RETABLE_EXTRA", str(extra_root(tmp_path_factory.mktemp("mini"))))
    yield tables()[0]
    patch.undo()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_terminal_and_no_number_is_lost(table, width):
    text = terminal.render(table, width=width, colour=False)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "<br>" not in text
    assert "\\" not in text
    if width >= 72:  # else a number may be folded in two
        wanted = re.findall(r"\d+\.\d+ ± \d+\.\d+ \([\d/]+\)", markdown.render(table))
        assert len(wanted) > 20
        assert sorted(set(wanted)) == sorted(
            set(re.findall(r"\d+\.\d+ ± \d+\.\d+ \([\d/]+\)", text))
        )


def test_columns_that_do_not_fit_come_below_under_the_same_rows(table):
    heads = {
        width: terminal.render(table, width=width, colour=False).count("\n────") for width in WIDTHS
    }
    parts = len(layout.blocks(table, 30))
    assert heads[300] == parts + 1  # of the cells, and the claims
    assert heads[72] > heads[300]


def test_verdicts_have_their_colours(table, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = terminal.render(table, width=100)
    assert re.search(r"\x1b\[[\d;]*32m ?=", text)  # reproduced: green
    assert re.search(r"\x1b\[[\d;]*31m ?(−|contradicted)", text)  # worse, contradicted: red
    plain = [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]
    assert plain == terminal.render(table, width=100, colour=False).splitlines()
    monkeypatch.setenv("NO_COLOR", "1")
    codes = {
        code
        for found in ESCAPE.findall(terminal.render(table, width=100))
        for code in found.split(";")
    }
    assert not codes & {"31", "32", "33", "35", "36"}


def test_a_terminal_gets_text_and_a_pipe_markdown(table, monkeypatch):
    assert terminal.shown(table, note="A note") == markdown.render(table, note="A note")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "24")
    shown = ESCAPE.sub("", terminal.shown(table, note="A note"))
    assert "\nA note\n" in shown
    assert not shown.startswith("#")
    assert max(map(len, shown.splitlines())) <= 60
