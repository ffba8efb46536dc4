"""Submission without a cluster: what is submitted and what not, and all or nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace

import msgspec
import pytest

from retable.launch import local
from retable.launch.checks import check_together
from retable.launch.dispatch import launch
from retable.launch.slurm.open_jobs import LEASE_S
from retable.launch.slurm.submission import Entry, all_of
from retable.launch.slurm.submit import Orders
from retable.launch.worker import perform
from retable.runs import frozen, provenance, records
from retable.runs.lease import Lease
from retable.runs.snapshot import EXTRA
from retable.util import paths
from retable.util.errors import UserError
from support.job import LAUNCHED
from support.runs import freeze
from support.submit import ON, said, some, the_submission, tree  # noqa: F401 - a fixture


@pytest.fixture
def orders(said):
    return Orders(label="digits/accuracy", table=("digits/accuracy",), say=said.append)


def names(*runs):
    return [f"digits/{run.key}" for run in runs]


def test_what_is_submitted_is_frozen_with_all_that_its_jobs_read(fake_slurm, runs, orders, said):
    todo = some()
    summary = launch(todo, orders=orders)
    assert (summary.queued, summary.already, summary.done, summary.ok) == (3, 0, 0, True)
    assert summary.pending
    made = the_submission(runs)
    header = made.header
    assert (header.label, header.cluster, header.source) == ("digits/accuracy", "dev", None)
    assert header.signal_s == todo[0].config.cluster.signal_s
    [array] = header.arrays
    assert (array.number, array.tasks, array.job) == (0, 3, "101")
    assert made.tasks(0).tasks == [[Entry(folder=name)] for name in names(*todo)]
    assert [frozen.read(run.folder) for run in todo] == todo
    assert msgspec.json.decode(
        (made.folder / "provenance.json").read_bytes(), type=records.Provenance
    )
    options = fake_slurm.jobs["101"]["options"]
    assert options["array"] == "0-2"
    assert options["comment"] == f"retable {made.folder.name} 0"
    assert (made.folder / "log").is_dir()
    assert not (runs / "_slurm" / "lease.json").exists()
    assert said[0].startswith("3 runs in 3 jobs of 1 array on dev")
    assert "retable status digits/accuracy --watch" in said[-1]
    assert "retable cancel digits/accuracy" in said[-1]


def test_what_is_queued_already_is_not_submitted_again_whoever_asks(fake_slurm, runs, orders, said):
    todo = some(4)
    launch(todo[:3], orders=orders)
    summary = launch(todo, orders=orders)
    assert (summary.queued, summary.already) == (1, 3)
    assert "3 runs queued or running on the cluster already; not submitted again" in said
    newest, _ = all_of(runs)
    assert newest.tasks(0).tasks == [[Entry(folder=name)] for name in names(todo[3])]
    before = fake_slurm.calls("sbatch")
    summary = launch(todo, orders=orders)
    assert (summary.queued, summary.already) == (0, 4)
    assert fake_slurm.calls("sbatch") == before
    assert len(list(all_of(runs))) == 2


def test_what_is_no_longer_in_the_queue_and_has_no_record_is_submitted_again(
    fake_slurm, runs, orders
):
    todo = some(2)
    launch(todo, orders=orders)
    fake_slurm.set("101", state="CANCELLED")
    assert launch(todo, orders=orders).queued == 2
    newest, oldest = all_of(runs)
    assert (oldest.closed, newest.closed) == (True, False)


def test_only_runs_without_a_good_record_are_submitted(fake_slurm, runs, orders):
    done, diverged, failed, new = (
        freeze(*ON),
        freeze(*ON, "model.fail=diverge"),
        freeze(*ON, "model.fail=raise"),
        freeze(*ON, seed=5),
    )
    for run in (done, diverged, failed):
        frozen.write(run)
        perform(run.folder, LAUNCHED)
    summary = launch([done, diverged, failed, new], orders=orders)
    assert (summary.queued, summary.skipped) == (2, 2)
    folders = {e.folder: e.before for task in the_submission(runs).tasks(0).tasks for e in task}
    assert folders == dict(zip(names(failed, new), (1, 0), strict=True))
    again = launch([diverged], retry_diverged=True, orders=replace(orders, retry_diverged=True))
    assert again.queued == 1


def test_a_run_that_ends_while_others_submit_is_not_submitted(
    fake_slurm, runs, orders, monkeypatch
):
    [run, other] = some(2)
    frozen.write(run)
    acquire = Lease.acquire

    def late(folder, lease_s):
        if folder.name == "_slurm":
            perform(run.folder, LAUNCHED)
        return acquire(folder, lease_s)

    monkeypatch.setattr(Lease, "acquire", late)
    summary = launch([run, other], orders=orders)
    assert (summary.queued, summary.skipped) == (1, 1)


def test_a_run_that_a_living_runner_holds_is_not_submitted(fake_slurm, runs, orders, said):
    run, other = some(2)
    frozen.write(run)
    lease = Lease.acquire(run.folder, 60)
    try:
        summary = launch([run, other], orders=orders)
    finally:
        lease.release()
    assert (summary.queued, summary.already) == (1, 1)
    assert "1 run being done by another runner; not submitted" in said


def test_a_run_that_its_job_has_given_up_may_be_submitted_while_that_goes_on(
    fake_slurm, runs, orders
):
    todo = some(3, "launcher.runs_per_job=3")
    launch(todo, orders=orders)
    gone = names(*todo)[1]
    the_submission(runs).say(0, 0, "ended", run=gone, status="failed", error="it is broken")
    summary = launch(todo, orders=orders)
    assert (summary.queued, summary.already) == (1, 2)
    newest = next(all_of(runs))
    assert newest.tasks(0).tasks == [[Entry(folder=gone)]]


def test_arrays_are_split_and_throttled(fake_slurm, runs, orders):
    todo = some(7, "cluster.max_array=3", "cluster.throttle=2")
    assert launch(todo, orders=orders).queued == 7
    assert [job["options"]["array"] for job in fake_slurm.jobs.values()] == [
        "0-2%2",
        "0-2%2",
        "0-0%2",
    ]
    made = the_submission(runs)
    assert [array.job for array in made.header.arrays] == ["101", "102", "103"]
    placed = [e.folder for k in range(3) for task in made.tasks(k).tasks for e in task]
    assert sorted(placed) == sorted(names(*todo))
    assert not any("config" in call for call in fake_slurm.calls("scontrol"))


def test_runs_that_need_something_else_are_in_arrays_of_their_own(fake_slurm, runs, orders):
    gpu = freeze(*ON, "resources.gpus=1", "device.accelerator=auto", "model.hidden=8")
    assert launch([*some(2), gpu], orders=orders).queued == 3
    gres = {j["options"]["array"]: j["options"].get("gres") for j in fake_slurm.jobs.values()}
    assert gres == {"0-1": None, "0-0": "gpu:1"}


def test_expected_hours_are_those_of_runs_that_are_done(fake_slurm, runs, orders, said):
    slow, quick = freeze(*ON), freeze(*ON, "model.hidden=8")
    for run, wall in ((slow, 7200.0), (quick, 1800.0)):
        frozen.write(run)
        perform(run.folder, LAUNCHED)
        path = run.folder / records.RUN_RECORD
        path.write_text(json.dumps({**json.loads(path.read_text()), "wall_s": wall}))
    todo = [quick.with_seed(1), slow.with_seed(1), slow.with_seed(2)]
    launch([slow, quick, *todo], orders=orders)
    assert "expected: 4.5 h of runs" in said[0]
    tasks = the_submission(runs).tasks(0).tasks
    assert tasks[2] == [Entry(folder=name) for name in names(todo[0])]  # the longest come first


def test_jobs_before_and_behind(fake_slurm, runs, orders):
    launch(some(2), orders=orders)
    more = replace(orders, prepare=("digits/accuracy", "--row", "slow"), publish=True)
    launch(some(4, "cluster.max_array=1"), orders=more)
    made = next(all_of(runs))
    assert made.header.chores == {"prepare": "102", "publish": "105"}
    jobs = {job: about["options"] for job, about in fake_slurm.jobs.items()}
    assert jobs["102"].get("dependency") is None
    for job in ("103", "104"):
        assert jobs[job]["dependency"] == "afterok:102"
        assert jobs[job]["kill-on-invalid-dep"] == "yes"
    # Behind what others have submitted of it, too.
    assert jobs["105"]["dependency"] == "afterany:101:103:104"
    assert "retable prepare digits/accuracy --row slow" in (
        made.folder / "prepare.sbatch"
    ).read_text().replace(" -P -m", "")


def test_with_a_snapshot_jobs_run_from_a_copy(fake_slurm, runs, orders):
    launch(some(1, "launcher.snapshot=true"), orders=orders)
    made = the_submission(runs)
    [copy] = (runs / "_snapshots").iterdir()
    assert made.header.source == str(copy)
    text = made.script(0).read_text()
    assert f"export PYTHONPATH={copy}$" in text
    assert f"export RETABLE_EXTRA={copy}/{EXTRA}\n" in text


def test_runs_done_at_a_side_name_the_run_they_are_of(fake_slurm, runs, orders):
    run = freeze(*ON, f"paths.runs={runs}/_refresh/ab")
    launch([run], orders=replace(orders, runs=runs))
    [[entry]] = the_submission(runs).tasks(0).tasks
    [name] = names(run)
    assert entry == Entry(folder=f"_refresh/ab/{name}", home=name)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cluster.partition=lwo", "there is no 'lwo'; did you mean 'low'"),
        ("cluster.minutes=2000", "above the time limit of partition low, 1440"),
        ("cluster.cpus=64", "no node of partition low has more than 2"),
        ("cluster.options={wrap: x}", "options.wrap: not here"),
    ],
)
def test_what_the_cluster_could_not_do_is_refused_before_anything_is_written(
    fake_slurm, runs, orders, override, words
):
    with pytest.raises(UserError, match=words):
        launch(some(2, override), orders=orders)
    assert tree(runs) == []
    assert fake_slurm.calls("sbatch") == []


def test_a_dead_controller_is_found_before_anything_is_written(fake_slurm, runs, orders):
    fake_slurm.answer("scontrol", error="slurm_load_ctl_conf error: Unable to contact\n", code=1)
    with pytest.raises(UserError, match="slurmctld does not answer"):
        launch(some(2), orders=orders)
    assert tree(runs) == []


def test_who_submits_waits_for_who_is_submitting_into_the_same_folder(
    fake_slurm, runs, orders, said
):
    (runs / "_slurm").mkdir(parents=True)
    lease = Lease.acquire(runs / "_slurm", LEASE_S)
    released = []

    def release():
        end = time.monotonic() + 60
        while not said and time.monotonic() < end:
            time.sleep(0.05)
        released.append(fake_slurm.calls("sbatch"))
        lease.release()

    thread = threading.Thread(target=release)
    thread.start()
    summary = launch(some(1), orders=orders)
    thread.join()
    assert released == [[]]
    assert summary.queued == 1
    assert said[0].startswith(f"waiting: process {os.getpid()} on ")


def test_a_login_nodes_gpu_says_nothing_about_a_cluster(fake_slurm, orders, monkeypatch):
    monkeypatch.setattr(provenance, "gpu", lambda: (None, None))
    run = freeze(*ON, "device.accelerator=gpu", "resources.gpus=1")
    assert launch([run], orders=orders).queued == 1
    here = freeze("device.accelerator=gpu")
    with pytest.raises(UserError, match="no NVIDIA GPU here"):
        check_together([here])


def test_a_run_on_several_devices_has_a_task_for_each(fake_slurm, runs, orders):
    run = freeze(*ON, "device.devices=2")
    assert launch([run], orders=orders).queued == 1
    assert the_submission(runs).tasks(0).devices == 2
    assert fake_slurm.jobs["101"]["options"]["ntasks"] == "2"


def test_one_launch_is_for_one_cluster():
    with pytest.raises(UserError, match="cluster: differs between runs"):
        check_together([freeze(*ON), freeze(*ON, "cluster.minutes=7", seed=1)])


def test_nothing_is_asked_of_slurm_where_all_is_done(fake_slurm, runs, orders):
    run = freeze(*ON)
    frozen.write(run)
    perform(run.folder, LAUNCHED)
    summary = launch([run], orders=orders)
    assert (summary.skipped, summary.pending) == (1, False)
    assert fake_slurm.calls() == []


def test_the_hint_names_a_runs_folder_that_is_not_the_usual_one(fake_slurm, tmp_path, said, orders):
    launch(some(1, f"paths.runs={tmp_path}/other"), orders=orders)
    assert f"RETABLE_RUNS={tmp_path}/other retable status" in said[-1]
    assert paths.runs_folder() != tmp_path / "other"


def test_the_local_launcher_never_calls_slurm(fake_slurm, monkeypatch):
    monkeypatch.setattr(local, "launch", lambda *_: None)
    launch([freeze()])
    assert fake_slurm.calls() == []
