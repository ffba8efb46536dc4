"""What W&B is told of a run, and what not."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from retable.runs import records
from retable.runs.frozen import FrozenRun
from retable.runs.identity import run_key
from retable.runs.lookup import refreeze
from retable.runs.records import Record, ResultRow, Status
from retable.tracking import run_payload
from support.runs import LAUNCHED
from support.tracking import followed


def record_of(run, **values):
    about = {
        "key": run.key, "paper": "digits", "experiment": "digits/base", "protocol": "paper",
        "seed": 0, "config": {}, "status": Status.DONE, "attempt": 1, "started": "now",
        "wall_s": 1.5, "cpu_s": 1.0, "peak_memory_mb": 2.0, "device": "cpu", "threads": 1,
        "workers": 1, "fingerprint": run.fingerprint, "provenance": LAUNCHED.provenance,
    }  # fmt: skip
    return Record(**{**about, **values})


def test_the_config_is_what_is_keyed_and_who_computes_it():
    run = followed()
    told = run_payload.config_of(run, LAUNCHED.provenance)
    assert told["trainer"]["max_epochs"] == 4
    assert not {"paths", "logger", "launcher", "cluster", "device"} & set(told)
    assert told["retable"]["key"] == run.key
    assert told["retable"]["threads"] == 1
    assert "roots" not in told["retable"]
    json.dumps(told)
    chosen = structs.replace(LAUNCHED.provenance, kernels={"MKL_CBWR": "AVX2"})
    assert run_payload.config_of(run, chosen)["retable"]["kernels"] == "MKL_CBWR=AVX2"


def test_the_config_says_nothing_of_its_user(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("SOME_TOKEN", "tok-0123456789")
    run = followed()
    model = {**run.config.model, "note": ["/home/jane/x", {"y": "tok-0123456789 a@b.org"}]}
    changed = FrozenRun(run.config.model_copy(update={"model": model}), run.key, run.fingerprint)
    told = run_payload.config_of(changed, LAUNCHED.provenance)
    assert told["model"]["note"] == ["~/x", {"y": "<secret> <e-mail>"}]


def test_the_summary_is_the_record_s():
    run = followed()
    results = [
        ResultRow(metric="test/error", value=0.25),
        ResultRow(metric="test/error", result_row="other", value=0.5),
        ResultRow(metric="time", step=100, value=3.0),
    ]
    record = record_of(run, results=results, best_epoch=0)
    told = run_payload.summary_of(record)
    assert told["test/error"] == 0.25
    assert told["test/error [other]"] == 0.5
    assert told["time @ 100"] == 3.0
    assert (told["status"], told["best_epoch"], told["wall_s"]) == ("done", 0, 1.5)
    assert "error" not in told
    assert records.parse(told["record"], "summary") == record


@pytest.mark.parametrize("status", [Status.FAILED, Status.DIVERGED])
def test_the_summary_says_why_there_is_no_result(status):
    told = run_payload.summary_of(record_of(followed(), status=status, error="no more"))
    assert (told["status"], told["error"]) == (status.value, "no more")


def test_a_run_can_be_told_from_its_summary(runs):
    run = followed()
    told = run_payload.summary_of(
        record_of(run, config=run_payload.config_of(run, LAUNCHED.provenance))
    )
    kept = records.parse(told["record"], "summary")
    kept = structs.replace(kept, config={k: v for k, v in kept.config.items() if k != "retable"})
    assert run_key(refreeze(kept, runs).config) == run.key
