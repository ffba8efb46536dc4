"""Faults met by real commands: each has its status and one clear line, and works when mended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest

from retable.runs import records
from retable.runs.records import Status
from support.fault import (
    children,
    counts,
    failures,
    freeze,
    log_of,
    owner,
    record_of,
    saved,
    undisturbed,
)
from support.runs import wait_for

TABLE = """\
paper: digits
title: What can go wrong
source: {paper_ref: none, own: true}
metrics: {accuracy: {key: test/accuracy, direction: max, margin: 1.0, decimals: 2}}
seeds: {smoke: 1}
columns: {accuracy: {metric: accuracy, title: Accuracy, experiment: {smoke: digits/smoke}}}
rows:
  nan: [model.fail=diverge]
  raised: [model.fail=raise]
  memory: [model.fail=oom]
  killed: [model.fail=kill]
  loading: [model.sleep=20, data.num_workers=2]
  good: [model.hidden=16]
  better: [model.hidden=48]
reported: {good: {accuracy: {value: "90", n: 1, grade: recalled, where: nowhere}}}
"""


def extra(tmp_path):
    """An extra root of the test's own, to be changed."""
    shutil.copytree(os.environ["RETABLE_EXTRA"], tmp_path / "extra")
    return tmp_path / "extra"


def overrides(name):
    [line] = [x for x in TABLE.splitlines() if x.startswith(f"  {name}: ")]
    return line.partition("[")[2].rstrip("]").split(", ")


@pytest.mark.slow
def test_runs_that_fail_have_a_status_and_a_line_each_and_stop_no_other(shell, tmp_path):
    root = extra(tmp_path)
    (root / "conf" / "table" / "digits" / "faults.yaml").write_text(TABLE)
    command = ["run", "digits/faults", "--protocol", "smoke"]
    names = ("nan", "raised", "memory", "killed", "loading", "good", "better")
    runs = {name: freeze(*overrides(name), experiment="digits/smoke") for name in names}
    process = shell.start(*command, "launcher.workers=3", RETABLE_EXTRA=root)
    # One of the processes that load its data is killed, by the kernel for instance.
    loading = wait_for(lambda: owner(runs["loading"]))
    os.kill(wait_for(lambda: children(loading))[0], signal.SIGKILL)
    out, err = shell.end(process, 1)
    assert counts(err) == {"run": 2, "already done": 0, "diverged": 1, "failed": 4}
    said = failures(err) + [x for x in err.splitlines() if x.startswith("diverged: ")]
    expected = {
        "nan": (Status.DIVERGED, "train/loss is nan in epoch 0"),
        "raised": (Status.FAILED, "RuntimeError: asked to <b>fail</b>"),
        "memory": (Status.FAILED, "out of memory (RuntimeError: "),
        "killed": (Status.FAILED, "killed by SIGKILL (out of memory, or killed by someone)"),
        "loading": (Status.FAILED, "RuntimeError: DataLoader worker (pid"),
    }
    assert len(said) == len(expected)
    for name, (status, error) in expected.items():
        record = record_of(runs[name], 1)
        assert record.status is status, name
        assert record.error.startswith(error), record.error
        [line] = [x for x in said if str(runs[name].folder) in x]
        assert error in line
    assert "(launcher.workers) need less" in record_of(runs["memory"], 1).error
    assert all(record_of(runs[name]).status is Status.DONE for name in ("good", "better"))
    # What has no result is not counted, and is said to be missing.
    out, _ = shell.call("table", *command[1:], "--json", RETABLE_EXTRA=root)
    cells = {cell["row"]: cell for cell in json.loads(out)["cells"]}
    assert {name: cells[name]["n"] for name in runs} == {
        name: int(name in ("good", "better")) for name in runs
    }
    # Diverged again where asked for, and only then.
    row = ["--row", "nan"]
    _, err = shell.call(*command, *row, RETABLE_EXTRA=root)
    assert counts(err) == {"run": 0, "already done": 1}
    _, err = shell.call(*command, *row, "--retry", "diverged", code=1, RETABLE_EXTRA=root)
    assert counts(err) == {"run": 0, "already done": 0, "diverged": 1}
    assert record_of(runs["nan"], 2).status is Status.DIVERGED


@pytest.mark.slow
def test_a_disk_that_fills_up_between_two_checkpoints(shell, disk, tmp_path):
    # Checkpoints of some 150 kB: two fit, and what is left takes a record but no third one.
    setting = ["model.hidden=512", "model.sleep=0.4", "trainer.max_epochs=8"]
    run = freeze(*setting, f"paths.runs={disk.path}")
    command = ["train", "experiment=digits/base", "seed=0", *setting]
    more = {"before": disk.before, "RETABLE_RUNS": disk.path}
    reason = f"{run.folder}: {disk.full}; "
    process = shell.start(*command, **more)
    wait_for(lambda: len(saved(run)) == 2)
    disk.fill(shell, left=64 * 1024)
    _, err = shell.end(process, 1)
    [line] = failures(err)
    assert reason in line
    assert line.count("and run it again") == 1
    assert record_of(run, 1).status is Status.FAILED
    assert record_of(run, 1).error.startswith(reason)
    epochs = len((run.folder / "attempts/1/history.jsonl").read_text().splitlines())
    assert 2 <= epochs < 8
    assert sorted(p.name for p in (run.folder / "attempts/1/checkpoints").iterdir()) == [
        f"epoch={epoch:06d}.ckpt" for epoch in (epochs - 1, epochs)
    ], "not what was whole before"
    # Now so full that not even a record can be written.
    disk.free()
    process = shell.start(*command, **more)
    wait_for(lambda: saved(run, 2))
    disk.fill(shell)
    _, err = shell.end(process, 1)
    [line] = failures(err)
    assert reason in line
    assert not (run.folder / "attempts/2/record.json").exists()
    assert sorted(p.name for p in run.folder.iterdir()) == ["attempts", "config.yaml"]
    disk.free()
    _, err = shell.call(*command, **more)
    assert counts(err) == {"run": 1, "already done": 0}
    assert record_of(run).attempt == 3
    assert record_of(run).resumed_from_epoch > epochs
    assert [record_of(run).substance()] == undisturbed(tmp_path, run)


def test_a_disk_that_is_full_from_the_beginning(shell, disk):
    disk.fill(shell)
    args = ["train", "experiment=digits/smoke", "seed=0"]
    out, err = shell.call(*args, code=2, before=disk.before, RETABLE_RUNS=disk.path)
    [line] = err.splitlines()
    assert line.startswith(f"error: paths.runs: {disk.path}")
    assert f": {disk.full}; " in line
    assert out == ""


@pytest.mark.slow
def test_broken_checkpoints_and_changed_code_after_a_kill(shell, tmp_path):
    """Each run goes on from the newest checkpoint that is whole and of the code that there is."""
    root = extra(tmp_path)
    setting = ["model.sleep=0.25", "trainer.max_epochs=7"]
    runs = [freeze(*setting, seed=seed) for seed in range(4)]
    garbage, empty, later, other_code = runs
    command = ["train", "-m", "experiment=digits/base", *setting, "launcher.workers=4"]
    process = shell.start(*command, "seed=range(0,4)", RETABLE_EXTRA=root)
    wait_for(lambda: all(len(saved(run)) == 2 for run in runs))
    for run in runs:
        os.kill(owner(run), signal.SIGKILL)
    _, err = shell.end(process, 1)
    assert counts(err) == {"run": 0, "already done": 0, "failed": 4}
    first, *others = failures(err)
    assert "killed by SIGKILL" in first
    assert all(": as digits/base s" in line for line in others)  # a reason is said once
    epochs = [int(saved(run)[-1].stem.partition("=")[2]) for run in runs]
    saved(garbage)[-1].write_bytes(os.urandom(5000))
    for path in saved(empty):
        path.write_bytes(b"")
    # The clock has jumped back since: all that this run wrote is of tomorrow.
    for path in later.folder.rglob("*"):
        os.utime(path, (time.time() + 86400,) * 2)
    _, err = shell.call(*command, "seed=range(0,3)", RETABLE_EXTRA=root)
    assert counts(err) == {"run": 3, "already done": 0}
    resumed = [record_of(run).resumed_from_epoch for run in runs[:3]]
    assert resumed == [epochs[0] - 1, None, epochs[2]]
    broken = f"epoch={epochs[0]:06d}.ckpt of attempt 1 cannot be read"
    assert broken in log_of(garbage, 2)
    assert "falling back to the one before" in log_of(garbage, 2)
    anew = "starting anew: no earlier checkpoint is whole and of this code and device"
    assert anew in log_of(empty, 2)
    assert record_of(later).wall_s < 1000
    module = root / "papers" / "digits" / "module.py"
    module.write_text(module.read_text().replace("nn.ReLU()", "nn.GELU()"))
    _, err = shell.call(*command, "seed=3", RETABLE_EXTRA=root)
    assert counts(err) == {"run": 1, "already done": 0}
    record = record_of(other_code)
    assert (record.attempt, record.resumed_from_epoch) == (2, None)
    assert record.fingerprint != record_of(other_code, 1).fingerprint
    assert anew in log_of(other_code, 2)
    expected = undisturbed(tmp_path, *runs)
    assert [record_of(run).substance() for run in runs[:3]] == expected[:3]
    assert record.substance() != expected[3], "the change made no difference"


@pytest.mark.slow
def test_records_that_are_broken_or_half_copied(shell, runs):
    """Named by every command, done again or published again by `run`, and set aside."""
    table, _ = shell.call("run", "digits/accuracy")
    found = sorted((runs / "digits").iterdir())
    whole = [(folder / "record.json").read_bytes() for folder in found]
    # Their own attempts' records are the same files, and break with them.
    for folder, text in zip(found[:3], ("", "\x00\xff\x00", whole[2][:-2].decode()), strict=True):
        (folder / "record.json").write_bytes(text.encode("latin-1"))
    # Copied by something that did not get to the end: another file than the attempt's record.
    for folder in found[3:]:
        (folder / "record.json").unlink()
    (found[3] / "record.json").write_bytes(whole[3][: len(whole[3]) // 2])
    (found[4] / "record.json").write_bytes(whole[5])
    (found[5] / "record.json").mkdir()
    for args in (["table", "digits/accuracy", "--json"], ["plan", "digits/accuracy", "--json"]):
        out, err = shell.call(*args)
        for folder in found:
            assert f"warning: {folder}/record.json: " in err, args
        said = json.loads(out)
        if args[0] == "plan":
            assert (said["runs"]["done"], said["runs"]["to do"]) == (3, 3)
        else:
            assert sum(cell["n"] or 0 for cell in said["cells"]) == 2 * 3
    out, err = shell.call("run", "digits/accuracy", "launcher.workers=2")
    assert counts(err) == {"run": 3, "already done": 3}
    for number, folder in enumerate(found):
        record = records.read(folder / "record.json")
        assert record.substance() == records.parse(whole[number], "").substance()
        assert record.attempt == (2 if number < 3 else 1)
        assert len(list(folder.glob("record.json.broken-*"))) == 1
        assert f"{folder}/record.json: " in err
    without = [line for line in table.splitlines() if not line.startswith("*6 runs")]
    assert [line for line in out.splitlines() if not line.startswith("*6 runs")] == without
    assert "warning" not in shell.call("table", "digits/accuracy")[1]
