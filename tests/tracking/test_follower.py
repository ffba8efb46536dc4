"""What W&B's own files say of a run that was followed, step by step."""

from __future__ import annotations

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
from retable.papers.digits.module import Perceptron

from retable.launch.worker import Exit, perform
from retable.runs import frozen, records
from retable.runs.attempts import new_attempt
from retable.runs.records import Status
from retable.tracking import follower, ledger, naming, tags
from retable.tracking.ledger import Ledger
from support.runs import LAUNCHED, wait_for
from support.tracking import (
    EPOCHS,
    attempt_of,
    ended,
    epochs_told,
    files_of,
    followed,
    follower_of,
    history_of,
    hold,
    is_alive,
    ledger_of,
    log_of,
    record_of,
    server,  # noqa: F401 - a fixture
    slow,
    start,
)
from support.wandb_stand_in import running

pytestmark = pytest.mark.slow


def test_a_followed_run_is_in_w_and_b_s_file_as_it_is_in_ours(runs):
    run = followed()
    tags.write(runs, "digits/accuracy", "paper", {run.key: ["digits/accuracy", "a cell"]})
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    [file] = files_of(run)
    history, record = history_of(run), record_of(run)
    assert file.steps == [row["epoch"] for row in history] == list(range(EPOCHS))
    assert file.rows == history
    assert file.run["run_id"] == f"{run.key[:12]}{run.fingerprint[:6]}"
    assert file.run["display_name"] == f"digits base s0 {run.key[:8]}"
    assert (file.run["project"], file.run["run_group"]) == ("retable", "digits/base")
    assert file.tags == ["digits/accuracy", "a cell"]
    config = file.run["config"]["update"]
    assert config["trainer"]["max_epochs"] == EPOCHS
    assert config["retable"]["fingerprint"] == run.fingerprint
    assert config["retable"]["cpu"] == "c"
    assert file.summary["test/accuracy"] == record.value("test/accuracy")
    assert file.summary["status"] == "done"
    assert records.parse(file.summary["record"], "summary") == record
    assert file.exit_code == 0
    told = ledger_of(run)
    assert (told.upto, told.finished, told.mode) == (EPOCHS, True, "offline")
    assert file.path.parent == naming.folder(runs) / "wandb" / told.segment
    assert "W&B" not in log_of(run)


def test_a_run_that_has_its_record_is_not_followed_again():
    run = followed(experiment="digits/smoke")
    perform(run.folder, LAUNCHED)
    perform(run.folder, LAUNCHED)
    assert len(files_of(run)) == 1


def test_a_run_that_only_tests_is_there_with_its_results():
    run = followed("stages=[test]", "trainer.max_epochs=null")
    perform(run.folder, LAUNCHED)
    [file] = files_of(run)
    assert (file.rows, file.exit_code) == ([], 0)
    assert file.summary["test/accuracy"] == record_of(run).value("test/accuracy")
    assert ledger_of(run).finished


@pytest.mark.parametrize(("fail", "status"), [("raise", "failed"), ("diverge", "diverged")])
def test_a_run_that_comes_to_grief_is_marked(fail, status):
    run = followed(f"model.fail={fail}")
    perform(run.folder, LAUNCHED)
    [file] = files_of(run)
    assert file.tags == [status]
    assert file.exit_code == 1
    assert file.summary["status"] == status
    assert file.summary["error"] == record_of(run).error


def test_a_killed_run_goes_on_as_the_same_one_and_no_step_is_there_twice(server):
    run = slow()
    job = start(server, run)
    hold(run, job)
    process = follower_of(job)
    os.kill(job, signal.SIGKILL)
    assert ended(server) == [-signal.SIGKILL]
    wait_for(lambda: not is_alive(process), 10)  # by itself
    [first] = files_of(run)
    assert (first.exit_code, first.summary["status"]) == (1, "killed")
    assert not first.of("preempting")  # nobody but its launcher knows whether it goes on
    assert first.rows == history_of(run)  # whatever had a checkpoint
    start(server, run)
    assert ended(server) == [Exit.DONE]
    one, two = files_of(run)
    assert one.run["run_id"] == two.run["run_id"]
    assert one.steps + two.steps == list(range(EPOCHS))
    assert one.rows + two.rows == history_of(run, 2)
    assert two.summary["status"] == "done"
    assert (ledger_of(run).finished, ledger_of(run, 2).finished) == (False, True)


def test_a_follower_that_is_late_leaves_the_rest_to_the_next(server):
    run = slow()
    job = start(server, run)
    late = follower_of(job)
    os.kill(late, signal.SIGSTOP)
    wait_for(lambda: (attempt_of(run) / "history.jsonl").exists())
    os.kill(job, signal.SIGKILL)
    ended(server)
    start(server, run)
    assert ended(server) == [Exit.DONE]
    os.kill(late, signal.SIGCONT)
    wait_for(lambda: not is_alive(late), 20)
    steps = [step for file in files_of(run) for step in file.steps]
    assert sorted(steps) == list(range(EPOCHS))


def test_an_epoch_is_handed_over_while_the_run_goes_on(server):
    run = slow()
    job = start(server, run)
    hold(run, job)
    # On disk, not only in the service's memory: this is what a live view shows.
    wait_for(lambda: [file for file in files_of(run) if file.rows])
    os.kill(job, signal.SIGCONT)
    assert ended(server) == [Exit.DONE]


def test_a_stopped_run_is_marked_as_one_that_goes_on(server):
    run = slow()
    job = start(server, run)
    hold(run, job)
    os.kill(job, signal.SIGTERM)
    os.kill(job, signal.SIGCONT)
    assert ended(server) == [Exit.INTERRUPTED]
    [file] = files_of(run)
    assert file.of("preempting")
    assert (file.exit_code, file.summary["status"]) == (1, "interrupted")
    assert file.rows == history_of(run)
    assert "record" not in file.summary
    assert not ledger_of(run).finished


def test_an_attempt_that_starts_anew_is_another_run():
    run = followed("model.fail=late")
    assert perform(run.folder, LAUNCHED) is Exit.DIVERGED
    perform(run.folder, LAUNCHED)
    assert ledger_of(run, 2).id == f"{ledger_of(run).id}g1"
    assert [file.run["run_id"] for file in files_of(run)] == [
        ledger_of(run).id,
        ledger_of(run, 2).id,
    ]


def test_changed_code_is_another_run(monkeypatch):
    run = followed(experiment="digits/smoke")
    perform(run.folder, LAUNCHED)
    changed = frozen.FrozenRun(run.config, run.key, "f" * 64)
    frozen.write(changed)
    (run.folder / "record.json").unlink()
    (attempt_of(run) / "record.json").unlink()
    monkeypatch.setattr("retable.launch.worker.refuse_changed_code", lambda _: None)
    perform(run.folder, LAUNCHED)
    assert ledger_of(run).id[:12] == ledger_of(run, 2).id[:12]
    assert ledger_of(run, 2).id[12:] == "ffffff"


def test_two_runs_of_one_forkserver_share_nothing(server):
    pair = [slow("trainer.max_epochs=2", seed=seed) for seed in (0, 1)]
    jobs = [start(server, run) for run in pair]
    followers = [follower_of(job) for job in jobs]
    assert len(set(followers)) == 2
    assert sorted(ended(server, 2)) == [Exit.DONE, Exit.DONE]
    for run in pair:
        [file] = files_of(run)
        assert file.rows == history_of(run)
        assert json.loads(file.summary["record"])["seed"] == run.config.seed


def test_of_several_devices_the_first_is_followed(server):
    run = followed("device.devices=2", "trainer.max_epochs=2")
    start(server, run)
    assert ended(server) == [Exit.DONE]
    [file] = files_of(run)
    assert file.rows == history_of(run)


def test_a_follower_outlives_neither_its_job_nor_its_limit(server):
    run = slow("logger.wait_s=2")
    job = start(server, run)
    process = follower_of(job)
    os.kill(process, signal.SIGSTOP)
    os.kill(job, signal.SIGKILL)
    ended(server)
    begin = time.monotonic()
    os.kill(process, signal.SIGCONT)
    wait_for(lambda: not is_alive(process), 10)
    assert time.monotonic() - begin < 8


def test_what_is_sent_to_all_of_a_job_is_meant_for_the_run(server):
    run = slow()
    job = start(server, run)
    hold(run, job)
    process = follower_of(job)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        os.kill(process, number)
    os.kill(job, signal.SIGCONT)
    assert ended(server) == [Exit.DONE]
    [file] = files_of(run)
    assert file.rows == history_of(run)
    assert record_of(run).status is Status.DONE


def test_what_is_handed_over_is_noted_first():
    """A follower that is killed in between leaves a step out, which a sync makes up for."""
    run = followed()
    attempt = new_attempt(run.folder)
    (attempt / "history.jsonl").write_text('{"epoch":0,"x":1.0}\n{"epoch":1,"x":2.0}\n')
    noted = []
    w_and_b = SimpleNamespace(log=lambda *_, step, **__: noted.append((step, epochs_told(run))))
    told = follower._hand_over(w_and_b, attempt, Ledger("id", "offline", upto=1))
    assert noted == [(1, 2)]
    assert told.upto == 2


@pytest.fixture
def service(monkeypatch):
    """W&B's server, and a login for it."""
    with running() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def test_online_the_server_has_it_as_it_is_in_our_history(service):
    run = followed(mode="online")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    told = service.run(ledger_of(run).id)
    assert told.steps == list(range(EPOCHS))
    rows = [{k: v for k, v in row.items() if k[0] != "_"} for row in told.history]
    assert rows == history_of(run)
    assert told.state == "finished"
    assert told.about["displayName"] == f"digits base s0 {run.key[:8]}"
    assert told.summary["test/accuracy"] == record_of(run).value("test/accuracy")
    assert (ledger_of(run).mode, ledger_of(run).finished) == ("online", True)


def test_online_no_step_is_logged_that_the_server_has(service, monkeypatch):
    """The ledger of the attempt before may be lost; the server knows."""
    run = followed(mode="online")
    original = records.write_attempt
    monkeypatch.setattr(records, "write_attempt", lambda *_: (_ for _ in ()).throw(OSError("no")))
    perform(run.folder, LAUNCHED)  # all epochs, and no record
    told = service.run(ledger_of(run).id)
    assert (told.steps, told.exit_code) == (list(range(EPOCHS)), 1)
    assert told.summary["status"] == "failed"  # it said that it ended
    (attempt_of(run) / ledger.FILE).unlink()
    monkeypatch.setattr(records, "write_attempt", original)
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).resumed_from_epoch == EPOCHS
    told = service.run(ledger_of(run, 2).id)
    assert told.steps == list(range(EPOCHS))
    assert (told.state, told.summary["status"]) == ("finished", "done")


@pytest.mark.parametrize(("last", "told"), [(f"{follower.ENDED}\n", True), ("", False)])
def test_a_job_that_was_over_before_its_follower_listened_is_heard(last, told, monkeypatch):
    monkeypatch.setattr(follower, "end_in", lambda _: None)  # it ends the process
    orders = follower.Orders("offline", None, 9.0, "k", "f", "digits", {})
    reader, writer = os.pipe()
    os.write(writer, f"{orders.line()}{follower.EPOCH}\n{last}".encode())
    os.close(writer)
    channel = follower.Channel(reader)
    assert channel.orders() == orders
    wait_for(lambda: channel.over)
    assert channel.told is told
    os.close(reader)


def test_a_run_that_failed_and_went_on_is_marked_no_more(service, monkeypatch):
    run = followed(mode="online")
    with monkeypatch.context() as patch:

        def on_validation_start(self):
            if self.current_epoch == 2:
                raise RuntimeError("once")

        patch.setattr(Perceptron, "on_validation_start", on_validation_start)
        assert perform(run.folder, LAUNCHED) is Exit.FAILED
    told = service.run(ledger_of(run).id)
    assert (told.about["tags"], told.state) == (["failed"], "failed")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert ledger_of(run, 2).id == told.id
    assert told.about["tags"] == ["resumed"]
    assert (told.state, told.summary["status"]) == ("finished", "done")
    assert "error" not in told.summary
    assert told.steps == list(range(EPOCHS))


def test_a_server_that_cannot_be_reached_leaves_it_offline(service, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = followed(mode="online")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    [file] = files_of(run)
    assert file.rows == history_of(run)
    assert (ledger_of(run).mode, ledger_of(run).finished) == ("offline", True)


def test_a_server_that_refuses_leaves_it_offline(service):
    service.fault = lambda what: 401 if what == "UpsertBucket" else None
    run = followed(mode="online")
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert ledger_of(run).mode == "offline"
    [file] = [f for f in files_of(run) if f.path.parent.name == ledger_of(run).segment]
    assert file.rows == history_of(run)


def test_where_the_launcher_has_not_decided_the_follower_does(service, monkeypatch):
    run = followed(mode="auto")
    perform(run.folder, LAUNCHED)
    assert ledger_of(run).mode == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    run = followed(mode="auto", seed=1)
    perform(run.folder, LAUNCHED)
    assert ledger_of(run).mode == "offline"
    assert "no valid login" in (attempt_of(run) / "wandb.log").read_text()
