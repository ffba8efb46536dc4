"""Upload one run of W&B: what the server lacks, by the library's own ``wandb sync``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from retable.tracking import naming
from retable.tracking.wandb_run import environment
from retable.wandb_tools import rewrite
from retable.wandb_tools.api import RETRIES, Refused, Server, Stopped, Unreachable, reason
from retable.wandb_tools.local_runs import Local

_DONE = ".synced"
_ERROR = "ERROR"
# What the library says where it has given up after several attempts, and not at once.
_TRANSIENT = ("giving up after", "while retrying", "Fatal error while uploading", "timed out")
_CLIENTS = ("graphql", "file_stream", "file_transfer")
_POLL_S = 0.2


def upload(
    local: Local,
    server: Server,
    project: str,
    stop: threading.Event,
    lock: int | None = None,
) -> int:
    """Give W&B's server what it lacks of a run: later steps, how it ended, its tags.

    The library appends whatever it uploads to the lines that a run has, and gives another number
    to a step that is not after the run's last one. So the server is asked first, also after an
    upload that was cut off, and gets later steps only. They are written from the history, also
    where W&B's files of the attempts are here: those of one that was killed lack its last steps,
    and those of two may hold a step twice.

    Args:
        local: what there is here.
        server: to ask.
        project: where it goes, as ``entity/project``.
        stop: set to end at once.
        lock: descriptor that the process which uploads keeps open.

    Returns:
        Steps that it lacks and that cannot be added, since it has later ones.

    Raises:
        Refused: where the server will not have it.
        Unreachable: where it may have it later.
        Stopped: where ``stop`` was set.
    """
    seen = server.seen(project, local.id)
    folder = naming.folder(local.runs) / "merged" / local.id
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    folder.mkdir(parents=True)
    try:
        order = folder / "order.json"
        order.write_text(rewrite.order(local, folder, seen.last), encoding="utf-8")
        code, out, said = _run([rewrite.__name__, str(order)], {}, stop)
        if code != 0:
            raise Refused(f"cannot be written for the upload ({reason(said)})")
        _send(Path(out.splitlines()[-1]), project, folder, stop, lock)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return max(0, sum(epoch <= seen.last for epoch in local.epochs) - seen.count)


def _send(file: Path, project: str, scratch: Path, stop: threading.Event, lock: int | None) -> None:
    """Upload a ``.wandb`` file.

    The exit code of ``wandb sync`` is 0 whatever happens, and it marks a file as synced also where
    its metrics were lost on the way: both the mark and the lack of errors count.
    """
    entity, name = project.split("/")
    patience = {f"WANDB__{c}_{k}".upper(): str(v) for c in _CLIENTS for k, v in RETRIES.items()}
    # The library's command leaves logs.
    own = {"WANDB_MODE": "online", "WANDB_DIR": str(scratch), **patience}
    _, out, said = _run(["wandb", "sync", "-p", name, "-e", entity, str(file)], own, stop, lock)
    lines = [line.partition(_ERROR)[2].strip() for line in (out + said).splitlines()]
    errors = [line for line in lines if line]
    if not errors and file.with_name(file.name + _DONE).exists():
        return
    text = "\n".join(errors) or said
    transient = any(part in text for part in _TRANSIENT)
    raise (Unreachable if transient else Refused)(reason(text))


def _run(
    module: list[str],
    variables: dict[str, str],
    stop: threading.Event,
    lock: int | None = None,
) -> tuple[int, str, str]:
    """Run a module to its end, or until ``stop`` is set; exit code, output and messages."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", *module],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), **variables},
        start_new_session=True,  # Ctrl-C is for us; we end it
        pass_fds=() if lock is None else (lock,),
    )
    try:
        while not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                out, said = process.communicate(timeout=_POLL_S)
                return process.returncode, out, said
        raise Stopped
    finally:
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
