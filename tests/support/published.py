"""The project's published tables, judged once for the tests of ``TOGETHER`` in conftest.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from retable.report import publish
from retable.util import paths

RESULTS = Path(__file__).parents[2] / "results"
_judged = cache(publish.judged)


@pytest.fixture
def published_results(cached_once, monkeypatch):
    """Results are the project's own; what judges them again is given the first judgement."""
    monkeypatch.setattr(paths, "results_dir", lambda: RESULTS)
    monkeypatch.setattr(publish, "judged", _judged)
    return RESULTS
