"""A process with torch and Lightning loaded that forks one fresh process per run.

Forking costs milliseconds where importing costs seconds; no state leaks from run to run, and a
crash costs one run. The server never touches CUDA. It runs whatever source its PYTHONPATH names,
which is how a snapshot is executed. Commands and replies are JSON lines; nothing is pickled.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from retable.launch import multiprocess, worker
from retable.launch.error_messages import line_of
from retable.launch.process_setup import end_children_with_me, end_with_parent, stop_on_sigterm
from retable.runs.attempts import launched_from
from retable.util.errors import UserError, brief

SUPERVISED = "supervised"
TERMINATED, TIME_LIMIT = signal.SIGTERM, signal.SIGUSR2
TO_A_JOB = frozenset({TERMINATED, TIME_LIMIT})
"""Signals of a cluster to every process of a job. A supervised server starts with them blocked."""


def preload(targets: list[str]) -> None:
    """Import what the runs will need and read its sources, so that a fork inherits both."""
    from retable.config.signatures import signature
    from retable.config.targets import definition
    from retable.runs.identity import fingerprint, modules_of

    for module in modules_of(targets):
        try:
            importlib.import_module(module)
        except Exception as error:
            # The run itself will meet the same error and record it with its traceback.
            print(f"preload of {module}: {error}", file=sys.stderr)
    fingerprint(targets)
    for target in targets:
        signature(definition(target, "_target_"))


def serve(replies: int, *, supervised: bool = False) -> None:
    """Fork a job per command line on stdin; report ends on the descriptor ``replies``.

    Args:
        replies: written to, a JSON line for each.
        supervised: by a job of a cluster: the signals that reach all of its processes are for
            the runs, which know what to do with them.
    """
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write_end)
    commands = b""
    while True:
        ready, _, _ = select.select([0, read_end], [], [])
        if read_end in ready:
            os.read(read_end, 4096)
            for pid, status in _ended():
                _send(replies, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, commands = (commands + chunk).split(b"\n")
            for line in lines:
                _command(json.loads(line), replies, (read_end, write_end), supervised)


def _command(command: dict[str, Any], replies: int, own: tuple[int, int], supervised: bool) -> None:
    if "preload" in command:
        preload(command["preload"])
        _send(replies, {"ready": os.getpid()})
        return
    if "rehearse" in command:
        _rehearse(command["rehearse"], replies, own)
        return
    server = os.getpid()
    pid = os.fork()
    if pid:
        _send(replies, {"forked": command["folder"], "pid": pid})
        return
    folder, ending = Path(command["folder"]), worker.Ending(worker.Exit.FAILED)
    try:
        _leave_server(own, streams=1)
        stop = stop_on_sigterm(command["grace_s"], time_limit=TIME_LIMIT if supervised else None)
        if supervised:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_A_JOB)
        # Told to stop when the server dies, so that no orphan keeps a lease.
        end_with_parent(signal.SIGTERM)
        if os.getppid() != server or command.get("leave"):
            stop.set()  # it died just before, or one epoch is all that is wanted
        end_children_with_me(TO_A_JOB if supervised else ())
        if "follow" in command:
            ending = worker.Ending(
                worker.Exit(multiprocess.follow_as_told(command["follow"], stop))
            )
        else:
            ending = worker.attempt(folder, launched_from(command["launched"]), stop)
    except UserError as error:
        ending = worker.Ending(worker.Exit.REFUSED, error=str(error))
    except BaseException as error:
        ending = worker.Ending(worker.Exit.FAILED, error=line_of(error, folder))
    finally:
        _say_last(replies, ending)
        os._exit(ending.code)


def _leave_server(own: tuple[int, int], *, streams: int) -> None:
    """In a fork: drop the server's signals and pipe, and turn the first streams to nothing."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for end in own:
        os.close(end)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(streams):
        os.dup2(null, stream)


def _rehearse(configs: list[dict[str, Any]], replies: int, own: tuple[int, int]) -> None:
    """Fork a process that builds what some runs will build, and tell what is refused."""
    pid = os.fork()
    if pid:
        _send(replies, {"rehearsing": pid})
        return
    try:
        _leave_server(own, streams=3)  # what building says, the runs will say
        end_with_parent(signal.SIGKILL)
        # Late: the launch itself imports this module too, and does without torch.
        from retable.launch.preflight import first_refusal

        _send(replies, {"rehearsed": first_refusal(configs)})
    finally:
        os._exit(0)


def _say_last(replies: int, ending: worker.Ending) -> None:
    """Tell what the exit code does not say. Short enough to be written in one piece."""
    with suppress(OSError):
        if ending.error or ending.elsewhere:
            said = {"error": ending.error and brief(ending.error, 600)}
            _send(replies, {"last": os.getpid(), "elsewhere": ending.elsewhere, **said})
        sys.stdout.flush()
        sys.stderr.flush()


def _ended() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def _send(replies: int, message: dict[str, Any]) -> None:
    os.write(replies, (json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    serve(int(sys.argv[1]), supervised=SUPERVISED in sys.argv[2:])
    sys.stderr.flush()
    os._exit(0)  # taking torch apart would cost a second or two
