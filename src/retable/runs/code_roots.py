"""Whose code a run executes beside the project's: papers kept elsewhere, packages of the user's.

Each such root has a state of its own, which the commit of the project's checkout says nothing of.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from retable.config import source_files
from retable.runs import import_closure
from retable.runs.identity import modules_of
from retable.util import paths

_UNTRACKED = "untracked "
_OF_A_HOOK = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
"""Set where git calls a command; they would have it look at that repository only."""
_PLAIN = ("--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/")
"""A diff is the same whatever somebody has git configured for."""


@dataclass(frozen=True)
class State:
    """The code below a folder as git sees it.

    Attributes:
        commit: None where no file that counts is in a repository.
        changes: the diff, and a line for each untracked file; empty where there is no commit.
    """

    commit: str | None = None
    changes: str = ""


@dataclass
class Root:
    """Where code lies that is not the project's.

    Attributes:
        name: of the folder or package; no path, which would say whose machine it was.
        folder: of the files.
        parts: of the folder, what belongs to it; git is asked about nothing else.
        files: that runs execute, even where git is told to ignore them.
    """

    name: str
    folder: Path
    parts: list[str]
    files: list[Path] = field(default_factory=list[Path])

    def state(self) -> State:
        """What git says of it; of no file that runs execute, nothing."""
        names = [str(file.relative_to(self.folder)) for file in self.files]
        if not (git_in(self.folder, "ls-files", "--", *names) or "").strip():
            return State()  # a repository around it, of something else
        return state_of(self.folder, self.parts, names)

    def version(self) -> str | None:
        """Version of the editable installation that it is of; None where it is of none."""
        for distribution in importlib.metadata.distributions():
            with suppress(ValueError, AttributeError, OSError):
                url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
                installed = Path(unquote(urlsplit(url).path)).resolve()
                if url.startswith("file:") and self.folder.resolve().is_relative_to(installed):
                    return distribution.version
        return None


def git_in(folder: Path, *args: str) -> str | None:
    """Output of git in a folder; None outside of a repository and where git fails."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "--literal-pathspecs", *args],  # noqa: S607
            cwd=folder,
            env={n: v for n, v in os.environ.items() if n not in _OF_A_HOOK},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def state_of(folder: Path, parts: Sequence[str], files: Sequence[str] = ()) -> State:
    """Commit and changes of some parts of a folder.

    Args:
        folder: in a repository or not.
        parts: names below it.
        files: that count even where git is told to ignore them.
    """
    commit = git_in(folder, "rev-parse", "HEAD")
    if not commit:
        return State()
    changes = git_in(folder, "diff", "--relative", *_PLAIN, "HEAD", "--", *parts) or ""
    others = ("ls-files", "-z", "--others")
    listed = git_in(folder, *others, "--exclude-standard", "--", *parts) or ""
    if files:
        listed += git_in(folder, *others, "--", *files) or ""
    for name in dict.fromkeys(filter(None, listed.split("\0"))):
        with suppress(OSError):  # gone meanwhile
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            changes += f"{_UNTRACKED}{name} {digest}\n"
    return State(commit.strip(), changes)


def changed_files(changes: str) -> list[str]:
    """Files that the changes of a :class:`State` are in."""
    found: dict[str, None] = {}
    for line in changes.split("\n"):
        if line.startswith("diff --git "):
            found[line.replace(' "b/', " b/").rpartition(" b/")[2].rstrip('"')] = None
        elif line.startswith(_UNTRACKED):
            found[line.removeprefix(_UNTRACKED).rpartition(" ")[0]] = None
    return list(found)


def roots_of(targets: Iterable[str]) -> list[Root]:
    """Roots of the code beside the project's that runs with these targets execute."""
    modules = modules_of(targets)
    files = {m: source_files.module_file(m) or import_closure.extension_file(m) for m in modules}
    found = [root for root in (_extra(),) if root is not None]
    packages: dict[tuple[str, Path], Root] = {}
    for below, path in import_closure.roots(modules).items():
        place = path.parents[below.count("/")]
        name = below.partition("/")[0].partition(".")[0]
        root = packages.setdefault((name, place), Root(name, place, []))
        root.parts.append(below)
    found += packages.values()
    for root in found:
        own = [root.folder / part for part in root.parts]
        root.files += [f for f in files.values() if f and any(f.is_relative_to(p) for p in own)]
    return [root for root in found if root.files]


def extra_targets() -> list[str]:
    """Everything that a config can build of the papers kept elsewhere."""
    extra = paths.extra_root()
    if extra is None:
        return []
    files = sorted((extra / "papers").rglob("*.py"))
    names = [file.relative_to(extra / "papers").with_suffix("").parts for file in files]
    return [".".join(["retable.papers", *n, "_"]) for n in names if n[-1] != "__init__"]


def _extra() -> Root | None:
    extra = paths.extra_root()
    return None if extra is None else Root(extra.name, extra, ["papers", "conf"])
