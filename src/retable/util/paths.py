"""Where the project's files are: configs, papers, and an optional root outside the checkout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from retable.util.errors import UserError, brief

PACKAGE = Path(__file__).resolve().parents[1]


def project_root() -> Path:
    """Folder that holds ``conf/``: the checkout, or the copy inside an installed wheel."""
    checkout = PACKAGE.parents[1]
    return checkout if (checkout / "conf" / "run.yaml").is_file() else PACKAGE


def conf_dir() -> Path:
    """The project's own ``conf/``."""
    root = project_root()
    return root / "_conf" if root == PACKAGE else root / "conf"


def slurm_dir() -> Path:
    """Templates of the scripts that SLURM is given."""
    root = project_root()
    return root / "_slurm" if root == PACKAGE else root / "slurm"


def extra_root() -> Path | None:
    """``$RETABLE_EXTRA``: a folder with ``conf/`` and ``papers/`` kept outside the repository."""
    value = os.environ.get("RETABLE_EXTRA")
    if value and not os.path.isdir(value):  # noqa: PTH112 - False for a name that is too long
        raise UserError(f"RETABLE_EXTRA={brief(value)}: is not a folder; correct it or unset it")
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
        found.update(name.removesuffix(".yaml") for name in _files(f"{folder / group}"))
    return sorted(found)


def _files(folder: str, below: str = "") -> Iterator[str]:
    """YAML files below a folder as ``sub/name.yaml``; nothing whose name begins with a dot."""
    # On texts and entries: four times as fast as by glob, and a command asks many times.
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return  # not there, not a folder, or a link that leads to itself
    for entry in found:
        if entry.name.endswith(".yaml") and entry.is_file():
            yield below + entry.name
        elif entry.is_dir():
            yield from _files(entry.path, f"{below}{entry.name}/")


def config_file(group: str, name: str) -> Path | None:
    """File of one config, or None where there is none of that name.

    Raises:
        UserError: where both the project and the extra folder have one.
    """
    # No name can lead out of the folder, or to what is hidden; to list all would take longer.
    if any(not part or part.startswith(".") for part in name.split("/")):
        return None
    places = [folder / group / f"{name}.yaml" for folder in conf_dirs()]
    files = [path for path in places if os.path.isfile(path)]  # noqa: PTH113
    if len(files) > 1:
        raise UserError(
            f"{files[1]}: the {group} '{name}' is one of retable's own, which this does not"
            " replace; give the file another name"
        )
    return files[0] if files else None


def line_of(file: Path, path: Sequence[str]) -> int | None:
    """Line (from 1) of a key in a YAML file, None where it does not stand there."""
    import yaml  # here, because the commands import this module before they need anything

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster
    node = yaml.compose(file.read_text(encoding="utf-8"), Loader=loader)
    line: int | None = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return None
        elif (
            isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value)
        ):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def shown(file: Path) -> str:
    """A file's path as a message shows it: from the project's root where it lies below."""
    root = project_root()
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def default_paths() -> dict[str, str | None]:
    """The directories of ``conf/paths/default.yaml`` (``runs``, ``cache``, ``mirror``), resolved.

    For commands that look at runs without composing one.
    """
    from omegaconf import OmegaConf

    values = OmegaConf.load(conf_dir() / "paths" / "default.yaml")
    found = OmegaConf.to_container(values, resolve=True)
    assert isinstance(found, dict)
    return {str(name): value or None for name, value in found.items()}


def runs_folder() -> Path:
    """Folder of all runs: ``$RETABLE_RUNS``, or what the configs say."""
    return Path(default_paths()["runs"] or "runs")


def cache_folder() -> Path:
    """Folder of decoded and downloaded data: ``$RETABLE_CACHE``, or what the configs say."""
    return Path(default_paths()["cache"] or "cache")


def run_folders(runs: Path) -> Iterator[Path]:
    """Folders of all runs below ``runs``, paper by paper; links are not followed."""
    for paper in _folders(runs):
        if paper.name.isidentifier() and not paper.name.startswith("_"):
            yield from (Path(entry) for entry in _folders(paper) if _is_key(entry.name))


def _folders(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda entry: entry.name)


def _is_key(name: str) -> bool:
    return len(name) == 64 and not name.strip("0123456789abcdef")
