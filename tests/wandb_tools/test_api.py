"""Patience with a server: what is tried again, how often, and what ends it."""

from __future__ import annotations

import threading

import pytest

from retable.wandb_tools.api import Refused, Stopped, Unreachable, patiently, reason


def failing(*errors):
    """Raises these, one a call, then returns how often it was called."""
    calls = []

    def do():
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return len(calls)

    return do


def test_it_is_tried_again_as_often_as_there_are_pauses():
    said = []
    do = failing(Unreachable("first"), Unreachable("second"))
    assert patiently(do, (0.001, 0.002, 0.003), said.append) == 3
    assert said == ["first; again in 0.001 s", "second; again in 0.002 s"]
    with pytest.raises(Unreachable, match="second"):
        patiently(failing(Unreachable("first"), Unreachable("second")), (0.0,))


def test_a_refusal_is_not_tried_again():
    said = []
    with pytest.raises(Refused, match="no"):
        patiently(failing(Refused("no"), Unreachable("later")), (0.0, 0.0), said.append)
    assert said == []


def test_a_pause_ends_when_it_is_told_to():
    stop = threading.Event()
    with pytest.raises(Stopped):
        patiently(failing(Unreachable("x")), (3600.0,), lambda _: stop.set(), stop)


def test_the_reason_is_what_the_network_says():
    text = "POST http://x/graphql giving up after 3 attempt(s)\nwhile retrying: HTTP 500: no"
    assert reason(text) == "HTTP 500: no"
    assert reason("denied\n") == "denied"
    assert reason("") == "it says nothing"
