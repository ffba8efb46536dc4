"""A process with torch and Lightning loaded that others are forked from: see ``warm``.

Called by file, ``python -P zygote.py DESCRIPTOR MODULE...``, in a process that nothing else is done
in. It starts no thread, uses nothing that it has loaded, and ends with the process that started it.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path

NEVER = ("polars", "wandb", "retable.papers")
"""What has threads, or is found by what only a command's environment says."""
MESSAGE = 1 << 20
"""Bytes that a message has at most."""
_LOOK_S = 5.0


def threads() -> int:
    """Threads of this process, whoever started them."""
    return len(list(Path("/proc/self/task").iterdir()))


def serve(commands: socket.socket, modules: list[str]) -> None:
    """Fork what is asked for, until nobody can ask any more."""
    parent = os.getppid()
    for name in modules:
        importlib.import_module(name)
    if threads() > 1 or {*NEVER} & {*sys.modules}:
        return
    reborn.remember()
    commands.send(json.dumps(sorted(reborn.loaded)).encode())
    while os.getppid() == parent:
        if not select.select([commands], [], [], _LOOK_S)[0]:
            continue
        message, given, _, _ = socket.recv_fds(commands, MESSAGE, 256)
        if not message:
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        between = os.fork()
        if between == 0:
            # Its child becomes the child of whoever asks, who is the heir of its orphans.
            if os.fork() == 0:
                *descriptors, answer = given
                reborn.become(json.loads(message), descriptors, socket.socket(fileno=answer))
            os._exit(0)
        os.waitpid(between, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in given:
            os.close(descriptor)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support import reborn, warm

    if {*warm.COMMANDS} & {*sys.argv}:
        from support import composing

        reborn.composing = composing
    del sys.path[0]
    warm.install()
    try:
        serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
    except (KeyboardInterrupt, ConnectionError):
        pass
    os._exit(0)
