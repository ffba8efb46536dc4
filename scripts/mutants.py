"""Small deliberate faults, one at a time: each has to be caught by the test that is named for it.

    python scripts/mutants.py             # all of them
    python scripts/mutants.py lease       # those whose name contains a word

The faults are in tests/mutants, a file for each layer. Each is made by itself in a copy of source,
tests and configs below a temporary folder; the named test has to pass without it, and fail (not
err) with it. torch and Lightning are imported once: tests run in forks of this process.
"""

from __future__ import annotations

import os
import re
import shutil
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


def run_tests(root: Path, tests: Sequence[str]) -> int:
    """Run tests of a copy, with the copy's source, in this process, whose end this is; exit code.

    What pytest prints is left in ``output.txt`` of the copy.
    """
    with (root / "output.txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.chdir(root)
    sys.path.insert(0, str(root / "src"))
    inherited = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{root / 'src'}{os.pathsep}{inherited}".rstrip(os.pathsep)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    import pytest

    named = [f"tests/{test}" for test in tests]
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *named]))


def caught(output: str) -> str | None:
    """First line of the failure that caught a fault; None where the test did not fail as such."""
    if not re.search(r"\b\d+ failed\b", output) or re.search(r"\b\d+ errors?\b", output):
        return None
    line = re.search(r"^E\s+(.*)$", output, re.MULTILINE)
    return line[1][:100] if line else ""


class Forks:
    """Copies of the project and the processes that test them, a few at a time."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.running: dict[int, tuple[Path, Callable[[int, str], None]]] = {}
        self._made = 0

    def start(
        self, change: Callable[[Path], None], tests: Sequence[str], then: Callable[[int, str], None]
    ) -> None:
        """Test a copy that was changed; told in the end: exit code and output."""
        while len(self.running) >= self.workers:
            self.wait()
        self._made += 1
        root = self.folder / str(self._made)
        root.mkdir()
        copy_project(root)
        change(root)
        pid = os.fork()
        if pid:
            self.running[pid] = (root, then)
            return
        code = 3
        try:
            code = run_tests(root, tests)
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait(self) -> None:
        """Until one has ended."""
        pid, status = os.wait()
        root, then = self.running.pop(pid)
        then(os.waitstatus_to_exitcode(status), (root / "output.txt").read_text("utf-8", "replace"))
        shutil.rmtree(root)

    def settle(self) -> None:
        """Until all have ended."""
        while self.running:
            self.wait()


def check(chosen: Sequence[Mutant], forks: Forks) -> int:
    """How many faults survive; says of each how it was caught."""
    survived = 0

    def say(mutant: Mutant) -> Callable[[int, str], None]:
        def ended(code: int, output: str) -> None:
            nonlocal survived
            how = caught(output) if code == 1 else None
            survived += how is None
            mark = "caught  " if how is not None else "SURVIVED"
            said = output[-2000:] if how is None else how
            print(f"{mark} {mutant.name}\n         by {mutant.test}\n         {said}", flush=True)

        return ended

    for mutant in chosen:
        forks.start(mutant.make, [mutant.test], say(mutant))
    forks.settle()
    return survived


def all_pass(tests: Sequence[str], forks: Forks) -> bool:
    """Whether the named tests pass without any fault; else says what they say."""
    failed: list[str] = []

    def ended(code: int, output: str) -> None:
        if code != 0:
            failed.append(output[-4000:])

    for part in range(forks.workers):
        if some := tests[part :: forks.workers]:
            forks.start(lambda _: None, some, ended)
    forks.settle()
    for output in failed:
        print(f"without any fault the named tests do not all pass:\n{output}")
    return not failed


def main() -> int:
    """Check all mutants, or those named."""
    words = sys.argv[1:]
    every = mutants()
    chosen = [m for m in every if not words or any(w in m.name for w in words)]
    if not chosen:
        print(f"no mutant of that name; there are: {', '.join(m.name for m in every)}")
        return 2
    begin = time.monotonic()
    # What tests import of others; nothing of retable, whose source is the copy's.
    import pytest  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import torch  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="retable-mutants-") as folder:
        forks = Forks(Path(folder), len(os.sched_getaffinity(0)))
        if not all_pass(sorted({m.test for m in chosen}), forks):
            return 1
        seconds = time.monotonic() - begin
        print(f"without faults: all named tests pass ({seconds:.0f} s)", flush=True)
        survived = check(chosen, forks)
    seconds = time.monotonic() - begin
    print(f"{len(chosen) - survived} of {len(chosen)} caught, {seconds:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
