"""Processes of the project's own commands that need not import torch and Lightning anew.

``subprocess`` is made to fork the tests' process, where it would execute Python with one of
``MODULES`` in it: a true process with its own pid, descriptors, environment and signals, in which
all of the project is imported afresh, and only what others wrote is there already. The process that
starts runs is ready after 0.9 s instead of 6.8 s (Intel Xeon, 2.5 GHz), and tests start hundreds.

Executed as ever is what shows the difference, and says so with ``COLD``: a process whose command
line, environment or loaded modules are looked at from outside.
"""

from __future__ import annotations

import _thread
import atexit
import gc
import importlib
import inspect
import io
import json
import logging
import multiprocessing.util
import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

MODULES = ("retable", "retable.launch.forkserver_server", "retable.launch.slurm.task")
RUNNING = ("run", "train", "reproduce", "check-paper", "retry", "verify", "refresh", "export")
"""Commands of ``retable`` that need torch, or start a process that does."""
COLD = "RETABLE_TEST_COLD"
"""In the environment of a process: it is executed."""
ANEW = ("retable", "support", "conftest", "hydra", "wandb")
"""What is imported again: what is written here, and what keeps state of its process."""
SLOW = ("pydantic", "omegaconf", "typer", "pytorch_lightning", "torchvision", "sklearn.datasets")

_PARAMETERS = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]
_PYTHON = sys.executable  # a test may change it
_SHOW_WARNING = warnings.showwarning
_lost = 0  # threads of Python's that were not forked, and that it still counts
_kept: list[ModuleType] = []
_path: list[str] = []
_executed = subprocess.Popen


def install() -> None:
    """From now on, in this process and in those that come from it by forking."""
    code = "import json, sys; print(json.dumps(sys.path[1:]))"
    plain = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    _path[:] = json.loads(subprocess.check_output([sys.executable, "-c", code], env=plain))
    subprocess.Popen = Warm


class Warm(_executed):
    """As ``subprocess.Popen``."""

    def _execute_child(self, *values):
        told = dict(zip(_PARAMETERS, values, strict=True))
        command = list(told["args"]) if isinstance(told["args"], (list, tuple)) else []
        environment = os.environ if told["env"] is None else told["env"]
        if not _can_be_forked(command, environment):
            super()._execute_child(*values)
            return
        sys.audit("subprocess.Popen", command[0], command, told["cwd"], told["env"])
        self.pid = os.fork()
        if self.pid == 0:
            _become(command, environment, told)
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(told[end] for end in ends))


@cache
def _import_what_takes_long() -> None:
    for name in SLOW:
        importlib.import_module(name)


def _can_be_forked(command, environment) -> bool:
    words = [word for word in command[1:] if word != "-P"]
    if command[:1] != [_PYTHON] or words[:1] != ["-m"] or COLD in environment:
        return False
    if words[1] not in MODULES or (words[1] == "retable" and not {*words[2:]} & {*RUNNING}):
        return False
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    if any((Path(folder) / "sitecustomize.py").exists() for folder in path if folder):
        return False  # read when Python starts
    _import_what_takes_long()
    # Threads that are not Python's (of BLAS, of Arrow) would be missing in the fork.
    return len(list(Path("/proc/self/task").iterdir())) == 1 + _thread._count() - _lost


def _become(command, environment, told) -> None:
    """In the fork: be the new process, to its end."""
    global _lost
    code = 1
    try:
        _lost = _thread._count()
        gc.freeze()  # nothing that the tests hold is given up, and no descriptor closed, in here
        _take_streams(told)
        if told["cwd"] is not None:
            os.chdir(told["cwd"])
        if told["start_new_session"]:
            os.setsid()
        if told["process_group"] not in (None, -1):
            os.setpgid(0, told["process_group"])
        if told["preexec_fn"]:
            told["preexec_fn"]()
        _close_others(told["pass_fds"])
        _new_interpreter(dict(environment), safe="-P" in command[:2])
        module, *arguments = command[command.index("-m") + 1 :]
        sys.argv = ["-m", *arguments]
        code = _run(module)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def _take_streams(told) -> None:
    wanted = (told["p2cread"], told["c2pwrite"], told["errwrite"])
    high = [fd if fd == -1 or fd > 2 else os.dup(fd) for fd in wanted]
    for number, fd in enumerate(high):
        if fd != -1:
            os.dup2(fd, number)


def _close_others(kept) -> None:
    first = 3
    for fd in sorted(kept):
        os.set_inheritable(fd, True)
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _new_interpreter(environment, *, safe: bool) -> None:
    """What a new process of Python has: its path, modules, streams, handlers, generators."""
    os.environ.clear()
    os.environ.update(environment)
    more = environment.get("PYTHONPATH", "").split(os.pathsep)
    here = [] if safe else [str(Path.cwd())]
    sys.path[:] = [*here, *(path for path in more if path), *_path]
    sys.path_importer_cache.clear()
    for name in list(sys.modules):
        module = sys.modules[name]
        if name.split(".")[0] in ANEW or _is_a_test(module):
            _kept.append(module)
            del sys.modules[name]
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = io.open(  # noqa: SIM115, UP020 - the tests may have replaced the other
            number, mode, encoding="utf-8", errors="backslashreplace" if number == 2 else "strict",
            buffering=1 if number == 2 or os.isatty(number) else -1, closefd=False,
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    _usual_handlers()
    _fresh_libraries()


def _is_a_test(module) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and Path(__file__).parents[1] in Path(file).parents


def _usual_handlers() -> None:
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP) and callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    atexit._clear()
    multiprocessing.util._finalizer_registry.clear()
    warnings.showwarning = _SHOW_WARNING
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in list(getattr(logger, "handlers", [])):
            if type(handler) is logging.StreamHandler:
                handler.stream = sys.stderr
            elif not isinstance(handler, logging.NullHandler):
                logger.removeHandler(handler)


def _fresh_libraries() -> None:
    import numpy as np
    import torch

    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.seed()
    np.random.seed()
    random.seed()


def _run(module) -> int:
    """The exit code of a module that is run as the main one."""
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        code = _code_of(leaving)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    multiprocessing.util._exit_function()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return code


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return (leaving.code or 0) & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1
