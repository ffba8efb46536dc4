"""Upload one run of W&B: what the server lacks, by the library's own ``wandb sync``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retable.tracking import naming
from retable.tracking.wandb_run import environment
from retable.wandb_tools import rewrite, segments
from retable.wandb_tools.api import RETRIES, Refused, Server, Stopped, Unreachable, reason
from retable.wandb_tools.local_runs import Local

MERGED = "merged"
_DONE = ".synced"
_ERROR = "ERROR"
# What the library says where it has given up after several attempts, and not at once.
_TRANSIENT = ("giving up after", "while retrying", "Fatal error while uploading", "timed out")
_CLIENTS = ("graphql", "file_stream", "file_transfer")
_POLL_S = 0.2


@dataclass(frozen=True)
class Place:
    """Where runs are uploaded to."""

    entity: str
    project: str


def upload(
    local: Local,
    server: Server,
    place: Place,
    stop: threading.Event,
    lock: int | None = None,
) -> int:
    """Give W&B's server what it lacks of a run: later steps, how it ended, its tags.

    The library appends whatever it uploads to the lines that a run has, and gives another number
    to a step that is not after the run's last one. So the server is asked first, also after an
    upload that was cut off, and gets later steps only.

    Args:
        local: what there is here.
        server: to ask.
        place: where it goes.
        stop: set to end at once.
        lock: descriptor that the process which uploads keeps open.

    Returns:
        Steps that it lacks and that cannot be added, since it has later ones.

    Raises:
        Refused: where the server will not have it.
        Unreachable: where it may have it later.
        Stopped: where ``stop`` was set.
    """
    seen = server.seen(place.entity, place.project, local.id)
    folder = naming.folder(local.runs) / MERGED / local.id
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    try:
        file = _whole_segment(local) if seen.last < 0 else None
        file = file or _merged(local, folder, seen.last, stop)
        folder.mkdir(parents=True, exist_ok=True)
        _send(file, place, folder, stop, lock)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return max(0, sum(epoch <= seen.last for epoch in local.epochs) - seen.count)


def _whole_segment(local: Local) -> Path | None:
    """The only segment's file, where it says everything."""
    if len(local.segments) != 1:
        return None
    file = segments.file_of(local.segments[0])
    return file if file and rewrite.is_whole(segments.read(file), local) else None


def _merged(local: Local, folder: Path, last: int, stop: threading.Event) -> Path:
    folder.mkdir(parents=True)
    order = folder / "order.json"
    order.write_text(rewrite.order(local, folder, last), encoding="utf-8")
    command = [sys.executable, "-P", "-m", rewrite.__name__, str(order)]
    code, out, said = _run(command, environment(), stop)
    if code != 0:
        raise Refused(f"cannot be written for the upload ({reason(said)})")
    return Path(out.splitlines()[-1])


def _send(file: Path, place: Place, scratch: Path, stop: threading.Event, lock: int | None) -> None:
    """Upload a ``.wandb`` file.

    The exit code of ``wandb sync`` is 0 whatever happens, and it marks a file as synced also where
    its metrics were lost on the way: both the mark and the lack of errors count.
    """
    mark = file.with_name(file.name + _DONE)
    mark.unlink(missing_ok=True)
    options = ["--include-synced", "--include-online", "-p", place.project, "-e", place.entity]
    patience = {f"WANDB__{c}_{k}".upper(): str(v) for c in _CLIENTS for k, v in RETRIES.items()}
    # The library's command leaves logs.
    own = {"WANDB_MODE": "online", "WANDB_DIR": str(scratch), **patience}
    command = [sys.executable, "-P", "-m", "wandb", "sync", *options, str(file)]
    _, out, said = _run(command, {**environment(), **own}, stop, lock=lock)
    lines = [line.partition(_ERROR)[2].strip() for line in (out + said).splitlines()]
    errors = [line for line in lines if line]
    if not errors and mark.exists():
        return
    text = "\n".join(errors) or said
    transient = any(part in text for part in _TRANSIENT)
    raise (Unreachable if transient else Refused)(reason(text))


def _run(
    command: Sequence[str],
    env: dict[str, str],
    stop: threading.Event,
    lock: int | None = None,
) -> tuple[int, str, str]:
    """Run a command to its end, or until ``stop`` is set; exit code, output and messages."""
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
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
