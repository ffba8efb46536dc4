"""A run's own child processes end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from retable.launch.process_setup import without_gpus

# A run that forks a child as a DataLoader does and is killed; `early` delays the child as a busy
# machine would, until its parent is gone and before anything of its own has run.
RUN = """
import multiprocessing, os, sys, time
from retable.launch.process_setup import end_children_with_me

def wait_for_orphanhood():
    parent = int(os.environ["PARENT"])
    while os.getppid() == parent:
        time.sleep(0.01)

os.environ["PARENT"] = str(os.getpid())
if "early" in sys.argv:
    os.register_at_fork(after_in_child=wait_for_orphanhood)
if "unguarded" not in sys.argv:
    end_children_with_me()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


def ended_within(pid, seconds):
    """Whether a process ends; a zombie that nobody reaps has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def child_of_killed(*words):
    """Kill a run that has forked; its child's process id."""
    command = [sys.executable, "-c", RUN, *words]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(run.stdout.readline())
    run.kill()
    run.wait()
    run.stdout.close()
    return child


@pytest.mark.parametrize("moment", ["late", "early"])
def test_a_killed_run_leaves_no_child(moment):
    assert ended_within(child_of_killed(moment), 10)


@pytest.mark.parametrize("moment", ["late", "early"])
def test_without_the_guard_a_child_would_stay(moment):
    child = child_of_killed(moment, "unguarded")
    try:
        assert not ended_within(child, 0.5)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_thread_that_ends_does_not_take_its_child_along():
    script = """
import os, threading, time
from retable.launch.process_setup import end_children_with_me
end_children_with_me()
pids = []
def fork():
    pid = os.fork()
    if pid == 0:
        time.sleep(0.5)
        os._exit(7)
    pids.append(pid)
thread = threading.Thread(target=fork)
thread.start()
thread.join()
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 7


DEAF = """
import os, signal, sys
from retable.launch.process_setup import end_children_with_me, stop_on_sigterm
both = {signal.SIGTERM, signal.SIGUSR2}
stop = stop_on_sigterm(time_limit=signal.SIGUSR2)
end_children_with_me(both if "deaf" in sys.argv else ())
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    for number in both:  # as torch's loading processes do
        signal.signal(number, signal.SIG_DFL)
    os.write(write, b"x")
    signal.pause()
os.read(read, 1)
mine = signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert not mine & both, mine
for number in both:
    os.kill(pid, number)
ended = os.waitpid(pid, os.WNOHANG if "deaf" in sys.argv else 0)[0]
assert bool(ended) != ("deaf" in sys.argv)
signal.raise_signal(signal.SIGUSR2)
assert stop.is_set() and stop.time_limit
"""


@pytest.mark.parametrize("words", [[], ["deaf"]])
def test_what_is_sent_to_all_of_a_job_ends_no_child_of_a_run(words):
    done = subprocess.run([sys.executable, "-c", DEAF, *words], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_the_first_reason_to_stop_stays():
    script = """
import signal
from retable.launch.process_setup import stop_on_sigterm
stop = stop_on_sigterm(grace_s=60, time_limit=signal.SIGUSR2)
signal.raise_signal(signal.{})
signal.raise_signal(signal.{})
print(stop.is_set(), stop.time_limit, signal.getitimer(signal.ITIMER_REAL)[0] > 50)
"""
    for first, second, said in (
        ("SIGTERM", "SIGUSR2", "True False True"),
        ("SIGUSR2", "SIGTERM", "True True True"),
        ("SIGUSR2", "SIGUSR2", "True True False"),  # whoever sends it sees to the end
    ):
        command = [sys.executable, "-c", script.format(first, second)]
        assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == said


@pytest.mark.parametrize("before", [None, "1"])
def test_gpus_are_hidden_from_a_run_on_the_cpu_and_from_no_other(before, monkeypatch):
    name = "CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    with without_gpus("cpu"):
        assert os.environ[name] == ""
    assert os.environ.get(name) == before
    with without_gpus("cuda"):
        assert os.environ.get(name) == before
    assert os.environ.get(name) == before


@pytest.mark.slow
def test_threads_are_pinned_of_libraries_that_are_loaded_later():
    code = """
    from retable.launch.process_setup import set_threads
    set_threads(1)
    import scipy.linalg
    from threadpoolctl import threadpool_info
    print({pool["num_threads"] for pool in threadpool_info()})
    """
    left_alone = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=left_alone, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{1}"
