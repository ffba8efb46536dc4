"""The forkserver: one fresh process per run, the same bits, and every end is seen."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch.forkserver_client import Forkserver
from retable.launch.worker import Exit, Launched, perform
from retable.runs import frozen, records
from retable.runs.identity import targets_of
from retable.runs.lease import Lease, read_holder
from retable.runs.records import Provenance, Status
from retable.util.errors import UserError

LAUNCHED = Launched(
    Provenance(commit=None, dirty=None, packages="p", python="3", torch="2", cpu="c", cores=2),
    workers=2,
)


def written(*overrides, experiment="digits/smoke", seed=0):
    with hydra_ready():
        run = frozen.freeze(compose([f"experiment={experiment}", f"seed={seed}", *overrides]))
    frozen.write(run)
    return run


def targets(run):
    return sorted(targets_of([run.config.data, run.config.model]))


@pytest.fixture(scope="module")
def shared():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_RUNS", "unused")
        with hydra_ready():
            config = compose(["experiment=digits/smoke", "seed=0"])
        with Forkserver(sorted(targets_of([config.data, config.model]))) as server:
            yield server


def test_what_forks_has_one_thread(shared):
    """Python 3.12 and newer warn of others, and they would be missing in the runs."""
    assert len(list(Path(f"/proc/{shared._process.pid}/task").iterdir())) == 1


@pytest.fixture
def server(shared):
    yield shared
    shared.signal_all(signal.SIGKILL)
    while shared.busy:
        shared.wait(1)
    shared._stopping = None


def ends(server, limit=30.0):
    """Exit codes by key of all that is running, once it has ended."""
    codes = {}
    deadline = time.monotonic() + limit
    while server.busy:
        assert time.monotonic() < deadline, "still running"
        for ended in server.wait(0.2):
            codes[ended.run.key] = ended.code
    return codes


def wait_until(condition, server, limit=20.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        assert not server.wait(0.02), "ended early"


def saved(run, attempt=1):
    return list((run.folder / "attempts" / str(attempt)).glob("checkpoints/epoch=*.ckpt"))


def test_every_way_to_end_is_seen(server):
    runs = {
        "done": written(),
        "failed": written("model.fail=raise"),
        "diverged": written("model.fail=diverge"),
        "killed": written("model.fail=kill"),
        "left": written("model.fail=exit"),
        "left silently": written("model.fail=exit", "model.exit_code=0"),
        "held": written(seed=1),
        "refused": written(seed=2),
    }
    held = Lease.acquire(runs["held"].folder, 60)
    (runs["refused"].folder / frozen.FILE).write_text("nothing")
    for run in runs.values():
        server.start(run, LAUNCHED)
    assert server.busy == len(runs)
    codes = ends(server)
    held.release()
    assert {name: codes[run.key] for name, run in runs.items()} == {
        "done": Exit.DONE,
        "failed": Exit.FAILED,
        "diverged": Exit.DIVERGED,
        "killed": -signal.SIGKILL,
        "left": 9,
        "left silently": 0,
        "held": Exit.LEASED,
        "refused": Exit.REFUSED,
    }
    assert server.busy == 0
    # The dead left their leases; whoever comes next breaks them.
    holder = read_holder(runs["killed"].folder)
    assert holder.is_alive() is False
    Lease.acquire(runs["killed"].folder, 60).release()


def test_a_forked_run_has_the_bits_of_any_other(server, tmp_path, monkeypatch):
    run = written("trainer.max_epochs=2", "data.num_workers=1")
    server.start(run, LAUNCHED)
    assert ends(server) == {run.key: Exit.DONE}
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "other"))
    here = written("trainer.max_epochs=2")
    assert perform(here.folder, LAUNCHED) is Exit.DONE
    forked = records.read(run.folder / "record.json")
    assert forked.substance() == records.read(here.folder / "record.json").substance()
    assert "history" in (run.folder / "attempts/1/history.jsonl").name
    assert forked.workers == 2


def test_nothing_is_left_for_the_next_run(server):
    """Twice the same in one server, something else between."""
    first, other, again = written(), written("trainer.precision=64-true"), written(seed=0)
    results = []
    for run in (first, other, again):
        server.start(run, LAUNCHED)
        ends(server)
        results.append(records.read(run.folder / "record.json"))
        if run is first:
            (run.folder / "record.json").rename(run.folder / "first.json")
            (run.folder / "attempts").rename(run.folder / "first")
    assert results[0].substance() == results[2].substance()


def test_told_to_stop_it_leaves_at_the_end_of_its_epoch(server):
    run = written("model.sleep=0.2", "trainer.max_epochs=100")
    server.start(run, LAUNCHED)
    wait_until(lambda: saved(run), server)
    begin = time.monotonic()
    server.signal_all(signal.SIGTERM)
    assert ends(server) == {run.key: Exit.INTERRUPTED}
    assert time.monotonic() - begin < 5
    record = records.read(run.folder / "attempts/1/record.json")
    assert record.status is Status.INTERRUPTED
    assert not (run.folder / "lease.json").exists()


def test_told_before_it_has_begun(server):
    """Still between the command and the answer that it was forked."""
    run = written("model.sleep=0.2", "trainer.max_epochs=100")
    server.start(run, LAUNCHED)
    assert not server.running
    server.signal_all(signal.SIGTERM)
    [code] = ends(server).values()
    assert code in (Exit.INTERRUPTED, -signal.SIGTERM)


def test_an_epoch_that_is_longer_than_the_grace_is_cut(server):
    run = written("model.sleep=60", "launcher.grace_s=0.3")
    server.start(run, LAUNCHED)
    wait_until(lambda: read_holder(run.folder), server)
    server.signal_all(signal.SIGTERM)
    assert ends(server, 10) == {run.key: -signal.SIGALRM}


def test_ctrl_c_does_not_reach_server_and_runs(server):
    run = written("model.sleep=0.3")
    server.start(run, LAUNCHED)
    wait_until(lambda: read_holder(run.folder), server)
    for pid in (server._process.pid, *server.running):
        os.kill(pid, signal.SIGINT)
    assert ends(server) == {run.key: Exit.DONE}


@pytest.mark.slow
def test_a_lost_server_is_replaced():
    first, second = written("model.sleep=30"), written()
    with Forkserver(targets(first)) as server:
        server.start(first, LAUNCHED)
        wait_until(lambda: read_holder(first.folder), server)
        [pid] = server.running
        os.kill(server._process.pid, signal.SIGKILL)
        assert ends(server) == {first.key: -signal.SIGKILL}
        deadline = time.monotonic() + 5
        while read_holder(first.folder).is_alive():
            assert time.monotonic() < deadline, "its run goes on unseen"
            time.sleep(0.02)
        assert read_holder(first.folder).pid == pid
        server.start(second, LAUNCHED)
        assert ends(server) == {second.key: Exit.DONE}


def test_a_server_that_cannot_start_is_said_so(monkeypatch, capfd):
    import sys

    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="ended; its message is above"), Forkserver([]):
        pass


def test_a_partial_answer_is_put_together(monkeypatch):
    server = Forkserver([])
    read_end, write_end = os.pipe()
    server._replies = read_end
    try:
        os.write(write_end, b'{"forked": "/a", "pi')
        assert server._receive(1) == []
        os.write(write_end, b'd": 7}\n{"pid": 7, "sta')
        assert server._receive(1) == [{"forked": "/a", "pid": 7}]
        os.write(write_end, b'tus": 0}\n')
        assert server._receive(1) == [{"pid": 7, "status": 0}]
        assert server._receive(0) == []
    finally:
        os.close(read_end)
        os.close(write_end)
