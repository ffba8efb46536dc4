"""Data is prepared once per setting, whatever the seeds and the models."""

from __future__ import annotations

import pytest

from retable.launch.checks import check_together
from retable.launch.prepare import prepare
from retable.tables.grid import plan
from retable.training import execute
from retable.util.errors import UserError
from support.runs import freeze


def test_once_per_data_setting(monkeypatch):
    prepared = []

    class Data:
        def __init__(self, node):
            self.node = node

        def prepare_data(self):
            prepared.append(self.node)

    monkeypatch.setattr(execute, "build_data", lambda node, seed, paths: Data(node))
    said: list[str] = []
    lines = prepare(plan("digits/accuracy").runs(), said.append)
    assert len(prepared) == len(lines) == 1
    assert said == ["preparing 1 data setting"]
    assert lines[0].startswith("Digits(batch_size=100, noise=0.1")
    prepared.clear()
    both = [*plan("digits/accuracy").runs(), *plan("digits/accuracy", "smoke").runs()]
    assert len(prepare(both, said.append)) == len(prepared) == 2
    assert prepare([], said.append) == []


def test_what_can_be_had_is_prepared_beside_what_cannot(monkeypatch):
    class Data:
        def __init__(self, node):
            self.node = node

        def prepare_data(self):
            if "train_size" not in self.node:
                raise UserError("cannot be had")

    monkeypatch.setattr(execute, "build_data", lambda node, seed, paths: Data(node))
    said: list[str] = []
    both = [*plan("digits/accuracy").runs(), *plan("digits/accuracy", "smoke").runs()]
    with pytest.raises(UserError, match="cannot be had"):
        prepare(both, said.append)
    assert said[-1].endswith("is ready")
    assert "train_size=200" in said[-1]


def test_a_launch_refuses_a_mirror_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("RETABLE_MIRROR", str(tmp_path / "mirrr"))
    with pytest.raises(UserError, match=r"RETABLE_MIRROR=.*mirrr: is not a folder"):
        check_together([freeze(seed=0)])


def test_a_mirror_that_is_none_is_named_and_not_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("RETABLE_MIRROR", str(tmp_path / "mirrr"))
    with pytest.raises(UserError, match=r"RETABLE_MIRROR=.*mirrr: is not a folder; correct it"):
        prepare(plan("digits/accuracy").runs(), lambda _: None)


def test_real_data_module():
    (line,) = prepare(plan("digits/accuracy", "smoke").runs(), lambda _: None)
    assert line.endswith("is ready")
