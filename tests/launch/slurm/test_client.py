"""What SLURM's commands are asked and say, and how each refusal reads."""

from __future__ import annotations

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retable.launch.slurm import client
from retable.launch.slurm.client import Partition, Queued, Shape
from retable.util.errors import UserError
from support.fake_slurm import DEAD


@pytest.fixture(autouse=True)
def _no_cluster_is_meant(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH"))]:
        monkeypatch.delenv(name)


def test_squeue_tells_tasks_of_arrays_and_jobs_in_one_call(fake_slurm):
    fake_slurm.answer(
        "squeue",
        "12|0|RUNNING|n1|29:58|None|retable 2026-a 0\n"
        "12|1|PENDING||30:00|JobArrayTaskLimit|retable 2026-a 0\n"
        "13|N/A|COMPLETED|n2|0:00|None|what | ever\n",
    )
    assert client.squeue(["12", "13"]) == [
        Queued("12", 0, "RUNNING", "n1", "29:58", "None", "retable 2026-a 0"),
        Queued("12", 1, "PENDING", "", "30:00", "JobArrayTaskLimit", "retable 2026-a 0"),
        Queued("13", None, "COMPLETED", "n2", "0:00", "None", "what | ever"),
    ]
    [asked] = fake_slurm.calls("squeue")
    assert "--jobs=12,13" in asked
    assert {"--array", "--states=all", "--noheader"} <= set(asked)


def test_of_nothing_squeue_is_not_asked(fake_slurm):
    assert client.squeue([]) == []
    assert fake_slurm.calls() == []


def test_a_job_that_is_gone_is_absent_also_when_only_it_is_asked_for(fake_slurm):
    fake_slurm.answer("squeue", error="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert client.squeue(["12"]) == []


@pytest.mark.parametrize("state", sorted(client.ENDED))
def test_what_has_ended_is_not_living(state):
    assert not Queued("1", 0, state, "", "", "").living


@pytest.mark.parametrize(
    "state",
    ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED"],
)
def test_what_has_not_is_living(state):
    queued = Queued("1", 0, state, "", "", "")
    assert queued.living
    assert queued.id == "1_0"


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "JobHoldMaxRequeue", True),
        ("PENDING", "launch failed requeued held", True),
        ("REQUEUE_HOLD", "job requeued in held state", True),
        ("PENDING", "Resources", False),
        ("PENDING", "Dependency", False),
        ("RUNNING", "None", False),
    ],
)
def test_what_somebody_has_to_release_is_held(state, reason, held):
    assert Queued("1", 0, state, "", "", reason).held is held


def test_a_submitted_script_gives_its_job(fake_slurm, tmp_path):
    script = tmp_path / "a.sbatch"
    script.write_text("#!/bin/bash\n")
    fake_slurm.answer("sbatch", "4711;other-cluster\n")
    assert client.sbatch(script, "--dependency=afterok:5") == "4711"
    [asked] = fake_slurm.calls("sbatch")
    assert asked == ["--parsable", "--dependency=afterok:5", str(script)]
    fake_slurm.answer("sbatch", "Submitted\n")
    with pytest.raises(UserError, match="printed no job id but 'Submitted'"):
        client.sbatch(script)


def test_sbatch_inherits_nothing_of_a_surrounding_job(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(f"#!/bin/sh\nenv > {tmp_path}/env\necho 7\n")
    (folder / "sbatch").chmod(0o755)
    conf = tmp_path / "slurm.conf"
    conf.touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name, value in {
        "SLURM_CONF": str(conf),
        "SLURM_JOB_ID": "3",
        "SLURM_MEM_PER_NODE": "500",
        "SBATCH_EXPORT": "NONE",
        "SBATCH_ARRAY_INX": "0-9",
        "SBATCH_ACCOUNT": "mine",
        "SBATCH_PARTITION": "elsewhere",
        "OTHER": "kept",
    }.items():
        monkeypatch.setenv(name, value)
    script = tmp_path / "a.sbatch"
    script.write_text("#!/bin/bash\n#SBATCH --partition=low\n")
    client.sbatch(script)
    lines = (tmp_path / "env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line.startswith(("SLURM", "SBATCH")))
    # Who pays is the user's own default; where is said by the script.
    assert found == {"SLURM_CONF": str(conf), "SBATCH_ACCOUNT": "mine"}
    assert "OTHER=kept" in lines


@pytest.mark.parametrize(
    ("call", "command", "error"),
    [
        (lambda: client.squeue(["1"]), "squeue", f"slurm_load_jobs error: {DEAD}"),
        (lambda: client.scancel(["1"]), "scancel", f"scancel: error: Kill job error: {DEAD}"),
        (lambda: client.requeue("1_2"), "scontrol", f"{DEAD} for job 1_2"),
        (lambda: client.partitions(), "sinfo", f"slurm_load_partitions: {DEAD}"),
        (lambda: client.max_array_size(), "scontrol", f"slurm_load_ctl_conf error: {DEAD}"),
    ],
)
def test_a_dead_controller_is_named_with_the_remedy(fake_slurm, call, command, error):
    fake_slurm.answer(command, error=error + "\n", code=1)
    with pytest.raises(client.Unreachable, match=r"^slurmctld does not answer .*scontrol ping"):
        call()


def test_a_controller_that_hangs_is_dead_too(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(client, "TIMEOUT_S", 0.3)
    with pytest.raises(client.Unreachable, match="does not answer"):
        client.squeue(["1"])


def test_where_no_slurm_is_configured_it_is_said_what_to_set(fake_slurm):
    error = (
        "squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
        "squeue: fatal: Could not establish a configuration source\n"
    )
    fake_slurm.answer("squeue", error=error, code=1)
    with pytest.raises(UserError, match=r"squeue: no SLURM is configured here; is SLURM_CONF set"):
        client.squeue(["1"])


def test_a_missing_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"squeue: no such command here; .*login node"):
        client.squeue(["1"])


def test_a_configuration_that_is_not_there_is_named_at_once(fake_slurm, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    with pytest.raises(UserError, match=r"SLURM_CONF=/nonexistent/slurm.conf: is not a file"):
        client.squeue(["1"])
    assert fake_slurm.calls() == []


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition"
            " combination specified\n",
            "sbatch: Invalid account or account/partition combination specified",
        ),
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not"
            " available\n",
            "sbatch: Memory specification can not be satisfied",
        ),
        ("", "sbatch: ended with exit code 1"),
    ],
)
def test_a_refusal_is_slurms_own_first_line(fake_slurm, tmp_path, said, line):
    fake_slurm.answer("sbatch", error=said, code=1)
    (tmp_path / "a.sbatch").touch()
    with pytest.raises(UserError) as caught:
        client.sbatch(tmp_path / "a.sbatch")
    assert str(caught.value) == line


def test_cancelling_what_has_ended_is_no_mistake_and_many_are_split(fake_slurm):
    client.scancel([str(n) for n in range(1200)])
    assert [len(call) for call in fake_slurm.calls("scancel")] == [500, 500, 200]
    said = "scancel: error: Kill job error on job id 1: Job/step already completing or completed\n"
    fake_slurm.answer("scancel", error=said, code=1)
    client.scancel(["1"])
    fake_slurm.answer("scancel", error="scancel: error: Access/permission denied\n", code=1)
    with pytest.raises(UserError, match="scancel: Access/permission denied"):
        client.scancel(["1"])


def test_partitions_with_their_limits_and_kinds_of_nodes(fake_slurm):
    fake_slurm.answer(
        "sinfo",
        "cpu*|7-00:00:00|64|256000|(null)\n"
        "gpu|infinite|32|128000|gpu:a100:4(S:0-1),gpu:v100:2\n"
        "gpu|infinite|16+|64000+|gpu:8\n"
        "empty|1:30:00|0|0|(null)\n",
    )
    assert client.partitions() == [
        Partition("cpu", True, 10080, [Shape(64, 256000, {})]),
        Partition(
            "gpu",
            False,
            None,
            [Shape(32, 128000, {"": 6, "a100": 4, "v100": 2}), Shape(16, 64000, {"": 8})],
        ),
        Partition("empty", False, 90, []),
    ]


def test_an_array_may_have_what_the_cluster_says(fake_slurm):
    assert client.max_array_size() == 1001
    fake_slurm.answer(
        "scontrol", "MaxArraySize = 4001\nSchedulerParameters = bf_continue,max_array_tasks=500\n"
    )
    assert client.max_array_size() == 500
    fake_slurm.answer("scontrol", "nothing\n")
    with pytest.raises(UserError, match=r"set cluster\.max_array"):
        client.max_array_size()


@given(st.integers(1, 60 * 24 * 30))
def test_a_limit_is_read_as_it_is_written(minutes):
    days, rest = divmod(minutes, 1440)
    hours, left = divmod(rest, 60)
    texts = {f"{days}-{hours:02}:{left:02}:00"}
    if not days:
        texts.add(f"{hours}:{left:02}:00")
    if minutes < 60:
        texts.add(f"{minutes}:00")
        texts.add(str(minutes))
    assert {client.minutes_of(text) for text in texts} == {minutes}


def test_commands_are_not_reached_by_a_terminals_interrupt(tmp_path, monkeypatch):
    script = tmp_path / "squeue"
    script.write_text(f"#!/bin/sh\nps -o sid= -p $$ > {tmp_path}/session\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    client.squeue(["1"])
    assert json.loads((tmp_path / "session").read_text()) != os.getsid(0)
