"""What ended a run, in one line: whose file, what was wrong, what to do."""

from __future__ import annotations

import errno
import os

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from retable.launch.error_messages import line_of


def of(number, path=None):
    return OSError(number, os.strerror(number), None if path is None else str(path))


def raised_from(first, second):
    """As code does that fails while it clears up after a failure."""
    try:
        try:
            raise first
        finally:
            raise second
    except type(second) as error:
        return error


def test_a_full_disk_is_said_whatever_was_raised_in_the_end(tmp_path):
    archive = RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 960 vs 854")
    expected = f"{tmp_path}: No space left on device; free some and run it again"
    assert line_of(raised_from(of(errno.ENOSPC), archive), tmp_path) == expected
    assert line_of(of(errno.ENOSPC, "/cache/x"), tmp_path).startswith("/cache/x: No space left")
    assert "; free some and" in line_of(of(errno.EDQUOT), tmp_path)
    assert "(ulimit -f) and run it again" in line_of(of(errno.EFBIG), tmp_path)


def test_what_is_wrong_with_the_runs_own_files_has_a_remedy(tmp_path):
    inside = tmp_path / "attempts" / "1" / "x.tmp"
    for number in (errno.EROFS, errno.EACCES):
        expected = f"{inside}: {os.strerror(number)}; make it writable and run it again"
        assert line_of(of(number, inside), tmp_path) == expected
    vanished = "vanished while the run was going on; leave it in place and run it again"
    assert line_of(of(errno.ENOENT, inside), tmp_path) == f"{inside}: {vanished}"
    gone = tmp_path / "gone"
    assert line_of(of(errno.ENOENT, gone / "x.tmp"), gone) == f"{gone}: {vanished}"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EROFS])
def test_other_files_are_none_of_our_business(tmp_path, number):
    error = of(number, "/data/set.csv")
    assert line_of(error, tmp_path) == f"{type(error).__name__}: {error}"


def test_memory_and_what_nobody_knows(tmp_path):
    remedy = "fewer runs at once (launcher.workers) need less"
    assert line_of(MemoryError(), tmp_path) == f"out of memory (MemoryError); {remedy}"
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore")
    said = "RuntimeError: DefaultCPUAllocator: can't allocate memory"
    assert line_of(error, tmp_path) == f"out of memory ({said}); {remedy}"
    assert line_of(ValueError("x"), tmp_path) == "ValueError: x"
    assert line_of(raised_from(KeyError("a"), ValueError("b")), tmp_path) == "ValueError: b"


def test_a_failure_of_the_cleaning_up_does_not_hide_the_first_one(tmp_path):
    """As Lightning's does where a process that loads data dies before the first batch."""

    def _teardown():
        raise RuntimeError("Please call `iter(combined_loader)` first.")

    try:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        except RuntimeError:
            _teardown()
    except RuntimeError as error:
        said = line_of(error, tmp_path)
    assert said == "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed."


def test_a_loader_that_died_is_named_whatever_its_signal_interrupted(tmp_path):
    """As ``Thread.start`` does when the handler raises in it: it drops what is dropped already."""
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    error = raised_from(died, KeyError("<Thread(QueueFeederThread, started daemon 1)>"))
    said = "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed."
    assert line_of(error, tmp_path) == said


def test_a_value_that_a_class_refuses_is_named_with_the_reason(tmp_path):
    target = "retable.papers.r_learner.learners.kernel_ridge.KernelRidge"
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": target, "bandwidths": [0], "ridges": [1.0]}, _convert_="all")
    said = line_of(caught.value, tmp_path)
    assert said.startswith("KernelRidge: ValueError: bandwidths: [0] has to be positive")
    assert line_of(InstantiationException("no more than this"), tmp_path).endswith("than this")
