"""Hydra multirun through the one engine; nothing starts where a job of it is wrong."""

from __future__ import annotations

import json

import pytest

from retable.config.compose import compose, hydra_ready
from retable.launch import hydra_sweep
from retable.launch.worker import perform
from retable.runs import frozen, records
from retable.util.errors import UserError
from support.runs import LAUNCHED


def all_records(runs):
    return {path: records.read(path) for path in sorted(runs.glob("digits/*/record.json"))}


def test_lists_ranges_and_globs_are_expanded():
    jobs = hydra_sweep.expand(
        ["experiment=digits/smoke", "model.hidden=8,16", "seed=range(0,2)", "device.threads=1"]
    )
    assert [sorted(plain(job)) for job in jobs] == [
        sorted(["experiment=digits/smoke", f"model.hidden={h}", f"seed={s}", "device.threads=1"])
        for h in (8, 16)
        for s in (0, 1)
    ]
    for glob, names in {
        "glob(digits/s*)": ["digits/smoke"],
        "glob(digits/*)": ["digits/base", "digits/smoke", "digits/tuned"],
        "glob([digits/*],exclude=[*smoke])": ["digits/base", "digits/tuned"],
    }.items():
        matched = hydra_sweep.match_configs([f"experiment={glob}", "seed=0"])
        assert matched == [f"experiment={','.join(names)}", "seed=0"]
        assert [plain(job) for job in hydra_sweep.expand(matched)] == [
            [f"experiment={name}", "seed=0"] for name in names
        ]


def plain(job):
    return [text.lstrip("+") for text in job if not text.startswith("hydra.searchpath")]


def test_jobs_that_differ_in_the_seed_share_one_composition(monkeypatch):
    composed = []

    def counting(overrides):
        composed.append(overrides)
        return compose(overrides)

    monkeypatch.setattr(hydra_sweep, "compose", counting)
    jobs = hydra_sweep.expand(["experiment=digits/smoke", "seed=range(0,9)"])
    runs = hydra_sweep.freeze_jobs(jobs)
    assert [run.config.seed for run in runs] == list(range(9))
    assert len({run.key for run in runs}) == 9
    assert len(composed) == 1
    hydra_sweep.freeze_jobs(
        hydra_sweep.expand(["experiment=digits/smoke", "model.hidden=8,16", "seed=0,1"])
    )
    assert len(composed) == 3
    with hydra_ready():
        alone = frozen.freeze(compose(["experiment=digits/smoke", "seed=8"]))
    assert runs[8] == alone


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=digits/smoke", "seed=0,x"], "seed"),
        (["experiment=digits/smoke"], "seed"),
        (["experiment=digits/smoke", "seed=0", "model.hiden=8,16"], "did you mean 'hidden'"),
        (["experiment=digits/smoke", "seed=0", "model.hidden=8,big"], "model.hidden"),
        (["experiment=digits/smok", "seed=0,1"], "did you mean 'digits/smoke'"),
        (["experiment=digits/smoke", "seed=0", "launcher.workers=1,2"], "launcher: differs"),
        (
            ["experiment=digits/smoke", "seed=range(0,", "model.hidden=8"],
            r"override 'seed=range\(0,'",
        ),
        (["experiment=digits/smoke", "seed=range(0,0)"], "nothing to run: a range"),
        (["experiment=glob(digits/x*)", "seed=0"], "matches no experiment"),
        (["experiment=digits/smoke", "seed"], "expected key=value"),
        # A seed that only follows another is judged like the first.
        (["experiment=digits/smoke", "seed=0,007"], "seed: '007' is not valid"),
        (["experiment=digits/smoke", f"seed=0,{10**19}"], "seed: 1000.* is not valid"),
        (["experiment=digits/smoke", "seed=0,²"], "override 'seed=0,²': cannot be read"),
        (["experiment=digits/smoke", "seed=interval(0,1)"], "for a sweeper that optimises"),
        # What only Hydra knows is found before it starts, too.
        (["experiment=digits/smoke", "seed=0,1", "hydra/sweeper=basc"], "no such sweeper; did you"),
        (
            ["experiment=digits/smoke", "seed=0", "hydra.sweeper.max_batch_size=0"],
            "max_batch_size: 0 is not valid",
        ),
        (
            ["experiment=digits/smoke", "seed=0", "hydra.sweeper._target_=os.system"],
            "Invalid plugin 'os.system'",
        ),
        (
            ["experiment=digits/smoke", "seed=0", "+hydra.sweeper.x=1"],
            "Could not override 'hydra.sweeper.x'",
        ),
    ],
)
def test_a_wrong_job_is_refused_before_hydra_creates_anything(overrides, message, runs):
    with pytest.raises(UserError, match=message):
        hydra_sweep.sweep(overrides)
    assert not runs.exists()


@pytest.mark.slow
def test_a_sweep_does_every_run_once(retable, runs, tmp_path, monkeypatch):
    sweep = ["train", "-m", "experiment=digits/smoke", "model.hidden=8,16", "seed=range(0,2)"]
    retable(*sweep)
    found = all_records(runs)
    assert sorted((r.config["model"]["hidden"], r.seed) for r in found.values()) == [
        (8, 0),
        (8, 1),
        (16, 0),
        (16, 1),
    ]
    assert {record.experiment for record in found.values()} == {"digits/smoke"}
    times = {path: path.stat().st_mtime_ns for path in runs.glob("digits/**/*")}
    # Again, as a sweep, as a glob, and alone: nothing is left to do.
    assert "4 already done" in retable(*sweep).stderr
    retable("train", "-m", "experiment=glob(digits/s*)", "model.hidden=8", "seed=0")
    alone = retable("train", "experiment=digits/smoke", "model.hidden=16", "seed=1")
    assert "test/accuracy" in alone.stdout
    assert {path: path.stat().st_mtime_ns for path in runs.glob("digits/**/*")} == times
    # And what a single run gives.
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "other"))
    with hydra_ready():
        run = frozen.freeze(compose(["experiment=digits/smoke", "model.hidden=16", "seed=1"]))
    frozen.write(run)
    perform(run.folder, LAUNCHED)
    [same] = [r for r in found.values() if r.key == run.key]
    assert records.read(run.folder / "record.json").substance() == same.substance()
    assert not (tmp_path / "multirun").exists()
    assert not (tmp_path / "outputs").exists()


def test_a_wrong_sweep_is_one_line_and_exit_code_2(retable, runs):
    for extra in ("model.hiden=8,16", "launcher.workers=1,2"):
        done = retable("train", "-m", "experiment=digits/smoke", "seed=0", extra, code=2)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
    assert not runs.exists()


def test_what_a_sweeper_gets_back(runs):
    """Results of each job by metric; empty where there is no record."""
    from retable.launch import local

    with hydra_ready():
        run = frozen.freeze(compose(["experiment=digits/smoke", "seed=0"]))
    frozen.write(run)
    perform(run.folder, LAUNCHED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "launch", None)
        [values] = hydra_sweep.launch_jobs([["experiment=digits/smoke", "seed=0"]])
    record = json.loads((run.folder / "record.json").read_text())
    assert values == {r["metric"]: r["value"] for r in record["results"]}


@pytest.mark.slow
def test_hydra_does_not_compose_every_job_once_more(monkeypatch, runs):
    """It would take a minute for a thousand jobs, and all have been validated."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.plugins.sweeper import Sweeper

    usual = Sweeper.validate_batch_is_legal
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", pytest.fail)
    hydra_sweep.sweep(["experiment=digits/smoke", "seed=0,1"])
    assert len(all_records(runs)) == 2
    assert Sweeper.validate_batch_is_legal is usual
