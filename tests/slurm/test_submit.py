"""Submission to a real SLURM: once per run, whole or not at all, as frozen."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from contextlib import suppress

import pytest

from retable.launch.dispatch import launch
from retable.launch.slurm import open_jobs
from retable.launch.slurm.submission import all_of
from retable.launch.slurm.submit import Orders
from retable.launch.slurm.transaction import Filing
from retable.runs import records
from retable.runs.records import Status
from support.fault import let_permissions_hold
from support.runs import freeze
from support.slurm import until
from support.submit import (  # noqa: F401 - fixtures
    HELD,
    ON,
    orders,
    queued,
    said,
    some,
    submitted,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def status_of(runs, wait=120):
    """Status of each run by its newest record, once each has one."""
    folders = {run.key: run.folder for run in runs}
    found = {}

    def all_there():
        for key, folder in folders.items():
            record = records.read_run(folder, lambda _: None)
            found[key] = record and record.status
        return all(found.values())

    until(all_there, wait, "every run has a record")
    return [found[run.key] for run in runs]


def test_a_table_from_the_queue_to_its_cells_in_one_command(cluster, retable, runs):
    command = ["run", "digits/accuracy", "--protocol", "smoke", *ON]
    done = retable(*command, "--wait", "launcher.runs_per_job=2", "launcher.workers=2")
    assert "2 runs in 1 job of 1 array on dev (partition low)" in done.stderr
    assert "2 run, 0 already done" in done.stderr
    assert re.search(r"\| slow \| \d+\.\d+ \(1\)", done.stdout), done.stdout
    [made] = all_of(runs)
    assert made.tasks(0).at_once == 2
    again = retable(*command)
    assert "0 run, 2 already done" in again.stderr
    assert again.stdout == done.stdout
    assert len(list(all_of(runs))) == 1


def test_without_wait_it_returns_at_once_and_says_how_to_follow(cluster, retable, runs):
    command = ["run", "digits/accuracy", "--protocol", "smoke", *ON, HELD]
    done = retable(*command)
    assert done.stdout == ""  # no table with empty cells
    assert "retable status digits/accuracy --protocol smoke --watch" in done.stderr
    again = retable(*command)
    assert "2 runs queued or running on the cluster already; not submitted again" in again.stderr
    assert "0 submitted, 0 already done, 2 already queued" in again.stderr
    assert queued(cluster) == [f"{next(all_of(runs)).header.arrays[0].job}_[0-1]"]


def test_two_shells_at_once_submit_each_run_once(cluster, shell, runs):
    """From two login sessions, into one folder; one of them has a row more."""
    first = ["run", "digits/accuracy", *ON, HELD]
    started = [shell.start(*first), shell.start(*first), shell.start(*first, "--row", "fast")]
    told = [shell.end(process)[1] for process in started]
    counts = submitted(runs)
    assert set(counts.values()) == {1}
    assert len(counts) == 6
    tasks = cluster.slurm("squeue", "--noheader", "--array", "--format=%i").splitlines()
    assert len(tasks) == 6
    assert sum(int(n) for text in told for n in re.findall(r"^(\d+) submitted,", text, re.M)) == 6


def test_a_sweep_takes_the_same_road(cluster, retable, runs):
    command = ["train", "-m", "experiment=digits/smoke", "seed=0,1,2", *ON, HELD]
    done = retable(*command)
    assert "3 submitted, 0 already done" in done.stderr
    assert "3 already queued" in retable(*command).stderr
    [made] = all_of(runs)
    assert made.header.label == "digits/smoke"
    assert queued(cluster, "%j") == ["digits-smoke"]


def test_arrays_are_split_throttled_and_ask_for_what_their_runs_need(cluster, runs, orders):
    held = (HELD, "cluster.max_array=3", "cluster.throttle=2")
    gpu = freeze(
        *ON, *held, "resources={gpus: 1, cpus: 2, memory_gb: 3, minutes: 7}", "model.hidden=8",
        "device.accelerator=auto",
    )  # fmt: skip
    wide = freeze(*ON, *held, "device.devices=2", "model.hidden=9")
    timed = freeze(*ON, *held, "launcher.alone=true", "model.hidden=10")
    assert launch([*some(7, *held), gpu, wide, timed], orders=orders).queued == 10
    # Tasks, cores, memory, GPUs, minutes, nodes shared.
    found = Counter(queued(cluster, "%i %C %m %b %l %h"))
    tasks = Counter(re.sub(r"^\d+_", "", line) for line in found.elements())
    assert tasks == {
        "[0-2%2] 1 1000M N/A 30:00 OK": 2,
        "[0%2] 1 1000M N/A 30:00 OK": 1,
        "[0%2] 2 3000M gres/gpu:1 7:00 OK": 1,
        "[0%2] 2 500M N/A 30:00 OK": 1,  # a process each, memory per core
        "[0%2] 1 1000M N/A 30:00 NO": 1,  # measures time: whole nodes
    }


def test_rows_of_a_table_ask_for_their_own(cluster, retable, runs, tmp_path):
    """Resources stand in an experiment or a table's row; the profile has the rest."""
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    table = extra / "conf" / "table" / "digits" / "accuracy.yaml"
    text = table.read_text().replace(
        "slow: [model.optimizer.lr=0.01]",
        "slow: [model.optimizer.lr=0.01, resources.gpus=1, device.accelerator=auto]",
    )
    table.write_text(text)
    retable("run", "digits/accuracy", "--protocol", "smoke", *ON, HELD, RETABLE_EXTRA=extra)
    assert queued(cluster, "%b") == ["N/A", "gres/gpu:1"]
    assert sum(submitted(runs).values()) == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cluster.partition=hgih"], "partition: there is no 'hgih'; did you mean 'high'?"),
        (["cluster.minutes=1441"], "1441 is above the time limit of partition low, 1440"),
        (["cluster.memory_gb=9"], "a job asks for 9 GB; no node of partition low has more than 8"),
        (["cluster.options={licenses: none}"], "sbatch: Invalid license"),
        (["cluster.options={nodelist: n7}"], "sbatch: "),
    ],
)
def test_a_refusal_is_one_line_and_nothing_is_left(cluster, retable, runs, overrides, words):
    done = retable("run", "digits/accuracy", *ON, *overrides, code=2)
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(runs.rglob("config.yaml")) == []
    assert list(all_of(runs)) == []
    assert queued(cluster) == []


def test_a_dead_controller_is_one_line_and_nothing_is_left(cluster, retable, runs):
    os.kill(cluster.pid("slurmctld"), signal.SIGKILL)
    done = retable("run", "digits/accuracy", *ON, code=2)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: slurmctld does not answer")
    assert not runs.exists()
    cluster.script("up")


def test_folders_that_cannot_be_written_to(cluster, shell, disk, runs):
    runs.mkdir()
    runs.chmod(0o555)
    _, err = shell.call("run", "digits/accuracy", *ON, code=2, before=let_permissions_hold)
    assert err == f"error: paths.runs: {runs} cannot be written to\n"
    runs.chmod(0o755)
    (disk.path / "runs").mkdir()
    disk.fill(shell, left=8192)
    command = ["run", "digits/accuracy", *ON, f"paths.runs={disk.path}/runs"]
    _, err = shell.call(*command, code=2, before=disk.before)
    assert disk.full in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: paths.runs: ")
    disk.free()
    assert list((disk.path / "runs").rglob("config.yaml")) == []
    assert list(all_of(disk.path / "runs")) == []
    assert queued(cluster) == []


def test_who_is_killed_between_sbatch_and_its_id_loses_no_job(cluster, runs, orders):
    todo = some(4, HELD, "cluster.max_array=2")
    pid = os.fork()
    if pid == 0:
        note = Filing._note

        def killed(self, array=None, job="", chore=None):
            if array.number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            note(self, array, job, chore)

        Filing._note = killed
        with suppress(BaseException):
            launch(todo, orders=orders)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    [made] = all_of(runs)
    assert [bool(array.job) for array in made.header.arrays] == [True, False]
    summary = launch(todo, orders=orders)
    assert (summary.queued, summary.already) == (0, 4)
    [made] = all_of(runs)
    assert all(array.job for array in made.header.arrays)
    assert len(open_jobs.queue_of(runs).tasks) == 4


def test_a_thousand_runs_are_submitted_at_once(cluster, retable, runs):
    done = retable("train", "-m", "experiment=digits/smoke", "seed=range(0,1000)", *ON, HELD)
    assert "1000 submitted" in done.stderr
    assert set(submitted(runs).values()) == {1}
    assert len(open_jobs.queue_of(runs).tasks) == 1000


def test_jobs_run_what_was_frozen_whatever_is_edited_while_they_wait(
    cluster, retable, runs, tmp_path
):
    """YAML never matters; source is refused, and with a snapshot it does not matter either."""
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    command = ["train", "experiment=digits/smoke", *ON, HELD]
    more = [[], ["launcher.snapshot=true"]]
    for seed, overrides in enumerate(more):
        retable(*command, f"seed={seed}", *overrides, RETABLE_EXTRA=extra)
    newest, oldest = all_of(runs)
    jobs = [made.header.arrays[0].job for made in (oldest, newest)]
    yaml = extra / "conf" / "experiment" / "digits" / "smoke.yaml"
    yaml.write_text(yaml.read_text().replace("max_epochs: 1", "max_epochs: 3"))
    source = extra / "papers" / "digits" / "module.py"
    text = source.read_text()
    edited = text.replace("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(label_smoothing=0.5)")
    assert edited != text
    source.write_text(edited)
    cluster.slurm("scontrol", "release", *jobs)
    # Two runs as they were frozen, for comparison: the present YAML and source are not edited.
    runs_ = [freeze(*ON, *overrides, seed=seed) for seed, overrides in enumerate(more)]
    until(
        lambda: {cluster.state(f"{job}_0") for job in jobs} == {"FAILED", "COMPLETED"},
        120,
        "both have ended",
    )
    assert cluster.state(f"{jobs[0]}_0") == "FAILED"
    assert records.read_run(runs_[0].folder, lambda _: None) is None
    [refused] = [e for e in oldest.events(0, 0) if e["event"] == "refused"]
    assert "the code changed since launch" in refused["error"]
    assert cluster.state(f"{jobs[1]}_0") == "COMPLETED"
    record = records.read(runs_[1].folder / "record.json")
    assert record.status is Status.DONE
    assert record.config["trainer"]["max_epochs"] == 1
    assert record.fingerprint == runs_[1].fingerprint


def test_data_is_prepared_before_and_the_table_published_behind(cluster, retable, runs, tmp_path):
    extra = tmp_path / "extra"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    command = ["run", "digits/accuracy", "--protocol", "smoke", *ON]
    retable(*command, "--prepare", "--publish", RETABLE_EXTRA=extra)
    [made] = all_of(runs)
    chores = made.header.chores
    until(lambda: cluster.state(chores["publish"]) == "COMPLETED", 150, "it is published")
    states = {j: cluster.state(j) for j in [made.header.arrays[0].job, *chores.values()]}
    assert set(" ".join(states.values()).split()) == {"COMPLETED"}
    assert "is ready" in (made.folder / "log" / "prepare.txt").read_text()
    assert re.search(r"\| slow \| \d+\.\d+ \(1\)", (made.folder / "table.md").read_text())
    assert list((extra / "results").rglob("accuracy*.md"))


def test_where_preparing_fails_the_arrays_do_not_wait_for_ever(cluster, retable, runs):
    command = ["run", "digits/accuracy", "--protocol", "smoke", *ON, "--prepare"]
    retable(*command, HELD)
    [made] = all_of(runs)
    prepare, array = made.header.chores["prepare"], made.header.arrays[0].job
    cluster.slurm("scancel", prepare)
    cluster.slurm("scontrol", "release", array)
    until(lambda: set(cluster.state(array).split()) == {"CANCELLED"}, 60, "they are cancelled")
    assert open_jobs.queue_of(runs).tasks == {}
    assert made.closed


def test_several_runs_share_a_job_and_a_device(cluster, runs, orders):
    todo = some(
        4,
        "launcher={runs_per_job: 4, concurrent_per_gpu: 2}",
        "resources.gpus=1",
        "device.accelerator=auto",
    )
    summary = launch(todo, orders=Orders(say=print, wait=True))
    assert (summary.done, summary.ok) == (4, True)
    [made] = all_of(runs)
    assert len(made.tasks(0).tasks) == 1
    # The job says that a run has ended after the record is there, which is what is waited for.
    until(lambda: made.events(0, 0)[-1]["event"] == "left", 60, "the job has left")
    events = made.events(0, 0)
    assert [e["event"] for e in events].count("started") == 1
    assert {e["run"] for e in events if e["event"] == "ended"} == set(submitted(runs))
    assert status_of(todo) == [Status.DONE] * 4
    assert [records.read(run.folder / "record.json").workers for run in todo] == [2] * 4


def test_a_path_with_blanks_and_quotes_works(cluster, monkeypatch, tmp_path, orders):
    folder = tmp_path / 'it\'s a "folder" %j'
    folder.mkdir()
    monkeypatch.chdir(folder)
    [run] = some(1, "paths.runs=my runs")
    summary = launch([run], orders=Orders(say=print, wait=True))
    assert summary.done == 1
    [made] = all_of(folder / "my runs")
    until(lambda: made.events(0, 0)[-1]["event"] == "left", 60, "the job has left")
    assert "ended" in (made.folder / "log" / "0-0.txt").read_text()
