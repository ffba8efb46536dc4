"""The rehearsal cluster is a real SLURM, survives what it is for, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from support.slurm import NODES, Cluster, new_cluster, shared, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def elsewhere(tmp_path):
    """A cluster that is never to come up; its folder does not exist."""
    with new_cluster() as cluster:
        cluster.root.rmdir()
        yield cluster
        assert not cluster.processes()
        cluster.root.mkdir(exist_ok=True)


def test_up_prints_the_one_line_to_export_and_status_is_whole(cluster):
    done = cluster.script("up")
    assert done.stdout == f"export SLURM_CONF={cluster.root}/slurm.conf\n"
    assert "srun -p high hostname" in done.stderr
    status = cluster.script("status").stdout
    assert status.endswith("\nwhole\n")
    assert "low*" in status
    assert "high" in status
    assert [cluster.node_state(node) for node in NODES] == ["idle"] * 3


def test_it_listens_on_no_address_but_its_own(cluster):
    assert len(cluster.listening()) == 2 + len(NODES)
    if socket.gethostbyname(socket.gethostname()).startswith("127."):
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        local = [line[1].split(":") for line in lines if line[3] == "0A"]
        ours = {address for address, port in local if int(port, 16) in cluster.listening()}
        assert all(address.endswith("7F") for address in ours), ours


@pytest.mark.parametrize("partition", ["low", "high"])
def test_srun_in_a_partition_over_all_nodes(cluster, partition):
    said = cluster.slurm("srun", "-p", partition, "-N3", "sh", "-c", "echo $SLURMD_NODENAME")
    assert sorted(said.split()) == list(NODES)


def test_pretended_gpus_are_handed_out(cluster):
    gpus = ("srun", "--nodes=1", "--gres=gpu:2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert cluster.slurm(*gpus) == "0,1"
    too_many = ("srun", "--nodes=1", "--gres=gpu:3", "true")
    cluster.slurm(*too_many, code=1)


def test_an_array_ends_in_sacct_as_it_ended(cluster):
    job = cluster.submit("exit $((SLURM_ARRAY_TASK_ID == 2))", "--array=0-3%2")
    expected = ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]
    until(lambda: sorted(cluster.accounted(job)) == sorted(expected), 60, f"array {job} in sacct")
    assert [cluster.accounted(f"{job}_{i}")[0] for i in range(4)] == expected


def test_a_high_job_preempts_a_low_one_which_starts_again(cluster):
    script = (
        'echo start ${SLURM_RESTART_COUNT:-0}; test -n "$SLURM_RESTART_COUNT" || exec sleep 300'
    )
    everything = ("--nodes=3", "--ntasks=6")
    low = cluster.submit(script, "-p", "low", "--requeue", "--open-mode=append", *everything)
    log = cluster.root / "log" / f"job-{low}.txt"
    until(lambda: log.exists() and "start 0" in log.read_text(), 30, "the low job runs")
    cluster.slurm("srun", "-p", "high", *everything, "true", timeout=90)
    until(lambda: cluster.state(low) == "COMPLETED", 90, "the low job has run again")
    assert "start 1" in log.read_text()
    assert cluster.accounted(low)[0] == "PREEMPTED"


def test_a_killed_node_is_seen_down_its_job_is_requeued_and_it_comes_back(cluster):
    job = cluster.submit("sleep 300", "--nodelist=n2", "--requeue")
    until(lambda: cluster.state(job) == "RUNNING", 30, "the job runs")
    cluster.script("node", "kill", "n2")
    assert "sleep 300" not in " ".join(cluster.processes().values())
    status = cluster.script("status", code=1).stdout
    assert "not whole: slurmd-n2 does not run" in status
    until(lambda: cluster.node_state("n2").startswith("down"), 60, "n2 is down")
    assert "not whole: n2: down" in cluster.script("status", code=1).stdout
    assert cluster.state(job) == "PENDING"
    until(lambda: cluster.accounted(job)[0] == "NODE_FAIL", 20, "sacct knows of it")
    assert cluster.node_state("n1") == "idle"
    cluster.script("node", "start", "n2")
    until(lambda: cluster.state(job) == "RUNNING", 60, "the job runs again")
    cluster.script("status")


def test_a_node_that_is_back_before_it_was_missed_has_lost_its_job_all_the_same(cluster):
    job = cluster.submit("env -i sleep 300", "--nodelist=n3", "--requeue")
    until(lambda: cluster.state(job) == "RUNNING", 30, "the job runs")
    cluster.script("node", "kill", "n3")
    cluster.script("node", "start", "n3")
    assert cluster.state(job) == "PENDING"
    until(lambda: cluster.state(job) == "RUNNING", 60, "the job runs again")


def daemons(cluster):
    """Their process numbers and command lines: a job's own processes come and go beside them."""
    names = ("mariadbd", "slurmdbd", "slurmctld", "slurmd")
    return {
        pid: line
        for pid, line in cluster.processes().items()
        if Path(line.split(maxsplit=1)[0]).name in names
    }


def test_up_twice_changes_nothing(cluster):
    job = cluster.submit("sleep 300")
    until(lambda: cluster.state(job) == "RUNNING", 30, "the job runs")
    before = daemons(cluster)
    assert len(before) == 3 + len(NODES)
    done = cluster.script("up")
    assert "started" not in done.stderr
    assert daemons(cluster) == before
    assert cluster.state(job) == "RUNNING"


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmdbd", "mariadbd"])
def test_up_brings_back_a_daemon_that_was_killed(cluster, daemon):
    job = cluster.submit("sleep 300")
    until(lambda: cluster.state(job) == "RUNNING", 30, "the job runs")
    cluster.until_saved(job)
    os.kill(cluster.pid(daemon), signal.SIGKILL)
    until(lambda: daemon not in " ".join(cluster.processes().values()), 10, "it is dead")
    assert f"not whole: {daemon} does not run" in cluster.script("status", code=1).stdout
    assert f"{daemon} started" in cluster.script("up").stderr
    assert cluster.state(job) == "RUNNING"


def test_down_after_a_killed_controller_leaves_nothing_and_up_finds_the_queue(cluster):
    job = cluster.submit("setsid env -i sleep 301", "--requeue")
    until(lambda: cluster.state(job) == "RUNNING", 30, "the job runs")
    cluster.until_saved(job)
    os.kill(cluster.pid("slurmctld"), signal.SIGKILL)
    for _ in range(2):
        cluster.script("down")
        assert cluster.processes() == {}
        assert cluster.listening() == []
    assert cluster.script("status", code=1).stdout.count("does not run\n") >= 4 + len(NODES)
    cluster.script("up")
    assert cluster.state(job) == "PENDING"
    until(lambda: cluster.accounted(job)[0] == "NODE_FAIL", 20, "sacct knows of it")


def test_everything_killed_at_once_and_stale_files_are_no_obstacle(cluster):
    for pid in cluster.processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not cluster.processes(), 10, "all are dead")
    (cluster.root / "run" / "slurmctld.pid").write_text(f"{os.getpid()}\n")
    (cluster.root / "munge" / "pid").write_text("1\n")
    cluster.script("up")
    assert cluster.slurm("srun", "echo", "there") == "there"


def test_other_settings_than_the_running_clusters_are_refused(cluster):
    done = cluster.script("up", code=2, RETABLE_DEV_CLUSTER_NODES="2")
    assert "runs with other settings; first call down" in done.stderr
    cluster.script("status")


def test_remove_takes_the_folder_away(cluster):
    cluster.script("down", "--remove")
    assert not cluster.root.exists()
    assert "there is no cluster" in cluster.script("down").stderr
    assert "there is no cluster" in cluster.script("status", code=1).stdout
    cluster.root.mkdir()


@pytest.mark.parametrize("script", [("up",), ("node", "kill", "n1")])
def test_another_slurm_conf_is_refused(elsewhere, script):
    done = elsewhere.script(*script, code=2, SLURM_CONF="/etc/slurm/slurm.conf")
    assert done.stderr.startswith("refused: SLURM_CONF is /etc/slurm/slurm.conf")
    assert not elsewhere.root.exists()


@pytest.mark.parametrize("name", ["slurmctld", "slurmd"])
def test_a_daemon_of_another_slurm_is_refused_and_left_alone(elsewhere, tmp_path, name):
    program = tmp_path / name
    shutil.copy(shutil.which("sleep"), program)
    with shared(exclusive=True):
        other = subprocess.Popen([program, "100"])
        try:
            done = elsewhere.script_unlocked("up", code=2)
            assert f"{name} ({other.pid}) runs and is not ours" in done.stderr
            assert other.poll() is None
            assert not elsewhere.root.exists()
        finally:
            other.kill()
            other.wait()


def test_a_folder_with_other_files_is_refused_and_left_alone(elsewhere):
    elsewhere.root.mkdir()
    precious = elsewhere.root / "thesis.tex"
    precious.write_text("all of it")
    for script in (("up",), ("down", "--remove")):
        assert "holds other files" in elsewhere.script(*script, code=2).stderr
    assert precious.read_text() == "all of it"
    precious.unlink()


def test_a_taken_port_is_refused_by_name(elsewhere):
    with socket.socket() as taken:
        taken.bind((socket.gethostbyname(socket.gethostname()), elsewhere.port + 2))
        taken.listen()
        done = elsewhere.script("up", code=2)
    assert f"port {elsewhere.port + 2} of slurmd-n1 is taken" in done.stderr


def test_what_is_not_installed_is_named_with_its_packages(elsewhere, tmp_path):
    done = elsewhere.script("up", code=2, PATH=str(tmp_path))
    assert "not installed: sinfo, sacctmgr, mariadb-install-db" in done.stderr
    assert "apt-get install --no-install-recommends slurm-client mariadb-server" in done.stderr


def test_a_daemon_that_does_not_come_up_is_shown_with_its_log_and_nothing_stays(elsewhere):
    elsewhere.root.mkdir()
    (elsewhere.root / ".retable-dev-cluster").touch()
    (elsewhere.root / "munge").mkdir()
    key = elsewhere.root / "munge" / "key"
    key.write_text("short")
    key.chmod(0o600)
    done = elsewhere.script("up", code=1)
    assert done.stderr.startswith("failed: munged ended at once")
    assert "munged.out:" in done.stderr
    assert "| munged: Error:" in done.stderr
    assert not elsewhere.processes()


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("RETABLE_DEV_CLUSTER", "/tmp/" + "x" * 90, "too long"),
        ("RETABLE_DEV_CLUSTER", "/tmp/with blank", "cannot hold blanks"),
        ("RETABLE_DEV_CLUSTER_PORT", "80", "from 1024 to 65000"),
        ("RETABLE_DEV_CLUSTER_NODES", "many", "not a whole number"),
    ],
)
def test_settings_that_cannot_work_are_refused(elsewhere, variable, value, why):
    done = elsewhere.script("up", code=2, **{variable: value})
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_node_that_does_not_exist_is_refused(elsewhere):
    done = elsewhere.script("node", "kill", "n9", code=2)
    assert "n9 is none of the nodes n1, n2, n3" in done.stderr


def test_status_and_down_of_no_cluster_say_so(elsewhere: Cluster):
    assert "there is no cluster" in elsewhere.script("status", code=1).stdout
    assert "there is no cluster" in elsewhere.script("down").stderr
