"""Where the project's files are: configs, papers, and an optional root outside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Folder that holds ``conf/``: the checkout, or the copy inside an installed wheel."""
    checkout = PACKAGE.parents[1]
    return checkout if (checkout / "conf" / "run.yaml").is_file() else PACKAGE


def conf_dir() -> Path:
    """The project's own ``conf/``."""
    root = project_root()
    return root / "_conf" if root == PACKAGE else root / "conf"


def extra_root() -> Path | None:
    """``$RETABLE_EXTRA``: a folder with ``conf/`` and ``papers/`` kept outside the repository."""
    value = os.environ.get("RETABLE_EXTRA")
    return Path(value).resolve() if value else None


def conf_dirs() -> list[Path]:
    """Every ``conf/`` folder, the project's own first."""
    extra = extra_root()
    return [conf_dir(), *([extra / "conf"] if extra else [])]


def paper_dirs() -> list[Path]:
    """Every folder that holds papers as packages, the project's own first."""
    extra = extra_root()
    return [PACKAGE / "papers", *([extra / "papers"] if extra else [])]


def results_dir() -> Path:
    """Where published tables stand."""
    extra = extra_root()
    return (extra or project_root()) / "results"


def config_names(group: str) -> list[str]:
    """Names of all configs of a group, such as ``paper/name``, in alphabetical order."""
    found: set[str] = set()
    for folder in conf_dirs():
        base = folder / group
        found.update(
            path.relative_to(base).with_suffix("").as_posix() for path in base.rglob("*.yaml")
        )
    return sorted(found)


def config_file(group: str, name: str) -> Path | None:
    """File of one config, or None where there is none of that name."""
    for folder in conf_dirs():
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            return path
    return None
