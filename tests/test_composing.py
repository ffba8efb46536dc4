"""What is composed once for all tests (support/composing.py) is what Hydra makes."""

from __future__ import annotations

import os
import shutil

import hydra
import pytest
from hydra.errors import MissingConfigException

from retable.config.compose import hydra_ready, search_path
from support import composing

ASKED = ["experiment=digits/base", "seed=3", "++model.hidden=7"]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Configs made anew, with a memory of this test's own; what Hydra itself was asked for."""
    calls = []

    def alone(config_name, overrides):
        calls.append(overrides)
        return hydra_s_own(config_name, overrides=overrides)

    hydra_s_own = composing.alone
    monkeypatch.setattr(composing, "alone", alone)
    monkeypatch.setenv(composing.SHARED, str(tmp_path / "shared"))
    monkeypatch.setattr(composing, "_known", {})
    monkeypatch.setattr(composing, "_memories", {})
    composing.install()
    yield calls
    monkeypatch.undo()
    composing.install()


def composed(*overrides):
    with hydra_ready():
        return hydra.compose("run", [*search_path(), *overrides])


def test_it_is_what_hydra_makes_and_may_be_changed(asked):
    with hydra_ready():
        wanted = composing.alone("run", overrides=[*search_path(), *ASKED])
    for _ in range(2):
        found = composed(*ASKED)
        assert found == wanted
        # The time of day that Hydra keeps, for the names of folders, is each one's own.
        wanted._metadata.resolver_cache, found._metadata.resolver_cache = {}, {}
        assert found._metadata == wanted._metadata
        found.model.hidden = 8


def test_other_processes_need_not_ask(asked, tmp_path, monkeypatch):
    first = composed(*ASKED[:2])
    assert len(asked) == 1
    monkeypatch.setattr(composing, "_known", {})
    extra = tmp_path / "another"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    monkeypatch.setenv("RETABLE_EXTRA", str(extra))
    assert composed(*ASKED[:2]) == first
    assert len(asked) == 1


def test_a_changed_file_is_seen_and_a_refusal_comes_again(asked, tmp_path, monkeypatch):
    extra = tmp_path / "another"
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    monkeypatch.setenv("RETABLE_EXTRA", str(extra))
    file = extra / "conf" / "experiment" / "digits" / "base.yaml"
    before = composed(*ASKED[:2]).model.hidden
    file.write_text(file.read_text().replace(f"hidden: {before}", f"hidden: {before + 1}"))
    assert composed(*ASKED[:2]).model.hidden == before + 1
    for _ in range(2):
        with pytest.raises(MissingConfigException):
            composed("experiment=digits/bass")


def test_whoever_looks_at_hydra_itself_asks_it(asked, monkeypatch):
    monkeypatch.setenv(composing.ALONE, "1")
    composing.install()
    assert hydra.compose is composing.alone
