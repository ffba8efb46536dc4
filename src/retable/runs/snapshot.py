"""A copy of the source made at launch, so that long runs survive edits of the checkout."""

from __future__ import annotations

import errno
import hashlib
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from retable.runs import import_closure
from retable.runs.identity import modules_of
from retable.util import paths

EXTRA = "_extra"
"""Folder of a snapshot that holds the extra root's papers, where there are any."""


def make(runs: Path, targets: Iterable[str]) -> Path:
    """Copy the source below ``runs``, under a name made of its content.

    Args:
        runs: folder of all runs.
        targets: what the runs will build; what else of the user's own code they import is copied
            beside the project.

    Returns:
        The folder to put on the module path. The extra root's papers are copied into it.
    """
    sources = {"retable": paths.PACKAGE}
    extra = paths.extra_root()
    if extra is not None and (extra / "papers").is_dir():
        sources[f"{EXTRA}/papers"] = extra / "papers"
    sources |= import_closure.roots(modules_of(targets))
    base = runs.absolute() / "_snapshots"
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".{secrets.token_hex(8)}"
    try:
        for name, folder in sources.items():
            _copy(folder, temporary / name)
        # Named after what was copied, which an edit may have changed while it was.
        target = base / _digest(temporary)[:16]
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # The same copy was made before, or by another launch meanwhile.
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.nb?", ".git")
        shutil.copytree(source, target, ignore=ignored)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
