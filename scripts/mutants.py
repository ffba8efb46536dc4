"""Small deliberate faults, one at a time: each has to be caught by the test that is named for it.

    python scripts/mutants.py             # all of them
    python scripts/mutants.py lease       # those whose name contains a word
    python scripts/mutants.py --part 2/4  # every fourth, from the second on

The faults are in tests/mutants, a file for each layer. Each is made by itself in a copy of source,
tests and configs below a temporary folder; the named test has to pass without it, and fail (not
err) with it. torch and Lightning are imported once: tests run in forks of this process. What is
not changed is compiled once: a copy has the bytecode of the run without faults, but for the file
that a fault is in, and is put back after each; what is run with a fault leaves no bytecode.
"""

from __future__ import annotations

import ast
import gc
import importlib
import os
import re
import runpy
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "pyproject.toml")
LINKED = ("conf", "results", "slurm", "README.md")


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: what is wrong, in words.
        file: source file, from the package's folder.
        edits: pairs of present text, which stands there once, and faulty text.
        test: the test that catches it, from the tests' folder.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    test: str

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Mutant:
        """A fault as it is written in tests/mutants."""
        edits = entry.get("edits", [entry])
        pairs = tuple((edit["from"], edit["to"]) for edit in edits)
        return cls(entry["fault"], entry["file"], pairs, entry["test"])

    def make(self, root: Path) -> None:
        """Make the fault in a copy.

        Raises:
            ValueError: where the text to change does not stand there exactly once.
        """
        path = root / "src" / "retable" / self.file
        text = path.read_text(encoding="utf-8")
        for old, new in self.edits:
            if text.count(old) != 1:
                found = f"stands {text.count(old)} times in {self.file}: {old!r}"
                raise ValueError(f"{self.name}: {found}")
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        for compiled in self._compiled(path):
            compiled.unlink()

    def mend(self, root: Path, clean: Path) -> None:
        """Put the file of a copy back as it is in another, bytecode included."""
        path = Path("src", "retable", self.file)
        for file in (path, *(p.relative_to(clean) for p in self._compiled(clean / path))):
            shutil.copy2(clean / file, root / file)

    @staticmethod
    def _compiled(path: Path) -> list[Path]:
        # Python would see by its time that it is of another text, but to the second only.
        return list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))


def mutants() -> list[Mutant]:
    """All faults."""
    files = sorted((ROOT / "tests" / "mutants").glob("*.yaml"))
    entries = [entry for file in files for entry in yaml.safe_load(file.read_text("utf-8"))]
    return [Mutant.of(entry) for entry in entries]


def copy_project(target: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.nb?")
            shutil.copytree(source, target / name, ignore=ignore)
        else:
            shutil.copy(source, target / name)
    for name in LINKED:
        (target / name).symlink_to(ROOT / name)


def run_tests(root: Path, tests: Sequence[str], place: Path, *, compiled: bool) -> int:
    """Run tests of a copy, with the copy's source, in this process, whose end this is; exit code.

    Args:
        root: the copy.
        tests: from its tests' folder.
        place: folder of this process, where what pytest prints is left in ``output.txt``.
        compiled: whether bytecode is left in the copy.
    """
    with (place / "output.txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(root)
    sys.path.insert(0, str(root / "src"))
    inherited = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{root / 'src'}{os.pathsep}{inherited}".rstrip(os.pathsep)
    sys.dont_write_bytecode = not compiled
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not compiled:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # Numba does not see that a function of another file, which it has compiled along, has changed.
    os.environ["NUMBA_CACHE_DIR"] = str(place / "numba")
    _fork_zygote(root)
    import pytest

    named = [f"tests/{test}" for test in tests]
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *named]))


def _fork_zygote(root: Path) -> None:
    """Have what the tests fork their commands from, tests/support/warm.py of a copy, ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        os.environ["RETABLE_TESTS_ZYGOTE"] = str(ours.detach())
        return
    ours.close()
    support = root / "tests" / "support"
    sys.argv[:] = [str(support / "zygote.py"), str(theirs.detach())]
    runpy.run_path(sys.argv[0], run_name="__main__")


def caught(output: str) -> str | None:
    """First line of the failure that caught a fault; None where the test did not fail as such."""
    if not re.search(r"\b\d+ failed\b", output) or re.search(r"\b\d+ errors?\b", output):
        return None
    line = re.search(r"^E\s+(.*)$", output, re.MULTILINE)
    return line[1][:100] if line else ""


class Forks:
    """Processes that run tests of copies of the project, a few at a time.

    Args:
        folder: for all they leave.
        workers: how many at a time.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.running: dict[int, tuple[Path, Callable[[int, str], None]]] = {}
        self._made = 0

    def start(
        self, root: Path, tests: Sequence[str], then: Callable[[int, str], None], *, compiled: bool
    ) -> None:
        """Test a copy; told in the end: exit code and output. As :func:`run_tests`."""
        self._made += 1
        place = self.folder / f"process-{self._made}"
        place.mkdir()
        pid = os.fork()
        if pid:
            self.running[pid] = (place, then)
            return
        code = 3
        try:
            code = run_tests(root, tests, place, compiled=compiled)
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self) -> None:
        """Until one has ended."""
        pid, status = os.wait()
        place, then = self.running.pop(pid)
        output = (place / "output.txt").read_text("utf-8", "replace")
        shutil.rmtree(place)
        then(os.waitstatus_to_exitcode(status), output)

    def settle(self) -> None:
        """Until all have ended."""
        while self.running:
            self.wait()


def all_pass(tests: Sequence[str], clean: Path, forks: Forks) -> bool:
    """Whether the named tests pass without any fault; else says what they say.

    Args:
        tests: from the tests' folder.
        clean: a copy of the project, in which what was imported is left compiled.
        forks: to run them in.
    """
    failed: list[str] = []

    def ended(code: int, output: str) -> None:
        if code != 0:
            failed.append(output[-4000:])

    for part in range(forks.workers):
        if some := tests[part :: forks.workers]:
            forks.start(clean, some, ended, compiled=True)
    forks.settle()
    for output in failed:
        print(f"without any fault the named tests do not all pass:\n{output}")
    return not failed


def check(chosen: Sequence[Mutant], clean: Path, forks: Forks) -> int:
    """How many faults survive; says of each how it was caught.

    Args:
        chosen: to be made, each in a copy that has no other.
        clean: the project without faults.
        forks: to run the tests in.
    """
    survived = 0
    free = [forks.folder / f"copy-{number}" for number in range(forks.workers)]
    for root in free:
        shutil.copytree(clean, root, symlinks=True)

    def start(mutant: Mutant) -> None:
        root = free.pop()

        def ended(code: int, output: str) -> None:
            nonlocal survived
            mutant.mend(root, clean)
            free.append(root)
            how = caught(output) if code == 1 else None
            survived += how is None
            mark = "caught  " if how is not None else "SURVIVED"
            said = output[-2000:] if how is None else how
            print(f"{mark} {mutant.name}\n         by {mutant.test}\n         {said}", flush=True)

        mutant.make(root)
        forks.start(root, [mutant.test], ended, compiled=False)

    for mutant in chosen:
        while not free:
            forks.wait()
        start(mutant)
    forks.settle()
    return survived


def slow_modules() -> tuple[str, ...]:
    """What the tests' own processes have loaded beforehand, by tests/support/warm.py."""
    tree = ast.parse((ROOT / "tests" / "support" / "warm.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SLOW":
            return ast.literal_eval(node.value)
    raise LookupError("SLOW")


def chosen_of(every: Sequence[Mutant], words: Sequence[str]) -> list[Mutant]:
    """Those whose name contains a word, or a part of them all: ``--part 2/4``.

    Raises:
        ValueError: of a part that there is not.
    """
    if words[:1] != ["--part"]:
        return [m for m in every if not words or any(w in m.name for w in words)]
    part = re.fullmatch(r"(\d+)/(\d+)", " ".join(words[1:]))
    if not part or not 1 <= int(part[1]) <= int(part[2]):
        raise ValueError(f"--part {' '.join(words[1:])}: expected K/N, such as 2/4")
    return list(every[int(part[1]) - 1 :: int(part[2])])


def main() -> int:
    """Check all mutants, or those chosen."""
    every = mutants()
    try:
        chosen = chosen_of(every, sys.argv[1:])
    except ValueError as error:
        print(error)
        return 2
    if not chosen:
        print(f"no mutant of that name; there are: {', '.join(m.name for m in every)}")
        return 2
    begin = time.monotonic()
    # What tests import of others; nothing of retable, whose source is the copy's.
    for name in ("pytest", *slow_modules()):
        importlib.import_module(name)

    with tempfile.TemporaryDirectory(prefix="retable-mutants-") as folder:
        clean = Path(folder, "clean")
        clean.mkdir()
        copy_project(clean)
        forks = Forks(Path(folder), len(os.sched_getaffinity(0)))
        gc.freeze()  # else each process goes through all that torch has made, again and again
        if not all_pass(sorted({m.test for m in chosen}), clean, forks):
            return 1
        seconds = time.monotonic() - begin
        print(f"without faults: all named tests pass ({seconds:.0f} s)", flush=True)
        survived = check(chosen, clean, forks)
        gc.unfreeze()  # what ends in order says nothing of leaks
    seconds = time.monotonic() - begin
    print(f"{len(chosen) - survived} of {len(chosen)} caught, {seconds:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
