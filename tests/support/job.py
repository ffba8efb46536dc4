"""Frozen runs, jobs done in this process, and their records, for the tests of jobs."""

from __future__ import annotations

import sys
import threading

import pytest

from retable.launch.worker import Launched, perform
from retable.runs import frozen
from retable.runs.records import Provenance
from support.runs import freeze

LAUNCHED = Launched(
    Provenance(commit="c" * 40, dirty=None, packages="p", python="3", torch="2", cpu="c", cores=2),
    workers=3,
)


def written(*overrides, **more):
    run = freeze(*overrides, **more)
    frozen.write(run)
    return run


def logged(run, number, stop=None):
    """Perform, with the standard error of the process in place of pytest's; exit code and log."""
    with pytest.MonkeyPatch.context() as patch, open(2, "w", closefd=False) as stderr:
        patch.setattr(sys, "stderr", stderr)
        code = perform(run.folder, LAUNCHED, stop)
    return code, (run.folder / "attempts" / str(number) / "log.txt").read_text()


class StopAfter(threading.Event):
    """An event that is set once it has been asked so many times."""

    def __init__(self, times):
        super().__init__()
        self.left = times

    def is_set(self):
        self.left -= 1
        return self.left <= 0
