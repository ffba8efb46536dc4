"""What `check-paper` finds in a paper in which everything is wrong that it looks for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from retable.admin import paper_contract
from retable.launch.summary import Summary

EXTRA = Path(__file__).parents[1] / "extra"
MODULE = '''
"""Faults that make a number worthless."""

import os
from typing import Literal

from retable.papers.digits.module import Perceptron

# isort: split


class Muddled(Perceptron):
    def __init__(
        self, *, seed: int, fault: Literal["none", "unseeded", "forgetful"], anything=None,
        optimizer=None,
    ) -> None:
        self.fault, self.steps = fault, 0
        super().__init__(seed=seed, optimizer=optimizer)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.steps += 1
        if self.fault == "unseeded":
            return loss * (1 + int.from_bytes(os.urandom(2), "big") / 2**16)
        return loss / self.steps if self.fault == "forgetful" else loss


class Constant(Perceptron):
    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)

    def test_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.add_result("test/constant", 1.0)

    def on_test_epoch_end(self) -> None:
        pass


class Timed(Constant):
    timing_metrics = frozenset({"test/constant"})
'''
EXPERIMENT = """# @package _global_
paper: muddled
protocol: smoke
data: {{_target_: retable.papers.digits.data.Digits, batch_size: 100, train_size: 200}}
model: {model}
{rest}
"""
FIT = """{{_target_: retable.papers.muddled.module.Muddled, fault: {fault},
  optimizer: {{_target_: torch.optim.SGD, _partial_: true, lr: 0.1}}}}"""
TABLE = """paper: muddled
title: Muddled
source: {paper_ref: none, own: true}
metrics:
  constant: {key: test/constant, margin: 1.0}
  misspelt: {key: test/acuracy, margin: 1.0}
seeds: {smoke: 1}
columns:
  c: {metric: constant, experiment: {smoke: muddled/constant}}
  t: {metric: constant, experiment: {smoke: muddled/timed}}
  m: {metric: misspelt, experiment: {smoke: muddled/none}}
rows: {all: []}
"""


@pytest.fixture
def extra(tmp_path):
    folder = tmp_path / "extra"
    shutil.copytree(EXTRA, folder, ignore=shutil.ignore_patterns("__pycache__"))
    paper = folder / "papers" / "muddled"
    paper.mkdir()
    (paper / "__init__.py").touch()
    (paper / "module.py").write_text(MODULE)
    experiments = folder / "conf" / "experiment" / "muddled"
    experiments.mkdir()
    for fault in ("none", "unseeded", "forgetful"):
        text = EXPERIMENT.format(model=FIT.format(fault=fault), rest="trainer: {max_epochs: 3}")
        (experiments / f"{fault}.yaml").write_text(text)
    model = "{_target_: retable.papers.muddled.module.Constant}"
    text = EXPERIMENT.format(model=model, rest="stages: [test]")
    (experiments / "constant.yaml").write_text(text)
    (experiments / "timed.yaml").write_text(text.replace("Constant", "Timed"))
    (experiments / "broken.yaml").write_text(text.replace("train_size", "train_sise"))
    (folder / "conf" / "table" / "muddled").mkdir()
    (folder / "conf" / "table" / "muddled" / "table.yaml").write_text(TABLE)
    return folder


@pytest.mark.slow
def test_every_fault_is_found_and_named(retable, extra, runs):
    said = retable("check-paper", "muddled", "--json", code=1, RETABLE_EXTRA=extra).stdout
    wrong = [f"{one['what']}: {one['said']}" for one in json.loads(said) if not one["ok"]]
    expected = [
        "muddled/broken: data.train_sise",
        "options: retable.papers.muddled.module.Muddled.anything: has no type",
        "muddled/none: muddled/table, all/m: no test/acuracy in its record; did you mean",
        "muddled/constant: two seeds give the same numbers",
        "muddled/forgetful: stopped and resumed: different",
        "muddled/unseeded: the same twice: different",
        "muddled/unseeded: stopped and resumed: different",
    ]
    for start in expected:
        assert sum(start in line for line in wrong) == 1, (start, wrong)
    assert len(wrong) == len(expected), wrong
    assert not runs.exists()


def test_ctrl_c_ends_all_of_it(monkeypatch, tmp_path):
    _, smokes = paper_contract.planned("digits")
    monkeypatch.setattr(paper_contract, "launch", lambda _: Summary(stopped=True))
    with pytest.raises(KeyboardInterrupt):
        list(paper_contract.tried(smokes, tmp_path))


def test_a_paper_that_there_is_not(retable):
    assert (
        "no paper 'digitz'; did you mean 'digits'?"
        in retable("check-paper", "digitz", code=2).stderr
    )
