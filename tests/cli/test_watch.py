"""`retable watch` as it is called: beside a sweep on a terminal, once, and stopped."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from retable.monitor.board import screen, view
from retable.monitor.board.view import Watcher
from retable.runs import frozen
from retable.tables.grid import plan
from retable.util.errors import UserError
from support.follow import (
    begun,
    ended,
    hold,
    queue,
    submit,
    table_file,
)

TABLE = """\
paper: digits
title: A sweep to be watched
source: {paper_ref: "Table 1"}
metrics: {accuracy: {key: test/accuracy, unit: "%", margin: 1.0, decimals: 1}}
seeds: 2
columns: {accuracy: {metric: accuracy, title: Accuracy, experiment: digits/base}}
rows:
  good: {overrides: [trainer.max_epochs=40]}
  bad: {overrides: [model.fail=raise]}
reported: {good: {accuracy: {value: "95.0", grade: recalled, where: "Table 1"}}}
"""
LEFT = "\x1b[?1049l"
"""What leaves the screen on which the board was live."""


class Terminal:
    """The command on a terminal of its own; what it writes is read as it comes."""

    def __init__(self, *args, size=(24, 80), **env):
        self.fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", **env}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            if name not in env:
                environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "retable", "watch", *args],
            stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self.raw = ""

    def read(self, until, timeout=180.0):
        """Read until something is shown, or to the end."""
        deadline = time.monotonic() + timeout
        while until is None or until not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no {until!r} in\n{self.text[-3000:]}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # its other end is closed
                data = b""
            if not data:
                assert until is None, f"ended without {until!r}\n{self.text[-3000:]}"
                return self.process.wait(10)
            self.raw += data.decode(errors="replace")
        return None

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    @property
    def last(self):
        """What is left on the terminal in the end, without colours."""
        assert self.raw.count(LEFT) == 1
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.partition(LEFT)[2])


@pytest.fixture
def table():
    file = table_file()
    name = file.with_name("watched.yaml")
    file.unlink()
    name.write_text(TABLE, encoding="utf-8")
    yield "digits/watched"
    name.unlink()


@pytest.mark.slow
def test_a_sweep_is_followed_from_before_it_begins_to_its_end(table, tmp_path):
    terminal = Terminal(table)
    terminal.read("nothing runs; waiting for a launch (Ctrl-C leaves)")
    assert "\ngood            ·· 0/2  95.0‡ " in terminal.text
    sweep = subprocess.Popen(
        [sys.executable, "-m", "retable", "run", table, "launcher.workers=1"],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        terminal.read("running: 1  val/accuracy: last (lowest to highest)")
        terminal.read("▒ 1 running")
        assert terminal.read(None) == 0
    finally:
        sweep.wait(60)
    assert re.search(r"/40 +[▁▂▃▄▅▆▇█]{3,} +0\.\d+ \(0\.\d+ to 0\.\d+\)", terminal.text)
    lines = [line.rstrip() for line in terminal.last.splitlines()]
    assert lines[1] == "██×× 2/4  █ 2 done  × 2 failed"
    assert re.fullmatch(r"good            ██ 2/2  \d\d\.\d ± \d\.\d  95\.0‡", lines[4])
    failed = [line for line in lines if line.startswith("failed ")]
    assert [line[:22] for line in failed] == ["failed s1 bad, accurac", "failed s0 bad, accurac"]
    assert "RuntimeError" in failed[0]
    assert "retable retry digits/watched" in lines[-1]
    assert sweep.returncode == 1


def test_ctrl_c_leaves_the_last_board_and_says_130(table):
    terminal = Terminal(table, NO_COLOR="1")
    terminal.read("waiting for a launch")
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.read(None) == 130
    assert "\ngood            ·· 0/2  95.0‡\r" in terminal.last
    assert "waiting" not in terminal.last
    assert "Traceback" not in terminal.text
    assert not re.search(r"\x1b\[(?:\d+;)*[34]\dm", terminal.raw)  # NO_COLOR


def test_it_is_printed_once_where_nobody_looks(table, retable):
    done = retable("watch", table)
    assert done.stdout == retable("watch", table, "--once").stdout
    assert done.stdout.splitlines()[1] == "···· 0/4  · 4 to do"
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_without_a_table_it_is_what_ran_last(table, retable, grid):
    run = next(grid.runs())
    frozen.write(run)
    ended(run)
    assert retable("watch").stdout.startswith("digits/accuracy, protocol paper")


def test_runs_of_no_table_have_a_line_each(retable, runs, grid):
    setting = next(iter(grid.cells.values())).setting
    trainer = setting.config.trainer.model_copy(update={"max_epochs": 77})
    run = frozen.freeze(setting.config.model_copy(update={"trainer": trainer}))
    frozen.write(run)
    begun(run, {"epoch": 0, "val/accuracy": 0.5})
    hold(run.folder)
    shown = retable("watch").stdout
    assert f"digits/base s0 {run.key[:8]}: epoch 1 of 77, val/accuracy 0.5" in shown
    assert "belongs to no table" in retable("watch", "--protocol", "smoke", code=2).stderr


def test_mistakes_are_one_line(retable):
    assert retable("watch", "digits/fatse", code=2).stderr.count("\n") == 1
    assert (
        "no protocol 'papr'"
        in retable("watch", "digits/accuracy", "--protocol", "papr", code=2).stderr
    )
    assert "no run of a table below" in retable("watch", code=2).stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['retable', 'watch', '--help']\n"
        "from retable.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'numpy', 'yaml', 'rich', 'msgspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example: retable watch" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


class Clock:
    """Time that passes only where somebody sleeps, and what happens then."""

    def __init__(self, *events):
        self.now, self.events, self.slept = 0.0, list(events), []
        self.process_time = lambda: 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)
        if self.events:
            self.events.pop(0)()


@pytest.fixture
def follow(monkeypatch, grid):
    """Follow a table while a clock ticks; returns what is printed in the end."""

    def followed(*events):
        clock = Clock(*events)
        monkeypatch.setattr(screen, "time", SimpleNamespace(**{
            name: getattr(clock, name) for name in ("monotonic", "process_time", "sleep")
        }))  # fmt: skip
        console = Console(force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
        with console.capture() as capture:
            screen.follow(Watcher([followed.grid]), console)
        return capture.get().partition(LEFT)[2], clock

    followed.grid = grid
    return followed


def test_a_cluster_is_asked_every_few_seconds_only(follow, runs, grid, slurm):
    six = list(grid.runs())
    submit(runs, *([run] for run in six))
    queue(slurm, *(f"12_{n} RUNNING n1" for n in range(6)))

    def end():
        queue(slurm)
        for run in six:
            ended(run)

    nothing = [lambda: None] * 11
    last, clock = follow(*nothing, end)
    assert "6 done" in last
    assert len(slurm.calls("squeue")) == 1 + 2 + 1  # at once, in 11 seconds, at the end
    assert set(clock.slept) == {screen.TICK_S}


def test_a_controller_that_does_not_answer_is_asked_again(follow, runs, grid, slurm):
    six = list(grid.runs())
    submit(runs, *([run] for run in six))
    queue(slurm, *(f"12_{n} RUNNING n1" for n in range(6)))

    def silent():
        slurm.answer("squeue", error="Unable to contact slurm controller", code=1)

    def end():
        queue(slurm)
        for run in six:
            ended(run)

    last, _ = follow(silent, *[lambda: None] * 10, end)
    assert "6 done" in last
    slurm.answer("squeue", error="Unable to contact slurm controller", code=1)
    submit(runs, *([run] for run in six), name="20260101T000000-bbbbbb")
    with pytest.raises(UserError, match="does not answer"):
        follow()


def test_a_moment_between_two_runs_is_not_the_end(follow, grid, slurm):
    first, second, *_ = grid.runs()
    begun(first)
    hold(first.folder)

    def between():
        (first.folder / "lease.json").unlink()
        ended(first)

    def again():
        begun(second)
        hold(second.folder)

    def killed():
        (second.folder / "lease.json").unlink()

    last, clock = follow(between, *[lambda: None] * 5, again, killed)
    assert "1 done" in last
    assert "nothing has run for 15 s, and runs are left to do" in last
    assert clock.now == pytest.approx(8 + screen.QUIET_S, abs=2)


SELECT = """\
paper: digits
title: A setting is chosen
source: {paper_ref: "Table 1"}
metrics: {accuracy: {key: test/accuracy, direction: max}}
seeds: 2
columns: {accuracy: {metric: accuracy, experiment: digits/base}}
rows: {tuned: []}
select: {over: {model.optimizer.lr: [0.01, 0.02]}, by: val/accuracy, seeds: [90]}
"""


def test_a_choice_that_is_made_in_the_end_is_not_the_end(follow, monkeypatch, runs):
    file = table_file()
    file.write_text(SELECT, encoding="utf-8")
    try:
        grid = plan("digits/fates")
    finally:
        table_file()  # the fixture removes it
    monkeypatch.setattr(follow, "grid", grid)
    first, second = grid.tuning_runs()
    hold(begun(first).parents[1])

    see, count = view.statuses_of, itertools.count(1)

    def seen(*arguments):
        if next(count) == 2:  # between what the choice is made by and what is then looked at
            (first.folder / "lease.json").unlink()
            for value, run in enumerate((first, second)):
                ended(run, validation={"val/accuracy": value / 2})
        return see(*arguments)

    monkeypatch.setattr(view, "statuses_of", seen)
    last, _ = follow()
    assert "0/2" in last
    assert "runs are left to do" in last
