"""Isolation of every test, and the rule that CI skips nothing it should run."""

from __future__ import annotations

import compileall
import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest

from support import composing, in_turn, warm

# Fixtures that tests of several folders use; others are imported where they are used.
pytest_plugins = [
    f"support.{name}"
    for name in ("chained", "engine", "fake_slurm", "fault", "follow", "published", "slurm", "task")
]
HERE = Path(__file__).parent
ROOT = HERE.parent
# Before anything of retable is imported: where its papers lie is read once.
_session = Path(tempfile.mkdtemp(prefix="retable-tests-"))
EXTRA = _session / "extra"
shutil.copytree(HERE / "extra", EXTRA, ignore=shutil.ignore_patterns("__pycache__"))
os.environ["RETABLE_EXTRA"] = str(EXTRA)
# Of the process that started this one, where it has one: what all processes of xdist share.
SHARED = Path(os.environ.setdefault(composing.SHARED, str(_session / "shared")))
os.environ["RETABLE_RUNS"] = str(_session / "runs")
os.environ["RETABLE_CACHE"] = str(_session / "cache")
os.environ["WANDB_MODE"] = "disabled"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
if threading.current_thread() is threading.main_thread():
    # As from a terminal, whatever the tests were started from: Ctrl-C is heard.
    signal.signal(signal.SIGINT, signal.default_int_handler)
warm.install()
composing.install()
if sys.dont_write_bytecode and "PYTEST_XDIST_WORKER" not in os.environ:
    # Else each of the tests' many processes compiles the project anew.
    compileall.compile_dir(ROOT / "src", quiet=1)

# Files of which every test may go to another process, and those that share what one has judged.
APART = in_turn.BY_PAPER
TOGETHER = ("report/test_published.py", "report/test_latex.py")
# Here Hydra itself is looked at.
COMPOSING = HERE / "config"
# Here it is watched what reading leads to, unpickling among it.
FUZZ = HERE / "fuzz"

# In CI a skip is a failure, except for these; each with its reason.
ALLOWED_SKIPS = {
    "needs a CUDA device": "CI has none; the checks run wherever there is one",
}


@pytest.hookimpl(hookwrapper=True)
def pytest_collection():
    """What is collected, and imported for it, stays: no cycles are looked for in it, ever again.

    Else it is searched two dozen times while it grows, and once more in every few hundred tests.
    """
    gc.disable()
    yield
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()
    shutil.rmtree(_session, ignore_errors=True)


def pytest_report_header() -> list[str]:
    papers, some = in_turn.chosen(), sorted(in_turn.slow_in_turn())
    return [
        f"papers whose own tests are run: {', '.join(papers)}",
        f"folders of whose slow tests a part is run: {', '.join(some) or 'none'}",
    ]


def _marked(item, mark: str) -> bool:
    """By a mark, which may be called as a folder, whose name is among its tests' keywords."""
    return item.get_closest_marker(mark) is not None


def pytest_collection_modifyitems(config, items) -> None:
    """What takes long comes first; what has not changed lately takes turns, see in_turn."""
    left = {item for item in items if in_turn.left_out(item.nodeid, _marked(item, "slow"))}
    config.hook.pytest_deselected(items=[*left])
    items[:] = [item for item in items if item not in left]
    # Whole files, by how many of their tests are slow: within one some build upon those before.
    slow = Counter(_scope(item.nodeid) for item in items if _marked(item, "slow"))
    items.sort(key=lambda i: (_marked(i, "slurm"), slow[_scope(i.nodeid)]), reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What shares a cluster, a judgement or a file's fixtures is done in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return Scheduling(config, log)


def _scope(nodeid: str) -> str:
    """What is done in one process."""
    file = nodeid.partition("::")[0]
    if file.startswith("tests/slurm/"):  # these wait more than they compute
        return "tests/slurm"
    if file.endswith(TOGETHER):
        return "published tables"
    return nodeid if file in APART else file


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason not in ALLOWED_SKIPS:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, and '{reason}' is not on the list of allowed skips"


@contextlib.contextmanager
def _torch_as_it_was():
    """What a run sets for its process is not left to other tests."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    dtype = torch.get_default_dtype()
    yield
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it takes a second
        torch.use_deterministic_algorithms(deterministic)
    torch.set_default_dtype(dtype)


@pytest.fixture(autouse=True, scope="module")
def _module_isolated():
    """A fixture of a whole file may do a run before the first test of it begins."""
    with _torch_as_it_was():
        yield


@pytest.fixture(autouse=True)
def _isolated(request, tmp_path, monkeypatch):
    """Runs and cache of this test alone; Hydra's and torch's globals as they were."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    if request.path.is_relative_to(COMPOSING):
        monkeypatch.setattr(hydra, "compose", composing.alone)
        monkeypatch.setenv(composing.ALONE, "1")
    if request.path.is_relative_to(FUZZ):
        monkeypatch.delenv(composing.SHARED)
    monkeypatch.setenv("RETABLE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RETABLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with _torch_as_it_was():
        yield
    GlobalHydra.instance().clear()


@pytest.fixture
def cached_once(monkeypatch):
    """What is shipped is composed once, and real data decoded once, for all tests with this."""
    monkeypatch.setenv("RETABLE_RUNS", str(SHARED / "runs"))
    monkeypatch.setenv("RETABLE_CACHE", str(SHARED / "cache"))


@pytest.fixture
def runs(tmp_path) -> Path:
    """Folder of this test's runs."""
    return tmp_path / "runs"


@pytest.fixture
def retable(tmp_path):
    """The command line in a process of its own, as a user calls it."""
    import subprocess
    import sys

    def call(*args, code=0, cwd=tmp_path, **env):
        done = subprocess.run(
            [sys.executable, "-m", "retable", *map(str, args)],
            cwd=cwd,
            env={**os.environ, **{k: str(v) for k, v in env.items()}},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call
