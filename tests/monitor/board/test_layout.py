"""The board as text: at the sizes of terminals, with everything that may be on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from retable.monitor.board.layout import board, plain
from retable.monitor.board.view import Watcher
from retable.runs import frozen
from retable.runs.lease import Holder
from retable.runs.records import Status
from retable.tables.grid import plan
from support.follow import (
    begun,
    ended,
    hold,
    queue,
    submit,
)

SIZES = [(80, 24), (120, 40), (200, 60)]
HOST = Holder.me().host

LONG = """\
paper: digits
title: Long
source: {{paper_ref: "Table 1"}}
metrics:
  accuracy: {{key: test/accuracy, unit: "%", decimals: 2}}
seeds: 3
columns:
{columns}
rows:
{rows}
reported:
  r00:
    c0: {{value: "91.3", spread: "0.5", spread_kind: std, n: 5, grade: recalled, where: "Table 1"}}
"""


def long_table(rows=40, columns=6, **about):
    """A table of many settings that is larger than most terminals."""
    column = (
        "  c{0}: {{metric: accuracy, title: Condition {0}, experiment: digits/base,"
        " overrides: [data.noise=0.{0}]}}"
    )
    own = "  r{0:02}: {{title: Setting {0}, overrides: [model.optimizer.lr=0.{0:02}1]}}"
    row = "  r{0:02}: {{title: Setting {0}, result_row: r{0}}}"  # of the same run: many are cheap
    text = LONG.format(
        columns="\n".join(column.format(n) for n in range(columns)),
        rows="\n".join((own if n < 10 else row).format(n) for n in range(rows)),
    )
    text += "".join(f"{key}: {value}\n" for key, value in about.items())
    file = Path(os.environ["RETABLE_EXTRA"]) / "conf" / "table" / "digits" / "long.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        return plan("digits/long")
    finally:
        file.unlink()


def shown(grid, width=80, height=None, watcher=None, **said):
    """The board's text; that it fits is checked for every one."""
    if watcher is None:
        watcher = Watcher([grid])
        watcher.update()
    lines = board(watcher.views(), width, height, notes=watcher.notes, **said)
    assert max(line.cell_len for line in lines) <= width
    assert height is None or len(lines) <= height
    return plain(lines)


def rows(*values):
    return [{"epoch": n, "val/accuracy": value} for n, value in enumerate(values)]


def test_a_sweep_in_the_middle(grid, slurm):
    slow = grid.cell_runs(grid.cells["slow", "accuracy"])
    fast = grid.cell_runs(grid.cells["fast", "accuracy"])
    ended(slow[0], value=0.5)
    ended(slow[1], value=0.75)
    begun(slow[2], *rows(0.125, 0.5, 0.25))
    hold(slow[2].folder)
    ended(fast[0], Status.FAILED, error="RuntimeError: no\nmore", started="2026-01-02T00:00:00")
    ended(fast[1], Status.DIVERGED, error="loss is nan", started="2026-01-01T00:00:00")
    lines = shown(grid).splitlines()
    assert lines[0].startswith("digits/fates, protocol paper ")
    assert lines[0].endswith(" left")
    assert "elapsed " in lines[0]
    assert lines[1:] == [
        "██▒××· 2/6  █ 2 done  ▒ 1 running  × 1 failed  × 1 diverged  · 1 to do",
        "",
        "      accuracy",
        "slow  ██▒ 2/3  62.500 ± 17.678",
        "fast  ××· 0/3",
        "",
        "running: 1  val/accuracy: last (lowest to highest)",
        f"s2 slow, accuracy  3/4  ▁█▃  0.25 (0.125 to 0.5)  {HOST}",
        "",
        f"failed s0 fast, accuracy ({fast[0].key[:8]}): RuntimeError: no",
        f"diverged s1 fast, accuracy ({fast[1].key[:8]}): loss is nan",
        f"2 in all; more: retable logs {fast[0].key[:8]}; again: retable retry digits/fates",
    ]


def test_on_a_cluster_the_node_and_the_job_are_said(runs, grid, slurm):
    made = list(grid.runs())
    submission = submit(runs, *([run] for run in made))
    queue(slurm, "12_0 RUNNING n1", *(f"12_{n} PENDING Resources" for n in range(1, 6)))
    submission.say(0, 0, "started", job="12_0", id="13", restart=0, node="n1")
    begun(made[0], *rows(0.25))
    hold(made[0].folder, job="13", here=False)
    text = shown(grid, 120)
    assert "▒░░░░░ 0/6  ▒ 1 running  ░ 5 queued" in text
    assert "1/4  ▄  0.25 (0.25 to 0.25)  n1, 29:58 left, job 12_0" in text


def test_a_run_that_only_starts_has_no_time_yet(grid):
    run = next(grid.runs())
    frozen.write(run)
    hold(run.folder)
    text = shown(grid)
    assert "0/4  " in text
    assert "elapsed" not in text


def test_a_run_without_epochs_says_how_long_it_is_at_it(grid):
    run = next(grid.runs())
    begun(run)
    hold(run.folder)
    assert "0/4" in shown(grid)
    run.config.stages[:] = ["test"]  # as a solver's config has it
    line = shown(grid).splitlines()[-1]
    assert line.split()[-2:] == ["s", HOST]


def test_a_long_table_shows_first_where_something_goes_on():
    grid = long_table(rows=60)
    for row in ("r07", "r08"):
        run = grid.cell_runs(grid.cells[row, "c5"])[0]
        begun(run, *rows(*(n / 100 for n in range(90))))
        hold(run.folder)
    for run in grid.cell_runs(grid.cells["r00", "c0"]):
        ended(run, value=0.5 + run.config.seed / 10)
    watcher = Watcher([grid])
    watcher.update()
    for width, height in SIZES:
        text = shown(grid, width, height, watcher)
        top, first, second, *_ = text[text.index("Condition") :].splitlines()
        assert "Condition 5" in top
        assert (first.split("  ")[0], second.split("  ")[0]) == ("Setting 7", "Setting 8")
        assert text.count("\nSetting ") + int(text.partition("and ")[2].split()[0]) == 60
        assert " more rows" in text
        assert ("more column" in text) == (width == 80)
        assert "███ 3/3" in text
        assert "60.00 ± 10.00" in text, text
        assert ("91.3 ± 0.5‡" in text) == (width > 80)
        assert "running: 2  val/accuracy" in text
        assert text.count("0.89 (0 to 0.89)") == 2


def test_all_of_a_long_table_without_a_height():
    text = shown(long_table(columns=2), 120)
    assert text.count("\nSetting ") == 40
    assert "more" not in text


def test_a_transposed_table_has_its_columns_down():
    lines = shown(long_table(rows=2, columns=3, transposed="true"), 120).splitlines()
    assert lines[3].split("  ")[-1].strip() == "Setting 1"
    assert [line[:11] for line in lines[4:]] == ["Condition 0", "Condition 1", "Condition 2"]


def test_many_running_and_failed_runs_leave_room_for_the_table():
    grid = long_table(rows=10, columns=2)
    made = list(grid.runs())
    for run in made[:20]:
        begun(run, *rows(0.5))
        hold(run.folder)
    for run in made[20:40]:
        ended(run, Status.FAILED, error="ValueError: " + "x" * 500)
    text = shown(grid, 80, 24)
    assert text.count("\nSetting ") >= 5
    assert "running: 20, 7 of them here" in text
    assert text.count("\nfailed ") == 2
    assert "20 in all; more: retable logs " in text


def test_several_tables_share_the_terminal(grid):
    watcher = Watcher([grid, long_table()])
    watcher.update()
    text = shown(None, 80, 24, watcher)
    assert "digits/fates, protocol paper" in text
    assert "digits/long, protocol paper" in text
    assert "more rows" in text


def test_a_run_that_two_tables_need_is_running_once(grid):
    run = next(grid.runs())
    begun(run, *rows(0.5))
    hold(run.folder)
    watcher = Watcher([grid, grid])
    watcher.update()
    assert "running: 1  val/accuracy" in shown(None, 80, None, watcher)


@pytest.mark.parametrize("size", [(20, 5), (10, 2), (1, 1)])
def test_hardly_a_terminal(size, grid):
    run = next(grid.runs())
    begun(run, *rows(0.5))
    hold(run.folder)
    shown(grid, *size)


def test_what_files_say_does_not_steer_the_terminal(grid):
    ended(next(grid.runs()), Status.FAILED, error="\x1b]0;title\x07 [bold]text[/bold]")
    text = shown(grid)
    assert "\x1b" not in text
    assert "[bold]text[/bold]" in text


def test_without_colours_nothing_is_lost(grid, slurm, monkeypatch):
    ended(next(grid.runs()))
    watcher = Watcher([grid])
    watcher.update()
    lines = board(watcher.views(), 80)
    printed = []
    for environment in ({"TERM": "xterm"}, {"TERM": "xterm", "NO_COLOR": "1"}):
        console = Console(force_terminal=True, width=80, _environ=environment)
        with console.capture() as capture:
            for line in lines:
                console.print(line)
        printed.append(capture.get())
    assert "\x1b[32m" in printed[0]
    assert "\x1b[32m" not in printed[1]
    assert "█" in printed[1]
