"""One attempt: what it refuses, how it ends, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from msgspec.structs import replace

from retable.launch import worker
from retable.launch.worker import Exit, Launched, perform
from retable.runs import frozen, records
from retable.runs.lease import FILE as LEASE
from retable.runs.records import Status
from support.job import (
    LAUNCHED,
    StopAfter,
    logged,
    written,
)
from support.runs import freeze, record_of


def test_a_run_is_done_once():
    run = written()
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    record = record_of(run)
    assert record.status is Status.DONE
    assert (record.key, record.fingerprint) == (run.key, run.fingerprint)
    assert (record.attempt, record.resumed_from_epoch) == (1, None)
    assert (record.workers, record.threads, record.device) == (3, 1, "cpu")
    assert record.provenance == LAUNCHED.provenance
    assert record.value("test/accuracy") is not None
    assert "paths" not in record.config
    assert record.config["model"]["_target_"] == "retable.papers.digits.module.Perceptron"
    attempt = run.folder / "attempts" / "1"
    assert sorted(p.name for p in attempt.iterdir()) == [
        "checkpoints",
        "history.jsonl",
        "log.txt",
        "record.json",
        "surroundings.json",
    ]
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "attempts",
        "config.yaml",
        "record.json",
    ], "a lease or a temporary was left"
    assert (attempt / "record.json").samefile(run.folder / "record.json")
    history = (attempt / "history.jsonl").read_text()
    assert records.text_sha256(history) == record.history_sha256
    assert [json.loads(line)["epoch"] for line in history.splitlines()] == [0]
    changed = (run.folder / "record.json").stat().st_mtime_ns
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert (run.folder / "record.json").stat().st_mtime_ns == changed
    assert len(records.attempts(run.folder)) == 1


def test_the_history_is_whole_before_the_record_is_written(monkeypatch):
    """Else a kill between the two would leave a result whose curve is lost."""
    run = written(experiment="digits/base")
    original, found = records.write_attempt, []

    def look(folder, record):
        path = folder / "history.jsonl"
        found.append(records.text_sha256(path.read_text()) if path.exists() else "no history")
        assert found[-1] == record.history_sha256
        return original(folder, record)

    monkeypatch.setattr(records, "write_attempt", look)
    perform(run.folder, LAUNCHED)
    assert len(found) == 1


def test_validation_metrics_of_the_tested_epoch_are_recorded():
    run = written("best_epoch={monitor: val/loss,mode: max}", experiment="digits/base")
    perform(run.folder, LAUNCHED)
    record = record_of(run)
    history = (run.folder / "attempts" / "1" / "history.jsonl").read_text().splitlines()
    row = json.loads(history[record.best_epoch])
    assert record.best_epoch == 0  # the worst one, so that it is not the last
    assert record.validation == {k: v for k, v in row.items() if k.startswith("val/")}
    assert record.value("val/loss") == row["val/loss"]


def test_interrupted_goes_on_and_equals_the_undisturbed_run(tmp_path, monkeypatch):
    run = written(experiment="digits/base")
    assert perform(run.folder, LAUNCHED, StopAfter(2)) is Exit.INTERRUPTED
    assert not (run.folder / "record.json").exists()
    first = record_of(run, 1)
    assert (first.status, first.error) == (Status.INTERRUPTED, "stopped after epoch 1")
    assert perform(run.folder, LAUNCHED, StopAfter(1)) is Exit.INTERRUPTED
    assert record_of(run, 2).resumed_from_epoch == 2
    code, log = logged(run, 3)
    assert code is Exit.DONE
    last = record_of(run)
    assert (last.attempt, last.resumed_from_epoch) == (3, 3)
    assert f"resuming after 3 epochs from {run.folder}/attempts/2/checkpoints" in log
    # Hours are those of the run, not of what was left of it.
    assert last.wall_s > record_of(run, 2).wall_s > first.wall_s > 0
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "other"))
    undisturbed = written(experiment="digits/base")
    assert undisturbed.folder != run.folder
    assert perform(undisturbed.folder, LAUNCHED) is Exit.DONE
    assert record_of(undisturbed).substance() == last.substance()
    assert (undisturbed.folder / "attempts" / "1" / "history.jsonl").read_bytes() == (
        run.folder / "attempts" / "3" / "history.jsonl"
    ).read_bytes()


def test_a_run_that_goes_on_elsewhere_says_what_it_began_with():
    run = written()
    before = replace(LAUNCHED.provenance, cpu="before", torch="1")
    assert perform(run.folder, Launched(before, workers=3), StopAfter(2)) is Exit.INTERRUPTED
    assert record_of(run, 1).earlier == []
    (run.folder / "attempts" / "1" / "record.json").unlink()  # as where it is killed
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    (began,) = record_of(run).earlier
    assert (began.provenance, began.threads, began.workers) == (before, 1, 3)
    assert record_of(run).provenance == LAUNCHED.provenance


def test_a_run_that_starts_anew_elsewhere_does_not(monkeypatch):
    run = written()
    other = Launched(replace(LAUNCHED.provenance, cpu="before"))
    assert perform(run.folder, other, StopAfter(2)) is Exit.INTERRUPTED
    for path in run.folder.glob("attempts/1/checkpoints/*.ckpt"):
        path.unlink()
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).earlier == []


def test_stopped_in_the_test(tmp_path):
    run = written()
    # Asked at the end of the only epoch and before the test's only batch.
    assert perform(run.folder, LAUNCHED, StopAfter(2)) is Exit.INTERRUPTED
    assert record_of(run, 1).error == "stopped in the test"
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).resumed_from_epoch == 1


def test_failed_leaves_traceback_and_a_line():
    run = written("model.fail=raise")
    code, log = logged(run, 1)
    assert code is Exit.FAILED
    record = record_of(run, 1)
    assert record.status is Status.FAILED
    assert record.error == "RuntimeError: asked to <b>fail</b>"
    assert record.results == []
    text = (run.folder / "attempts" / "1" / "traceback.txt").read_text()
    assert text.startswith("Traceback")
    assert text in log
    assert not (run.folder / "record.json").exists()
    assert not (run.folder / LEASE).exists()
    assert perform(run.folder, LAUNCHED) is Exit.FAILED
    assert [p.name for p in records.attempts(run.folder)] == ["2", "1"]


def test_diverged():
    run = written("model.fail=diverge")
    assert perform(run.folder, LAUNCHED) is Exit.DIVERGED
    record = record_of(run, 1)
    assert (record.status, record.error) == (Status.DIVERGED, "train/loss is nan in epoch 0")
    assert not (run.folder / "record.json").exists()


def test_too_many_results_fail_with_a_record():
    run = written("model.results=250")
    assert perform(run.folder, LAUNCHED) is Exit.FAILED
    record = record_of(run, 1)
    assert record.status is Status.FAILED
    assert "a run may record 200 results" in record.error


def test_sys_exit_in_a_method_is_a_failure(monkeypatch):
    from retable.training import execute as runner

    run = written()
    monkeypatch.setattr(runner, "execute", lambda *_: sys.exit(0))
    assert perform(run.folder, LAUNCHED) is Exit.FAILED
    assert record_of(run, 1).error == "SystemExit: 0"


def test_sigterm_in_lightnings_hands_is_an_interruption(monkeypatch):
    """Between registering its own handler and the first hook, Lightning would leave by exit."""
    from retable.training import execute as runner

    run = written()
    stop = threading.Event()

    def execute(*_):
        stop.set()
        raise SystemExit

    monkeypatch.setattr(runner, "execute", execute)
    assert perform(run.folder, LAUNCHED, stop) is Exit.INTERRUPTED
    assert record_of(run, 1).status is Status.INTERRUPTED


def test_attempts_are_numbered_and_never_shared(tmp_path):
    assert [worker.new_attempt(tmp_path).name for _ in range(3)] == ["1", "2", "3"]
    (tmp_path / "attempts" / "10").mkdir()
    assert worker.new_attempt(tmp_path).name == "11"


def test_a_checkpoint_of_other_code_is_not_resumed(monkeypatch):
    run = written(experiment="digits/base")
    assert perform(run.folder, LAUNCHED, StopAfter(2)) is Exit.INTERRUPTED
    changed = frozen.FrozenRun(run.config, run.key, "1" * 64)
    frozen.write(changed)
    monkeypatch.setattr(worker, "fingerprint", lambda _: "1" * 64)
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).resumed_from_epoch is None
    assert record_of(run).fingerprint == "1" * 64


def test_nothing_of_person_or_machine_in_what_is_kept(monkeypatch, tmp_path):
    home = tmp_path / "home-of-somebody"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SECRET_OF_TEST", "hunter2hunter2")
    monkeypatch.setenv("RETABLE_RUNS", str(home / "runs"))
    from retable.training import execute as runner

    run = written()
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    failing = written(seed=1)

    def missing(*_):
        (home / "data.csv").read_text()

    monkeypatch.setattr(runner, "execute", missing)
    assert perform(failing.folder, LAUNCHED) is Exit.FAILED
    assert "'~/data.csv'" in record_of(failing, 1).error
    for path in (run.folder / "record.json", failing.folder / "attempts" / "1" / "record.json"):
        text = path.read_text()
        assert "hunter2hunter2" not in text
        assert "home-of-somebody" not in text
        assert os.uname().nodename not in text


def test_exit_codes_say_how_a_job_ended(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["job", str(written().folder)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for code in Exit:
        monkeypatch.setattr(worker, "perform", lambda *_, code=code: code)
        assert worker.main() == code


def test_threads_are_pinned_and_recorded():
    import torch

    before = torch.get_num_threads()
    run = written("device.threads=2")
    try:
        assert perform(run.folder, LAUNCHED) is Exit.DONE
        assert torch.get_num_threads() == 2
    finally:
        worker.set_threads(before)
    assert record_of(run).threads == 2
    assert run.key == freeze().key


def test_the_module_runs_a_folder(tmp_path):
    """As a cluster's job does; also from inside it."""
    done = written()

    def call(*args, cwd=tmp_path):
        command = [sys.executable, "-m", "retable.launch.worker", *map(str, args)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)

    assert call().returncode == Exit.REFUSED
    answer = call(tmp_path)
    assert answer.returncode == Exit.REFUSED
    assert answer.stderr.startswith(f"error: {tmp_path}/config.yaml: cannot be read")
    assert "Traceback" not in answer.stderr
    answer = call(".", cwd=done.folder)
    assert answer.returncode == Exit.DONE, answer.stderr
    record = record_of(done)
    assert record.status is Status.DONE
    store = Path(done.config.paths.runs) / "_store"
    assert (store / f"{record.provenance.packages}.txt").exists()
    # The same bits as in this process.
    (done.folder / "record.json").rename(tmp_path / "first.json")
    (done.folder / "attempts").rename(tmp_path / "attempts")
    assert perform(done.folder, LAUNCHED) is Exit.DONE
    assert record_of(done).substance() == record.substance()
