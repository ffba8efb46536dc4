"""A fork that becomes another process: what executing Python anew would have made of it.

What others wrote stays imported; of the project, what nobody has used yet. Descriptors, folder,
session, signals and environment are as told; path, modules, streams, handlers and generators as in
an interpreter that has just started.
"""

from __future__ import annotations

import atexit
import copy
import fcntl
import gc
import importlib.machinery
import io
import json
import logging
import multiprocessing.util
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
import weakref
from pathlib import Path
from typing import Any

ANEW = ("retable", "hydra_plugins", "wandb", "support")
"""What is imported again: what is written here, and what keeps state of its process."""
ADOPTION_S = 10.0

me = 0
"""Process that was born here and is still itself; its own forks are others."""
loaded: frozenset[str] = frozenset()
"""What is there already in each that is born here, by first names."""
birth: dict[str, str] = {}
"""Environment before that was loaded."""
_at_first: dict[str, Any] = {}
_unused: set[str] = set()
"""Of the project what is loaded, and as it was when it was imported."""
_kept: list[object] = []
composing: types.ModuleType | None = None
"""``support.composing``, where the modules are loaded that it works on."""


def remember() -> None:
    """Take this process as the one that all others are to be like."""
    global loaded
    _unused.update(name for name in sys.modules if name.partition(".")[0] == "retable")
    loaded = frozenset({name.partition(".")[0] for name in sys.modules} - {*ANEW, "__main__"})
    _at_first.update(
        path=[*sys.path],
        meta_path=[*sys.meta_path],
        path_hooks=[*sys.path_hooks],
        filters=[*warnings.filters],
        showwarning=warnings.showwarning,
        recursion=sys.getrecursionlimit(),
        singletons=copy.deepcopy(_singletons()),
        encodings=[(s.encoding, s.errors) for s in (sys.stdin, sys.stdout, sys.stderr)],
        flags={name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"},
    )
    gc.collect()
    gc.freeze()


def become(told: dict[str, Any], given: list[int], answer: socket.socket) -> None:
    """Be the process that is told of, to its end. All signals are blocked meanwhile.

    Args:
        told: what ``warm.told_of`` says.
        given: descriptors that become those of ``told["fds"]``.
        answer: told the process id as soon as signals may come; closed.
    """
    global me
    code = 1
    try:
        gc.freeze()  # nothing that the other holds is given up, and no descriptor closed, in here
        _wait_for(told["parent"])
        end = _take(dict(zip(told["fds"], given, strict=True)), answer.detach())
        os.chdir(told["cwd"])
        if told["session"]:
            os.setsid()
        if told["group"] is not None:
            os.setpgid(0, told["group"])
        _usual_handlers()
        me = os.getpid()
        os.write(end, json.dumps(me).encode())
        os.close(end)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, told["mask"])
            _new_interpreter(told)
            code = _run(told["module"], told["arguments"])
        except KeyboardInterrupt:
            code = -signal.SIGINT
        _die_of_interrupt(code)
    except BrokenPipeError:
        pass  # nobody waits for it any more
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def _wait_for(parent: int) -> None:
    """Until this process is a child of its own, which has made itself heir of orphans."""
    limit = time.monotonic() + ADOPTION_S
    while os.getppid() != parent:
        if time.monotonic() > limit:
            os._exit(1)
        time.sleep(0.001)


def _take(wanted: dict[int, int], answer: int) -> int:
    """Put descriptors in their places and close all others; returns that of the answer."""
    above = max(wanted) + 1
    high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, above) for number, fd in wanted.items()}
    answer = fcntl.fcntl(answer, fcntl.F_DUPFD_CLOEXEC, above)
    for number, fd in high.items():
        os.dup2(fd, number, inheritable=True)
    first = 3
    for fd in sorted({*wanted, answer} - {0, 1, 2}):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    return answer


def _usual_handlers() -> None:
    """As after an execution: what was ignored still is, anything else is not."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _new_interpreter(told: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(told["env"])
    _usual_modules(told)
    _usual_streams()
    _usual_hooks()
    _usual_leftovers()
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # torch's own starts the same everywhere


def _usual_modules(told: dict[str, Any]) -> None:
    more = told["env"].get("PYTHONPATH", "").split(os.pathsep)
    path = [*(str(Path(folder).absolute()) for folder in more if folder), *_at_first["path"]]
    here = [] if told["safe"] else [str(Path.cwd())]
    sys.path[:] = [*here, *dict.fromkeys(path)]
    sys.meta_path[:], sys.path_hooks[:] = _at_first["meta_path"], _at_first["path_hooks"]
    sys.path_importer_cache.clear()
    kept = told["module"] == "retable" and _is_found("retable")
    if not kept:
        _unused.clear()
    for name in list(sys.modules):
        if name.partition(".")[0] in (*ANEW, "__main__") and name not in _unused:
            _kept.append(sys.modules.pop(name))
    _unused.clear()  # it is this process that will use them
    if composing is not None:
        (composing.install if kept else composing.remove)()
    importlib.invalidate_caches()
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.flags = types.SimpleNamespace(**_at_first["flags"] | {"safe_path": told["safe"]})
    sys.orig_argv[:] = told["command"]
    sys.argv[:] = ["-m", *told["arguments"]]
    if "omegaconf" in sys.modules:
        sys.modules["omegaconf"].OmegaConf.clear_resolvers()
    _singletons().clear()
    _singletons().update(copy.deepcopy(_at_first["singletons"]))


def _singletons() -> dict[type, Any]:
    """All that Hydra keeps of its process."""
    hydra = sys.modules.get("hydra.core.singleton")
    return hydra.Singleton._instances if hydra else {}


def _is_found(package: str) -> bool:
    """Whether a package that is loaded is the one that this process would load."""
    there = sys.modules.get(package)
    found = importlib.machinery.PathFinder.find_spec(package)
    return bool(there and found and found.origin == there.__file__)


def _usual_streams() -> None:
    _kept.extend((sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(number, *_at_first["encodings"][number])
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in list(getattr(logger, "handlers", [])):
            if type(handler) is logging.StreamHandler:
                handler.stream = sys.stderr
            elif not isinstance(handler, logging.NullHandler):
                logger.removeHandler(handler)


def _stream(number: int, encoding: str, errors: str) -> io.TextIOWrapper:
    """As Python opens it when it starts."""
    raw = io.FileIO(number, "w" if number else "r", closefd=False)
    raw.name = f"<{('stdin', 'stdout', 'stderr')[number]}>"
    at_once = bool(number and os.environ.get("PYTHONUNBUFFERED"))
    buffer = raw if at_once else io.BufferedWriter(raw) if number else io.BufferedReader(raw)
    lines = (number == 2 or raw.isatty()) and not at_once
    stream = io.TextIOWrapper(buffer, encoding, errors, "\n", lines, at_once)
    stream.mode = raw.mode[0]
    return stream


def _usual_hooks() -> None:
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    sys.setrecursionlimit(_at_first["recursion"])
    warnings.showwarning = _at_first["showwarning"]
    warnings.filters[:] = _at_first["filters"]
    warnings._filters_mutated()


def _usual_leftovers() -> None:
    """What a process would do at its end, or look after: that is for the other."""
    tempfile.tempdir = None
    subprocess._active.clear()
    multiprocessing.util._finalizer_registry.clear()
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False
    atexit._clear()
    for ending in (logging.shutdown, multiprocessing.util._exit_function):
        atexit.register(ending)


def _run(module: str, arguments: list[str]) -> int:
    """The exit code of a module that is run as the main one."""
    code = 0
    try:
        runpy._run_module_as_main(module)
    except SystemExit as leaving:
        code = _code_of(leaving)
    except BaseException as error:
        trace = error.__traceback__ and error.__traceback__.tb_next  # without this line
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError as error:
            code = code or 120
            print(f"Exception ignored in: {stream!r}\n{error!r}", file=sys.__stderr__)
    return code


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return (leaving.code or 0) & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _die_of_interrupt(code: int) -> None:
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
