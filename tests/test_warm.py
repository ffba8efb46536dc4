"""Processes that are born warm (support/warm.py) are as those that are executed."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import warm
from support.runs import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
PROBE = """
import gc, json, os, signal, sys, threading, warnings
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
streams = [sys.stdin, sys.stdout, sys.stderr]
umask = os.umask(0)
opened = sorted(n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))
print(json.dumps({
    "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path, "safe": sys.flags.safe_path,
    "cwd": os.getcwd(), "env": {k: v for k, v in os.environ.items() if k != "RETABLE_TESTS_COLD"},
    "umask": umask, "blocked": sorted(map(int, blocked)), "main": __spec__.name,
    "handlers": [str(signal.getsignal(n)) for n in sorted(signal.valid_signals())],
    "streams": [(s.encoding, s.errors, s.line_buffering, s.name, s.mode) for s in streams],
    "descriptors": opened,
    "session": os.getsid(0) == os.getpid(), "group": os.getpgrp() == os.getpid(),
    "parent": os.getppid(), "threads": threading.active_count(), "hook": str(sys.excepthook),
    "limits": sys.getrecursionlimit(), "filters": len(warnings.filters),
    "loaded": sorted({"retable", "support", "hydra", "polars"} & {*sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def bare():
    """A process to fork from that has loaded nothing more."""
    made = warm.Zygote(())
    yield made
    made.close()


@pytest.fixture
def python(bare, tmp_path, monkeypatch):
    """Start code as the command line, and tell how that was done."""
    monkeypatch.setattr(warm, "_zygote", bare)
    package = tmp_path / "path" / "retable"
    (package / "launch").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys\nexec(sys.argv.pop(1))\n")
    (package / "launch" / "forkserver_server.py").write_text("import sys\nexec(sys.argv.pop(1))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    log = tmp_path / "log"

    class Python:
        @staticmethod
        def start(code, *more, options=(), cold=False, **how):
            env = {**how.pop("env", os.environ), warm.LOG: str(log)}
            env |= {warm.COLD: "1"} if cold else {}
            monkeypatch.setenv(warm.LOG, str(log))
            for end in ("stdin", "stdout", "stderr"):
                how.setdefault(end, subprocess.PIPE)
            how.setdefault("text", True)
            command = [sys.executable, *options, "-m", "retable", textwrap.dedent(code), *more]
            return subprocess.Popen(command, env=env, **how)

        def run(self, *given, said="", **how):
            process = self.start(*given, **how)
            out, err = process.communicate(said, timeout=60)
            return process.returncode, out, err

        @staticmethod
        def log():
            return re.findall(r"^(.+?) \d+ ['\"]", log.read_text(), flags=re.MULTILINE)

        def both(self, *given, **how):
            """What comes of it, which is the same whether executed or not."""
            found = self.run(*given, **how)
            assert self.log()[-1] == "zygote"
            assert self.run(*given, cold=True, **how) == found
            assert self.log()[-1] == "executed (asked for)"
            return found

    return Python()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"options": ["-P"]},
        {"start_new_session": True},
        {"process_group": 0},
        {"stdin": subprocess.DEVNULL},
        {"cwd": "/"},
    ],
    ids=str,
)
def test_all_that_a_process_sees_of_itself_is_the_same(python, how):
    code, out, err = python.both(PROBE, "an argument", **how)
    assert (code, err) == (0, "")
    assert json.loads(out)["parent"] == os.getpid()


def test_descriptors_have_their_numbers_and_blocked_signals_stay_so(python):
    read, write = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR2})
    try:
        _, out, _ = python.both(PROBE, pass_fds=(write, read))
        assert {str(read), str(write)} < {*json.loads(out)["descriptors"]}
        assert {signal.SIGINT, signal.SIGUSR2} <= {*json.loads(out)["blocked"]}
        python.both(f"import os; os.write({write}, b'here')", pass_fds=(write,))
        assert os.read(read, 100) == b"herehere"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("raise SystemExit(-1)", 255),
        ("raise SystemExit('a reason')", 1),
        ("print('out'); 1 / 0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM),
        ("import os; os._exit(4)", 4),
        ("import atexit; atexit.register(print, 'at exit'); print('first')", 0),
        ("import tempfile; d = tempfile.TemporaryDirectory(prefix='warm-test-'); d = [d, d]", 0),
        (
            "import threading, time\n"
            "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()",
            0,
        ),
        ("import sys; print(sys.stdin.read() * 2); print('err', file=sys.stderr)", 0),
        ("import logging; logging.warning('said')", 0),
    ],
)
def test_every_end_is_the_same(python, code, status):
    assert python.both(code, said="in")[0] == status


def test_it_can_be_waited_for_signalled_and_killed(python):
    ready = "print('ready', flush=True); import time; time.sleep(60)"
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = python.start(ready)
        assert process.stdout.readline() == "ready\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.send_signal(number)
        assert process.wait(10) == -number
        process.communicate()
    process = python.start(ready, process_group=0)
    os.killpg(process.pid, signal.SIGKILL)  # at once
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert set(python.log()) == {"zygote"}


def test_many_at_once_are_each_a_process_of_its_own(python):
    code = "import os, random, sys; print(os.getpid(), random.random(), sys.stdin.read())"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: python.run(code, said=str(n)), range(24)))
    said = [out.split() for _, out, _ in found]
    assert [int(words[2]) for words in said] == list(range(24))
    assert len({words[0] for words in said}) == len({words[1] for words in said}) == 24
    assert python.log() == ["zygote"] * 24


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"OMP_NUM_THREADS": "3"}, "OMP_NUM_THREADS differs"),
        ({"PYTHONHASHSEED": "3"}, "PYTHONHASHSEED differs"),
        ({"SLURM_CONF": "/nothing"}, "SLURM_CONF differs"),
        ({warm.COLD: "1"}, "asked for"),
    ],
)
def test_another_environment_is_executed(python, variables, reason):
    assert python.run("print('done')", env=os.environ | variables)[:2] == (0, "done\n")
    assert python.log() == [f"executed ({reason})"]


def test_other_conditions_are_executed(python, tmp_path):
    assert python.run("", preexec_fn=lambda: None)[0] == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert python.run("")[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    mask = os.umask(0o027)
    try:
        assert python.run("")[0] == 0
    finally:
        os.umask(mask)
    (tmp_path / "path" / "sitecustomize.py").write_text("print('begin')")
    assert python.run("")[:2] == (0, "begin\n")
    reasons = ["preexec_fn given", *["other conditions"] * 2, "another is loaded"]
    assert python.log() == [f"executed ({reason})" for reason in reasons]
    with pytest.raises(FileNotFoundError):
        python.run("", cwd=tmp_path / "nowhere")


def test_what_is_born_warm_forks_the_process_that_starts_runs(python):
    code = """
    import subprocess, sys, threading
    if sys.argv[1:]:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    more = "import os, sys; print(os.getppid(), sys.argv[1:], 'subprocess' in dir())"
    command = [sys.executable, "-P", "-m", "retable.launch.forkserver_server", more, "x"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    print(process.communicate()[0].split(maxsplit=1)[1], process.returncode)
    """
    said = "['x'] False\n 0\n"
    assert python.run(code) == (0, said, "")
    assert python.run(code, "with a thread") == (0, said, "")
    assert python.log() == ["zygote", "forked", "zygote", "executed (threads)"]


def test_the_other_process_ends_with_that_which_has_started_it(tmp_path):
    code = f"""
    import sys, time
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from support import warm
    warm.install()
    made = warm.Zygote(())
    print(made.process.pid, flush=True)
    time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    pid = int(process.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    process.kill()
    process.communicate()
    wait_for(lambda: not lives(pid))


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_where_the_other_process_is_gone_all_is_executed(python, monkeypatch):
    gone = warm.Zygote(())
    monkeypatch.setattr(warm, "_zygote", gone)
    gone.process.kill()
    gone.process.wait()
    assert python.run("print('done')")[:2] == (0, "done\n")
    assert python.log() == ["executed (no zygote)"]
    gone.close()


def test_no_child_is_left_and_no_orphan_is_taken_in(python):
    before = threading.active_count()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for _ in range(3):
        assert python.run("")[0] == 0
    orphan = "import os, time; print(os.getpid(), flush=True) if os.fork() == 0 else os._exit(0)"
    assert python.run(orphan)[0] == 0
    time.sleep(0.1)
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text().split() == children
    assert threading.active_count() == before
