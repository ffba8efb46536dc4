"""Since when a sweep goes on, what a run takes, and the time left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retable.util import eta
from retable.util.eta import Going


def test_a_sweep_goes_back_to_the_last_long_pause():
    assert eta.since([]) is None
    assert eta.since([(0, 100), (90, 200), (1000, 1100), (1050, 1400)]) == (1000, 1400)
    assert eta.since([(0, 900), (90, 200), (1000, 1100)]) == (0, 1100)
    assert eta.since([(0, 10), (10 + eta.GAP_S, 200)]) == (0, 200)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)).map(sorted), min_size=1))
def test_a_sweep_holds_the_last_run_and_no_gap(spans):
    begin, end = eta.since([tuple(span) for span in spans])
    assert end == max(last for _, last in spans)
    inside = sorted(span for span in spans if span[1] >= begin)
    reached = inside[0][1]
    for first, last in inside:
        assert first <= reached + eta.GAP_S
        reached = max(reached, last)


def test_a_run_takes_what_its_setting_took_else_the_mean_of_the_settings():
    seconds = eta.expected({"a": [1.0, 1.0, 4.0], "b": [10.0], "none": []})
    assert [seconds(setting) for setting in ("a", "b", "none", "new")] == [2.0, 10.0, 6.0, 6.0]
    assert eta.expected({"none": []})("none") is None


def test_the_time_left_goes_by_what_the_same_setting_took():
    going = [Going("a", 0.5, 30.0), Going("b", 0.0, 4.0), Going("b", 0.0, 15.0)]
    took = {"a": [50.0, 70.0], "b": [10.0]}
    assert eta.left(took, {"a": 2, "b": 1}, 3, going) == (30 + 6 + 0 + 120 + 10) / 3


def test_the_time_left_of_a_new_setting_goes_by_its_epochs():
    going = [Going("a", 0.25, 30.0), Going("a", 0.5, 70.0)]
    assert eta.left({}, {"a": 1, "new": 1}, 2, going) == (130 * 0.75 + 130 * 0.5 + 2 * 130) / 2


def test_no_more_runs_go_at_once_than_there_are():
    assert eta.left({"a": [60.0]}, {"a": 2}, 8) == 60.0
    assert eta.left({"a": [60.0]}, {"a": 0}, 8) == 0.0


def test_nothing_is_known_of_the_time_left():
    assert eta.left({}, {"a": 3}, 1, [Going("a", 0.0, 9.0)]) is None
    assert eta.left({"a": [1.0]}, {"a": 3}, 0) is None
    assert eta.left({}, {}, 1) is None
