"""The scripts: what sbatch and the shell read, and what cannot be said in one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from retable.config.schema import ClusterConfig, PathsConfig
from retable.launch.slurm import sbatch
from retable.launch.slurm.job_arrays import ArrayPlan, Needs
from retable.launch.slurm.sbatch import CodeSource
from retable.launch.slurm.submission import Header, Submission
from retable.runs.snapshot import EXTRA
from retable.util import paths
from retable.util.errors import UserError
from support.runs import freeze

CPU = Needs(devices=1, gpus=0, cpus=2, memory_mb=1500, minutes=30)
PLAIN = ClusterConfig(name="mine", signal_s=60)


def submission(folder, name="20261124T101112-abcdef"):
    found = Submission(folder / "_slurm" / name)
    found.folder.mkdir(parents=True)
    found.write(
        Header(
            label="digits/accuracy --protocol smoke",
            created="",
            user="me",
            host="here",
            cluster="mine",
            signal_s=60,
        )
    )
    return found


def array(n=3, needs=CPU, at_once=1):
    run = freeze("launcher=slurm", "cluster=dev")
    return ArrayPlan(needs, at_once, [[run.with_seed(seed)] for seed in range(n)], None)


def options(text):
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE))


def write(folder, cluster=PLAIN, plan=None, source=None):
    return sbatch.array_script(
        submission(folder), 0, plan or array(), cluster, source or CodeSource.of(None)
    )


def test_what_an_array_asks_for(tmp_path):
    text = write(tmp_path / "runs", PLAIN.model_copy(update={"throttle": 2}))
    folder = tmp_path / "runs" / "_slurm" / "20261124T101112-abcdef"
    assert options(text) == {
        "job-name": "digits-accuracy---protocol-smoke",
        "comment": '"retable 20261124T101112-abcdef 0"',
        "array": "0-2%2",
        "output": f"{folder}/log/0-%a.txt",
        "open-mode": "append",
        "requeue": "",
        "signal": "USR2@60",
        "time": "30",
        "ntasks": "1",
        "cpus-per-task": "2",
        "mem": "1500M",
    }
    assert "{{" not in text
    assert "{%" not in text
    # sbatch stops reading options at the first line that is a command.
    assert text.startswith("#!/bin/bash\n")
    head, _, rest = text.partition(f"\ncd {Path.cwd()}")
    assert all(line.startswith("#") or not line for line in head.splitlines())
    assert "#SBATCH" not in rest


def test_runs_at_once_and_gpus(tmp_path):
    gpu = Needs(devices=1, gpus=1, cpus=2, memory_mb=1500, minutes=30)
    found = options(write(tmp_path, plan=array(needs=gpu, at_once=3)))
    assert found["gres"] == "gpu:1"
    assert found["cpus-per-task"] == "6"
    assert found["mem"] == "4500M"
    kind = PLAIN.model_copy(update={"gpu_type": "a100"})
    assert options(write(tmp_path / "2", kind, array(needs=gpu)))["gres"] == "gpu:a100:1"


def test_runs_that_measure_time_have_whole_nodes(tmp_path):
    timed = replace(CPU, alone=True, node=True)
    assert options(write(tmp_path, plan=array(needs=timed)))["exclusive"] == ""
    shared = replace(CPU, alone=True)
    assert "exclusive" not in options(write(tmp_path / "2", plan=array(needs=shared)))


def test_a_process_per_device(tmp_path):
    needs = Needs(devices=4, gpus=4, cpus=3, memory_mb=1000, minutes=30)
    text = write(tmp_path, PLAIN.model_copy(update={"gpu_type": "a100"}), array(needs=needs))
    found = options(text)
    assert found["ntasks"] == "4"
    assert found["gpus-per-task"] == "a100:1"
    assert found["mem-per-cpu"] == "334M"  # never less than the run asks for
    assert not {"mem", "gres", "nodes"} & set(found)  # on one node or several
    [step] = re.findall(r" srun (.*?)\n        [^ -]", text, re.DOTALL)
    given = step.replace("\\\n", " ").split()
    assert {"--ntasks=4", "--cpus-per-task=3", "--kill-on-bad-exit=1", "--gpu-bind=none"} <= set(
        given
    )


def test_what_the_profile_says_is_in_it(tmp_path):
    cluster = ClusterConfig(
        name="mine",
        partition="gpu",
        account="grant-1",
        qos="long",
        constraint="a100|h100",
        setup=["module load cuda/12.8", 'export X="a b"'],
        options={"exclude": "node[1-3]", "mail-type": "END", "nice": 5, "exclusive": True},
    )
    text = write(tmp_path, cluster)
    found = options(text)
    assert {k: found[k] for k in ("partition", "account", "qos", "constraint")} == {
        "partition": "gpu",
        "account": "grant-1",
        "qos": "long",
        "constraint": '"a100|h100"',
    }
    assert found["exclude"] == '"node[1-3]"'
    assert found["mail-type"] == "END"
    assert found["nice"] == "5"
    assert found["exclusive"] == ""
    lines = text.splitlines()
    assert lines.index("module load cuda/12.8") < lines.index('export X="a b"')
    assert lines.index('export X="a b"') < lines.index(f"cd {Path.cwd()} || exit 1")
    off = cluster.model_copy(update={"options": {"exclusive": False}})
    assert "exclusive" not in options(write(tmp_path / "2", off))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("array", "options.array: not here; jobs depend on how it is set"),
        ("no-requeue", "options.no-requeue"),
        ("output", "options.output"),
        ("partition", "options.partition: not here; it is cluster.partition"),
    ],
)
def test_options_that_the_script_depends_on_are_refused(tmp_path, name, words):
    with pytest.raises(UserError, match=re.escape(words)):
        sbatch.check(PLAIN.model_copy(update={"options": {name: "x"}}), tmp_path)


def test_paths_with_blanks_and_quotes_reach_the_job(tmp_path, monkeypatch):
    """A shell runs the script; a fake srun writes down what it was given."""
    here = tmp_path / 'it\'s a "folder" $HOME % `x`'
    here.mkdir()
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "srun").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/given\nenv > {tmp_path}/env\n'
        f"pwd > {tmp_path}/pwd\n"
    )
    (fake / "srun").chmod(0o755)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{fake}{os.pathsep}{os.environ['PATH']}")
    sbatch.check(PLAIN, here / "runs")
    copy = here / "copy"
    (copy / EXTRA).mkdir(parents=True)
    text = write(here / "runs", source=CodeSource.of(copy))
    file = tmp_path / "a.sbatch"
    file.write_text(text)
    subprocess.run(["bash", file], cwd=tmp_path, check=True)
    given = (tmp_path / "given").read_text().splitlines()
    at = given.index(sys.executable)
    folder = here / "runs" / "_slurm" / "20261124T101112-abcdef"
    assert given[at:] == [
        sys.executable,
        "-P",
        "-m",
        "retable.launch.slurm.task",
        str(folder),
        "0",
    ]
    assert (tmp_path / "pwd").read_text().strip() == str(here)
    environment = dict(
        line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line
    )
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(copy)
    assert environment["RETABLE_EXTRA"] == str(copy / EXTRA)
    assert environment["OMP_NUM_THREADS"] == "1"
    # As sbatch reads it: quoted, its own patterns doubled.
    quoted = str(folder / "log").replace("%", "%%").replace('"', '\\"')
    assert options(text)["output"] == f'"{quoted}/0-%a.txt"'


@pytest.mark.parametrize(
    ("answers", "told", "slept", "code"),
    [
        ([75, 75, 0], False, [2, 5], 0),
        ([75, 1], False, [2], 1),  # a run has failed: that is said once
        ([143], False, [], 143),
        ([75] * 6, False, [2, 5, 10, 30, 60], 75),
        ([75, 0], True, [], 75),  # told to go: it is SLURM that starts it again
    ],
)
def test_a_step_that_the_controller_did_not_answer_is_begun_again(
    tmp_path, monkeypatch, answers, told, slept, code
):
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "srun").write_text(
        f"#!/bin/bash\necho $SLURM_EXIT_ERROR >> {tmp_path}/begun\n"
        f"{'kill -TERM $PPID' if told else ''}\n"
        f"codes=({' '.join(map(str, answers))})\n"
        f"exit ${{codes[$(wc -l < {tmp_path}/begun) - 1]}}\n"
    )
    (fake / "sleep").write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/slept\n")
    for command in fake.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}{os.pathsep}{os.environ['PATH']}")
    cluster = PLAIN.model_copy(update={"setup": ["set -e"]})
    file = tmp_path / "a.sbatch"
    file.write_text(write(tmp_path / "runs", cluster))
    done = subprocess.run(["bash", file], cwd=tmp_path, check=False)
    assert done.returncode == code
    begun = (tmp_path / "begun").read_text().split()
    assert begun == ["75"] * (len(slept) + 1)
    log = tmp_path / "slept"
    assert (log.read_text().split() if log.exists() else []) == [str(s) for s in slept]


@pytest.mark.parametrize("name", ["back\\slash", "line\nbreak"])
def test_paths_that_sbatch_would_read_otherwise_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="sbatch cannot be given a path"):
        sbatch.check(PLAIN, tmp_path / name)


def test_the_code_is_the_snapshot_or_what_runs_now(tmp_path, monkeypatch):
    assert CodeSource.of(None) == CodeSource(paths.PACKAGE.parent, paths.extra_root())
    assert CodeSource.of(tmp_path) == CodeSource(tmp_path, paths.extra_root())
    (tmp_path / EXTRA).mkdir()
    assert CodeSource.of(tmp_path) == CodeSource(tmp_path, tmp_path / EXTRA)
    plan = array()
    monkeypatch.delenv("RETABLE_EXTRA")
    assert CodeSource.of(None).extra is None
    assert "RETABLE_EXTRA" not in write(tmp_path / "runs", plan=plan, source=CodeSource.of(None))


@pytest.mark.parametrize("name", ["prepare", "publish"])
def test_chores_run_the_commands_for_people_with_the_runs_folders(tmp_path, monkeypatch, name):
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/given\n'
        f'env > {tmp_path}/env\necho "| table |"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    paths = PathsConfig(runs=str(tmp_path / "my runs"), cache="cache", mirror=None)
    made = submission(tmp_path / "my runs")
    arguments = ("digits/accuracy", "--protocol", "smoke")
    text = sbatch.chore_script(made, name, PLAIN, paths, arguments)
    assert options(text)["comment"] == f'"retable {made.folder.name} {name}"'
    assert "gres" not in options(text)
    file = tmp_path / "a.sbatch"
    file.write_text(text)
    subprocess.run(["bash", file], cwd=tmp_path, check=True)
    commands = {
        "prepare": ["prepare"],
        "publish": ["table", "publish"],
    }[name]
    assert (tmp_path / "given").read_text().splitlines() == [
        f"-P -m retable {command} {shlex.join(arguments)}" for command in commands
    ]
    lines = (tmp_path / "env").read_text().splitlines()
    assert f"RETABLE_RUNS={tmp_path}/my runs" in lines
    assert f"RETABLE_CACHE={Path.cwd()}/cache" in lines
    if name == "publish":
        assert (made.folder / "table.md").read_text() == "| table |\n"


def test_every_template_is_shipped_in_the_wheel():
    import tomllib

    root = paths.project_root()
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = wheel["targets"]["wheel"]["force-include"]
    assert {
        f"slurm/{path.name}": f"retable/_slurm/{path.name}"
        for path in paths.slurm_dir().glob("*.sbatch")
    }.items() <= included.items()
    assert len(list(paths.slurm_dir().glob("*.sbatch"))) == 3
