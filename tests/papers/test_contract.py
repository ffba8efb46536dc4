"""What every paper keeps to, as `retable check-paper` tries it."""

from __future__ import annotations

import pytest

from retable.admin.paper_contract import planned, tried
from support.in_turn import PAPERS

pytestmark = pytest.mark.usefixtures("cached_once")


@pytest.mark.parametrize("paper", PAPERS)
def test_every_config_is_composed_and_every_table_planned(paper):
    findings, smokes = planned(paper)
    assert not [finding for finding in findings if not finding.ok]
    assert smokes


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_smoke_runs_give_the_same_bits_twice_and_after_stops(paper, tmp_path):
    findings = list(tried(planned(paper)[1], tmp_path))
    assert not [finding for finding in findings if not finding.ok]
    assert any("stopped and resumed" in finding.said for finding in findings)
