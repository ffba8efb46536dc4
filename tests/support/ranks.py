"""Runs in one and in several processes of an engine, and their numbers side by side."""

from __future__ import annotations

import json
import time

import pytest

from retable.launch.forkserver_client import Forkserver
from retable.launch.worker import Exit
from retable.runs import frozen, records
from retable.runs.attempts import identity_of
from retable.runs.identity import targets_of
from retable.training.checkpointing import find_resume
from support.job import (
    LAUNCHED,
)
from support.runs import freeze, record_of

WEIGHTS, NUMBERS = 2e-5, 1e-5
"""Largest differences, in weights and relative ones of numbers, to the run of one process."""

BOUND_S = 60
"""Far below what a collective would wait: it is an end that is noticed, not a time that is over."""


def engine(experiment="digits/base"):
    """What starts runs of an experiment, as a context manager."""
    config = freeze(experiment=experiment).config
    return Forkserver(sorted(targets_of([config.data, config.model])))


def begun(server, *overrides, devices=2, experiment="digits/base"):
    run = freeze(*overrides, f"device.devices={devices}", experiment=experiment)
    frozen.write(run)
    server.start(run, LAUNCHED)
    return run


def ended(server):
    """The code of what ends next."""
    end = time.monotonic() + BOUND_S
    while not (found := server.wait(1)):
        assert time.monotonic() < end, "nothing ended"
    assert server.busy == 0
    return found[0].code


def done(server, *overrides, **more):
    run = begun(server, *overrides, **more)
    assert ended(server) == Exit.DONE, log_of(run)
    return run, record_of(run)


def log_of(run):
    attempt = records.attempts(run.folder)[0]
    return (attempt / "log.txt").read_text(), record_of(run, attempt.name)


def weights(run):
    """Those of its last checkpoint."""
    identity = identity_of(run, "cpu")
    return find_resume(records.attempts(run.folder), identity, pytest.fail).weights


def history(run):
    return [
        json.loads(line)
        for line in (records.attempts(run.folder)[0] / "history.jsonl").read_text().splitlines()
    ]


def wait_for(check, what):
    end = time.monotonic() + BOUND_S
    while not (found := check()):
        assert time.monotonic() < end, f"not in {BOUND_S} s: {what}"
        time.sleep(0.02)
    return found


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one)


def numbers(run, record):
    rows = {(row["epoch"], name): v for row in history(run) for name, v in row.items()}
    return rows | {(r.metric, r.result_row, r.step): r.value for r in record.results}


def in_one_and_in_several(server, monkeypatch, folder, *overrides, devices=2, **more):
    """The same run done twice; gives weights and numbers of both."""
    out, key = [], set()
    for count in (1, devices):
        monkeypatch.setenv("RETABLE_RUNS", str(folder / str(count)))
        run, record = done(server, *overrides, devices=count, **more)
        assert record.devices == count
        assert not list(records.attempts(run.folder)[0].glob("*.error"))
        key.add((run.key, run.fingerprint))
        out.append((weights(run), numbers(run, record)))
    assert len(key) == 1, "it is the same question"
    return out
