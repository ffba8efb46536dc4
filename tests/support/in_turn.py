"""In CI the papers' own tests take turns, as the deliberate faults do.

What the tests of a paper show depends on that paper, and on what every paper is built upon. While
none of this has changed lately they are as they were, and there are a dozen papers: a part of them
is tested at each commit, the next part at the next. Always tested are the papers that have changed,
and all of them where what they share has. `make test` tests all of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

PART = "RETABLE_TESTS_PART"
"""Environment variable: ``k/n``, or nothing: all papers."""
COMMITS = 30
"""Of which changes are looked at: more than come between two runs of CI."""
SHARED = (
    "src/retable/training/", "src/retable/data/", "src/retable/nets/", "src/retable/papers/base.py",
    "src/retable/papers/meter.py", "uv.lock",
)  # fmt: skip
BY_PAPER = (
    "tests/papers/test_contract.py",
    "tests/config/test_shipped_configs.py",
    "tests/launch/rehearsal/test_every_paper.py",
)
"""Files whose tests have a paper as their parameter."""
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
    for file in changed:
        if file.startswith(SHARED):
            return [*papers]
        if not file.startswith("results/"):
            names = file.replace(".", "/").split("/")
            lately |= {name.removeprefix("test_") for name in names} & {*papers}
    return [one for n, one in enumerate(papers) if n % several == number - 1 or one in lately]


def changed_lately() -> list[str] | None:
    """Files of the last commits and of none yet, from the root; None where git does not say."""
    git = ["git", "-C", str(ROOT)]
    last = [*git, "log", f"-{COMMITS}", "--format=", "--name-only"]
    found: list[str] = []
    here = [*git, "diff", "--name-only", "HEAD"]
    new = [*git, "ls-files", "--others", "--exclude-standard", "--full-name"]
    for command in (last, here, new):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        found += done.stdout.split("\n")
    return [file for file in found if file]


@cache
def chosen() -> tuple[str, ...]:
    """Papers whose tests are run in this session."""
    part = os.environ.get(PART)
    changed = changed_lately() if part else None
    return tuple(PAPERS if part is None or changed is None else tested(PAPERS, part, changed))
