"""What a small step may leave out, which few items do not give, and how long it may take."""

from __future__ import annotations

import time

import pytest

from retable.launch.rehearsal import small_run
from retable.launch.rehearsal.small_run import TooLong, at_most, finite_or_not
from retable.training.execute import build
from support.runs import freeze


def test_what_takes_too_long_is_left_and_said():
    def endless():
        with at_most(0.2):
            while time.monotonic() - before < 30:
                pass

    before = time.monotonic()
    with pytest.raises(TooLong):
        endless()
    assert time.monotonic() - before < 30


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_is_left_although_the_end_of_its_time_fell_into_a_finaliser(monkeypatch):
    monkeypatch.setattr(small_run, "AGAIN_S", 0.1)
    lost = []

    class Slow:
        def __del__(self):
            try:
                while time.monotonic() - before < 30:
                    pass
            except TooLong:
                lost.append(True)
                raise

    def endless():
        with at_most(0.1):
            Slow()  # Python ignores what its end raises
            while time.monotonic() - before < 30:
                pass

    before = time.monotonic()
    with pytest.raises(TooLong):
        endless()
    assert lost
    assert time.monotonic() - before < 30


def test_a_result_that_few_items_do_not_give_is_left_out():
    """A mean over a class of which no item is there, say; in a run it is refused."""
    _, network = build(freeze(experiment="digits/base").config.model_dump(mode="json"))
    with finite_or_not():
        network.add_result("test/few", float("nan"))
        network.add_result("test/many", 0.5)
    assert [result.metric for result in network.results] == ["test/many"]
    with pytest.raises(ValueError, match="test/few"):
        network.add_result("test/few", float("nan"))
