"""`retable retry` of what is no table: an experiment, or one run."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from retable.cli.main import app
from retable.launch.dispatch import launch
from retable.launch.postmortem import give_up
from retable.launch.worker import Exit, perform
from retable.runs import frozen
from retable.runs.records import Status
from retable.util.errors import UserError
from support.again import published, rewrite
from support.runs import LAUNCHED, freeze, newest


@pytest.fixture
def runs_of_smoke(fake):
    """A run that is as it should be, one of other code, and one that failed."""
    runs = [freeze(seed=seed) for seed in range(3)]
    launch(runs[:2])
    rewrite(runs[1], fingerprint="f" * 64)
    frozen.write(runs[2])
    give_up(runs[2], "RuntimeError: once", LAUNCHED)
    fake.log.clear()
    return runs


def called(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["retry", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stderr


def test_an_experiment_s_failed_and_stale_runs_are_done_again(runs_of_smoke, fake):
    good, stale, failed = runs_of_smoke
    said = called("digits/smoke")
    assert "1 failed: again" in said
    assert "1 run, 0 already done" in said
    assert [run.key for run in fake.log] == [failed.key]
    said = called("digits/smoke", "--stale", "--failed")
    assert "1 stale: again" in said
    assert [run.key for run in fake.log] == [failed.key, stale.key]
    assert [published(run).status for run in runs_of_smoke] == [Status.DONE] * 3
    assert [published(run).attempt for run in (good, stale)] == [1, 2]
    assert "nothing is failed or stale" in called("digits/smoke", "--stale", "--failed")


def test_a_run_by_its_key_and_one_that_fails_once_more(runs_of_smoke, fake):
    good, stale, failed = runs_of_smoke
    assert "nothing is stale" in called(good.key[:8], "--stale")
    assert fake.log == []
    fake.script = lambda run, pid: Exit.FAILED
    assert "1 failed" in called(stale.key[:8], "--stale", code=1)
    assert published(stale).fingerprint == "f" * 64
    fake.script = lambda run, pid: perform(run.folder, LAUNCHED)
    called(stale.key[:8], "--stale")
    assert published(stale).fingerprint == stale.fingerprint
    assert newest(failed).status is Status.FAILED


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["digits/smoke", "--lost"], "--lost: is for tables"),
        (["digits/smoke", "--protocol", "smoke"], "'digits/smoke' is no table: only a table takes"),
        (["digits/smoke", "launcher=local"], "'digits/smoke' is no table: only a table takes"),
        (["digits/smok"], "no table, paper, experiment or run 'digits/smok'; did you mean"),
    ],
)
def test_what_belongs_to_tables_is_refused(args, message):
    with pytest.raises(UserError, match=message):
        called(*args)
