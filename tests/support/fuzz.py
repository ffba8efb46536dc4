"""A house to break into: the command line in this process, watched, and what a refusal must be."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shutil
import signal
import sys
import traceback
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, settings
from hypothesis import seed as hypothesis_seed

from retable.cli import main
from retable.config import compose_cache
from retable.launch import checks, dispatch, hydra_sweep, redo
from retable.runs import frozen

SEED = int(os.environ.get("RETABLE_FUZZ_SEED", "0"))
# Twenty times as many, other ones, where there are minutes.
_LONG = pytest.param(20, marks=(pytest.mark.slow, pytest.mark.nightly))
TIMES = pytest.mark.parametrize("times", [1, _LONG])
_TOO_SLOW_S = 60
_MAX_MESSAGE = 600
# What nothing that is read may lead to. Files opened for writing are watched too.
_FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.spawn",
    "subprocess.Popen", "socket.", "urllib.", "pickle.find_class", "webbrowser.",
)  # fmt: skip
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod")


def examples(default: int) -> int:
    """How many cases: RETABLE_FUZZ_EXAMPLES=3 tries three times as many."""
    return int(default * float(os.environ.get("RETABLE_FUZZ_EXAMPLES", "1")))


def fuzzed(count: int):
    """Settings of a test by hypothesis: the same cases every time, unless a seed is given."""

    def decorate(test):
        made = settings(
            max_examples=examples(count),
            deadline=None,
            derandomize=SEED == 0,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(test)
        return hypothesis_seed(SEED)(made) if SEED else made

    return decorate


class Watch:
    """Records what the process does, while it is on. An audit hook can never be removed."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        self._forbidden: dict[str, bool] = {}  # of the events there have been, hundreds a call
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            flags = args[2] if isinstance(args[2], int) else 0
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.seen.append(f"open for writing: {args[0]!r}")
            return
        forbidden = self._forbidden.get(event)
        if forbidden is None:
            forbidden = self._forbidden[event] = event.startswith((*_FORBIDDEN, *_CHANGES))
        if forbidden:
            self.seen.append(f"{event}: {str(args)[:200]}")

    def called(self, name: str):
        def record(*args: object, **_: object) -> None:
            self.seen.append(f"{name}: {str(args)[:100]}")
            raise AssertionError(f"{name} called")

        return record


_watch = Watch()


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str
    launched: bool

    @property
    def message(self) -> str:
        """The refusal without its head."""
        return self.err.removeprefix("error: ").rstrip("\n")


@dataclass
class House:
    """Folders of a user, and the command line called in them."""

    folder: Path
    refused: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    launched: bool = False

    @property
    def extra(self) -> Path:
        """Where configs and papers outside the project are."""
        return self.folder / "extra"

    @property
    def mark(self) -> Path:
        """File that a canary makes where it is executed."""
        return self.folder / "PWNED"

    def launch(self, runs, **_: object) -> None:
        """Stands in for the engine: what is about to start has to survive being written."""
        self.launched = True
        checks.check_together(runs)
        for run in runs:
            paths = run.config.paths.model_copy(update={"runs": str(self.folder / "scratch")})
            moved = frozen.FrozenRun(
                run.config.model_copy(update={"paths": paths}), run.key, run.fingerprint
            )
            try:
                folder = frozen.write(moved)
                assert frozen.read(folder) == moved
            finally:
                shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        raise SystemExit(0)

    def listing(self) -> set[tuple[str, int]]:
        """Every file there is; composed configs may be kept in the cache."""
        kept = self.folder / "cache" / "compose"
        return {
            (str(path), path.lstat().st_mtime_ns if not path.is_dir() else 0)
            for path in self.folder.rglob("*")
            if not path.is_relative_to(kept) and path != kept and path != kept.parent
        }

    def call(self, *args: str) -> Outcome:
        """Call the command line; anything else than a result or a refusal is a problem."""
        before = self.listing()
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
        self.launched, code, _watch.seen = False, -1, []
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.MonkeyPatch.context() as patch,
            _at_most(_TOO_SLOW_S),
        ):
            patch.setattr(sys, "argv", ["retable", *args])
            _watch.on = True
            try:
                main.main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                if isinstance(sys.exception(), KeyboardInterrupt):
                    raise
                self.problem(args, traceback.format_exc()[-3000:])
            finally:
                _watch.on = False
        said = [b.buffer.getvalue().decode("utf-8", "replace") for b in (out, err)]  # type: ignore[attr-defined]
        outcome = Outcome(code, *said, self.launched)
        self._judge(args, outcome, before)
        return outcome

    def _judge(self, args: tuple[str, ...], outcome: Outcome, before: set) -> None:
        if self.mark.exists() or "canary" in sys.modules:
            self.problem(args, "the canary was executed")
            self.mark.unlink(missing_ok=True)
            sys.modules.pop("canary", None)
        if outcome.code == -1:
            return
        after = self.listing()
        if outcome.code != 2 and "Traceback" not in outcome.err:
            self.valid.append(" ".join(args))
        else:
            self.refused.append(outcome.message)
        if outcome.code not in {0, 2} or "Traceback" in outcome.err:
            self.problem(args, f"exit code {outcome.code}\n{outcome.out}\n{outcome.err[-3000:]}")
        elif outcome.code == 2:
            for wrong in wrongs(outcome):
                self.problem(args, f"{wrong}\n{outcome.err[:1500]}")
        if not self.launched and before != after:
            self.problem(args, f"left behind: {sorted(before ^ after)[:5]}")
        kept = str(self.folder / "cache" / "compose")
        seen = [s for s in _watch.seen if kept not in s and str(self.folder / "cache'") not in s]
        if seen and not self.launched:
            self.problem(args, f"did: {seen[:5]}")

    def problem(self, args: object, text: str) -> None:
        """Something that must not be."""
        self.problems.append(f"{args!r:.2000}\n{text}")

    def settle(self, at_least: int, what: str) -> None:
        """At the end: no problems, and enough cases that were truly malformed."""
        print(f"{what}: {len(self.refused)} refused, {len(self.valid)} still valid")
        save = os.environ.get("RETABLE_FUZZ_MESSAGES")
        if save:
            with Path(save).open("a", encoding="utf-8") as file:
                file.writelines(f"{what}\t{text}\n" for text in self.refused)
        shown = "\n\n".join(self.problems[:8])
        assert not self.problems, f"{len(self.problems)} problems, such as\n{shown}"
        assert len(self.refused) >= at_least, f"only {len(self.refused)} were malformed"


def wrongs(outcome: Outcome) -> list[str]:
    """What is wrong with a refusal."""
    line = outcome.err.removesuffix("\n")
    found = {
        "more than one line": len(line.splitlines()) != 1,
        "no 'error: '": not line.startswith("error: "),
        "says nothing": len(outcome.message.strip()) < 10,
        "too long": len(line) > _MAX_MESSAGE,
        "not printable": not line.isprintable(),
        "something on stdout": outcome.out != "",
    }
    return [text for text, wrong in found.items() if wrong]


@contextlib.contextmanager
def _at_most(seconds: int) -> Generator[None]:
    """End what takes forever, such as expanding a bomb of aliases."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def house_in(folder: Path) -> Generator[House]:
    """A house in a folder, with the digits paper, and canaries where they can be imported."""
    import torch

    house = House(folder)
    shutil.copytree(os.environ["RETABLE_EXTRA"], house.extra)
    work, traps = folder / "work", folder / "traps"
    work.mkdir()
    traps.mkdir()
    code = f"open({str(house.mark)!r}, 'w')\n"
    (traps / "canary.py").write_text(f"{code}def fire(*a, **k):\n    {code}", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_EXTRA", str(house.extra))
        patch.setenv("CANARY", f"touch {house.mark}")
        patch.syspath_prepend(str(traps))
        patch.chdir(work)
        command = typer.main.get_command(main.app)
        patch.setattr(typer.main, "get_command", lambda _: command)  # made for every call
        patch.setattr(compose_cache, "WORTH_A_FILE", 1)  # what was composed is found again
        patch.setattr(dispatch, "launch", house.launch)
        patch.setattr(hydra_sweep, "launch", house.launch)
        patch.setattr(redo, "launch", house.launch)
        patch.setattr(checks.provenance, "gpu", lambda: (None, None))  # asks a program
        for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
            patch.setattr(module, name, _watch.called(f"{module.__name__}.{name}"))
        yield house
