"""Records rebuilt from a server that real runs were uploaded to, if they are true to themselves."""

from __future__ import annotations

import json
import sys

import pytest
from msgspec import structs

from retable.runs import frozen, records, scan
from retable.runs.history import history_text
from retable.runs.lease import Lease
from retable.runs.records import Status
from retable.tracking import naming, run_payload
from retable.util.errors import UserError
from retable.wandb_tools import api, pull
from support.sync import attempt, followed, moved, record, rows, server, synced

__all__ = ["server"]


def pulled(wanted, elsewhere, said=None, **more):
    say = pytest.fail if said is None else said.append
    runs = [moved(run, elsewhere) for run in wanted]
    where = {"entity": "someone", "project": "retable", **more}
    return pull.pull(runs, api.connect(say, doing="pull"), **where, say=say)


def counts(outcome):
    return outcome.pulled, outcome.here, outcome.absent, len(outcome.refused)


@pytest.mark.slow
def test_what_was_uploaded_comes_back_the_same(server, runs, tmp_path):
    done, diverged, failed, absent = (followed(seed) for seed in range(4))
    attempt(done, 1, end=2, status=Status.INTERRUPTED)
    attempt(done, 2, begin=2, end=5)
    attempt(diverged, 1, status=Status.DIVERGED)
    attempt(failed, 1, status=Status.FAILED)
    assert synced(runs).synced == 3
    elsewhere = tmp_path / "elsewhere"
    wanted = [done, diverged, failed, absent]
    assert counts(pulled(wanted, elsewhere)) == (2, 0, 2, 0)

    for run in (done, diverged):
        there = moved(run, elsewhere)
        before = records.read_run(run.folder, pytest.fail)
        after = records.read_run(there.folder, pytest.fail)
        place = f"someone/retable/{naming.run_id(run.key, run.fingerprint)}"
        assert after == structs.replace(before, attempt=1, pulled=place)
        assert after.substance() == before.substance()
        assert frozen.read(there.folder).fingerprint == run.fingerprint
    folder = moved(done, elsewhere).folder
    own = (done.folder / "attempts" / "2" / "history.jsonl").read_bytes()
    assert (folder / "attempts" / "1" / "history.jsonl").read_bytes() == own
    assert (folder / "record.json").exists()
    assert not (moved(diverged, elsewhere).folder / "record.json").exists()
    # The fast readers know the mark.
    found = scan.read(str(folder.parent), [done.key, diverged.key], [("test/accuracy", "", None)])
    assert [found.abouts[number].pulled for number in found.about] == [True, True]
    assert found.values[0] == [0.1 + 0.7]
    # Pulled once more nothing happens; what was made here stays as it is.
    assert counts(pulled(wanted, elsewhere)) == (0, 2, 2, 0)
    text = (done.folder / "record.json").read_bytes()
    assert counts(pulled([done, diverged], runs)) == (0, 2, 0, 0)
    assert (done.folder / "record.json").read_bytes() == text


def forge(server, run, **changes):
    """Change the record that the server has of a run; a callable gets the old value."""
    stored = server.run(naming.run_id(run.key, run.fingerprint))
    content = json.loads(stored.summary[run_payload.RECORD])
    for name, value in changes.items():
        content[name] = value(content[name]) if callable(value) else value
    summary = {**stored.summary, run_payload.RECORD: json.dumps(content)}
    stored.files["wandb-summary.json"] = {0: json.dumps(summary)}


@pytest.mark.slow
def test_a_record_that_is_not_true_to_itself_is_refused(server, runs, tmp_path):
    made = [followed(seed) for seed in range(4)]
    for run in made:
        attempt(run, 1)
    synced(runs)
    newer, edited, another, odd = made
    forge(server, newer, version=2)
    forge(server, edited, config=lambda c: {**c, "model": {**c["model"], "hidden": 99}})
    forge(server, another, key="0" * 64)
    forge(server, odd, surprise=1)
    outcome = pulled(made, tmp_path / "elsewhere")
    assert counts(outcome) == (0, 0, 0, 4)
    by_id = {run.key: next(t for t in outcome.refused if run.key[:12] in t) for run in made}
    assert "version 2" in by_id[newer.key]
    assert "update it" in by_id[newer.key]
    assert "key does not follow from its config" in by_id[edited.key]
    assert "of another run" in by_id[another.key]
    assert "broken record" in by_id[odd.key]
    assert not list((tmp_path / "elsewhere").rglob("record.json"))
    assert "4 refused" in outcome.text().splitlines()[0]


@pytest.mark.slow
def test_a_history_that_is_another_one_is_left_out(server, runs, tmp_path):
    run = followed()
    attempt(run, 1)
    synced(runs)
    stored = server.run(naming.run_id(run.key, run.fingerprint))
    lines = stored.files["wandb-history.jsonl"]
    lines[1] = json.dumps({**json.loads(lines[1]), "train/loss": 0.5})
    said = []
    outcome = pulled([run], tmp_path / "elsewhere", said)
    assert (outcome.pulled, outcome.without_history) == (1, 1)
    assert "1 pulled (1 without history)" in outcome.text()
    assert "history is not the one" in said[0]
    folder = moved(run, tmp_path / "elsewhere").folder
    assert (folder / "record.json").exists()
    assert not list(folder.rglob("history.jsonl"))


@pytest.mark.slow
def test_it_stands_beside_what_was_tried_here(server, runs, tmp_path):
    tried, running = followed(0), followed(1)
    attempt(tried, 1)
    attempt(running, 1)
    synced(runs)
    elsewhere = tmp_path / "elsewhere"
    folder = moved(tried, elsewhere).folder / "attempts" / "1"
    folder.mkdir(parents=True)
    records.write_attempt(folder, record(tried, 1, 0, Status.FAILED))
    frozen.write(moved(tried, elsewhere))
    kept = (moved(tried, elsewhere).folder / "config.yaml").read_bytes()
    held = moved(running, elsewhere).folder
    held.mkdir(parents=True)
    lease = Lease.acquire(held, 60)
    assert lease
    try:
        assert counts(pulled([tried, running], elsewhere)) == (1, 1, 0, 0)
    finally:
        lease.release()
    found = records.read(moved(tried, elsewhere).folder / "record.json")
    assert found
    assert (found.attempt, found.status) == (2, Status.DONE)
    assert (moved(tried, elsewhere).folder / "config.yaml").read_bytes() == kept
    assert not (held / "config.yaml").exists()


@pytest.mark.slow
def test_of_several_the_one_of_the_present_code_is_taken(server, runs, tmp_path):
    run = followed()
    older = frozen.FrozenRun(run.config, run.key, "e" * 64)
    attempt(older, 1, end=2)
    (run.folder / "record.json").unlink()
    attempt(run, 2, end=4)
    assert synced(runs).synced == 2
    assert counts(pulled([run], tmp_path / "elsewhere")) == (1, 0, 0, 0)
    found = records.read(moved(run, tmp_path / "elsewhere").folder / "record.json")
    assert found
    assert found.fingerprint == run.fingerprint
    assert found.history_sha256 == records.text_sha256(history_text(rows(4)))


@pytest.mark.slow
def test_a_server_that_says_no_is_a_users_error(server, tmp_path):
    run = followed()
    assert counts(pulled([run], tmp_path / "elsewhere", project="nothing")) == (0, 0, 1, 0)
    server.fault = lambda what: 403 if what == "Runs" else None
    with pytest.raises(UserError, match=r"wandb pull: 127\.0\.0\.1: HTTP 403"):
        pulled([run], tmp_path / "elsewhere")


def test_whole_numbers_and_floats_of_a_history_are_what_they_were():
    values = [1.0, 0.1 + 0.2, 5e-324, sys.float_info.max, 1e16, 1e22, 123456789.0, 0.0]
    row = {"epoch": 3, **{f"m{n}": value for n, value in enumerate(values)}}
    # As the service's JSON has them: whole floats without a point.
    sent = {k: int(v) if v == int(v) and abs(v) < 1e21 else v for k, v in row.items()}
    assert pull.history_of([sent]) == history_text([row])
    assert pull.history_of([{"epoch": 0, "image": {"_type": "image-file"}}]) is None
    assert pull.history_of([{"epoch": "x"}]) is None
