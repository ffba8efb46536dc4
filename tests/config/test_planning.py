"""While tables are planned, Hydra is asked once for each choice of files."""

from __future__ import annotations

import pytest

from retable.config.compose import compose
from retable.config.compose_cache import planning
from support.composed import BASE, cache, planned  # noqa: F401 - fixtures


@pytest.fixture
def calls(monkeypatch):
    """What Hydra is asked for."""
    import hydra

    found = []
    ask = hydra.compose
    monkeypatch.setattr(
        hydra, "compose", lambda name, overrides: (found.append(overrides), ask(name, overrides))[1]
    )
    return found


def test_settings_of_one_choice_of_files_ask_hydra_once_and_are_independent(calls):
    with planning():
        budgets = [
            compose([*BASE, f"model.hidden={n}", "callbacks={}", "stages=[fit]"]).model["hidden"]
            for n in (3, 4, 5)
        ]
        assert compose(BASE).model["hidden"] == 32
        assert compose([*BASE, "stages=[fit]"]).stages == ["fit"]
        assert compose(BASE).stages == ["fit", "test"]
    assert budgets == [3, 4, 5]
    assert len(calls) == 1


def test_tables_that_are_planned_in_one_go_share_what_was_composed(calls, cache):
    with planning():
        for n in (3, 4):
            with planning():
                compose([*BASE, f"model.hidden={n}"])
        assert not cache.exists()
    assert len(calls) == 1
    for n in (3, 4):
        assert planned(f"model.hidden={n}").model["hidden"] == n
    assert len(calls) == 1
