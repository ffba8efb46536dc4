"""The line of a launch: how many have ended how, and the time left."""

from __future__ import annotations

from retable.launch import progress
from retable.launch.progress import Progress
from retable.launch.summary import Summary


def test_the_line_counts_and_tells_the_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown, summary = Progress(6, shown=False), Summary()
    assert shown.line(summary) == "0 done · 6 to do"
    now[0] += 60.0
    for _ in range(4):
        shown.finished()
    summary.done, summary.elsewhere, summary.diverged = 1, 1, 1
    summary.failed = [(None, "no")]
    assert shown.line(summary, 1) == (
        "2 done · 1 diverged · 1 failed · 2 to do · 1 held by another runner · about 30 s left"
    )
    shown.finished()
    shown.finished()
    assert shown.line(Summary(done=6)) == "6 done · 0 to do"


def test_the_first_runs_tell_no_time_left_and_loading_is_no_run_s_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown, summary = Progress(100), Summary()
    shown.interactive = False
    now[0] += 50.0
    shown.update(summary, ["one"], 0)
    for _ in range(9):
        now[0] += 0.5
        shown.finished()
        assert "left" not in shown.line(summary)
    now[0] += 0.5
    shown.finished()
    assert shown.line(summary).endswith("· 90 to do · about 45 s left")
    few = Progress(20, shown=False)
    now[0] += 2.0
    few.finished()
    assert "left" not in few.line(summary)
    few.finished()
    assert "about 18 s left" in few.line(summary)
