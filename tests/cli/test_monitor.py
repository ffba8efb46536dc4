"""`status`, `cancel`, `logs` and `retry` as they are called, with SLURM's commands faked."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from retable.cli.main import main
from retable.launch.slurm.submission import all_of
from retable.monitor import watch
from retable.runs import frozen
from retable.runs.records import Blessing, Status
from support.again import published
from support.follow import (
    begun,
    ended,
    folder_of,
    hold,
    queue,
    submit,
)

NAME = "digits/fates"


@pytest.fixture
def call(monkeypatch, capsysbinary, grid):
    """The command line in this process; returns what it has printed."""

    def called(*args, code=0):
        monkeypatch.setattr(sys, "argv", ["retable", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = (text.decode() for text in capsysbinary.readouterr())
        assert left.value.code == code, f"exit {left.value.code}\n{out}\n{err}"
        return out, err

    return called


@pytest.fixture
def six(grid):
    return list(grid.runs())


def test_status_of_a_table_asks_each_command_once(call, runs, six, slurm):
    submit(runs, *([run] for run in six))
    queue(slurm, "12_0 RUNNING n1", "12_1 PENDING Resources")
    slurm.answer("sacct", "".join(f"12_{n}|TIMEOUT|0:0|n1\n" for n in range(2, 6)))
    out, err = call("status", NAME)
    assert out.startswith("digits/fates, protocol paper: 6 runs, 1 running, 1 queued, 4 lost\n")
    assert err == ""
    assert [c[0] for c in slurm.calls()] == ["squeue", "sacct"]
    plain = json.loads(call("status", NAME, "--json")[0])
    assert plain["runs"]["lost"] == 4
    assert len(plain["details"]) == 6


def test_status_without_slurm_asks_nobody(call, six, slurm):
    ended(six[0])
    assert "1 done, 5 to do" in call("status", NAME)[0]
    assert call("status")[0].startswith("nothing is submitted and nothing runs")
    assert json.loads(call("status", "--json")[0])["submissions"] == []
    assert slurm.calls() == []


def test_a_dead_controller_is_one_line(call, runs, six, slurm):
    submit(runs, six)
    slurm.answer(
        "squeue", error="slurm_load_jobs error: Unable to contact slurm controller", code=1
    )
    for arguments in (["status"], ["status", NAME], ["cancel", NAME], ["retry", NAME]):
        _, err = call(*arguments, code=2)
        assert err.count("\n") == 1
        assert "slurmctld does not answer" in err


def _clock(monkeypatch, sleep, monotonic=lambda: 0.0):
    """For the watching alone: others wait for processes by the same functions."""
    monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep, monotonic=monotonic))


def test_watching_ends_by_itself_and_asks_once_each_time(call, runs, six, slurm, monkeypatch):
    submit(runs, *([run] for run in six))
    queue(slurm, *(f"12_{n} RUNNING n1" for n in range(6)))
    blocks = []

    def pause(_):
        blocks.append(len(slurm.calls("squeue")))
        if len(blocks) == 2:  # one that does not answer is asked again
            slurm.answer("squeue", error="Unable to contact slurm controller", code=1)
        if len(blocks) == 3:
            queue(slurm)
            for run in six:
                ended(run)

    _clock(monkeypatch, pause)
    out, err = call("status", NAME, "--watch")
    assert blocks == [1, 2, 3]
    assert len(slurm.calls("squeue")) == 4
    assert slurm.calls("sacct") == []
    assert [block.splitlines()[0].partition("runs, ")[2] for block in out.split("\n\n")] == [
        "6 running", "6 running", "6 running", "6 done",
    ]  # fmt: skip
    assert err.count("slurmctld does not answer") == 1


def test_watching_never_asks_more_often_than_it_says(monkeypatch, capsys):
    clock = [0.0]
    pauses = []

    def look():
        clock[0] += 2.0  # a look that takes long
        return "text", len(pauses) < 2

    _clock(monkeypatch, pauses.append, lambda: clock[0])
    watch.watch(look)
    assert watch.EVERY_S >= 5
    assert pauses == [10.0, 10.0]
    assert capsys.readouterr().out == "text\n\ntext\n\ntext\n"


def test_ctrl_c_ends_the_watching_and_nothing_else(call, runs, six, slurm, monkeypatch):
    submit(runs, six)
    queue(slurm, "12_0 RUNNING n1")

    def pause(_):
        raise KeyboardInterrupt

    _clock(monkeypatch, pause)
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, err = call("status", NAME, "--watch", code=130)
    assert err == ""
    assert [c[0] for c in slurm.calls()] == ["squeue"]


def test_on_a_terminal_the_last_look_stays(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    _clock(monkeypatch, lambda _: None)
    texts = iter([("one", True), ("two", True), ("\n".join(map(str, range(200))), False)])
    watch.watch(lambda: next(texts))
    assert capsys.readouterr().out.endswith("\n".join(map(str, range(200))) + "\n")


def test_what_cannot_be_together_is_refused(call, slurm):
    assert "--watch" in call("status", "--watch", "--json", code=2)[1]
    assert "no protocol" in call("status", NAME, "--protocol", "papre", code=2)[1]
    assert "did you mean 'slow'" in call("cancel", NAME, "--row", "slo", code=2)[1]


def test_cancel_asks_and_cancels(call, runs, six, slurm):
    submission = submit(runs, *([run] for run in six))
    queue(slurm, *(f"12_{n} PENDING Priority" for n in range(6)))
    out, error = call("cancel", NAME, "--row", "slow", code=2)
    assert "3 runs in 3 tasks of job 12" in out
    assert "say --yes" in error
    assert slurm.calls("scancel") == []
    assert call("cancel", NAME, "--row", "slow", "--yes")[0].endswith("cancelled\n")
    slow = {n for n, run in enumerate(six) if run.config.model["optimizer"]["lr"] == 0.01}
    assert submission.cancelled() == {(0, n) for n in slow}
    assert len(slurm.calls("scancel")) == 1
    queue(slurm, *(f"12_{n} PENDING Priority" for n in range(6) if n not in slow))
    assert "slow, accuracy: 3 cancelled\n" in call("status", NAME)[0]
    assert slurm.calls("sacct") == []


def test_cancel_with_nothing_to_do_says_so_and_names_what_runs_here(call, six, slurm):
    assert call("cancel", NAME)[0] == "nothing of it is in the queue\n"
    frozen.write(six[0])
    hold(six[0].folder)
    out, _ = call("cancel", NAME, "--yes")
    assert out.startswith(f"left alone: {six[0].key[:8]} is being done on ")
    assert (six[0].folder / "lease.json").exists()


def test_logs_are_on_stdout_and_where_they_are_on_stderr(call, runs, six, slurm):
    submission = submit(runs, six[:1])
    folder = begun(six[0])
    (folder / "log.txt").write_text("of the run\n")
    (folder / "traceback.txt").write_text("Traceback\n")
    ended(six[0], Status.FAILED, error="ValueError: no")
    job_log = submission.folder / "log" / "0-0.txt"
    job_log.write_text("of the job\n")
    out, err = call("logs", six[0].key[:8])
    assert out == "of the run\nTraceback\n"
    assert err.splitlines() == [
        f"digits/{six[0].key[:8]}: failed: ValueError: no",
        f"log: {folder}/log.txt",
        f"traceback: {folder}/traceback.txt",
        f"log of job 12_0: {job_log}",
    ]
    assert call("logs", six[0].folder, "--job")[0] == "of the job\n"
    assert call("logs", six[0].key[:8], "--follow")[0] == "of the run\n"


def test_logs_of_a_run_that_has_not_begun(call, runs, six, slurm):
    submission = submit(runs, six[:1])
    queue(slurm, "12_0 PENDING Resources")
    out, err = call("logs", six[0].key[:8])
    assert (out, err.splitlines()) == (
        "", [f"digits/{six[0].key[:8]}: queued: Resources", "it has printed nothing yet"],
    )  # fmt: skip
    (submission.folder / "log" / "0-0.txt").write_text("no module named torch\n")
    queue(slurm)
    slurm.answer("sacct", "12_0|FAILED|1:0|n1\n")
    out, err = call("logs", six[0].key[:8])
    assert out == "no module named torch\n"
    assert "lost: FAILED (exit code 1) on n1" in err
    assert "there is none" in call("logs", "0000", code=2)[1]
    assert "is not a run folder" in call("logs", runs, code=2)[1]


@pytest.mark.slow
def test_retry_submits_what_failed_and_was_lost_as_before(call, runs, six, slurm):
    submission = submit(runs, *([run] for run in six))
    with_jobs = frozen.read(six[4].folder)
    launcher = with_jobs.config.launcher.model_copy(update={"name": "slurm", "runs_per_job": 2})
    cluster = {"name": "dev"}
    values = with_jobs.config.model_dump(mode="json")
    values |= {"launcher": launcher.model_dump(mode="json"), "cluster": cluster}
    for run in six:
        frozen.write(frozen.FrozenRun(type(run.config)(**values | {"seed": run.config.seed,
                     "model": run.config.model}), run.key, run.fingerprint))  # fmt: skip
    ended(six[0])
    ended(six[1], Status.FAILED, error="no", attempt=3)
    ended(six[2], Status.DIVERGED, error="nan")
    slurm.answer("sacct", "12_3|TIMEOUT|0:0|n1\n12_4|NODE_FAIL|0:0|n1\n12_5|CANCELLED|0:0|n1\n")
    _, err = call("retry", NAME)
    assert "1 failed, 2 lost: again" in err
    assert (
        "as before (digits/fates of 2026-01-01 00:00): launcher=slurm cluster=dev"
        " launcher.runs_per_job=2"
    ) in err
    new = next(one for one in all_of(runs) if one.folder != submission.folder)
    entries = [entry for task in new.tasks(0).tasks for entry in task]
    assert {e.folder for e in entries} == {folder_of(six[n]) for n in (1, 3, 4)}
    assert [len(task) for task in new.tasks(0).tasks] == [2, 1]
    # It begins to count attempts anew.
    assert {e.before for e in entries if e.folder == folder_of(six[1])} == {3}


@pytest.mark.slow
def test_retry_of_one_kind_with_a_launcher_of_its_own(call, runs, six, slurm, fake):
    submit(runs, *([run] for run in six[:3]))
    ended(six[1], Status.FAILED, error="no")
    slurm.answer("sacct", "12_0|TIMEOUT|0:0|n1\n12_2|TIMEOUT|0:0|n1\n")
    _, err = call("retry", NAME, "--failed", "launcher=local")
    assert "1 failed: again" in err
    assert "as before" not in err
    assert [run.key for run in fake.log] == [six[1].key]
    assert slurm.calls("sbatch") == []
    assert published(six[1]).attempt == 2
    assert "nothing is failed" in call("retry", NAME, "--failed")[1]


def test_retry_of_what_was_never_submitted_is_done_here(call, six, slurm, fake):
    ended(six[0], Status.FAILED, error="no")
    _, err = call("retry", NAME)
    assert "1 run, 0 already done" in err
    assert published(six[0]).status is Status.DONE
    assert slurm.calls() == []


@pytest.mark.slow
def test_confirmed_runs_without_what_the_table_asks_for_are_done_again(call, six, slurm, fake):
    """Code that records more has confirmed all three; the table shows one of the two metrics."""
    trace = {"was": "f" * 64, "seed": 0, "commit": None, "at": "2026-01-01T00:00:00+00:00"}
    for run, also in zip(six, (["test/accuracy"], ["test/other"], []), strict=False):
        ended(run, blessings=[Blessing(**trace, also=also)])
    _, err = call("retry", NAME, "--stale")
    assert "1 without a metric that is recorded now: again" in err
    assert [published(run).attempt for run in six[:3]] == [2, 1, 1]
    assert published(six[0]).blessings == []
    assert "nothing is stale" in call("retry", NAME, "--stale")[1]


def test_stale_runs_are_done_again_here(call, runs, six, slurm, fake):
    ended(six[0], fingerprint="f" * 64)
    ended(six[1])
    assert "nothing is failed or lost" in call("retry", NAME)[1]
    _, err = call("retry", NAME, "--stale")
    assert "1 stale: again" in err
    assert published(six[0]).fingerprint == six[0].fingerprint
    assert published(six[0]).attempt == 2
    assert not (runs / "_again").exists()


@pytest.mark.slow
def test_stale_runs_are_submitted_at_a_side(call, runs, six, slurm):
    ended(six[0], fingerprint="f" * 64)
    _, err = call("retry", NAME, "--stale", "launcher=slurm", "cluster=dev")
    assert "1 submitted" in err
    (submission,) = all_of(runs)
    ((entry,),) = submission.tasks(0).tasks
    assert entry.home == folder_of(six[0])
    assert entry.folder.startswith("_again/")
    assert frozen.read(runs / entry.folder).key == six[0].key
    assert published(six[0]).fingerprint == "f" * 64
    slurm.usual("squeue")
    assert "1 queued" in call("status", NAME)[0]
    assert "nothing is stale" in call("retry", NAME, "--stale")[1]
    assert (runs / entry.folder).exists()
