"""What the tests of the compose cache share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from retable.config import compose_cache
from retable.config.compose import compose
from retable.config.compose_cache import planning
from retable.util import paths

BASE = ["experiment=digits/base", "seed=0"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Folder of the compose cache, into which even a single setting is written."""
    monkeypatch.setattr(compose_cache, "WORTH_A_FILE", 1)
    return tmp_path / "cache" / "compose"


@pytest.fixture
def asked(cache, monkeypatch):
    """Every list of overrides for which Hydra was asked while something was planned."""
    calls = []
    ask = compose_cache.Memory.compose

    def asking(self, overrides):
        calls.append(overrides)
        return ask(self, overrides)

    monkeypatch.setattr(compose_cache.Memory, "compose", asking)
    return calls


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of all configs that a test may edit: (the project's own, the extra root's)."""
    own, extra = tmp_path / "conf", tmp_path / "extra"
    shutil.copytree(ROOT / "conf", own)
    shutil.copytree(os.environ["RETABLE_EXTRA"], extra)
    monkeypatch.setattr(paths, "conf_dir", lambda: own)
    monkeypatch.setenv("RETABLE_EXTRA", str(extra))
    return own, extra / "conf"


def planned(*overrides):
    with planning():
        return compose([*BASE, *overrides])


def only(cache) -> Path:
    [file] = cache.iterdir()
    return file
