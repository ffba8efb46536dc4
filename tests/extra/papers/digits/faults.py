"""Death at an exact moment of a write, and a trace of how far a process came.

Armed by the environment and never by a config: a run that is killed has the key and the
fingerprint of one that is not. ``RETABLE_TEST_FAULTS`` names a folder; ``order`` in it says where
the process kills itself, once ("checkpoint-half:3": the first time that three or more epochs are
finished), and ``trace`` gets a line for every phase that it enters. The product knows nothing of
this: the calls that its writing consists of are wrapped here.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

VARIABLE = "RETABLE_TEST_FAULTS"
POINTS = {
    "lease-unlinked": ("link", "before", "lease.json"),
    "lease-linked": ("link", "after", "lease.json"),
    "checkpoint-half": ("sync", "half", "epoch=*.tmp"),
    "checkpoint-synced": ("sync", "after", "epoch=*.tmp"),
    "checkpoint-renamed": ("replace", "after", "epoch=*.ckpt"),
    "checkpoint-pruned": ("unlink", "after", "epoch=*.ckpt"),
    "history-half": ("sync", "half", ".history.jsonl.*.tmp"),
    "history-synced": ("sync", "after", ".history.jsonl.*.tmp"),
    "history-renamed": ("replace", "after", "history.jsonl"),
    "record-half": ("sync", "half", ".record.json.*.tmp"),
    "record-synced": ("sync", "after", ".record.json.*.tmp"),
    "record-unpublished": ("link", "before", "record.json"),
    "record-published": ("link", "after", "record.json"),
}
"""Where a process can die: the call, on which side of it, and the name of the file."""

_state = {"armed": 0, "epochs": 0, "tested": 0}


class Decay:
    """A function of the epoch, as two of torch's schedulers want one."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, epoch: int) -> float:
        return self.rate ** (epoch % 3)


def arm() -> None:
    """Wrap what writes, where the environment asks for it; done once in a process."""
    if VARIABLE not in os.environ or _state["armed"]:
        return
    _state["armed"] = 1
    from retable.training.checkpointing import Checkpointer, EpochSeeds, Stop
    from retable.training.epochs import epoch_of

    # No import statement: the fingerprint of the code that computes would follow it.
    records = importlib.import_module("retable.runs.records")

    _wrap(os, "fsync", "sync", lambda file: Path(f"/proc/self/fd/{file}").readlink())
    _wrap(Path, "replace", "replace", lambda _, target: target)
    _wrap(Path, "unlink", "unlink", lambda path, *_, **__: path)
    _wrap(Path, "hardlink_to", "link", lambda path, _: path)

    def saving(_: Any, trainer: Any, **__: Any) -> None:
        _state["epochs"] = epoch_of(trainer)
        enter("checkpoint write")

    def testing(*_: Any) -> None:
        _state["tested"] = 1
        enter("test")

    _before(EpochSeeds, "on_train_epoch_start", lambda _, t, __: enter(f"epoch {epoch_of(t)}"))
    _before(Checkpointer, "save", saving)
    _before(Stop, "on_test_start", testing)
    _before(records, "write_attempt", lambda *_: enter("record write"))


def enter(phase: str) -> None:
    """Add a phase to the trace."""
    with Path(os.environ[VARIABLE], "trace").open("a", encoding="utf-8") as file:
        file.write(f"{time.monotonic()} {phase}\n")


def _passed(call: str, name: str) -> None:
    if call == "link" and name == "lease.json":
        enter("start")
    elif call == "replace" and name.endswith(".ckpt"):
        enter("checkpoint written")
    elif call == "replace" and name == "history.jsonl":
        enter("after the test" if _state["tested"] else "between epochs")
    elif call == "replace" and name == "record.json":
        enter("before publication")
    elif call == "link" and name == "record.json":
        enter("published")


def _wrap(owner: Any, attribute: str, call: str, path_of: Callable[..., Path]) -> None:
    real = getattr(owner, attribute)

    @functools.wraps(real)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        name = path_of(*args, **kwargs).name
        if _ordered(call, "half", name):
            # What a kill in the middle of the write leaves: the file, but not all of it.
            os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            _die()
        if _ordered(call, "before", name):
            _die()
        result = real(*args, **kwargs)
        if _ordered(call, "after", name):
            _die()
        _passed(call, name)
        return result

    setattr(owner, attribute, wrapper)


def _before(owner: Any, attribute: str, first: Callable[..., None]) -> None:
    real = getattr(owner, attribute)

    @functools.wraps(real)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        first(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(owner, attribute, wrapper)


def _ordered(call: str, side: str, name: str) -> bool:
    try:
        point, _, epoch = Path(os.environ[VARIABLE], "order").read_text("utf-8").partition(":")
    except FileNotFoundError:
        return False
    wanted_call, wanted_side, pattern = POINTS[point]
    return (
        (call, side) == (wanted_call, wanted_side)
        and fnmatch(name, pattern)
        and _state["epochs"] >= int(epoch)
    )


def _die() -> None:
    Path(os.environ[VARIABLE], "order").unlink()  # what resumes is not killed again
    os.kill(os.getpid(), signal.SIGKILL)
