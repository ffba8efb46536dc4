"""`retable wandb sync` and `retable wandb pull` as a user calls them."""

from __future__ import annotations

import json

import pytest

from retable.runs import frozen
from retable.tables.grid import plan
from retable.tracking import naming
from support.sync import attempt, server

__all__ = ["server"]
TABLE = ["digits/accuracy", "--protocol", "smoke"]


@pytest.fixture
def table_runs():
    """The runs of a table, followed offline and done."""
    followed = list(plan("digits/accuracy", "smoke", overrides=["logger=wandb"]).runs())
    for run in followed:
        frozen.write(run)
        attempt(run, 1)
    return followed


@pytest.mark.slow
def test_a_table_goes_to_a_server_and_comes_back_elsewhere(retable, server, table_runs, tmp_path):
    first = retable("wandb", "sync", *TABLE)
    where = f"{server.environment['WANDB_BASE_URL']}/someone/retable"
    assert first.stdout == f"2 synced, 0 already, 0 not; {where}\n"
    # Nothing but how far it is, where it takes longer than two seconds.
    assert set(first.stderr.splitlines()) <= {f"uploaded: {n} of 2" for n in (1, 2)}
    for run in table_runs:
        stored = server.run(naming.run_id(run.key, run.fingerprint))
        assert "digits/accuracy" in stored.about["tags"]
        assert any(tag.startswith("digits/accuracy: ") for tag in stored.about["tags"])
        # Nothing of this machine, of its user or of their folders.
        seen = json.dumps([stored.about, stored.config, stored.summary, stored.history])
        uploads = "".join(str(data) for data in stored.uploads.values())
        for secret in (str(tmp_path), server.environment["WANDB_API_KEY"], "someone@"):
            assert secret not in seen + uploads
        assert "requirements.txt" not in stored.uploads
    second = retable("wandb", "sync")
    assert second.stdout == f"0 synced, 2 already, 0 not; {where}\n"
    assert "--again" in second.stderr
    assert retable("wandb", "sync", "--again").stdout.startswith("2 synced, 0 already, 0 not")

    elsewhere = tmp_path / "elsewhere"
    there = {"RETABLE_RUNS": elsewhere}
    back = retable("wandb", "pull", *TABLE, **there).stdout
    assert back == f"2 pulled, 0 here already, 0 not in W&B, 0 refused; {where}\n"
    again = retable("wandb", "pull", *TABLE, "--entity", "someone", **there)
    assert again.stdout.startswith("0 pulled, 2 here already")
    table = retable("table", *TABLE, **there).stdout
    assert "pulled in all cells: some runs were made elsewhere" in table
    explained = retable("table", *TABLE, "--explain", "slow,accuracy", **there).stdout
    [slow] = [run for run in table_runs if run.key[:12] in explained]
    identifier = naming.run_id(slow.key, slow.fingerprint)
    assert f"pulled from someone/retable/{identifier}" in explained
    assert "pulled" not in retable("table", *TABLE).stdout
    assert "2 done" in retable("plan", *TABLE, **there).stdout
    assert not list(tmp_path.glob("wandb"))  # no logs in the user's folder


@pytest.mark.slow
def test_what_could_not_be_synced_is_listed(retable, server, table_runs):
    server.fault = lambda what: 403 if what == "UpsertBucket" else None
    done = retable("wandb", "sync", code=1)
    assert done.stdout.startswith("0 synced, 0 already, 2 not; http")
    assert done.stderr.count("not synced: digits smoke s0") == 2


@pytest.mark.slow
def test_a_run_whose_history_is_gone_is_not_synced(retable, server, table_runs):
    (table_runs[0].folder / "attempts" / "1" / "history.jsonl").unlink()
    done = retable("wandb", "sync", code=1)
    assert done.stdout.startswith("1 synced, 0 already, 1 not")
    assert "its history is gone" in done.stderr
    assert len(server.runs) == 1


@pytest.mark.slow
def test_what_is_left_when_the_server_goes_away_is_counted(retable, server, table_runs):
    def gone(what):
        if what == "UpsertBucket":
            server.http.shutdown()  # else it goes round and round on a closed socket
            server.http.server_close()
            return 503
        return None

    server.fault = gone
    done = retable("wandb", "sync", "--workers", "1", code=1)
    assert done.stdout.startswith("0 synced, 0 already, 1 not")
    assert "1 left: the server cannot be reached; the same command goes on" in done.stderr


@pytest.mark.slow
def test_a_login_is_asked_for_before_anything_else(retable, table_runs):
    for command in ("sync", "pull"):
        refused = retable("wandb", command, *TABLE, code=2, WANDB_BASE_URL="http://127.0.0.1:9")
        # What is here is not asked for there.
        assert refused.stderr == (
            f"error: wandb {command}: nobody is logged in at 127.0.0.1; run 'wandb login', or set"
            " WANDB_API_KEY\n"
        )
        there = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "abc"}
        refused = retable("wandb", command, *TABLE, code=2, **there)
        assert refused.stderr == (
            f"error: wandb {command}: WANDB_API_KEY is not a valid key of 127.0.0.1\n"
        )


@pytest.mark.slow
def test_a_login_that_is_refused_is_said_once(retable, server, table_runs):
    server.fault = lambda _: 401
    for command in ("sync", "pull"):
        refused = retable("wandb", command, *TABLE, code=2)
        assert "127.0.0.1 refuses the login (HTTP 401" in refused.stderr
        assert "wandb login --relogin" in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_a_name_that_wandb_does_not_take_is_refused(retable):
    for option in ("--entity", "--project"):
        refused = retable("wandb", "sync", option, "some/one", code=2)
        assert f"{option} 'some/one': is not a name in W&B" in refused.stderr


def test_every_command_shows_an_example(retable):
    for command in ("sync", "pull", "dashboard"):
        assert f"Example: retable wandb {command} " in retable("wandb", command, "-h").stdout


def test_with_nothing_to_do_it_says_so(retable):
    done = retable("wandb", "sync", WANDB_BASE_URL="http://127.0.0.1:9")
    assert "nothing to sync" in done.stderr
    assert "logger=wandb" in done.stderr


@pytest.mark.slow
def test_with_nothing_else_to_do_it_does_not_deny_what_runs(retable, table_runs):
    for run in table_runs:
        (run.folder / "record.json").unlink()
        (run.folder / "attempts" / "1" / "record.json").unlink()
    done = retable("wandb", "sync")
    assert "2 without a record yet, left alone" in done.stderr
    assert "nothing else to sync" in done.stderr
    assert "no run here" not in done.stderr


def test_a_table_that_is_not_there_gets_a_hint(retable):
    for command in ("sync", "pull"):
        refused = retable("wandb", command, "digits/acuracy", code=2)
        assert "did you mean 'digits/accuracy'?" in refused.stderr
    assert "no protocol 'x'" in retable("wandb", "sync", "digits", "--protocol", "x", code=2).stderr
