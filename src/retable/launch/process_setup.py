"""Set up the process of a job: its output, its threads, its signals."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when the thread that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def end_children_with_me(deaf_to: Collection[signal.Signals] = ()) -> None:
    """Have every process that this one will fork killed when this one dies.

    torch's loading processes look for their parent every few seconds, but take whoever is their
    parent when they begin for it: killed between the fork and that moment, it leaves orphans that
    stay for ever.

    Args:
        deaf_to: signals that are blocked in those processes, because they are sent to all of a
            job and meant for this one. Ignoring them would not do: torch's loading processes
            set handlers of their own.
    """
    parent = 0
    masks = threading.local()

    def remember() -> None:
        nonlocal parent
        # The signal comes when the forking thread ends, and others may end before the process.
        main = threading.current_thread() is threading.main_thread()
        parent = os.getpid() if main else 0
        masks.mine = signal.pthread_sigmask(signal.SIG_BLOCK, deaf_to)

    def hear_again() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.mine)

    def follow() -> None:
        if parent:
            end_with_parent(signal.SIGKILL)
            if os.getppid() != parent:  # it died just before
                os._exit(1)

    os.register_at_fork(before=remember, after_in_parent=hear_again, after_in_child=follow)


def resolved_device(accelerator: str) -> str:
    """Device type that Lightning will choose."""
    import torch

    if accelerator == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return "cuda"


@contextmanager
def without_gpus(device: str) -> Generator[None]:
    """Hide GPUs from a run on the CPU.

    In every step an optimiser of torch asks for the number of GPUs, which takes a twentieth of a
    small update where the driver's library has to be looked for each time.
    """
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    if device == "cpu":
        os.environ[name] = ""
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif device == "cpu":
            os.environ.pop(name, None)


def set_threads(threads: int) -> None:
    """Pin the threads of torch and of the BLAS libraries, loaded by now or later."""
    import torch
    from threadpoolctl import threadpool_limits

    # Read when a library is loaded, such as SciPy's OpenBLAS by the first compiled product.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    torch.set_num_threads(threads)
    threadpool_limits(threads)


class log_to:  # noqa: N801 - used as a function
    """Send everything the process prints, from C too, to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.saved = os.dup(1), os.dup(2)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)

    def __exit__(self, *_: object) -> None:
        for stream, descriptor, number in zip(
            (sys.stdout, sys.stderr), self.saved, (1, 2), strict=True
        ):
            try:
                stream.flush()
            except OSError:
                # What a full disk did not take must not end up on the terminal.
                _discard(number)
                stream.flush()
            os.dup2(descriptor, number)
            os.close(descriptor)


def _discard(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


class StopSign(threading.Event):
    """Set when the process should leave at the end of the epoch.

    Attributes:
        time_limit: because its job comes to its time limit.
    """

    time_limit = False


def stop_on_sigterm(
    grace_s: float | None = None, *, time_limit: signal.Signals | None = None
) -> StopSign:
    """Event that SIGTERM sets: leave at the end of the epoch.

    Args:
        grace_s: seconds after which a process that has not left is ended; None: never.
        time_limit: the signal that says that the job comes to its time limit, and sets the event
            too; whoever sends it sees to the end.
    """
    stop = StopSign()
    timed = False

    def terminate(*_: object) -> None:
        nonlocal timed
        if grace_s is not None and not timed:
            timed = True
            signal.setitimer(signal.ITIMER_REAL, grace_s)  # SIGALRM, which nobody handles
        stop.set()

    def end_of_time(*_: object) -> None:
        stop.time_limit = stop.time_limit or not stop.is_set()
        stop.set()

    signal.signal(signal.SIGTERM, terminate)
    if time_limit is not None:
        signal.signal(time_limit, end_of_time)
    return stop
