"""The code of a commit with the packages of its lock: made once, then runs are done with it.

A commit's source is a copy below the cache, its environment is made by uv from that copy's
``uv.lock`` and shared by all commits that have the same lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from retable.launch import commit_worker
from retable.runs import provenance
from retable.util import paths
from retable.util.atomic import beside
from retable.util.errors import brief, one_line
from retable.util.text import duration

COMMITS, ENVIRONMENTS = "commits", "environments"
"""Folders of the cache."""
_LOCK = "uv.lock"
_PARTS = ("src", "conf", "pyproject.toml", _LOCK)
_TELL_EVERY_S = 10.0
_SYNC = ("--frozen", "--no-install-project", "--no-default-groups", "--all-extras")

Say = Callable[[str], None]


class Unavailable(Exception):
    """The code of a commit cannot be had here; the message says why."""


@dataclass(frozen=True)
class Code:
    """Source and packages that runs are done with.

    Attributes:
        name: what it is called in messages.
        source: folder put first on the module path.
        python: interpreter of its packages.
    """

    name: str
    source: Path
    python: Path

    @property
    def has_own_packages(self) -> bool:
        """Whether its packages are others than those of this process."""
        return self.python != Path(sys.executable)


@dataclass(frozen=True)
class Order:
    """One run to be done by some code.

    Attributes:
        key: of the run.
        fingerprint: of the code that is meant; other code does not do it.
        values: of its config, as that code knows it.
    """

    key: str
    fingerprint: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Answer of some code about the runs that it was to do.

    Attributes:
        computed_by: fingerprint of the code, by key, where it knows the run.
        refused: why it does not, by key.
        stopped: whether Ctrl-C ended it.
    """

    computed_by: dict[str, str] = field(default_factory=dict[str, str])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    stopped: bool = False


@cache
def why_unknown(commit: str) -> str | None:
    """Why the code of a commit cannot be had here, None where it can."""
    if provenance.git("rev-parse", "HEAD") is None:
        return "there is no git repository here"
    if provenance.git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        shallow = (provenance.git("rev-parse", "--is-shallow-repository") or "").strip() == "true"
        hint = " (git fetch --unshallow brings it)" if shallow else ""
        return f"commit {commit[:12]} is not in this repository{hint}"
    if not _is_the_users(commit):  # what a record names is executed
        return (
            f"commit {commit[:12]} is on no local branch (git branch NAME {commit[:12]} makes one)"
        )
    if _uv() is None:
        return "uv, which makes the environment of a commit, is not installed (pip install uv)"
    return None


def _is_the_users(commit: str) -> bool:
    """Whether a commit is part of the user's own history: fetched from elsewhere is not enough."""
    if provenance.git("merge-base", "--is-ancestor", commit, "HEAD") is not None:
        return True
    refs = provenance.git(
        "for-each-ref", "--count=1", f"--contains={commit}", "refs/heads", "refs/tags"
    )
    return bool(refs and refs.strip())


def of_commit(commit: str, say: Say) -> Code:
    """Source and environment of a commit, made where they are not there yet.

    Raises:
        Unavailable: where one of them cannot be made.
    """
    reason = why_unknown(commit)
    if reason is not None:
        raise Unavailable(reason)
    tree = _tree(commit)
    return Code(f"commit {commit[:12]}", tree / "src", _environment(tree, say))


def _cache() -> Path:
    return paths.cache_folder().absolute()


def _tree(commit: str) -> Path:
    target = _cache() / COMMITS / commit
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with beside(target) as temporary, beside(target) as archive:
        said = provenance.git("archive", "--format=tar", f"--output={archive}", commit, *_PARTS)
        if said is None:
            raise Unavailable(f"commit {commit[:12]} has not all of {', '.join(_PARTS)}")
        with tarfile.open(archive) as content:
            # As the docs have it for Python 3.11 before 3.11.4, which has no filters.
            content.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            content.extractall(temporary)  # noqa: S202 - git's own archive, and filtered
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another refresh has made it meanwhile
                raise
    return target


def _environment(tree: Path, say: Say) -> Path:
    """Interpreter of the environment that a copy's lock describes."""
    lock = (tree / _LOCK).read_bytes()
    own = paths.project_root() / _LOCK
    python = Path(sys.executable)
    if own.is_file() and own.read_bytes() == lock and _in_sync(tree, Path(sys.prefix)):
        return python
    name = hashlib.sha256(lock + platform.python_version().encode()).hexdigest()[:16]
    target = _cache() / ENVIRONMENTS / name
    if not _in_sync(tree, target):
        say(f"making the environment of {_LOCK} at {tree.name[:12]} with uv, in {target}")
        say("    gigabytes, downloaded or linked from uv's cache; once for all commits of its lock")
        _make(tree, target, say)
    return target / "bin" / "python"


def _make(tree: Path, environment: Path, say: Say) -> None:
    started, told = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = _sync(tree, environment, said, "--python", sys.executable)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if (took := time.monotonic() - started) - told >= _TELL_EVERY_S:
                    told = took
                    say(f"    uv is at it for {duration(took)}")
        finally:
            process.kill()  # it goes on from what it has, the next time
        if process.returncode != 0:
            said.seek(0)
            reason = brief(" ".join(said.read().split()[-60:]), 400)
            raise Unavailable(f"uv cannot make the environment of {tree.name[:12]}: {reason}")


def _in_sync(tree: Path, environment: Path) -> bool:
    if not (environment / "bin" / "python").exists():
        return False
    # More than the lock's packages may be there: those of other groups, the project itself.
    return _sync(tree, environment, subprocess.DEVNULL, "--check", "--inexact").wait() == 0


def _sync(tree: Path, environment: Path, said: Any, *options: str) -> subprocess.Popen[bytes]:
    uv = _uv()
    assert uv is not None
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.Popen(  # noqa: S603
        [uv, "sync", *_SYNC, *options],
        cwd=tree,
        env={**env, "UV_PROJECT_ENVIRONMENT": str(environment)},
        stdout=subprocess.DEVNULL,
        stderr=said,
    )


def _uv() -> str | None:
    own = paths.project_root() / ".uv" / "bin" / "uv"
    # `uv run` says which uv it is.
    return os.environ.get("UV") or shutil.which("uv") or (str(own) if own.is_file() else None)


def execute(code: Code, orders: Sequence[Order]) -> Answer:
    """Do runs with some code; their records are in the folders that their configs name.

    Ctrl-C is for that code, which leaves everything resumable.

    Raises:
        Unavailable: where that code cannot be brought to do any of them.
    """
    left_out = {"VIRTUAL_ENV", "RETABLE_EXTRA"}  # only the project's own papers are done so
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    process = subprocess.Popen(  # noqa: S603
        [str(code.python), "-P", commit_worker.__file__],
        cwd=code.source.parent,  # some commits import from the folder they are called in
        env={**env, "PYTHONPATH": str(code.source)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # The terminal tells both; a handler, unlike ignoring, is not inherited.
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        request = {"runs": [order.__dict__ for order in orders]}
        out, _ = process.communicate(json.dumps(request))
    finally:
        signal.signal(signal.SIGINT, previous)
        if process.poll() is None:
            process.kill()
    try:
        answer = json.loads(out)
    except ValueError:
        raise Unavailable(f"{code.name} ended with code {process.returncode}") from None
    if "error" in answer:
        raise Unavailable(f"{code.name}: {one_line(answer['error'])}")
    return Answer(**answer)
