"""A copy of the source made at launch, so that long runs survive edits of the checkout."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path

from retable import locations


def make(runs: Path) -> Path:
    """Copy the package's source below ``runs``, under a name made of its content.

    Returns:
        The folder to put on the module path. The extra root, if any, is copied beside it.
    """
    sources = {"retable": locations.PACKAGE}
    extra = locations.extra_root()
    if extra is not None:
        sources["extra"] = extra
    digest = hashlib.sha256()
    for name, folder in sources.items():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(folder)}\0".encode() + path.read_bytes())
    target = runs / "_snapshots" / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    for name, folder in sources.items():
        shutil.copytree(
            folder, temporary / name, ignore=shutil.ignore_patterns("__pycache__", "*.nb?")
        )
    try:
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary)  # another launch made the same copy meanwhile
    return target
