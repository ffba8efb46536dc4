"""A job that may not run, or not any more: edited, held by another, already done."""

from __future__ import annotations

import json

import pytest
import yaml

from retable.launch import worker
from retable.launch.worker import Exit, perform
from retable.runs import frozen, records
from retable.runs.lease import FILE as LEASE
from retable.runs.lease import Lease, read_holder
from retable.runs.records import Status
from retable.util.errors import UserError
from support.job import (
    LAUNCHED,
    logged,
    written,
)
from support.runs import record_of


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden: 32", "hidden: 33", "its key does not follow from its config; it was edited"),
        ("seed: 0", "seed: 1", "it was edited"),
        ("version: 1", "version: 2", "frozen run of version 2; this retable reads 1"),
        ("key:", "kye:", "not a frozen run"),
        ("hidden: 32", "hiden: 32", "hiden"),
        ("config:", "config: [", "config.yaml, line 7: not valid YAML"),
        ("hidden: 32", "hidden: 2024-02-30", "not a frozen run"),
        ("fingerprint:", "fingerprint: 3 #", "fingerprint: 3 is not valid"),
    ],
)
def test_an_edited_frozen_run_is_refused(old, new, message):
    run = written("model.hidden=32")
    path = run.folder / frozen.FILE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        perform(run.folder, LAUNCHED)
    assert not (run.folder / "attempts").exists()


def test_unkeyed_parts_of_a_frozen_run_may_be_edited():
    run = written()
    path = run.folder / frozen.FILE
    content = yaml.safe_load(path.read_text())
    content["config"]["progress"] = False
    path.write_text(yaml.safe_dump(content))
    assert frozen.read(run.folder).key == run.key


def test_a_missing_frozen_run_and_a_copied_one_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"config.yaml: cannot be read \(No such file"):
        perform(tmp_path, LAUNCHED)
    run = written()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / frozen.FILE).write_text((run.folder / frozen.FILE).read_text())
    with pytest.raises(UserError, match=f"belongs into the folder {run.key}"):
        perform(tmp_path / "copy", LAUNCHED)


def test_changed_code_is_refused(monkeypatch):
    run = written()
    monkeypatch.setattr(worker, "fingerprint", lambda _: "0" * 64)
    with pytest.raises(UserError, match=r"the code changed since launch .*now 000000000000.*again"):
        perform(run.folder, LAUNCHED)
    assert not (run.folder / "attempts").exists()


def test_held_by_another():
    run = written()
    held = Lease.acquire(run.folder, 60)
    assert perform(run.folder, LAUNCHED) is Exit.LEASED
    assert not (run.folder / "attempts").exists()
    assert read_holder(run.folder) == held.holder
    held.release()


def test_a_broken_published_record_is_set_aside():
    run = written()
    (run.folder / "record.json").write_text('{"version": 1, "key": ')
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).status is Status.DONE
    [aside] = run.folder.glob("record.json.broken-*")
    assert aside.read_text() == '{"version": 1, "key": '


def test_a_published_record_of_another_run_is_set_aside():
    run, other = written(), written(seed=1)
    assert perform(other.folder, LAUNCHED) is Exit.DONE
    (run.folder / "record.json").write_bytes((other.folder / "record.json").read_bytes())
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).seed == 0
    assert len(list(run.folder.glob("record.json.broken-*"))) == 1


def test_a_record_of_a_newer_version_is_left_alone():
    run = written()
    (run.folder / "record.json").write_text('{"version": 2}')
    with pytest.raises(UserError, match="update it"):
        perform(run.folder, LAUNCHED)
    assert (run.folder / "record.json").read_text() == '{"version": 2}'
    assert not (run.folder / LEASE).exists()


def test_killed_between_record_and_publication():
    run = written()
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    (run.folder / "record.json").unlink()
    assert perform(run.folder, LAUNCHED) is Exit.DONE
    assert record_of(run).attempt == 1
    assert len(records.attempts(run.folder)) == 1


def test_the_second_to_finish_does_not_replace_the_record(monkeypatch):
    """Its lease was broken wrongly; meanwhile another finished."""
    from retable.training import execute as runner

    run = written()
    real = runner.execute

    def slow(config, context):
        (run.folder / LEASE).unlink()
        monkeypatch.setattr(runner, "execute", real)
        assert perform(run.folder, LAUNCHED) is Exit.DONE
        return real(config, context)

    monkeypatch.setattr(runner, "execute", slow)
    code, log = logged(run, 1)
    assert code is Exit.DONE
    assert record_of(run).attempt == 2
    assert record_of(run, 1).status is Status.DONE
    assert record_of(run, 1).substance() == record_of(run).substance()
    assert "the run already has a record" in log


def test_a_lost_lease_stops_the_run(monkeypatch):
    run = written("launcher.lease_s=0.12", "model.sleep=0.3", experiment="digits/base")
    from retable.training import execute as runner

    real = runner.execute

    def robbed(config, context):
        path = run.folder / LEASE
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "nonce": "other", "host": "another"}))
        return real(config, context)

    monkeypatch.setattr(runner, "execute", robbed)
    assert perform(run.folder, LAUNCHED) is Exit.INTERRUPTED
    assert read_holder(run.folder).nonce == "other"
