"""In CI the papers' own tests and the slow ones take turns, as the deliberate faults do.

What the tests of a paper show depends on that paper, and on what every paper is built upon. While
none of this has changed lately they are as they were, and there are a dozen papers: a part of them
is tested at each commit, the next part at the next. Always tested are the papers that have changed,
and all of them where what they share has. Likewise the slow tests of a folder of the harness: all
of them where what they are about has changed, else a part. `make test` knows no turns.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

PART = "RETABLE_TESTS_PART"
"""Environment variable: ``k/n``, or nothing: all papers."""
SINCE = "RETABLE_TESTS_SINCE"
"""Environment variable: a commit, what has changed since is lately. Else:"""
COMMITS, HOURS = 10, 3
"""Lately are so many commits at least, and all of so many hours before the last one: a day's work
is pushed, and CI run, more often."""
LOCK = "uv.lock"
SHARED = (
    "src/retable/training/", "src/retable/data/", "src/retable/nets/", "src/retable/papers/base.py",
    "src/retable/papers/meter.py", LOCK,
)  # fmt: skip
BY_PAPER = (
    "tests/papers/test_contract.py",
    "tests/config/test_shipped_configs.py",
    "tests/launch/rehearsal/test_every_paper.py",
)
"""Files whose tests have a paper as their parameter."""
SUPPORT = "tests/support/"
CONFTEST = "tests/conftest.py"
OF_TESTS = (CONFTEST, LOCK)
"""What all slow tests are built upon, with what is imported there."""
CHOOSING = "tests/support/in_turn.py"
"""Of those the one that no test's outcome depends on: it says which are run."""
ABOUT = {
    "browser": ("report", "monitor"),
    "cli": ("cli", "launch", "report", "tables"),
    "fuzz": ("config", "runs", "tables"),
    "launch": ("launch", "runs", "training"),
    "report": ("report", "tables"),
    "runs": ("runs", "training"),
    "slurm": ("launch", "runs", "training"),
    "tracking": ("tracking", "training"),
    "wandb_tools": ("wandb_tools", "tracking"),
}
"""By folder of tests what they are about, in `src/retable`; else the folder of that name."""
ROOT = Path(__file__).parents[2]
PAPERS = sorted(folder.name for folder in (ROOT / "conf" / "experiment").iterdir())


def paper_of(test: str) -> str | None:
    """Paper that a test is about, by its file or its parameter."""
    file, _, name = test.partition("::")
    if file in BY_PAPER:
        paper = name.partition("[")[2].removesuffix("]")
    elif file.startswith("tests/papers/"):
        paper = file.split("/")[2].removesuffix(".py").removeprefix("test_")
    else:
        return None
    return paper if paper in PAPERS else None


def tested(papers: Sequence[str], part: str, changed: Iterable[str]) -> list[str]:
    """Papers whose tests are run.

    Args:
        papers: all of them.
        part: ``k/n``.
        changed: files that have changed lately, from the root.
    """
    number, several = map(int, part.split("/"))
    lately = set[str]()
    for file in _with_users(changed):
        if file.startswith(SHARED):
            return [*papers]
        if not file.startswith("results/"):
            names = file.replace(".", "/").split("/")
            lately |= {name.removeprefix("test_") for name in names} & {*papers}
    return [one for n, one in enumerate(papers) if n % several == number - 1 or one in lately]


def changed_lately() -> list[str] | None:
    """Files that differ from what they were lately, from the root; None where git does not say.

    Left out is what is new in what all papers share: a paper that uses it has changed as well.
    """
    new = _git("ls-files", "--others", "--exclude-standard", "--full-name")
    before = _before()
    changed = _git("diff", "--name-only", before) if before else None
    added = _git("diff", "--name-only", "--diff-filter=A", before) if before else None
    if before is None or changed is None or added is None or new is None:
        return None
    idle = {file for file in [*added, *new] if file.startswith(SHARED)}
    if not _other_packages(before):
        idle.add(LOCK)
    return [file for file in [*changed, *new] if file not in idle]


def _git(*words: str) -> list[str] | None:
    """What it prints, by line; None where it cannot."""
    command = ["git", "-C", str(ROOT), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.split("\n")[:-1]


def _before() -> str | None:
    """Revision that lately begins after; None where there is none, as in a shallow clone."""
    if since := os.environ.get(SINCE):
        return since
    last = _git("log", "-1", "--format=%ct")
    if not last:
        return None
    count = _git("rev-list", "--count", f"--since={int(last[0]) - 3600 * HOURS}", "HEAD")
    return f"HEAD~{max(COMMITS, int(count[0]))}" if count else None


def _other_packages(before: str) -> bool:
    """Whether uv.lock has another version of a package than it had at a revision, or none."""
    lines = _git("diff", before, "--", LOCK)
    return lines is None or any(line.startswith("-version =") for line in lines)


def folders_in_turn(changed: Iterable[str]) -> set[str]:
    """Folders of tests whose slow ones take turns: what they are about has not changed.

    Args:
        changed: files that have changed lately, from the root.
    """
    changed = _with_users(file for file in changed if file != CHOOSING)
    if any(file.startswith(OF_TESTS) for file in changed):
        return set()
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {
        "papers",
        "support",
    }
    return {
        folder
        for folder in folders
        if not any(
            file.startswith((f"tests/{folder}/", f"{folder}/"))
            or file.startswith(tuple(f"src/retable/{of}/" for of in ABOUT.get(folder, (folder,))))
            for file in changed
        )
    }


def _with_users(changed: Iterable[str]) -> list[str]:
    """These files, and of those of `support` the tests that use them, by way of others too.

    One that is no module, or that nothing is seen to use, is taken to be used by all.
    """
    found, below = list[str](), list[str]()
    for file in changed:
        (below if file.startswith(SUPPORT) and file != CHOOSING else found).append(file)
    while below:
        found.append(file := below.pop())
        users = _users().get(Path(file).stem, {CONFTEST}) if file.endswith(".py") else {CONFTEST}
        new = sorted(users - {*found, *below})
        below += [user for user in new if user.startswith(SUPPORT)]
        found += [user for user in new if not user.startswith(SUPPORT)]
    return found


@cache
def _users() -> dict[str, set[str]]:
    """By name of a module of `support` the files of tests that import or name it."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "support" in text:
            for name in _modules(ast.parse(text)):
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return found


def _modules(tree: ast.AST) -> Iterator[str]:
    """Names of modules of `support` in a file, and of whatever its plugins are named by."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="support"):
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)) if module.startswith("support."):
                yield module.split(".")[1]
            case ast.Import():
                names = [alias.name.split(".") for alias in node.names]
                yield from (name[1] for name in names if name[0] == "support" and name[1:])
            case ast.Constant(value=str(text)):  # of a process of its own
                yield from re.findall(r"\bsupport[./](\w+)", text)
            case ast.Assign(targets=[ast.Name(id="pytest_plugins")]):
                constants = (n for n in ast.walk(node.value) if isinstance(n, ast.Constant))
                yield from (n.value for n in constants if isinstance(n.value, str))
            case _:
                pass


def is_turn(test: str, part: str) -> bool:
    """Whether it is this test's turn: all of a file have it at once, as they may share a set-up."""
    number, several = map(int, part.split("/"))
    file = test.partition("::")[0]
    return _files("/".join(file.split("/")[:2])).index(file) % several == number - 1


@cache
def _files(folder: str) -> list[str]:
    """Those with tests in a folder and below, from the root."""
    found = (ROOT / folder).rglob("test_*.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@cache
def _changed() -> tuple[str, ...] | None:
    found = changed_lately() if os.environ.get(PART) else None
    return None if found is None else tuple(found)


@cache
def chosen() -> tuple[str, ...]:
    """Papers whose tests are run in this session."""
    changed = _changed()
    return tuple(PAPERS if changed is None else tested(PAPERS, os.environ[PART], changed))


@cache
def slow_in_turn() -> frozenset[str]:
    """Folders of tests of whose slow ones a part is run in this session."""
    changed = _changed()
    return frozenset() if changed is None else frozenset(folders_in_turn(changed))


def left_out(test: str, slow: bool) -> bool:
    """Whether it is not this test's turn in this session.

    Args:
        test: its id.
        slow: whether it is marked as slow.
    """
    paper = paper_of(test)
    if paper is not None:
        return paper not in chosen()
    names = test.split("/")
    return slow and names[1] in slow_in_turn() and not is_turn(test, os.environ[PART])
