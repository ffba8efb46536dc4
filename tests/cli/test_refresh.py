"""`retable refresh` from the command line: what it takes, what it refuses, what it says before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retable.cli.main import app
from retable.launch.dispatch import launch
from retable.runs import frozen, published_records
from retable.tables import collect
from retable.tables.grid import plan
from retable.util import paths
from retable.util.errors import UserError
from support.again import published, rewrite
from support.runs import freeze

STALE = "f" * 64


@pytest.fixture
def grid(fake):
    """A finished table, all of it stale."""
    grid = plan("digits/accuracy", "smoke")
    launch(list(grid.runs()))
    for run in grid.runs():
        rewrite(run, fingerprint=STALE, blessings=[])
    fake.log.clear()
    return grid


def called(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["refresh", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def stale(runs) -> list[bool]:
    return [published(run).fingerprint == STALE for run in runs]


@pytest.mark.slow
def test_it_takes_papers_tables_rows_experiments_and_runs(grid, fake):
    runs = list(grid.runs())
    settings = len(list(grid.settings()))
    dry = called("digits", "--dry-run")
    assert dry.startswith(f"{settings} stale settings, {len(runs)} runs: one seed of each")
    assert fake.log == []
    assert all(stale(runs))

    row = next(iter(grid.cells))[0]
    of_row = grid.cell_runs(grid.cells[row, "accuracy"])
    assert f"1 stale setting: {len(of_row)} record" in called("digits/accuracy", "--row", row)
    assert not any(stale(of_row))

    other = next(run for run in runs if run.key not in {r.key for r in of_row})
    assert "1 stale setting: 1 record confirmed" in called(str(other.folder))
    for run in runs:
        rewrite(run, fingerprint=STALE, blessings=[])
    assert "1 stale setting: 1 record confirmed" in called(other.key[:10])
    assert stale(runs).count(False) == 1
    called("digits", "--protocol", "smoke")
    assert not any(stale(runs))
    assert "nothing is stale" in called("digits")


@pytest.mark.slow
def test_an_experiment_is_all_runs_that_were_launched_by_its_name(fake, runs):
    made = [
        freeze("launcher.grace_s=7.0", f"model.hidden={h}", seed=s) for h in (8, 16) for s in (0, 1)
    ]
    launch(made)
    for run in made:
        rewrite(run, fingerprint=STALE, blessings=[])
    assert called("digits/smoke", "--dry-run").startswith("2 stale settings, 4 runs")
    moved = runs.with_name("moved")
    runs.rename(moved)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_RUNS", str(moved))
        assert "2 stale settings: 4 records confirmed" in called("digits/smoke")
    kept = frozen.read(moved / "digits" / made[0].key)
    # The frozen config stays as it was launched, but for the code and where it lies now.
    assert kept.config.launcher.grace_s == 7.0
    assert kept.fingerprint == made[0].fingerprint
    assert Path(kept.config.paths.runs) == moved


@pytest.mark.slow
def test_a_paper_is_all_of_its_runs_here_and_nothing_here_is_not_nothing_stale(fake, runs):
    for name in ("digits", "digits/accuracy", "digits/smoke"):
        with pytest.raises(UserError, match=r"no runs? (of it is done )?in .*"):
            called(name)
    alone = freeze("model.hidden=9")  # of no table
    launch([alone])
    rewrite(alone, fingerprint=STALE)
    assert "nothing is stale" not in called("digits", "--dry-run")
    assert "1 stale setting: 1 record confirmed" in called("digits")
    assert "nothing is stale" in called("digits")


def test_a_run_that_the_present_code_does_not_know_is_passed_over(fake, runs):
    made = [freeze("model.hidden=9", seed=seed) for seed in (0, 1)]
    launch(made)
    odd = published(made[1])
    rewrite(made[0], fingerprint=STALE)
    rewrite(made[1], config={**odd.config, "model": {**odd.config["model"], "gone": 1}})
    for name in ("digits", "digits/smoke"):
        result = CliRunner().invoke(app, ["refresh", name, "--dry-run"])
        assert result.stdout.startswith("1 stale setting, 1 run:")
        said = (
            f"warning: run {odd.key[:12]} stays as it is: the present code refuses it: model.gone"
        )
        assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits/acuracy"], "no table, paper, experiment or run 'digits/acuracy'; did you mean"),
        (["digits/smoke", "--row", "slow"], "--row: belongs to a table, and 'digits/smoke' is"),
        (["digits", "--protocol", "smok"], "digits: no protocol 'smok'; did you mean 'smoke'"),
        (["c3"], "no table, paper, experiment or run 'c3'; a run is its folder, or 4 or more"),
        (["abcd1234"], "run 'abcd1234': there is none"),
    ],
)
def test_what_it_does_not_take(arguments, message):
    with pytest.raises(UserError) as error:
        called(*arguments)
    assert message in str(error.value)


def test_a_published_run_has_to_be_brought_here_first(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    file = published_records.parquet_file("digits/accuracy", "smoke")
    file.parent.mkdir(parents=True)
    published_records.write(file, dict(collect.from_runs(grid, pytest.fail)), {})
    run = next(iter(grid.runs()))
    shutil.rmtree(run.folder)
    with pytest.raises(UserError, match=r"is published only; .*: retable restore digits"):
        called(run.key[:12])
