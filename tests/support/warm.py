"""Processes of the project's own commands that need not import torch and Lightning anew.

Where ``subprocess`` would execute ``python -m retable...``, a process that has them loaded is
forked instead (``zygote``), and becomes a true child of this one: with its own pid, descriptors,
environment and signals, in which the project is as if just imported (``reborn``). So born, the
command line forks itself for the process that starts its runs. On Linux; elsewhere nothing changes.

Executed as ever is what has a condition that a fork would not have. What shows the difference says
so with ``COLD`` in its environment: a process whose command line, environment or loaded modules are
looked at from outside. In the environment of the tests themselves it holds for all of them.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import reborn

COLD = "RETABLE_TESTS_COLD"
GIVEN = "RETABLE_TESTS_ZYGOTE"
"""Environment variable: descriptor of a zygote that who started this process has forked for it."""
LOG = "RETABLE_TESTS_WARM_LOG"
"""Environment variable: a file that is told of each process how it was started."""
FORKSERVER = "retable.launch.forkserver_server"
MODULES = (["retable"], [FORKSERVER], ["retable.launch.slurm.task"], ["retable.launch.worker"])
READ_EARLY = (
    "OMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "NUMBA_", "NPY_", "LD_", "MALLOC_",
    "GLIBC_", "CUDA_", "TORCH_", "PYTORCH_", "ATEN_", "PYTHON", "LANG", "LC_", "TZ", "TMPDIR",
    "TERM", "FORCE_COLOR", "NO_COLOR", "PYDANTIC_",
)  # fmt: skip
"""Beginnings of the names of variables that what is loaded beforehand may have read."""
READ_LATE = ("PYTHONPATH", "PYTORCH_NVML_BASED_CUDA_CHECK")  # the last is left by Lightning
LOOKED_AT = ("SLURM_CONF", "RETABLE_DEV_CLUSTER")
"""By these a cluster's processes are found from outside."""
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
SLOW = (
    "torch", "pytorch_lightning", "torchmetrics", "torchvision", "sklearn.datasets", "scipy.stats",
    "pydantic", "omegaconf", "typer", "msgspec", "yaml", "hydra._internal.hydra",
    "hydra.core.override_parser.overrides_parser",
)  # fmt: skip
COMMANDS = (
    "retable.cli.main", "retable.cli.tables", "retable.cli.until_decided", "retable.data.fetch",
    "retable.launch.hydra_sweep", "retable.launch.local", "retable.launch.redo",
    "retable.launch.rehearsal.records", "retable.launch.slurm.submission", "retable.monitor.budget",
    "retable.monitor.status_text", "retable.report.listing", "retable.report.sweep_summary",
    "retable.report.terminal", "retable.tables.paper_info", "retable.wandb_tools.table_tags",
)  # fmt: skip
"""Of the project itself, for a command that would load the very same files."""
_PARAMETERS = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]
_PLAIN = {
    "executable": None, "preexec_fn": None, "close_fds": True, "shell": False, "gid": None,
    "gids": None, "uid": None, "umask": -1, "restore_signals": True,
}  # fmt: skip
_STATUS = (
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "SigIgn",
    "Cap",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed",
)

_execute = subprocess.Popen._execute_child
_python = sys.executable  # a test may change it
_owner = 0
_given: int | None = None
_inherited: list[object] = []
_lock = threading.Lock()
_zygote: Zygote | None = None


class Zygote:
    """The process that others are forked from, as seen by the one that has started it."""

    def __init__(
        self, modules: Sequence[str] = (*SLOW, *COMMANDS), given: int | None = None
    ) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        if given is None:
            self._execute(modules)
        else:
            self.commands = socket.socket(fileno=given)
        hello = self.commands.recv(2**20)
        self.loaded = frozenset(json.loads(hello or "[]"))
        """First names of what it has loaded; none where it could not and has ended."""

    def _execute(self, modules: Sequence[str]) -> None:
        environment = {k: v for k, v in reborn.birth.items() if k != "PYTHONPATH"}
        # Else pyarrow's allocator has a thread.
        environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
        self.commands, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [
                    _python,
                    "-P",
                    str(Path(__file__).with_name("zygote.py")),
                    str(theirs.fileno()),
                    *modules,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def start(self, told: dict[str, Any], descriptors: list[int]) -> int | None:
        """Process id of a new child of this process; None where there is none."""
        ours, theirs = socket.socketpair()
        prctl = ctypes.CDLL(None).prctl
        prctl(_SUBREAPER, 1, 0, 0, 0)
        try:
            with theirs:
                message = json.dumps(told).encode()
                socket.send_fds(self.commands, [message], [*descriptors, theirs.fileno()])
            return _answer(ours)
        except OSError:  # it has ended, or there is too much to say
            return None
        finally:
            prctl(_SUBREAPER, 0, 0, 0, 0)
            ours.close()

    def close(self) -> None:
        """End it. It would end by itself with this process."""
        if os.getpid() == _owner:
            self.commands.close()
            if self.process is not None:
                self.process.wait()


def install() -> None:
    """From now on, in this process and in those that are born warm."""
    global _owner, _given
    given = os.environ.pop(GIVEN, None)
    if sys.platform != "linux":
        return
    _owner = os.getpid()
    _given = None if given is None else int(given)
    reborn.birth.update(os.environ)
    _inherited[:] = _conditions()
    subprocess.Popen._execute_child = _execute_child


def _execute_child(self: subprocess.Popen[Any], *values: Any) -> None:
    """In place of ``Popen``'s."""
    call = dict(zip(_PARAMETERS, values, strict=True))
    pid, told = None, told_of(call)
    if isinstance(told, str):
        how = f"executed ({told})"
    else:
        command = told["command"]
        sys.audit("subprocess.Popen", command[0], command, call["cwd"], call["env"])
        pid, how = _born(told, call)
    if pid is None:
        _execute(self, *values)
    else:
        self.pid = pid
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(call[end] for end in ends))
    _log(call, how, self.pid)


def told_of(call: dict[str, Any]) -> dict[str, Any] | str:
    """What a fork has to know to be the process that a call would execute; or why it cannot be."""
    environment = dict(os.environ if call["env"] is None else call["env"])
    command = call["args"] if isinstance(call["args"], (list, tuple)) else []
    cwd = "." if call["cwd"] is None else call["cwd"]
    if not all(isinstance(word, (str, Path)) for word in (*command, cwd)):
        return "not text"
    if not all(isinstance(word, str) for pair in environment.items() for word in pair):
        return "not text"
    command = [str(word) for word in command]
    words = [word for word in command[1:3] if word != "-P"] + command[3:]
    if command[:1] != [_python] or words[:1] != ["-m"] or words[1:2] not in MODULES:
        return "another command"
    if COLD in environment:
        return "asked for"
    if special := [name for name, usual in _PLAIN.items() if call.get(name, usual) != usual]:
        return f"{special[0]} given"
    if not Path(cwd).is_dir():
        return "no such folder"
    if names := _differing(environment, reborn.birth):
        return f"{names[0]} differs"
    group = call["process_group"]
    return {
        "parent": os.getpid(),
        "command": command,
        "safe": command[1] == "-P" or bool(environment.get("PYTHONSAFEPATH")),
        "module": words[1],
        "arguments": words[2:],
        "env": environment,
        "cwd": str(Path(cwd).absolute()),
        "session": call["start_new_session"],
        "group": None if group in (None, -1) else group,
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "fds": [0, 1, 2, *sorted(set(call["pass_fds"]) - {0, 1, 2})],
    }


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Variables because of which what is loaded already may have been loaded otherwise."""
    names = {name for name, _ in set(one.items()) ^ set(other.items())}
    early = (n for n in names if n.startswith(READ_EARLY) and n not in READ_LATE)
    return sorted({*early, *(n for n in names if n.startswith(LOOKED_AT))})


def _conditions() -> list[object]:
    """What a process hands down to one that it executes, and cannot be told to a fork."""
    lines = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    limits = [getattr(resource, name) for name in sorted(dir(resource)) if name[:7] == "RLIMIT_"]
    return [
        os.getpgrp(),
        os.getsid(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        [line for line in lines if line.startswith(_STATUS)],
        [resource.getrlimit(limit) for limit in limits],
    ]


def _born(told: dict[str, Any], call: dict[str, Any]) -> tuple[int | None, str]:
    """Process id of a child that is born warm, and from whom; none: it is executed."""
    streams = [call["p2cread"], call["c2pwrite"], call["errwrite"]]
    given = [n if fd == -1 else fd for n, fd in enumerate(streams)] + told["fds"][3:]
    if os.getpid() == reborn.me:
        if told["module"] != FORKSERVER or _shadowed(told, reborn.loaded):
            return None, "executed (not from here)"
        pid = _fork(told, given)
        return pid, "forked" if pid else "executed (threads)"
    if os.getpid() != _owner:
        return None, "executed (a fork asks)"
    if _conditions() != _inherited:
        return None, "executed (other conditions)"
    global _zygote
    with _lock:
        if _zygote is None:
            _zygote = Zygote(given=_given)
            atexit.register(_zygote.close)
        if not _zygote.loaded or _shadowed(told, _zygote.loaded):
            return None, "executed (another is loaded)"
        pid = _zygote.start(told, given)
    return pid, "zygote" if pid else "executed (no zygote)"


def _shadowed(told: dict[str, Any], loaded: frozenset[str]) -> bool:
    """Whether the process would load another of what is loaded, or run something first."""
    path = told["env"].get("PYTHONPATH")
    folders = [Path(told["cwd"], folder) for folder in path.split(os.pathsep)] if path else []
    found = {path.name.partition(".")[0] for folder in folders for path in folder.glob("*")}
    return bool(found & {*loaded, "sitecustomize", "usercustomize"})


def _fork(told: dict[str, Any], descriptors: list[int]) -> int | None:
    """A child of this process, which was born warm; a process that has threads forks none."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return None
    ours, theirs = socket.socketpair()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            reborn.become(told, descriptors, theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with ours:
        theirs.close()
        if _answer(ours) is None:
            os.waitpid(pid, 0)
            return None
    return pid


def _answer(ours: socket.socket) -> int | None:
    return json.loads(ours.recv(64) or "null")


def _log(call: dict[str, Any], how: str, pid: int) -> None:
    if file := os.environ.get(LOG):
        words = call["args"] if isinstance(call["args"], str) else " ".join(map(str, call["args"]))
        with Path(file).open("a", encoding="utf-8") as log:
            log.write(f"{how} {pid} {words[:200]!r}\n")
