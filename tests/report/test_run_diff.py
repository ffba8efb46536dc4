"""Two recorded runs side by side: config, code, circumstances, results."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from retable.launch.dispatch import launch
from retable.report.run_diff import difference
from retable.runs import provenance
from retable.runs.lookup import find
from support.again import rewrite, shifted
from support.runs import freeze


@pytest.fixture
def pair(fake):
    """Two runs that differ in rate and seed."""
    runs = [freeze(), freeze("model.optimizer.lr=0.3", seed=1)]
    launch(runs)
    return runs


def diff(a, b):
    return difference(find(a.key), find(b.key))


def test_config_and_results_of_two_settings(pair):
    found = diff(*pair)
    assert found.config == [("model.optimizer.lr", "0.1", "0.3"), ("seed", "0", "1")]
    assert found.comparison.kind == "different"
    text = found.as_text()
    assert "    model.optimizer.lr: 0.1 / 0.3" in text
    assert "code: the same" in text
    assert "circumstances: the same" in text
    assert "results: different: first in epoch 0" in text
    assert "    test/accuracy  " in text


def test_a_run_and_itself(pair):
    found = diff(pair[0], pair[0])
    assert found.config == []
    text = found.as_text()
    assert "config: the same run" in text
    assert "results: bitwise equal" in text


def test_code_is_named_by_fingerprint_commit_and_changed_files(pair, monkeypatch):
    for run, name in zip(pair, "ab", strict=True):
        made = structs.replace(find(run.key).record.provenance, commit=name * 40)
        rewrite(run, fingerprint=name * 64, provenance=made)
    asked = []

    def git(*args):
        asked.append(args)
        return "src/retable/training/execute.py\n"

    monkeypatch.setattr(provenance, "git", git)
    found = diff(*pair)
    assert found.changed == ["src/retable/training/execute.py"]
    assert asked[0][:4] == ("diff", "--name-only", "a" * 40, "b" * 40)
    assert "src/retable/training/checkpointing.py" in asked[0]
    assert "code: aaaaaaaaaaaa (commit aaaaaaaaaaaa" in found.as_text()


def test_a_commit_that_git_does_not_know_is_no_error(pair):
    for run, name in zip(pair, "ab", strict=True):
        made = structs.replace(find(run.key).record.provenance, commit=name * 40)
        rewrite(run, fingerprint=name * 64, provenance=made)
    assert diff(*pair).changed is None


def test_as_json_it_is_plain_and_whole(pair):
    rewrite(pair[0], results=shifted(pair[0], 0.1))
    found = json.loads(json.dumps(diff(*pair).as_json()))
    assert found["a"]["key"] == pair[0].key
    assert found["config"][0] == {"key": "model.optimizer.lr", "a": "0.1", "b": "0.3"}
    assert {r["name"] for r in found["results"]} == {"test/accuracy", "test/loss"}
    assert found["comparison"]["kind"] == "different"
