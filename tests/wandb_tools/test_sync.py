"""Uploading by the real client to a stand-in of the server: each step once, whatever happens."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from retable.runs import records
from retable.runs.lease import Lease
from retable.runs.records import Status
from retable.tracking import naming, run_payload, tags
from retable.util import paths
from retable.util.errors import UserError
from retable.wandb_tools import api, sync
from support.runs import wait_for
from support.sync import attempt, followed, local_of, rows, server, synced, uploads

__all__ = ["server"]


def told(stored):
    """History as the server has it, without the library's own entries."""
    return [{k: v for k, v in row.items() if k[0] != "_"} for row in stored.history]


def check_whole(server, run, epochs, state="finished"):
    stored = server.run(naming.run_id(run.key, run.fingerprint))
    assert stored.steps == list(range(epochs))
    assert told(stored) == rows(epochs)
    assert stored.state == state
    return stored


@pytest.mark.slow
def test_whole_and_broken_runs_are_uploaded_and_remembered(server, runs):
    whole, broken, failed = followed(0), followed(1), followed(2)
    tags.write(runs, "digits/accuracy", "smoke", {whole.key: ["digits/accuracy", "cell"]})
    attempt(whole, 1)
    attempt(broken, 1, end=2, status=None, closed=False)
    attempt(broken, 2, begin=1, end=5)
    attempt(failed, 1, end=2, status=Status.DIVERGED)
    outcome = synced(runs)
    assert (outcome.synced, outcome.already, outcome.failed) == (3, 0, [])
    stored = check_whole(server, whole, 3)
    assert stored.about["tags"] == ["digits/accuracy", "cell"]
    assert stored.about["groupName"] == "digits/smoke"
    assert stored.about["displayName"] == naming.display_name(whole.config, whole.key)
    assert stored.config["model"]["value"]["hidden"] == whole.config.model["hidden"]
    record = records.parse(stored.summary[run_payload.RECORD], "summary")
    assert record == records.read(whole.folder / "record.json")
    check_whole(server, broken, 5)
    assert check_whole(server, failed, 2, "failed").summary["status"] == "diverged"
    # What the followers wrote stays as it is, and nothing of the uploads is left.
    assert not list(naming.folder(runs).rglob("*.synced"))
    assert not list((naming.folder(runs) / "merged").iterdir())

    before = uploads(server)
    outcome = synced(runs)
    assert (outcome.synced, outcome.already) == (0, 3)
    assert uploads(server) == before


@pytest.mark.slow
def test_a_run_that_has_gone_on_gets_what_is_new(server, runs):
    run = followed()
    attempt(run, 1, end=3, status=Status.INTERRUPTED)
    assert synced(runs).synced == 1
    check_whole(server, run, 3, "failed")
    attempt(run, 2, begin=3, end=6)
    assert synced(runs).synced == 1
    check_whole(server, run, 6)
    # Only tags are new: the steps stay as they are.
    tags.write(runs, "digits/accuracy", "smoke", {run.key: ["digits/accuracy"]})
    assert synced(runs).synced == 1
    stored = check_whole(server, run, 6)
    assert stored.about["tags"] == ["digits/accuracy"]
    assert run_payload.RECORD in stored.summary


def has_already(server, run, some):
    """The server has some rows of a run, as the library sends them."""
    lines = [json.dumps({"_step": row["epoch"], "_runtime": 0, **row}) for row in some]
    files = {"wandb-history.jsonl": {"offset": 0, "content": lines}}
    server.stream(("retable", naming.run_id(run.key, run.fingerprint)), {"files": files})


@pytest.mark.slow
def test_an_upload_that_was_cut_off_is_completed(server, runs):
    cut, lost = followed(0), followed(1)
    attempt(cut, 1, end=5)
    attempt(lost, 1, end=5)
    has_already(server, cut, rows(5)[:2])
    has_already(server, lost, [rows(5)[0], rows(5)[2]])
    outcome = synced(runs)
    assert outcome.synced == 2
    check_whole(server, cut, 5)
    # A step that was lost online cannot be put before later ones; nothing is there twice.
    stored = server.run(naming.run_id(lost.key, lost.fingerprint))
    assert stored.steps == [0, 2, 3, 4]
    [lacking] = outcome.lacking
    assert lacking.startswith("digits smoke s1")
    assert "1 of its steps" in lacking


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_with_the_rest(server, runs):
    made = [followed(seed) for seed in range(3)]
    for run in made:
        attempt(run, 1)
    command = [sys.executable, "-m", "retable", "wandb", "sync", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    kept = server.fault

    def kill_at_the_second_history(what):
        if what.endswith("file_stream") and sum(bool(r.history) for r in server.runs.values()):
            server.fault = kept
            os.kill(process.pid, signal.SIGKILL)

    server.fault = kill_at_the_second_history
    _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said

    def goes_on():
        with suppress(UserError):  # what it had started is still at it, and has the lock
            return synced(runs)

    outcome = wait_for(goes_on)  # an upload takes 10 s alone, and more than 60 in a full suite
    assert outcome.failed == []
    assert outcome.synced + outcome.already == 3
    for run in made:
        check_whole(server, run, 3)
    assert synced(runs).already == 3


@pytest.mark.slow
def test_errors_of_the_network_are_tried_again_and_refusals_are_not(server, runs):
    run = followed()
    attempt(run, 1)
    left = [503] * 5

    def busy(what):
        return left.pop() if left and what == "UpsertBucket" else None

    server.fault, said = busy, []
    assert synced(runs, waits=(0.0,) * 4, said=said).synced == 1
    assert said
    assert all("503" in text and "again in" in text for text in said)
    check_whole(server, run, 3)

    tags.write(runs, "digits/accuracy", "smoke", {run.key: ["changed"]})
    server.fault = lambda what: 403 if what == "UpsertBucket" else None
    server.calls.clear()
    outcome = synced(runs, waits=(0.0,) * 4)
    [failed] = outcome.failed
    assert "403" in failed
    assert "digits smoke s0" in failed
    assert server.calls.count("UpsertBucket") == 1

    # The metrics are lost on the way although the client says that it has finished.
    server.fault = lambda what: 500 if what.endswith("file_stream") else None
    said = []
    outcome = synced(runs, waits=(0.0,), said=said)
    [failed] = outcome.failed
    assert "Fatal error while uploading" in failed
    assert len(said) == 1
    server.fault = lambda _: None
    assert synced(runs).synced == 1
    check_whole(server, run, 3)


@pytest.mark.slow
def test_without_a_server_nothing_is_lost(server, runs):
    run = followed()
    attempt(run, 1)
    found = sync.find([run.folder])
    target = sync.Target(api.connect(pytest.fail))
    server.http.server_close()
    server.http.shutdown()
    said = []
    outcome = sync.sync(found.locals, target, waits=(0.0, 0.0), say=said.append)
    assert (outcome.synced, len(outcome.failed), len(said)) == (0, 1, 2)
    assert "refused" in outcome.failed[0]
    with pytest.raises(UserError, match=r"127\.0\.0\.1 cannot be reached"):
        api.connect(said.append, waits=())


@pytest.mark.slow
def test_when_the_server_goes_away_the_rest_does_not_wait_for_it(server, runs):
    for seed in range(3):
        attempt(followed(seed), 1)
    found = sync.find(paths.run_folders(runs))
    target = sync.Target(api.connect(pytest.fail))
    server.http.server_close()
    server.http.shutdown()
    said = []
    outcome = sync.sync(found.locals, target, workers=1, waits=(0.0,), say=said.append)
    assert outcome.unreachable
    assert (outcome.synced, len(outcome.failed)) == (0, 1)
    assert (outcome.left, outcome.stopped) == (2, False)
    # One pause of the one that failed; the next one may have been at its own by then.
    assert len(said) <= 2


@pytest.mark.slow
def test_what_was_deleted_on_the_server_is_uploaded_again_if_asked_for(server, runs):
    run = followed()
    attempt(run, 1)
    assert synced(runs).synced == 1
    server.runs.clear()
    assert synced(runs).already == 1
    assert server.runs == {}
    assert synced(runs, forget=True).synced == 1
    check_whole(server, run, 3)
    # What is there is not uploaded twice.
    assert synced(runs, forget=True).synced == 1
    check_whole(server, run, 3)


@pytest.mark.slow
def test_servers_on_two_ports_are_two_places(server, runs):
    attempt(followed(), 1)
    [one] = sync.find(paths.run_folders(runs)).locals
    target = sync.Target(api.connect(pytest.fail))
    address = server.environment["WANDB_BASE_URL"].removeprefix("http://")
    assert address.startswith("127.0.0.1:")
    assert target.where(one) == f"{address}/someone/retable"
    assert target.server.page(target.project_of(one)) == f"http://{address}/someone/retable"


@pytest.mark.slow
def test_two_at_once_are_refused(server, runs):
    run = followed()
    attempt(run, 1)
    naming.folder(runs).mkdir(exist_ok=True)
    with (naming.folder(runs) / "sync.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"another one of .* is going on"):
            synced(runs)
    assert synced(runs).synced == 1


@pytest.mark.slow
def test_another_entity_and_project_are_another_place(server, runs):
    run = followed()
    attempt(run, 1)
    found = sync.find([run.folder]).locals
    connected = api.connect(pytest.fail)
    for target in (sync.Target(connected), sync.Target(connected, project="elsewhere")):
        outcome = sync.sync(found, target, say=pytest.fail)
        assert outcome.synced == 1
    name = naming.run_id(run.key, run.fingerprint)
    assert set(server.runs) == {("retable", name), ("elsewhere", name)}
    assert server.runs["elsewhere", name].steps == [0, 1, 2]


@pytest.mark.slow
def test_what_runs_or_has_no_record_is_left_alone(runs):
    running, killed, plain = followed(0), followed(1), followed(2)
    attempt(running, 1, end=2, status=Status.INTERRUPTED)
    attempt(killed, 1, end=2, status=None)
    lease = Lease.acquire(running.folder, 60)
    assert lease
    folders = [running.folder, killed.folder, plain.folder]
    try:
        found = sync.find(folders)
        assert found.running == [running.label]
        assert (found.locals, found.unfinished, found.broken) == ([], 1, [])
    finally:
        lease.release()
    assert [one.id for one in sync.find(folders).locals] == [local_of(running).id]
    (killed.folder / "config.yaml").write_text("{}")
    (running.folder / "attempts" / "1" / "history.jsonl").write_text('{"epoch": 0}\n{"epo')
    history, config = sync.find(folders).broken
    assert f"{running.key}/attempts/1/history.jsonl: cannot be read" in history
    assert killed.key in config


@pytest.mark.slow
def test_ctrl_c_ends_it_and_what_it_started(server, runs):
    run = followed()
    attempt(run, 1)
    command = [sys.executable, "-m", "retable", "wandb", "sync"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def interrupt(what):
        if what == "UpsertBucket":
            server.fault = lambda _: 503
            process.send_signal(signal.SIGINT)
            return 503
        return None

    server.fault = interrupt
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert out.startswith("0 synced, 0 already, 0 not; http")
    assert "goes on with the rest" in said
    server.fault = lambda _: None
    assert synced(runs).synced == 1  # nothing holds the lock any more
    check_whole(server, run, 3)
