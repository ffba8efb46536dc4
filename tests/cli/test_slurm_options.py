"""`run` and `train` on a cluster from the command line, with commands that only pretend."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retable.launch.slurm.submission import all_of

RUN = ("run", "digits/accuracy", "--protocol", "smoke")
ON = ("launcher=slurm", "cluster=dev")


def last(done):
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((*RUN, "--wait"), "error: --wait: is for launcher=slurm cluster=<profile>"),
        ((*RUN, "--prepare"), "error: --prepare: is for launcher=slurm cluster=<profile>"),
        ((*RUN, "--publish"), "error: --publish: is for launcher=slurm cluster=<profile>"),
        (
            ("train", "experiment=digits/smoke", "seed=0", "--wait"),
            "error: --wait: is for launcher=slurm cluster=<profile>",
        ),
        (
            ("train", "-m", "experiment=digits/smoke", "seed=0,1", "--wait"),
            "error: --wait: is for launcher=slurm cluster=<profile>",
        ),
        (
            (*RUN, *ON, "model.hidden=64"),
            "error: override 'model.hidden=64': would change what digits/accuracy runs, which its"
            " file fixes; use `retable train -m` for other settings",
        ),
        (
            (*RUN, *ON, "--until-decided"),
            "error: --until-decided: looks at results, so on a cluster it needs --wait",
        ),
        (
            (*RUN, *ON, "--publish", "--row", "slow"),
            "error: --publish: is for whole tables, without --row, --column and --seeds",
        ),
        (
            ("train", "-m", "experiment=digits/smoke", "seed=0", "launcher=slurm",
             "cluster=dev,example"),
            "error: cluster: differs between runs of one launch; it may not",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(fake_slurm, retable, runs, arguments, line):
    assert last(retable(*arguments, code=2)) == line
    assert fake_slurm.calls() == []
    assert not runs.exists()


def test_a_submission_prints_the_plan_and_how_to_follow_but_no_table(fake_slurm, retable, runs):
    done = retable(*RUN, *ON, "--prepare", "--row", "slow")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == (
        "1 run in 1 job of 1 array on dev (partition low), expected: unknown (no record yet)"
    )
    assert "    follow:  retable status digits/accuracy --protocol smoke --watch" in lines
    assert "    cancel:  retable cancel digits/accuracy --protocol smoke" in lines
    assert lines[-1] == "1 submitted, 0 already done"
    [made] = all_of(runs)
    assert set(made.header.chores) == {"prepare"}
    script = (made.folder / "prepare.sbatch").read_text()
    assert "-m retable prepare digits/accuracy --protocol smoke --row slow\n" in script


SELECT = """select:
  over: {model.hidden: [8, 16]}
  by: val/accuracy
  direction: max
  seeds: [100]
"""


def test_settings_that_are_chosen_later_are_said_to_need_another_call(
    fake_slurm, retable, runs, tmp_path
):
    extra = tmp_path / "extra"
    shutil.copytree(Path(__file__).parents[1] / "extra", extra)
    table = extra / "conf" / "table" / "digits" / "accuracy.yaml"
    table.write_text(table.read_text() + SELECT)
    done = retable(*RUN, *ON, RETABLE_EXTRA=extra)
    assert "4 submitted" in done.stderr
    assert last(done).endswith("run the same command again when they are done")
    done = retable(*RUN, *ON, "--publish", code=2, RETABLE_EXTRA=extra)
    assert last(done).startswith("error: --publish: settings are to be chosen first")


@pytest.mark.slow
def test_one_run_and_a_sweep_are_submitted_alike(fake_slurm, retable, runs):
    one = retable("train", "experiment=digits/smoke", "seed=3", *ON)
    assert one.stdout == ""
    assert last(one) == "1 submitted, 0 already done"
    [job] = fake_slurm.jobs
    assert f"    cancel:  scancel {job}" in one.stderr.splitlines()
    swept = retable("train", "-m", "experiment=digits/smoke", "seed=range(0,5)", *ON)
    assert last(swept) == "4 submitted, 0 already done, 1 already queued or being done"
